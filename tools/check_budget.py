#!/usr/bin/env python3
"""The memory promise over random configurations: measured peak never above the budget, and 97 to 100 % of the planned one.

usage: tools/check_budget.py THIMBLE_BINARY TOKENIZER TEXT [--runs 100] [--seed 1] [--model FILE] [--table FILE.md]
Each run trains two steps. The peak is the kernel's own figure for the child (ru_maxrss). The budget lies anywhere between
the smallest that `thimble` says would do and twice what it would take without one; a child that takes more data than
budget + 32 MB (RLIMIT_DATA) fails. Exit code 1 when a promise is broken.
"""
import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile

MB = 1_000_000


def run(command, limit=None):
    """(exit code, events, stderr, peak resident bytes); limit: bytes of data that the child may take"""
    def confine():
        if limit:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(command, stdout=out, stderr=err, preexec_fn=confine)
        _, status, usage = os.wait4(child.pid, 0)
        out.seek(0)
        err.seek(0)
        events = [json.loads(line) for line in out if line.startswith("{")]
        return os.waitstatus_to_exitcode(status), events, err.read(), usage.ru_maxrss * 1024


def configuration(rng, args):
    pretrained = args.model is not None and rng.random() < 0.2
    c = {
        "--context": rng.choice([32, 64, 100, 128, 256, 512]),
        "--batch": rng.choice([1, 2, 3, 4, 8]),
        "--accumulate": rng.choice([1, 1, 2]),
        "--optimizer": rng.choice(["adamw", "lion", "sgd"]),
        "--precision": rng.choice(["bf16", "bf16", "f32"]),
        "--clip": rng.choice([0, 1]),
        "--threads": rng.choice([1, 2]),
    }
    if pretrained:
        c |= {"--model": args.model, "--method": "lora", "--rank": rng.choice([1, 4, 8, 32]), "--batch": rng.choice([1, 2]),
              "--context": rng.choice([64, 128, 256])}
        c["--dropout"] = rng.choice([0, 0, 0.1])
        if rng.random() < 0.2:
            c |= {"--method": "full"}
            del c["--rank"], c["--dropout"]
    else:
        c |= {"--size": rng.choice(["200K", "1M", "3M", "5M", "12M"]), "--tokenizer": args.tokenizer, "--method": "full"}
    if rng.random() < 0.15:
        c["--allow"] = "near"
    return c


def flags(c):
    return [str(x) for pair in c.items() for x in pair]


def smallest_budget(binary, base):
    code, _, err, _ = run([binary, "plan", *base, "--memory", "1M"])
    found = re.search(r"give --memory (\d+)M", err)
    if code != 3 or not found:
        raise SystemExit(f"a budget of 1M should be refused with the smallest that would do: exit code {code}\n{err}")
    return int(found.group(1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("tokenizer")
    parser.add_argument("text")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model")
    parser.add_argument("--table")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    rows, broken = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.runs):
            c = configuration(rng, args)
            base = [*flags(c), "--data", args.text]
            least = smallest_budget(args.binary, base)
            _, events, _, _ = run([args.binary, "plan", *base, "--json"])
            plenty = events[0]["planned_peak_bytes"] // MB + 1
            budget = rng.randint(least, max(least, 2 * plenty)) if rng.random() < 0.5 else rng.randint(least, max(least, plenty))
            code, events, err, peak = run([args.binary, "finetune" if "--model" in c else "train", *base, "--memory", f"{budget}M", "--steps", "2",
                                           "--json", "--out", os.path.join(folder, "out")], limit=(budget + 32) * MB)
            plan = next((e for e in events if e["event"] == "plan"), {"planned_peak_bytes": 1, "disk_read_bytes": 0, "disk_written_bytes": 0})
            planned, disk = plan["planned_peak_bytes"], plan["disk_read_bytes"] + plan["disk_written_bytes"]
            good = code == 0 and peak <= budget * MB and 0.97 * planned <= peak <= planned
            broken += not good
            name = c.get("--size", "model")
            rows.append(f"| {number} | {name} | {c['--batch']}x{c['--context']}x{c['--accumulate']} | {c['--method']} {c['--optimizer']} {c['--precision']} | {least} | {budget} | "
                        f"{planned / MB:.1f} | {peak / MB:.1f} | {100 * peak / planned:.1f} | {disk / MB:.0f} | {'yes' if good else 'NO'} |")
            print(rows[-1], "" if good else f"exit code {code} {err[-300:]} {' '.join(base)}", flush=True)
    print(f"{args.runs - broken} of {args.runs} kept the promise")
    if args.table:
        with open(args.table, "w", encoding="utf-8") as file:
            file.write("| run | size | batch x context x accumulate | method | smallest MB | budget MB | planned MB | measured MB | % | disk MB a step | kept |\n"
                       "|---|---|---|---|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
