#!/usr/bin/env python3
"""Writes token ids of a large vocabulary into a folder: train.safetensors and test.safetensors, windows of 256 ids.

Tokens are drawn by Zipf's law, and half of the time the next one is that which belongs to the one before: so there is
something to learn beyond which tokens are frequent. The embedding and the head are nearly all of a small model for them.
Standard library only; the same seed gives the same bytes.

    examples/workloads/large_vocabulary.py runs/large-vocabulary
"""
import argparse
import array
import bisect
import itertools
import json
import os
import random
import struct
import sys

LENGTH = 256


def windows(random_, count, vocabulary, follower, sums):
    ids = array.array("i")
    for _ in range(count):
        token = None
        for _ in range(LENGTH):
            follows = token is not None and random_.random() < 0.5
            token = follower[token] if follows else bisect.bisect(sums, random_.random() * sums[-1])
            ids.append(min(token, vocabulary - 1))
    ids[0] = vocabulary - 1  # the largest id says how many there are
    return ids


def write(path, ids):
    if sys.byteorder == "big":
        ids.byteswap()
    data = ids.tobytes()
    header = {"ids": {"dtype": "I32", "shape": [len(ids) // LENGTH, LENGTH], "data_offsets": [0, len(data)]}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--vocabulary", type=int, default=65536)
    parser.add_argument("--train", type=int, default=1024)
    parser.add_argument("--test", type=int, default=32)
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    random_ = random.Random(1)
    sums = list(itertools.accumulate(1 / (rank + 1) for rank in range(options.vocabulary)))
    follower = list(range(options.vocabulary))
    random_.shuffle(follower)
    for name, count in (("train", options.train), ("test", options.test)):
        ids = windows(random_, count, options.vocabulary, follower, sums)
        write(f"{options.folder}/{name}.safetensors", ids)


if __name__ == "__main__":
    main()
