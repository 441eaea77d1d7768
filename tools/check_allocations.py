#!/usr/bin/env python3
"""Makes allocations of the program fail, one a run: each run must end in words, not in a crash, and free what it took.

    tools/check_allocations.py THIMBLE [--scenario NAME ...] [--every N] [--sample 200] [--jobs 2] [--seed 1]

Every scenario is run once to count its allocations and to find those that are the first with their call stack, in it and
in the scenarios before. Then it is run anew for each of these, and for a sample of the others, with that allocation
and the next failing, as the program has a reserve that makes up for one; for some with one, and with all after it. --every
N takes every Nth allocation instead. A run that ends well must have said what the undisturbed
one said. What is live at the end is compared with that run, by who asked for it. Prints one line a scenario and the
findings; exit status 1 where there are any. Needs g++ and glibc."""
import argparse
import collections
import concurrent.futures
import gzip
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = 120  # a run that takes longer hangs
HOW = {0: "and all after it", 1: "once", 2: "and the next"}


class Scenario:
    def __init__(self, name, arguments, says=False):
        self.name, self.arguments, self.says = name, arguments, says


def byte_tokenizer():
    """GPT-2's: every byte a token, and a few merges."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in visible]
    names = [chr(byte) for byte in visible] + [chr(256 + i) for i in range(len(others))]
    merges = ["o n", "t w", "tw o", "\u0120 t"]
    vocab = {name: i for i, name in enumerate(names + [merge.replace(" ", "") for merge in merges])}
    end = {"id": len(vocab), "content": "<|im_end|>", "special": True, "single_word": False, "lstrip": False, "rstrip": False,
           "normalized": False}
    return json.dumps({"version": "1.0", "added_tokens": [end], "normalizer": None, "post_processor": None,
                       "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                                         "use_regex": True},
                       "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                       "model": {"type": "BPE", "vocab": vocab, "merges": merges}})


def make_files(program, folder):
    """A small model as a folder and as GGUF, chats, plain and packed."""
    with open(os.path.join(folder, "tokenizer.json"), "w") as file:
        file.write(byte_tokenizer())
    rows = random.Random(1)
    words = ["one", "two", "three", "four", "five", "six"]
    chats = "".join(json.dumps({"messages": [{"role": "user", "content": " ".join(rows.choices(words, k=5))},
                                             {"role": "assistant", "content": rows.choice(words)}]}) + "\n"
                    for _ in range(12))
    with open(os.path.join(folder, "chats.jsonl"), "w") as file:
        file.write(chats)
    with gzip.open(os.path.join(folder, "chats.jsonl.gz"), "wt") as file:
        file.write(chats)
    with gzip.open(os.path.join(folder, "pairs.jsonl.gz"), "wt") as file:
        file.write("".join(json.dumps({"prompt": word, "completion": word}) + "\n" for word in words))
    with open(os.path.join(folder, "text.txt"), "w") as file:
        file.write(" ".join(rows.choices(words, k=400)))
    def run(*arguments):
        done = subprocess.run([program, *arguments], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{arguments[0]} fails without a fault: {done.stderr}")
    run("train", "--size", "100K", "--tokenizer", f"{folder}/tokenizer.json", "--data", f"{folder}/text.txt", "--context", "32",
        "--steps", "2", "--save-every", "1", "--threads", "1", "--scratch", "none", "--out", f"{folder}/made")
    run("convert", "--model", f"{folder}/made/model", "--to", "gguf", "--codec", "q8_0", "--out", f"{folder}/model.gguf")
    run("finetune", "--model", f"{folder}/model.gguf", "--data", f"{folder}/text.txt", "--context", "32", "--steps", "1",
        "--threads", "1", "--scratch", "none", "--out", f"{folder}/tuned")


def scenarios(folder):
    """OUT stands for a folder of the run's own."""
    size = ["--size", "100K", "--tokenizer", f"{folder}/tokenizer.json"]
    text, chats, gguf = f"{folder}/text.txt", f"{folder}/chats.jsonl", f"{folder}/model.gguf"
    alone = ["--threads", "1", "--scratch", "none"]
    steps = ["--context", "32", "--steps", "2", *alone]
    return [
        Scenario("plan", ["plan", *size, "--data", text, "--eval-data", text, *steps]),
        Scenario("load", ["inspect", f"{folder}/made/model", "--tensors"], True),
        Scenario("save", ["train", *size, "--data", text, *steps, "--save-every", "1", "--out", "OUT"]),
        Scenario("resume", ["train", *size, "--data", text, "--context", "32", "--steps", "3", *alone, "--resume", "--out",
                            "OUT"]),
        Scenario("generate", ["generate", "--model", gguf, "--adapter", f"{folder}/tuned/adapter", "--prompt", "one two",
                              "--max-tokens", "6", *alone], True),
        Scenario("convert", ["convert", "--model", f"{folder}/made/model", "--to", "gguf", "--codec", "q4_0", "--out",
                             "OUT/a.gguf"]),
        Scenario("tokenize", ["tokenize", "--tokenizer", f"{folder}/tokenizer.json", "--text", "one two <|im_end|> three"], True),
        Scenario("eval", ["eval", "--model", gguf, "--data", text, "--context", "32", *alone]),
        Scenario("finetune", ["finetune", "--model", gguf, "--data", f"{folder}/chats.jsonl.gz", "--context", "128",
                              "--steps", "1", *alone, "--chat-template", "chatml", "--out", "OUT"]),
        Scenario("quantize", ["quantize", "--model", f"{folder}/made/model", "--method", "gptq", "--to", "q4_0", "--data", text,
                              "--samples", "2", "--context", "32", "--threads", "1", "--out", "OUT/b.gguf"]),
        Scenario("data", ["data", "--data", f"{folder}/pairs.jsonl.gz", "--tokenizer",
                           f"{folder}/tokenizer.json"], True),
        Scenario("threads", ["generate", "--model", gguf, "--prompt", "one", "--max-tokens", "4", "--threads", "2"], True),
    ]


