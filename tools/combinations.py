#!/usr/bin/env python3
"""Which techniques work together: every pair of two sockets is planned on a small model, and what is refused is listed.

  tools/combinations.py THIMBLE [--sockets methods,optimizers ...] [--jobs 2] > docs/combinations.md

Nothing is trained. A pair works where `thimble plan` accepts it; it is refused with exit code 2 and words. Exit code 1
where anything else happens. The page groups refusals by what they say.
"""
import argparse
import collections
import concurrent.futures
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile

import random_recipes

FLAGS = {"methods": "--method", "optimizers": "--optimizer", "objectives": "--objective", "estimators": "--estimator",
         "keepers": "--keep", "selectors": "--select", "wrappers": "--optimizer", "states": "--states"}
STATES = ["f32", "bf16", "int8_block", "fp8"]
# What is asked for when nothing else is; a pair with one of these is a single technique.
PLAIN = {"methods": "full", "optimizers": "adamw", "objectives": "next_token", "estimators": "backprop",
         "keepers": "exact", "selectors": "all", "states": "f32"}
PAIRS = [("methods", "optimizers"), ("methods", "estimators"), ("methods", "keepers"), ("methods", "selectors"),
         ("methods", "objectives"), ("methods", "methods"), ("optimizers", "states"), ("optimizers", "wrappers"),
         ("optimizers", "estimators"), ("optimizers", "selectors"), ("estimators", "keepers"),
         ("estimators", "selectors"), ("estimators", "objectives"), ("keepers", "keepers"), ("keepers", "objectives")]
# Of options without a default that suits a small model.
NEEDED = {"trainable_tokens": ["trainable_tokens.tokens=97|98"], "sparse": ["sparse.bytes=200000"],
          "patterns": ["patterns.train=layers.0"], "lisa": ["lisa.layers=1"], "ist": ["ist.layers=1"],
          "vblora": ["vblora.vector_length=16", "vblora.vectors=32"]}


HEAD = """# Combinations

    tools/combinations.py build/release/thimble > docs/combinations.md

plans every pair of techniques of two sockets on a small model from its own data, and lists what is refused, and with what words:
… stands for a name of the pair. What no row names works. Of three and more techniques at a time `tools/random_recipes.py`
tries some ([reliability](reliability.md)). `bitfit` wants a model with biases, which this one has not;
`lemo` stands for `lora,lemo`, as it trains nothing by itself."""


class Planner:
    def __init__(self, thimble, folder):
        self.thimble, self.folder = thimble, folder
        self.model = random_recipes.make_files(thimble, folder)

    def try_pair(self, pair):
        """(exit code, what it says) of a plan with these, [(socket, name)]."""
        chosen = {}
        for socket, name in pair:
            flag = FLAGS[socket]
            if socket == "wrappers":
                name = chosen.get(flag, "adamw") + "," + name
            chosen[flag] = chosen[flag] + "," + name if flag in chosen and socket != "wrappers" else name
        names = {name for _, name in pair}
        chosen["--method"] = random_recipes.stacked(chosen.get("--method", "full"))
        objective = chosen.get("--objective", "next_token")
        flags = [part for item in chosen.items() for part in item]
        if objective == "distillation":
            flags += ["--teacher", self.model]
        for setting in itertools.chain.from_iterable(NEEDED.get(name, []) for name in sorted(names)):
            flags += ["--set", setting]
        done = subprocess.run(
            [self.thimble, "plan", "--model", self.model, "--data",
             os.path.join(self.folder, random_recipes.data_of(objective)), "--batch", "2", "--context", "64",
             "--threads", "1", "--steps", "100", "--memory", "1G", "--multiply", "f32", "--scratch", "none", *flags],
            capture_output=True, text=True)
        said = [line for line in done.stderr.splitlines() if line.startswith("thimble")]
        return done.returncode, re.sub(r"^thimble [a-z]+: ", "", said[-1]) if said else ""


def names_of(tables, socket):
    return STATES if socket == "states" else [entry["name"] for entry in tables[socket]]


def pairs_of(tables, first, second):
    """Without the plain ones; of one socket, unordered."""
    ones, others = (
        [name for name in names_of(tables, socket) if name != PLAIN.get(socket)] for socket in (first, second))
    if first == second:
        return [((first, a), (second, b)) for a, b in itertools.combinations(ones, 2)]
    return [((first, a), (second, b)) for a in ones for b in others]


def general(said, pair):
    """The refusal without the names of this pair, so that alike ones are one reason."""
    for _, name in sorted(pair, key=lambda one: -len(one[1])):
        said = re.sub(rf"(?<![\w-]){re.escape(name)}(?!\w)", "…", said)
    return re.sub(r"--\w+ …", "…", said)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("thimble", type=os.path.abspath)
    parser.add_argument("--sockets", nargs="*", default=[], help="pairs of sockets, methods,optimizers; default all")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    wanted = [tuple(pair.split(",")) for pair in options.sockets] or PAIRS
    tables = json.loads(
        subprocess.run([options.thimble, "methods", "--json"], check=True, stdout=subprocess.PIPE, text=True).stdout)
    wrong = 0
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        planner = Planner(options.thimble, folder)
        for first, second in wanted:
            pairs = pairs_of(tables, first, second)
            refused = collections.defaultdict(lambda: collections.defaultdict(list))
            for pair, (code, said) in zip(pairs, pool.map(planner.try_pair, pairs)):
                if code == 2:
                    refused[general(said, pair)][pair[0][1]].append(pair[1][1])
                elif code != 0:
                    wrong += 1
                    print(f"{pair}: exit code {code}: {said}", file=sys.stderr, flush=True)
            count = sum(len(others) for by_first in refused.values() for others in by_first.values())
            print(f"\n## {first.capitalize()} with {second}\n\n{len(pairs) - count} of {len(pairs)} pairs work.\n")
            if refused:
                print("| refused | because |\n|---|---|")
            for reason, by_first in sorted(refused.items(), key=lambda item: -sum(map(len, item[1].values()))):
                grouped = collections.defaultdict(list)
                for one, others in by_first.items():
                    grouped[tuple(others)].append(one)
                which = "; ".join(f"{', '.join(ones)} × {', '.join(others)}" for others, ones in grouped.items())
                print(f"| {which} | {reason.replace('|', chr(92) + '|')} |")
            sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
