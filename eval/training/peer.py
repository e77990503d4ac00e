"""The same training with PyTorch and PEFT, beside `twin bench train`, and adapters exchanged in both directions.

    python -m venv venv && venv/bin/pip install torch transformers peft
    twin bench train --out /tmp/peer
    venv/bin/python eval/training/peer.py /tmp/peer
    twin bench train --check /tmp/peer

Same base weights, same fresh adapter, same examples in the same order, same optimizer. Prints what is measured and writes
it to `peer-DTYPE.json` in the directory.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

RATE = 1e-3  # as in `twin bench train`


def optimizer(model):
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01), parameters


def step(model, optimizer, parameters, tokens):
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def load(directory, adapter, dtype, trainable):
    base = AutoModelForCausalLM.from_pretrained(directory / "base", dtype=dtype)
    return PeftModel.from_pretrained(base, directory / adapter, is_trainable=trainable)


def speed(directory, tokens, steps, dtype):
    """Tokens a second at the best and in the middle."""
    model = load(directory, "start", dtype, True).train()
    optimize, parameters = optimizer(model)
    batch = (torch.arange(tokens) * 7919 % model.config.vocab_size)[None]
    seconds = []
    for index in range(steps + 1):
        began = time.perf_counter()
        step(model, optimize, parameters, batch)
        if index:
            seconds.append(time.perf_counter() - began)
    seconds.sort()
    return tokens / seconds[0], tokens / seconds[len(seconds) // 2]


def curve(directory):
    """Trains on the examples; leaves the adapter and logits for the other side to compare."""
    model = load(directory, "start", torch.float32, True).train()
    optimize, parameters = optimizer(model)
    examples = json.loads((directory / "examples.json").read_text())
    losses = [step(model, optimize, parameters, torch.tensor([tokens])) for tokens in examples]
    model.save_pretrained(directory / "peer")
    count = len(json.loads((directory / "trained/logits.json").read_text())["logits"])
    with torch.no_grad():
        logits = model.eval()(torch.tensor([examples[0]])).logits[0, -count:]
    (directory / "peer/logits.json").write_text(json.dumps(dict(tokens=examples[0], logits=logits.tolist())))
    return losses


def exchanged(directory):
    """The largest difference of a logit under the adapter that twin trained."""
    theirs = json.loads((directory / "trained/logits.json").read_text())
    model = load(directory, "trained", torch.float32, False).eval()
    with torch.no_grad():
        logits = model(torch.tensor([theirs["tokens"]])).logits[0, -len(theirs["logits"]) :]
    return (logits - torch.tensor(theirs["logits"])).abs().max().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the frozen base, for the speed")
    parser.add_argument("--speed-only", action="store_true")
    arguments = parser.parse_args()
    ours = json.loads((arguments.directory / "ours.json").read_text())
    torch.set_num_threads(arguments.threads or ours["threads"])
    load_average = os.getloadavg()[0]
    best, median = speed(arguments.directory, ours["tokens"], 6, getattr(torch, arguments.dtype))
    # Before anything else allocates: the peak of loading and training.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    report = dict(
        torch=torch.__version__,
        dtype=arguments.dtype,
        tokens_per_second=best,
        median_tokens_per_second=median,
        peak_memory_mb=peak,
        load_average=load_average,
        speed_ratio=ours["tokens_per_second"] / best,
        memory_ratio=ours["peak_memory_mb"] / peak,
    )
    print(f"PEFT, {arguments.dtype}: {best:.1f} tokens/s at best, {median:.1f} in the middle, {peak} MB, load {load_average:.1f}")
    print(f"twin: {ours['tokens_per_second']:.1f} tokens/s ({report['speed_ratio']:.2f} times), {ours['peak_memory_mb']} MB ({report['memory_ratio']:.2f} times), load {ours['load_average']:.1f}")
    if not arguments.speed_only:
        losses = curve(arguments.directory)
        apart = [abs(a - b) / b for a, b in zip(ours["losses"], losses)]
        tail = lambda values: sum(values[-10:]) / 10
        report |= dict(losses=losses, largest_relative_loss_difference=max(apart), last_ten_relative=abs(tail(ours["losses"]) / tail(losses) - 1))
        report["logit_difference_of_our_adapter"] = exchanged(arguments.directory)
        print(f"losses of {len(losses)} steps: {max(apart):.2%} apart at most, {report['last_ten_relative']:.3%} over the last ten")
        print(f"twin's adapter in PEFT: largest difference of a logit {report['logit_difference_of_our_adapter']:.2e}")
    (arguments.directory / f"peer-{arguments.dtype}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
