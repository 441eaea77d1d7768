#!/usr/bin/env python3
"""Random recipes: everything that `thimble methods` lists, in combinations that nobody has written code for.

  tools/random_recipes.py THIMBLE [--count 60] [--seed 1] [--first N] [--only N]

A recipe is an optimizer (with or without wrappers), the codec of its states, an estimator, a selector, a stack of one or
two methods, keepers, an objective, and a budget: plenty, or the least that the refusal of --memory 1M names. Each trains
five steps of a small model that is made here, is interrupted after two and resumed, and has to end in the same losses and
the same bytes, with its peak within 97 to 100 % of the plan and never above its budget; or it is refused, with exit code 2
or 3 and words. A table, and exit code 1 where anything else happened.
"""
import argparse
import collections
import glob
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

STEPS, STOP = 5, 2
LONGEST = 90  # seconds of a run
SMALL = ["--batch", "2", "--context", "64", "--threads", "2", "--seed", "5"]
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOKENIZER = os.path.join(ROOT, "examples/workloads/bytes/tokenizer.json")
BESIDE = {"lemo": "lora,lemo"}  # what changes how others train, and has nothing to train by itself
WORDS = "the a small large red blue bird tree house sings grows stands under over near old young quiet".split()


def lines(seed, count, make):
    rng = random.Random(seed)
    return "".join(json.dumps(make(rng)) + "\n" for _ in range(count))


def words(rng, count):
    return " ".join(rng.choice(WORDS) for _ in range(count))


