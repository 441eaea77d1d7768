#!/usr/bin/env python3
"""Writes a recall task into a folder: pairs of a letter and a digit, dots, then letters whose digits are asked for.

    train.jsonl  texts: "c4a1f9...", some dots, and every letter three times more with its digit
    test.jsonl   one letter asked for, ten digits to choose from: `thimble eval --metric choice`; by chance 0.1 are right

The pairs lie further back than a model of windows can see, when window x layers is less than the number of dots.
"""
import argparse
import json
import os
import random


def pairs_of(random_, options):
    letters = "abcdefghijklmnopqrstuvwxyz"[:options.letters]
    return [(letter, random_.choice("0123456789")) for letter in random_.sample(letters, options.pairs)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--letters", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--dots", type=int, default=24)
    parser.add_argument("--train", type=int, default=20000)
    parser.add_argument("--test", type=int, default=200)
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    random_ = random.Random(1)
    begin = lambda pairs, dots: "".join(letter + digit for letter, digit in pairs) + "." * dots
    with open(f"{options.folder}/train.jsonl", "w") as file:
        for _ in range(options.train):
            pairs = pairs_of(random_, options)
            asked = random_.sample(3 * pairs, 3 * len(pairs))
            text = begin(pairs, random_.randint(0, options.dots)) + "".join(a + b for a, b in asked)
            file.write(json.dumps({"text": text}) + "\n")
    with open(f"{options.folder}/test.jsonl", "w") as file:
        for _ in range(options.test):
            pairs = pairs_of(random_, options)
            letter, digit = random_.choice(pairs)
            question = {"prompt": begin(pairs, options.dots) + letter, "choices": list("0123456789"), "answer": int(digit)}
            file.write(json.dumps(question) + "\n")


if __name__ == "__main__":
    main()
