"""Compares tokens, logits and greedy continuations of a model file with what transformers makes of the same file.

    cargo run --release -p twin-models --example logits -- MODEL "A text." "Another." > logits.jsonl
    venv/bin/python eval/training/reference.py MODEL logits.jsonl

MODEL is a GGUF file (transformers takes it apart itself; needs the package `gguf`) or a Hugging Face folder.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

NEW_TOKENS = 64


def main():
    path = Path(sys.argv[1])
    place = dict(pretrained_model_name_or_path=path) if path.is_dir() else dict(pretrained_model_name_or_path=path.parent, gguf_file=path.name)
    tokenizer = AutoTokenizer.from_pretrained(**place)
    model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32, attn_implementation="eager").eval()
    lines = Path(sys.argv[2]).read_text().splitlines()
    same = [compare(json.loads(line), tokenizer, model) for line in lines]
    print(f"{sum(same)} of {len(same)} greedy continuations are the same for {NEW_TOKENS} tokens")


def compare(ours, tokenizer, model):
    tokens = tokenizer.encode(ours["text"], add_special_tokens=False)
    print("tokens agree" if tokens == ours["tokens"] else f"tokens differ: {tokens} and {ours['tokens']}")
    print("text comes back" if ours["decoded"] == ours["text"] else f"decoded to {ours['decoded']!r}")
    prompt = torch.tensor([ours["tokens"]])
    with torch.no_grad():
        logits = model(prompt).logits[0]
        written = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=NEW_TOKENS)
    here = torch.tensor(ours["logits"])
    relative = ((logits - here).abs().max() / logits.abs().max()).item()
    print(f"logits of {len(ours['tokens'])} tokens: largest difference {relative:.1e} of the largest logit")
    text = tokenizer.decode(written[0, len(ours["tokens"]) :], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    for how in ("written", "guessed"):
        if ours[how] != text:
            print(f"{how}: {ours[how]!r}\n   there: {text!r}")
    return ours["written"] == ours["guessed"] == text


if __name__ == "__main__":
    main()