def make_tokenizer(folder):
    """Bytes, and the tokens that filling in needs."""
    with open(TOKENIZER, encoding="utf-8") as file:
        tokenizer = json.load(file)
    first = 1 + max(token["id"] for token in tokenizer["added_tokens"])
    for i, name in enumerate(("<fim_prefix>", "<fim_suffix>", "<fim_middle>")):
        tokenizer["added_tokens"].append(tokenizer["added_tokens"][0] | {"id": first + i, "content": name})
    path = os.path.join(folder, "tokenizer.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(tokenizer, file)
    return path


def make_files(thimble, folder):
    """Data, and a small base model, which is its own teacher."""
    for name, make in (("text", lambda rng: {"text": words(rng, 9)}),
                       ("pairs", lambda rng: {"prompt": words(rng, 1), "chosen": " " + words(rng, 2),
                                              "rejected": " " + words(rng, 2)}),
                       ("labelled", lambda rng: {"text": words(rng, 9), "label": rng.randrange(3)})):
        with open(os.path.join(folder, name + ".jsonl"), "w", encoding="utf-8") as file:
            file.write(lines(name, 200, make))
    base = os.path.join(folder, "base")
    subprocess.run([thimble, "train", "--size", "200K", "--tokenizer", make_tokenizer(folder), "--data",
                    os.path.join(folder, "text.jsonl"), *SMALL, "--steps", "10", "--memory", "500M", "--out", base],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return os.path.join(base, "model")


def stacked(methods):
    """As --method takes them."""
    return BESIDE.get(methods, methods)


def draw(rng, tables):
    names = {kind: [entry["name"] for entry in entries] for kind, entries in tables.items()}
    optimizer = rng.choice(names["optimizers"])
    methods = [rng.choice([m for m in names["methods"] if m != "bitfit"])]  # the small model has no biases
    if rng.random() < 0.15:  # an adapter's zeros are where it begins: nobody wants to keep them
        optimizer += "," + rng.choice([w for w in names["wrappers"] if w != "keep_zeros" or methods == ["full"]])
    if rng.random() < 0.25 and methods[0] != "full":
        methods.append(rng.choice([m for m in names["methods"] if m not in ("full", "bitfit")]))
    methods.sort(key=lambda m: m in BESIDE)
    others = [keeper for keeper in names["keepers"] if keeper != "exact"]
    keepers = [rng.choice(others)] if rng.random() < 0.6 else ["exact"]
    if keepers != ["exact"] and rng.random() < 0.25:
        keepers.append(rng.choice(others))
    estimator = "backprop" if rng.random() < 0.85 else rng.choice(names["estimators"])
    if estimator != "backprop":
        keepers = ["exact"]  # nothing waits for a backward pass
    return {
        "optimizer": optimizer,
        "states": rng.choice(["f32", "bf16", "int8_block", "fp8"]),
        "estimator": estimator,
        "select": "all" if rng.random() < 0.5 else rng.choice(names["selectors"]),
        "method": stacked(",".join(dict.fromkeys(methods))),
        "keep": ",".join(dict.fromkeys(keepers)),
        "objective": "next_token" if rng.random() < 0.5 else rng.choice(names["objectives"]),
        "budget": rng.choice(["plenty", "least"]),
        "accumulate": rng.choice([1, 1, 2]),
    }


def data_of(objective):
    if objective in ("next_token", "distillation", "infill"):
        return "text.jsonl"
    return "labelled.jsonl" if objective in ("classification", "regression") else "pairs.jsonl"


def flags_of(recipe, model, folder):
    flags = ["--model", model, "--data", os.path.join(folder, data_of(recipe["objective"])), *SMALL,
             "--steps", str(STEPS), "--save-every", "1", "--json", "--lr", "1e-3", "--accumulate",
             str(recipe["accumulate"])]
    for key in ("optimizer", "states", "estimator", "select", "method", "keep", "objective"):
        flags += ["--" + key, recipe[key]]
    if recipe["objective"] == "distillation":
        flags += ["--teacher", model]
    if recipe["select"] == "lisa":
        flags += ["--set", "lisa.period=2", "--set", "lisa.layers=1"]
    if "vblora" in recipe["method"]:
        flags += ["--set", "vblora.vector_length=16", "--set", "vblora.vectors=32"]
    if "trainable_tokens" in recipe["method"]:
        flags += ["--set", "trainable_tokens.tokens=97|98|101"]
    if recipe["select"] == "sparse":
        flags += ["--set", "select.bytes=200000"]
    if recipe["select"] == "patterns":
        flags += ["--set", "patterns.train=layers.0|layers.1"]
    return flags


class Ran:
    """A run that has ended: exit code, losses by step, plan, peak, what it said."""

    def __init__(self, thimble, flags, stop_after=None):
        process = subprocess.Popen([thimble, "finetune", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        killer = threading.Timer(LONGEST, process.kill)
        killer.start()
        self.losses, self.planned, self.peak = {}, 0, 0
        for line in process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.get("event") == "plan":
                self.planned = event.get("planned_peak_bytes", event.get("planned_bytes", 0))
            if event.get("event") == "step":
                self.losses[event["step"]] = (event["loss"], event["grad_norm"])
                self.peak = max(self.peak, event["peak_rss_bytes"])
                if stop_after == event["step"]:
                    process.send_signal(signal.SIGINT)
        self.said = process.stderr.read()
        self.code = process.wait()
        killer.cancel()
        self.last = self.said.strip().splitlines()[-1] if self.said.strip() else ""


def digest(out):
    """Of what a run leaves, by name: weights of the model or the adapter."""
    found = {}
    for path in sorted(glob.glob(os.path.join(out, "*", "*.safetensors"))):
        with open(path, "rb") as file:
            found[os.path.relpath(path, out)] = hashlib.sha256(file.read()).hexdigest()
    return found


def judge(thimble, recipe, model, folder):
    """(outcome, words): held, refused, or what is wrong."""
    flags = flags_of(recipe, model, folder)
    out = os.path.join(folder, "run")
    memory = 800 * 10**6
    refused = Ran(thimble, [*flags, "--memory", "1M", "--out", out])
    if refused.code == 2:
        return "refused", refused.last
    if refused.code != 3:
        return "WRONG", f"exit code {refused.code} at --memory 1M: {refused.last}"
    if recipe["budget"] == "least":
        named = re.findall(r"--memory (\d+)M", refused.last)
        if not named:
            return "WRONG", "a refusal without a budget: " + refused.last
        memory = int(named[-1]) * 10**6
    whole = Ran(thimble, [*flags, "--memory", f"{memory // 10**6}M", "--out", out])
    if whole.code == 2:
        return "refused", whole.last
    if whole.code == 3 and recipe["budget"] == "least":  # the first guess may be a little small
        named = re.findall(r"--memory (\d+)M", whole.last)
        memory = int(named[-1]) * 10**6 if named else memory
        whole = Ran(thimble, [*flags, "--memory", f"{memory // 10**6}M", "--out", out])
    if whole.code == -signal.SIGKILL:
        return "slow", f"five steps take more than {LONGEST} s"
    if whole.code != 0 or len(whole.losses) != STEPS:
        return "WRONG", f"exit code {whole.code} within {memory // 10**6}M: {whole.last}"
    first = digest(out)
    if whole.peak > memory:
        return "WRONG", f"peak {whole.peak / 1e6:.2f} MB above --memory {memory // 10**6}M"
    if whole.planned and not 0.97 <= whole.peak / whole.planned <= 1.0:
        return "WRONG", f"peak {whole.peak / 1e6:.2f} MB, planned {whole.planned / 1e6:.2f}"
    again = os.path.join(folder, "again")
    flags += ["--memory", f"{memory // 10**6}M", "--out", again]
    begun = Ran(thimble, flags, STOP)
    resumed = Ran(thimble, [*flags, "--resume"])
    if begun.code not in (0, 130) or resumed.code != 0:
        return "WRONG", f"interrupted {begun.code}, resumed {resumed.code}: {resumed.last or begun.last}"
    losses = begun.losses | resumed.losses
    if losses != whole.losses:
        return "WRONG", f"resumed otherwise: {losses} for {whole.losses}"
    if digest(again) != first:
        return "WRONG", "other bytes after resuming"
    return "held", f"{memory / 1e6:.0f} MB, loss {whole.losses[STEPS][0]:.4f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("thimble", type=os.path.abspath)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first that is run")
    parser.add_argument("--only", type=int, help="one recipe, by its number")
    parser.add_argument("--objective", help="of all recipes, in place of one that is drawn")
    args = parser.parse_args()
    tables = json.loads(subprocess.run([args.thimble, "methods", "--json"], check=True, stdout=subprocess.PIPE,
                                       text=True).stdout)
    counts, begun = collections.Counter(), time.time()
    with tempfile.TemporaryDirectory() as folder:
        model = make_files(args.thimble, folder)
        for number in range(args.first, args.count):
            recipe = draw(random.Random(f"{args.seed} {number}"), tables)
            recipe["objective"] = args.objective or recipe["objective"]
            if args.only is not None and number != args.only:
                continue
            outcome, said = judge(args.thimble, recipe, model, folder)
            counts[outcome] += 1
            print(f"{number:3} {outcome:8} {' '.join(str(v) for v in recipe.values())}: {said}", flush=True)
            subprocess.run(["rm", "-rf", os.path.join(folder, "run"), os.path.join(folder, "again")], check=True)
    print(f"{dict(counts)} in {time.time() - begun:.0f} s")
    return 1 if counts["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
