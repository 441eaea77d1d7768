#!/usr/bin/env python3
"""Kills training runs at random instants and resumes them: each must end with the bits of a run that was left alone.

    tools/check_crashes.py THIMBLE [--count 40] [--signal KILL|TERM] [--seed 1] [--mode wait|beside|disk]

Three modes, one after the other, or the one that --mode names: steps that wait for saves (--wait-for-saves), saves beside
steps, and values waiting on disk (--memory as small as it goes). Every second kill waits until a checkpoint is being
written. Prints one line a mode; exit status 1 where a run differs."""
import argparse
import glob
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

STEPS = 24
MODES = {"wait": "steps wait for saves", "beside": "saves beside steps", "disk": "with the disk tier"}


def make_files(folder):
    """Token ids, which need no tokenizer: [windows, 65] of I32 in safetensors."""
    rows = random.Random(3)
    ids = b"".join(rows.randrange(256).to_bytes(4, "little") for _ in range(64 * 65))
    header = json.dumps({"ids": {"dtype": "I32", "shape": [64, 65], "data_offsets": [0, len(ids)]}}).encode()
    path = os.path.join(folder, "ids.safetensors")
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + ids)
    return path


class Runs:
    def __init__(self, program, folder, memory, flags=()):
        self.program, self.folder, self.memory, self.flags = program, folder, memory, flags
        self.data = os.path.join(folder, "ids.safetensors")

    def command(self, out, resume):
        flags = ["train", "--size", "2M", "--data", self.data, "--context", "65", "--batch", "4", "--steps", str(STEPS),
                 "--save-every", "1", "--precision", "f32", "--schedule", "constant", "--threads", "2", "--json",
                 *self.flags]
        flags += ["--memory", self.memory] if self.memory else ["--scratch", "none"]
        return [self.program, *flags, "--out", out] + (["--resume"] if resume else [])

    def start(self, out, resume):
        return subprocess.Popen(self.command(out, resume), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def finish(self, out, resume):
        done = subprocess.run(self.command(out, resume), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode:
            sys.exit("a run that was left alone fails: " + done.stderr.decode())
        return done.stderr.decode()


def result_of(out):
    with open(os.path.join(out, "model", "model.safetensors"), "rb") as file:
        return file.read()


def least_memory(runs, folder):
    asked = Runs(runs.program, folder, "5M").command(os.path.join(folder, "least"), False)
    said = subprocess.run(asked, capture_output=True, text=True).stderr
    found = re.findall(r"--memory (\d+)M", said)
    if not found:
        sys.exit("no smallest budget is named: " + said)
    return f"{int(found[-1]) + 1}M"


def is_saving(process, out):
    """Whether this process writes a checkpoint: parts are named by their process, and killed ones leave theirs behind."""
    return bool(glob.glob(os.path.join(out, f"checkpoint.safetensors.{process.pid}.*.part")))


def kill_while(process, out, seconds, saving, which):
    """After so many seconds; with `saving`, as soon as a checkpoint is being written then."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    deadline = time.time() + 2
    while saving and time.time() < deadline and process.poll() is None:
        if is_saving(process, out):
            break
    if process.poll() is None:
        process.send_signal(which)
    process.communicate()
    return process.returncode


def check(name, runs, count, which):
    straight = os.path.join(runs.folder, "straight")
    begin = time.time()
    runs.finish(straight, False)
    whole = time.time() - begin
    expected = result_of(straight)
    killed = while_saving = fell_back = 0
    for number in range(count):
        out = os.path.join(runs.folder, f"run{number}")
        os.makedirs(out)
        for _ in range(3):  # a run may be killed several times
            resume = bool(glob.glob(os.path.join(out, "checkpoint*.safetensors")))
            saving = random.random() < 0.5
            process = runs.start(out, resume)
            killed += kill_while(process, out, random.uniform(0, whole), saving, which) != 0
            while_saving += is_saving(process, out)
        said = runs.finish(out, bool(glob.glob(os.path.join(out, "checkpoint*.safetensors"))))
        fell_back += "damaged" in said
        if result_of(out) != expected:
            sys.exit(f"{name}: run {number} ends with other bits than the one that was left alone; see {out}")
        shutil.rmtree(out)
    print(f"{name}: {count} runs, {killed} kills ({while_saving} while a checkpoint was written), "
          f"{fell_back} damaged checkpoints, all ended with the same bits")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--signal", default="KILL")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mode", choices=MODES)
    options = parser.parse_args()
    which = getattr(signal, "SIG" + options.signal)
    with tempfile.TemporaryDirectory() as folder:
        make_files(folder)
        for mode in [options.mode] if options.mode else MODES:
            random.seed(options.seed)
            part = os.path.join(folder, mode)
            os.makedirs(part)
            shutil.copy(os.path.join(folder, "ids.safetensors"), part)
            runs = Runs(options.program, part, None, ["--wait-for-saves"] if mode == "wait" else [])
            if mode == "disk":
                runs = Runs(options.program, part, least_memory(runs, part))
            check(MODES[mode], runs, options.count, which)


if __name__ == "__main__":
    main()
