"""Makes tiny checkpoints of each family with random weights, and what the reference implementation computes with them.

    python -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    venv/bin/python make.py

Every folder is what `save_pretrained` writes, with `golden.safetensors` beside it: `tokens`, the `logits` after each, and
for the adapter in `llama/peft` its logits as well. The weights are of the family, not of any published model.
"""

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

HERE = Path(__file__).parent
VOCAB = 260
SIZES = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    bos_token_id=257,
    eos_token_id=258,
    pad_token_id=256,
    attn_implementation="eager",
)
# Long enough for every window, and for positions at which scaled rotary angles differ.
LENGTH = 90
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + "
    "'<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

FAMILIES = {
    # Llama 3.x: scaled rotary positions, an output layer of its own; written in several files.
    "llama": (
        LlamaConfig(
            **SIZES,
            rope_parameters=dict(
                rope_type="llama3",
                rope_theta=500000.0,
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=64,
            ),
            tie_word_embeddings=False,
        ),
        torch.float32,
    ),
    "mistral": (MistralConfig(**SIZES, sliding_window=24, head_dim=16, tie_word_embeddings=False), torch.bfloat16),
    "qwen2": (Qwen2Config(**SIZES, tie_word_embeddings=True), torch.bfloat16),
    "qwen3": (Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True), torch.float16),
    "gemma3": (
        Gemma3TextConfig(
            **(SIZES | dict(num_hidden_layers=3)),
            head_dim=16,
            query_pre_attn_scalar=24,
            sliding_window=20,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
        torch.bfloat16,
    ),
}


def tokenizer(folder):
    """The bytes as GPT-2 writes them, one merge and three special tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    letters = [chr(byte if byte in printable else next(hidden)) for byte in range(256)]
    vocab = {letter: index for index, letter in enumerate(letters)} | {"he": 259}
    special = {"<|pad|>": 256, "<|im_start|>": 257, "<|im_end|>": 258}
    added = [
        dict(id=id, content=text, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
        for text, id in special.items()
    ]
    level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    model = dict(type="BPE", vocab=vocab | special, merges=["h e"])
    written = dict(version="1.0", added_tokens=added, pre_tokenizer=level, decoder=level, model=model)
    (folder / "tokenizer.json").write_text(json.dumps(written))
    config = dict(bos_token="<|im_start|>", eos_token="<|im_end|>", chat_template=TEMPLATE)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def stirred(model):
    """Norms and biases that are not those of initialisation, and weights large enough that logits differ."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.normal_(0, 0.3)
            elif "norm" in name:
                value.add_(torch.randn_like(value) * 0.2)
            else:
                value.normal_(0, 1.2 / value.shape[-1] ** 0.5)


def logits(model, tokens):
    with torch.no_grad():
        return model(tokens[None]).logits[0].contiguous()


def main():
    for name, (config, dtype) in FAMILIES.items():
        torch.manual_seed(len(name))
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        stirred(model)
        # The golden logits are those of the stored numbers, computed in f32.
        model = model.to(dtype)
        model.save_pretrained(folder, max_shard_size="70KB" if dtype == torch.float32 else "1GB")
        (folder / "generation_config.json").unlink(missing_ok=True)
        tokenizer(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        tokens = torch.randint(0, 256, (LENGTH,))
        golden = {"tokens": tokens, "logits": logits(model, tokens)[-32:].contiguous()}
        if name == "llama":
            modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
            peft = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=modules, task_type="CAUSAL_LM"))
            with torch.no_grad():
                for key, value in peft.named_parameters():
                    if "lora_B" in key:
                        value.normal_(0, 0.1)
            peft.eval()
            peft.save_pretrained(folder / "peft")
            (folder / "peft" / "README.md").unlink(missing_ok=True)
            path = folder / "peft" / "adapter_config.json"
            # PEFT writes where the base was on this machine.
            config = json.loads(path.read_text()) | dict(base_model_name_or_path="tiny-llama")
            path.write_text(json.dumps(config, indent=2) + "\n")
            golden["adapted"] = logits(peft, tokens)[-32:].contiguous()
        save_file(golden, folder / "golden.safetensors")


if __name__ == "__main__":
    main()