class Program:
    def __init__(self, path, shim, folder):
        self.path, self.shim, self.folder = path, shim, folder

    def run(self, scenario, number, **settings):
        out = os.path.join(self.folder, f"out-{scenario.name}-{number}")
        shutil.rmtree(out, ignore_errors=True)
        if scenario.name == "resume":
            shutil.copytree(os.path.join(self.folder, "made"), out)
        else:
            os.makedirs(out)
        report = os.path.join(out, "allocations")
        trace = os.path.join(out, "trace")
        environment = dict(os.environ, LD_PRELOAD=self.shim, FAIL_REPORT=report, FAIL_TRACE=trace, TMPDIR=self.folder,
                           **{name: str(value) for name, value in settings.items()})
        arguments = [argument.replace("OUT", out) if argument.startswith("OUT") else argument
                     for argument in scenario.arguments]
        try:
            # At the same addresses each time, by which those who ask are known.
            done = subprocess.run(["setarch", "-R", self.path, *arguments], capture_output=True, env=environment,
                                  timeout=SECONDS)
            code, said, err = done.returncode, done.stdout.replace(out.encode(), b"OUT"), done.stderr.decode(errors="replace")
        except subprocess.TimeoutExpired:
            code, said, err = "hangs", b"", ""
        allocations, live = 0, collections.Counter()
        if os.path.exists(report):
            with open(report) as file:
                for line in file:
                    kind, value = line.split()
                    if kind == "live":
                        live[value] += 1
                    else:
                        allocations = int(value)
        asked = ""
        if os.path.exists(trace):
            with open(trace) as file:
                asked = file.read()
        shutil.rmtree(out, ignore_errors=True)
        return code, said, err, allocations, live, asked


