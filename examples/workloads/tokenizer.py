#!/usr/bin/env python3
"""Writes tokenizer.json: one token a byte, and ChatML's marks. No vocabulary, so that a model from scratch is small."""
import json
import sys


def characters_of_bytes():
    """GPT-2's characters for bytes: printable ones stand for themselves, the others are moved up."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(moved)}


def main():
    characters = characters_of_bytes()
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    added = [
        {"id": 256 + i, "content": mark, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for i, mark in enumerate(marks)
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {characters[b]: b for b in range(256)}, "merges": []},
    }
    with open(sys.argv[1] if len(sys.argv) > 1 else "tokenizer.json", "w", encoding="utf-8") as file:
        json.dump(tokenizer, file, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main()
