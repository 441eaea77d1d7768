#!/usr/bin/env python3
"""Writes a task of multi-query associative recall (Arora et al. 2023, arXiv:2312.04927) into a folder.

  train.jsonl    pairs of a letter and a digit, up to so many dots, then every letter again with its digit:
                 a3k7.....k7a3; only the digits behind the dots are learnt
  test.jsonl     pairs, all the dots and a letter: `thimble eval --metric exact --max-tokens 1`; by chance 0.1 are right
  plain.jinja    the chat template of the training data: what is said, and nothing else
  deltanet.json, window.json   models of two blocks for `--architecture`; window's attention sees 8 tokens, so that what
                 is more than 14 tokens back reaches no prediction
"""
import argparse
import json
import os
import random

TEMPLATE = ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% else %}"
            "{% generation %}{{ m.content }}{% endgeneration %}{% endif %}{% endfor %}")
SHAPE = {"model_type": "thimble", "architectures": ["ThimbleForCausalLM"], "vocab_size": 259, "hidden_size": 64,
         "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 32, "intermediate_size": 192,
         "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "tie_word_embeddings": True}
BLOCKS = {"deltanet": {"block_mixers": ["deltanet"] * 2}, "window": {"block_windows": [8] * 2}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--letters", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--dots", type=int, default=32)
    parser.add_argument("--train", type=int, default=60000)
    parser.add_argument("--test", type=int, default=500)
    o = parser.parse_args()
    os.makedirs(o.folder, exist_ok=True)
    random_ = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"[:o.letters]
    with open(f"{o.folder}/train.jsonl", "w") as train, open(f"{o.folder}/test.jsonl", "w") as test:
        for i in range(o.train + o.test):
            pairs = [(letter, random_.choice("0123456789")) for letter in random_.sample(letters, o.pairs)]
            dots = random_.randint(0, o.dots) if i < o.train else o.dots
            text = "".join(letter + digit for letter, digit in pairs) + "." * dots
            asked = random_.sample(pairs, o.pairs)
            if i >= o.train:
                test.write(json.dumps({"prompt": text + asked[0][0], "completion": asked[0][1]}) + "\n")
                continue
            messages = []
            for letter, digit in asked:
                messages += [{"role": "user", "content": text + letter}, {"role": "assistant", "content": digit}]
                text = ""
            train.write(json.dumps({"messages": messages}) + "\n")
    with open(f"{o.folder}/plain.jinja", "w") as file:
        file.write(TEMPLATE)
    for name, blocks in BLOCKS.items():
        with open(f"{o.folder}/{name}.json", "w") as file:
            json.dump(SHAPE | blocks, file)


if __name__ == "__main__":
    main()