def judge(scenario, clean, ran):
    """What is wrong with a run; "" where nothing is."""
    code, said, err, _, live, _ = ran
    if code not in (0, 1, 2, 3):
        return f"ends with {code}: {' '.join(err.split())[-200:]}"
    if code != 0 and not err.startswith("thimble") and "\nthimble" not in err:
        return f"ends with {code} without a word: {' '.join(err.split())[-200:]}"
    # What is told of a part that cannot be read is not what there was, but it is told.
    if code == 0 and scenario.says and said != clean[1] and b"memory" not in said:
        return "ends well and says something else"
    more = {site: count - clean[4][site] for site, count in live.items() if count > clean[4][site]}
    if more:
        return "leaves memory behind: " + ", ".join(f"{count} of {site}" for site, count in sorted(more.items())[:4])
    return ""


tried = set()  # call stacks


def within_library(program, asked):
    """Whether the one that fails is asked for by simdjson or nlohmann's JSON, between our code and the allocation: what
    these then leave half made is their own."""
    frames = re.findall(r"thimble\(\+(0x[0-9a-f]+)\)", asked)
    names = subprocess.run(["addr2line", "-f", "-C", "-e", program.path, *(hex(int(frame, 16) - 1) for frame in frames)],
                           capture_output=True, text=True).stdout.splitlines()[::2]
    # The function's own name, without those of its arguments.
    own = next((i for i, name in enumerate(names) if "thimble::" in name.split("(", 1)[0].split("<")[0] or
                name.startswith("thimble::")), len(names))
    return any("nlohmann::" in name or "simdjson::" in name for name in names[:own])


def indexes(program, scenario, options, total):
    if options.every:
        return list(range(1, total + 1, options.every)), 0
    path = os.path.join(program.folder, "sites-" + scenario.name)
    program.run(scenario, "sites", FAIL_SITES=path)
    with open(path) as file:
        first = [line.split() for line in file]
    stacks = sorted(int(index) for index, stack in first if stack not in tried)
    tried.update(stack for _, stack in first)
    others = random.sample(range(1, total + 1), min(options.sample, total))
    return sorted({*stacks, *others}), len(stacks)


def check(program, scenario, options):
    begin = time.time()
    clean = program.run(scenario, "clean")
    if clean[0] != 0:
        sys.exit(f"{scenario.name} fails without a fault: {clean[2]}")
    chosen, stacks = indexes(program, scenario, options, clean[3])
    jobs = [(index, 2) for index in chosen] + [(index, times) for times in (0, 1) for index in chosen[::10]]
    codes, findings, theirs = collections.Counter(), [], 0

    def one(job):
        index, times = job
        ran = program.run(scenario, f"{index}-{times}", FAIL_AT=index, FAIL_TIMES=times)
        wrong = judge(scenario, clean, ran)
        return job, ran[0], wrong, bool(wrong) and within_library(program, ran[5])

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for (index, times), code, wrong, library in pool.map(one, jobs):
            codes[code] += 1
            if library:
                theirs += 1
            elif wrong:
                findings.append(f"  {scenario.name}, allocation {index}, {HOW[times]}: {wrong}")
    print(f"{scenario.name}: {clean[3]} allocations, {stacks} new call stacks, {len(jobs)} runs in {time.time() - begin:.0f} s; "
          f"exit codes {dict(sorted(codes.items(), key=str))}; {theirs} within libraries of JSON, {len(findings)} findings", flush=True)
    for finding in findings[:options.findings]:
        print(finding, flush=True)
    return len(findings)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--scenario", nargs="*", default=[])
    parser.add_argument("--every", type=int, default=0)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=int, default=20, help="to print of a scenario")
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        shim = os.path.join(folder, "failing_malloc.so")
        subprocess.run(["g++", "-std=c++20", "-O2", "-shared", "-fPIC", "-fno-builtin", "-o", shim,
                        os.path.join(HERE, "failing_malloc.cpp")], check=True)
        path = os.path.abspath(options.program)
        make_files(path, folder)
        program = Program(path, shim, folder)
        found = sum(check(program, scenario, options) for scenario in scenarios(folder)
                    if not options.scenario or scenario.name in options.scenario)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
