"""Compares tokens and logits of a model file with what transformers makes of the same file.

    cargo run --release -p twin-models --example logits -- MODEL "A text." > logits.json
    venv/bin/python eval/training/reference.py MODEL logits.json

MODEL is a GGUF file (transformers takes it apart itself; needs the package `gguf`) or a Hugging Face folder.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    path, ours = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    place = dict(pretrained_model_name_or_path=path) if path.is_dir() else dict(pretrained_model_name_or_path=path.parent, gguf_file=path.name)
    tokenizer = AutoTokenizer.from_pretrained(**place)
    model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = tokenizer.encode(ours["text"], add_special_tokens=False)
    print("tokens agree" if tokens == ours["tokens"] else f"tokens differ: {tokens} and {ours['tokens']}")
    print("text comes back" if ours["decoded"] == ours["text"] else f"decoded to {ours['decoded']!r}")
    with torch.no_grad():
        logits = model(torch.tensor([ours["tokens"]])).logits[0]
    here = torch.tensor(ours["logits"])
    relative = ((logits - here).abs().max() / logits.abs().max()).item()
    print(f"logits of {len(ours['tokens'])} tokens: largest difference {relative:.1e} of the largest logit")


if __name__ == "__main__":
    main()
