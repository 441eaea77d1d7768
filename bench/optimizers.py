#!/usr/bin/env python3
"""Optimizers and codecs of their states on one small workload, each at three learning rates.

    bench/optimizers.py THIMBLE MODEL DATA [--tokenizer FILE] [--steps 150] [--only adamw,muon]

Every variant trains all weights of MODEL on DATA with the same batches. Of each the best rate's mean loss over the last
tenth of the steps is shown, with the bytes of its states as planned and the time of a step. Prints a table in Markdown.
"""
import argparse
import json
import subprocess
import sys
import tempfile

RATES = {
    "adamw": [3e-4, 1e-3, 3e-3], "lion": [3e-5, 1e-4, 3e-4], "sgd": [1e-1, 3e-1, 1],
    "adafactor": [3e-3, 1e-2, 3e-2], "apollo": [1e-3, 3e-3, 1e-2], "apollo_mini": [1e-3, 3e-3, 1e-2],
    "galore": [3e-3, 1e-2, 3e-2], "lamb": [1e-3, 3e-3, 1e-2], "muon": [1e-3, 3e-3, 1e-2], "spam": [3e-4, 1e-3, 3e-3],
    "soap": [1e-3, 3e-3, 1e-2], "cosmos": [3e-3, 1e-2, 3e-2], "came": [3e-4, 1e-3, 3e-3],
    "adam_mini": [3e-4, 1e-3, 3e-3], "lars": [1, 3, 10], "sgd_sai": [1e-1, 3e-1, 1], "prodigy": [0.5, 1, 2],
    "fira": [1e-3, 3e-3, 1e-2], "frugal": [1e-4, 3e-4, 1e-3], "natural_galore": [3e-3, 1e-2, 3e-2],
}
SETTINGS = {"sgd": ["--set", "optimizer.momentum=0.9"]}
STATES = {"adamw": ["f32", "bf16", "int8_block", "fp8"]}


def run(arguments, optimizer, states, rate):
    with tempfile.TemporaryDirectory() as out:
        command = [arguments.thimble, "finetune", "--method", "full", "--model", arguments.model, "--data",
                   arguments.data, "--optimizer", optimizer, "--states", states, "--lr", str(rate), "--context", "128",
                   "--batch", "8", "--steps", str(arguments.steps), "--scratch", "none", "--json", "--out", out]
        command += ["--tokenizer", arguments.tokenizer] if arguments.tokenizer else []
        result = subprocess.run(command + SETTINGS.get(optimizer, []), capture_output=True, text=True)
    events = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    steps = [event for event in events if event["event"] == "step"]
    if result.returncode != 0 or len(steps) < arguments.steps:
        return float("inf"), 0, 0, result.stderr.strip().splitlines()[-1:]
    tail = steps[-max(1, arguments.steps // 10):]
    seconds = sorted(step["seconds"] for step in steps)[len(steps) // 2]
    plan = next(event for event in events if event["event"] == "plan")
    states_bytes = next((item["bytes"] for item in plan["ledger"] if item["name"] == "optimizer states"), 0)
    return sum(step["loss"] for step in tail) / len(tail), states_bytes, seconds, []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("thimble", "model", "data"):
        parser.add_argument(name)
    parser.add_argument("--tokenizer")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    chosen = [name for name in arguments.only.split(",") if name] or list(RATES)
    print("| optimizer | states | best rate | loss | state bytes | ms a step |\n|---|---|--:|--:|--:|--:|", flush=True)
    for optimizer in chosen:
        for states in STATES.get(optimizer, ["f32"]):
            results = [(*run(arguments, optimizer, states, rate), rate) for rate in RATES[optimizer]]
            loss, size, seconds, error, rate = min(results, key=lambda result: result[0])
            if error:
                print(f"| {optimizer} | {states} | did not run: {error[0]} | | | |", flush=True)
                continue
            print(f"| {optimizer} | {states} | {rate:g} | {loss:.3f} | {size:,} | {1000 * seconds:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
