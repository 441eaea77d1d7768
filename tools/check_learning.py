#!/usr/bin/env python3
"""Techniques beside PyTorch in training: the losses of many steps from one adapter, on the same tokens.

  thimble train ... --out runs/small     # the model of examples/workloads/finetune-small.yaml, which says the command
  tools/check_learning.py --model runs/small/model --method vblora --lr 0.16 --rate-of vector_bank:0.1 \\
    --set vblora.vector_length=16 --set vblora.vectors=32
  tools/check_learning.py --model runs/small/model --method full --optimizer prodigy --lr 1

thimble writes the adapter as it begins; both sides train from there, in f32, whole examples in the file's
order, windows filled as thimble fills them. Losses agree where they differ by less than --bound of what the first step
loses; the mean of the last tenth, which tells whether a technique learns, stands below. --seed N draws another adapter
to begin with. The techniques are PEFT's, or written out in learning_torch.py after their authors' code.
"""
import argparse
import json
import os
import struct
import tempfile

import interop

PACKAGES = {"torch": "torch", "prodigyopt": "prodigyopt", "transformers": "transformers", "peft": "peft", "safetensors": "safetensors"}


def examples_of(o):
    out = interop.thimble(o.thimble, "data", "--model", o.model, "--data", o.data, "--context", o.context, "--json",
                          "--show", 1000000)
    return [e for e in map(json.loads, out.splitlines()) if e["event"] == "example"]


def batches_of(examples, windows, context, steps):
    """Of each step the examples that fill so many windows, one after another: [tokens, which of them are learnt]."""
    batches, at = [], 0
    while len(batches) < steps:
        batch = []
        for _ in range(windows):
            used = 0
            while at < len(examples) and used + len(examples[at]["ids"]) <= context:
                batch.append([examples[at]["ids"], examples[at]["learnt"]])
                used += len(examples[at]["ids"])
                at += 1
        batches.append(batch)
        at = 0 if at == len(examples) else at
    return batches


def thimble_losses(o, folder, steps, *more, options=()):
    command = ["finetune", "--model", o.model, "--data", o.data, "--method", o.method, "--context", o.context, "--batch",
               o.batch, "--optimizer", o.optimizer, "--steps", steps, "--schedule", "constant", "--warmup", 0, "--clip", 0, "--precision", "f32",
               "--multiply", "f32", "--no-shuffle", "--seed", o.seed, "--scratch", "none", "--json", "--out", folder]
    command += [word for s in o.optimizer_set for word in ("--set", "optimizer." + s)]
    out = interop.thimble(o.thimble, *command, *[word for s in options for word in ("--set", s)], *more)
    return [e["loss"] for e in map(json.loads, out.splitlines()) if e.get("event") == "step"]


def found_d(checkpoint):
    """A state of prodigy's, the same with every parameter."""
    with open(checkpoint, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        begin = next(entry["data_offsets"][0] for name, entry in header.items() if name.startswith("prodigy.d."))
        file.seek(begin, os.SEEK_CUR)
        return struct.unpack("<f", file.read(4))[0]


def train(batches, **arguments):
    from learning_torch import losses_of

    with open(batches, encoding="utf-8") as file:
        return losses_of(batches=json.load(file), **arguments)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    interop.add_arguments(parser)
    parser.add_argument("--method", required=True)
    parser.add_argument("--data", default=os.path.join(interop.ROOT, "examples/requests/train-likelihood.jsonl"))
    parser.add_argument("--set", action="append", default=[], help="of the technique, while the adapter is made")
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--optimizer", default="adamw", choices=["adamw", "prodigy"])
    parser.add_argument("--optimizer-set", action="append", default=[], help="correct_bias=1, of prodigy")
    parser.add_argument("--rate-of", default="", help="as optimizer.rate_of, for PyTorch: vector_bank:0.1")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bound", type=float, default=0.01)
    o = parser.parse_args()
    python = interop.environment(o.venv, PACKAGES)
    report = interop.Report()
    with tempfile.TemporaryDirectory() as temporary:
        work = o.keep or temporary
        adapter, run = os.path.join(work, "begin", "adapter"), os.path.join(work, "run")
        begun = []
        if o.method != "full":
            thimble_losses(o, os.path.join(work, "begin"), 1, "--lr", 1e-30, options=o.set)
            begun = ["--adapter", adapter]
        ours = thimble_losses(o, run, o.steps, "--lr", o.lr, *begun)
        batches = os.path.join(work, "batches.json")
        with open(batches, "w", encoding="utf-8") as file:
            json.dump(batches_of(examples_of(o), o.batch, o.context, o.steps), file)
        rates = [[name, float(factor)] for name, _, factor in
                 (part.partition(":") for part in o.rate_of.split("|") if part)]
        there = interop.run_worker(python, __file__, "train", {
            "batches": batches, "folder": o.model, "adapter": adapter, "method": o.method, "optimizer": o.optimizer,
            "settings": [s.split("=") for s in o.optimizer_set], "lr": o.lr, "rates": rates})
        theirs = there["losses"]
        if there["d"]:
            d = found_d(os.path.join(run, "checkpoint.safetensors"))
            report.check("prodigy's d", abs(d - there["d"]) <= o.bound * d, f"{d:.6g}, in PyTorch {there['d']:.6g}")
    for step in sorted({*range(0, o.steps, max(1, o.steps // 12)), o.steps - 1}):
        print(f"        step {step + 1:3}: {ours[step]:.5f}, in PyTorch {theirs[step]:.5f}")
    last = max(1, o.steps // 10)
    a, b = sum(ours[-last:]) / last, sum(theirs[-last:]) / last
    report.check("the last tenth", abs(a - b) <= o.bound * ours[0], f"{a:.4f}, in PyTorch {b:.4f}")
    worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / ours[0]
    report.at_most(f"largest difference of {o.steps} losses, of the first", worst, o.bound)
    report.end()


if __name__ == "__main__":
    if not interop.is_worker({"train": train}):
        main()
