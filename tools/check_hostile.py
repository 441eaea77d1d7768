#!/usr/bin/env python3
"""Runs every command on files that are made to take memory or time, and measures what the program takes.

    tools/check_hostile.py THIMBLE [--memory 200M] [--slack 0] [--seconds 60] [--only WORD]

Each run has --memory and must end by itself, with exit code 0, 2 or 3 (1 where a server answers), with a peak of resident
memory (ru_maxrss) of at most the budget and the slack, in time. Prints a line a run; exit status 1 where one does not."""
import argparse
import concurrent.futures
import gzip
import http.server
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BYTES = os.path.join(HERE, "../examples/workloads/bytes/tokenizer.json")
MEGABYTE = 1_000_000


class Folder:
    def __init__(self, path):
        self.path = path

    def __call__(self, name):
        path = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def write(self, name, content):
        with open(self(name), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        return self(name)

    def holes(self, name, begin, size):
        """A file that begins so and goes on with zeros, which cost the disk nothing."""
        path = self.write(name, begin)
        os.truncate(path, size)
        return path

    def repeat(self, name, begin, piece, size, end=""):
        with open(self(name), "wb") as file:
            file.write(begin.encode())
            block = piece.encode() * (MEGABYTE // len(piece) + 1)
            for _ in range(size // len(block) + 1):
                file.write(block)
            file.write(end.encode())
        return self(name)


def gguf_string(text):
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text)) + text


def gguf(tensors, pairs, body=b""):
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + body


def gguf_array(key, kind, count):
    return gguf_string(key) + struct.pack("<IIQ", 9, kind, count)


def safetensors(header):
    header = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(header)) + header


def zstd_bomb(blocks):
    """A frame of runs of one byte, 128 KiB in 4 bytes each; its window is 128 KiB."""
    frame = struct.pack("<IBB", 0xFD2FB528, 0, 7 << 3)
    block = lambda last: ((128 << 10) << 3 | 1 << 1 | last).to_bytes(3, "little") + b"a"
    return frame + block(0) * (blocks - 1) + block(1)


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def charsmap(replacement):
    """A trie that says of 'a' what it becomes (darts: units of 32 bits), and the text that it becomes."""
    units = [0] * 512
    root = 1
    units[0] = root << 10
    # The child of the root by 'a' is unit root ^ 'a'; its label is 'a', it has a leaf; the leaf is its offset ^ 0.
    child = (0 ^ root) ^ ord("a")
    units[child] = ord("a") | 1 << 8 | 256 << 10
    units[child ^ 256] = 1 << 31 | 0
    trie = struct.pack("<512I", *units)
    return struct.pack("<I", len(trie)) + trie + replacement + b"\0"


def bpe(**parts):
    document = {"model": {"type": "BPE", "vocab": {chr(c): c - 33 for c in range(33, 127)}, "merges": []}}
    document.update(parts)
    return json.dumps(document)


CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
          "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 256,
          "rms_norm_eps": 1e-5, "max_position_embeddings": 128, "rope_theta": 10000.0, "hidden_act": "silu",
          "tie_word_embeddings": True}


def with_model(f, name, **files):
    """A sound small model, in a folder of its own, with other files."""
    shutil.copytree(f("sound/model"), f(name))
    for file, content in files.items():
        f.write(f"{name}/{file.replace('__', '.')}", content)
    return f(name)


def texts(f):
    word = f.repeat("word.txt", "", "a", 200 * MEGABYTE)
    blank = f.holes("zeros.txt", "", 400 * MEGABYTE)
    for path in (word, blank):
        yield ["tokenize", "--tokenizer", BYTES, "--file", path]
        yield ["data", "--tokenizer", BYTES, "--data", path]
    yield ["generate", "--model", f("sound/model"), "--prompt-file", word, "--max-tokens", "1"]
    yield ["eval", "--model", f("sound/model"), "--data", word, "--limit", "2"]
    yield ["train", "--size", "100K", "--tokenizer", BYTES, "--data", word, "--steps", "1", "--out", f("out")]
    yield ["generate", "--model", f("sound/model"), "--prompts", word, "--max-tokens", "1"]


def records(f):
    made = {
        "long.jsonl": f.repeat("long.jsonl", '{"text":"', "a", 200 * MEGABYTE, '"}\n'),
        "keys.jsonl": f.write("keys.jsonl", "{" + ",".join(f'"k{i}":1' for i in range(1_000_000)) + "}\n"),
        "deep.jsonl": f.write("deep.jsonl", "[" * 1_000_000 + "\n" + '{"a":' * 150_000 + "\n"),
        "bad.jsonl": f.repeat("bad.jsonl", '{"text":"a"}\n', "{}\n", 20 * MEGABYTE),
        "fields.jsonl": f.write("fields.jsonl", "".join(f'{{"text":"a","x{i}":1}}\n' for i in range(1_000_000))),
        "array.json": f.repeat("array.json", "[", "[],", 100 * MEGABYTE),
        "open.json": f.repeat("open.json", '{"a":\n', "\n", 100 * MEGABYTE),
        "turns.jsonl": f.write("turns.jsonl", '{"messages":[' + ",".join(
            ['{"role":"user","content":"a"},{"role":"assistant","content":"b"}'] * 2_000) + "]}\n"),
        "quote.csv": f.repeat("quote.csv", 'text,label\n"', "a,\n", 200 * MEGABYTE),
        "columns.csv": f.write("columns.csv", ",".join(f"c{i}" for i in range(1_000_000)) + "\n"),
    }
    for path in made.values():
        yield ["data", "--tokenizer", BYTES, "--data", path]
        yield ["finetune", "--model", f("sound/model"), "--data", path, "--steps", "1", "--out", f("out")]
        yield ["eval", "--model", f("sound/model"), "--data", path, "--limit", "1"]
    for name in ("keys.jsonl", "deep.jsonl", "turns.jsonl", "long.jsonl"):
        yield ["render", "--chat-template", "chatml", "--data", made[name]]


def compressed(f):
    with gzip.open(f("bomb.jsonl.gz"), "wb", compresslevel=9) as file:
        for _ in range(2000):
            file.write(bytes(MEGABYTE))
    yield ["data", "--tokenizer", BYTES, "--data", f("bomb.jsonl.gz")]
    yield ["data", "--tokenizer", BYTES, "--data", f.write("bomb.jsonl.zst", zstd_bomb(20_000))]
    window = struct.pack("<IBB", 0xFD2FB528, 0, 21 << 3) + b"\1\0\0"  # of 2 GiB, said in one byte
    yield ["data", "--tokenizer", BYTES, "--data", f.write("window.jsonl.zst", window)]
    yield ["data", "--tokenizer", BYTES, "--data", f.write("twice.jsonl.gz", gzip.compress(gzip.compress(bytes(MEGABYTE))))]


def packed(f):
    names = ",".join(f'"{i}":{{"dtype":"I32","shape":[0],"data_offsets":[0,0]}}' for i in range(250_000))
    yield ["data", "--tokenizer", BYTES, "--data", f.write("names.safetensors", safetensors("{" + names + "}"))]
    large = '{"ids":{"dtype":"I32","shape":[4000000,100],"data_offsets":[0,1600000000]}}'
    path = f.holes("ids.safetensors", safetensors(large), 8 + len(large) + 1_600_000_000)
    yield ["data", "--tokenizer", BYTES, "--data", path]
    yield ["train", "--size", "100K", "--data", path, "--context", "100", "--steps", "1", "--out", f("out")]
    many = '{"ids":{"dtype":"I64","shape":[20000000,2],"data_offsets":[0,320000000]}}'
    path = f.holes("windows.safetensors", safetensors(many), 8 + len(many) + 320_000_000)
    yield ["train", "--size", "100K", "--data", path, "--context", "2", "--steps", "1", "--out", f("out")]


def tokenizers(f):
    vocab = ",".join(f'"t{i}":{i}' for i in range(1_000_000))
    merges = ",".join(f'"a{i} b"' for i in range(1_000_000))
    many = f.write("many/tokenizer.json", f'{{"model":{{"type":"BPE","vocab":{{{vocab}}},"merges":[{merges}]}}}}')
    added = bpe(added_tokens=[{"id": 100 + i, "content": f"<{i}>", "special": True} for i in range(300_000)])
    scores = '{"model":{"type":"Unigram","unk_id":0,"vocab":[' + ",".join(f'["p{i}",-1.5]' for i in range(1_000_000)) + "]}}"
    twice = lambda n: {"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"}] * n}
    pattern = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    made = {
        "a million tokens": many,
        "added tokens": f.write("added/tokenizer.json", added),
        "scores": f.write("scores/tokenizer.json", scores),
        "deep": f.write("deep/tokenizer.json", "[" * 1_000_000),
        "nested": f.write("nested/tokenizer.json", bpe(normalizer=eval_nested(60))),
        "multiplies": f.write("multiplies/tokenizer.json", bpe(normalizer=twice(12))),
        "prepends": f.write("prepends/tokenizer.json", bpe(normalizer={"type": "Prepend", "prepend": "a" * 10_000_000})),
        "pattern": f.write("pattern/tokenizer.json", bpe(pre_tokenizer=pattern)),
        "string": f.repeat("string/tokenizer.json", '{"a":"', "a", 120 * MEGABYTE),
        "big": f.repeat("big/tokenizer.json", '{"a":[', "[1],", 120 * MEGABYTE),
    }
    piece = field(1, field(1, b"a") + b"\x15" + struct.pack("<f", -1.0))
    unknown = field(1, field(1, b"<unk>") + b"\x18\x02")
    maps = charsmap(b"b" * 60_000)
    made["charsmap"] = f.write("charsmap/tokenizer.model", unknown + piece + field(3, field(2, maps)))
    made["pieces"] = f.write("pieces/tokenizer.model", unknown + piece * 1_500_000)
    made["length"] = f.write("length/tokenizer.model", unknown + b"\x0a" + varint(1 << 63) + b"a")
    made["vocab.txt"] = f.write("vocab/vocab.txt", "".join(f"w{i}\n" for i in range(2_000_000)))
    f.write("vocab/tokenizer_config.json", '{"tokenizer_class":"BertTokenizer"}')
    line = f.write("line.txt", "a" * 100_000)
    for path in made.values():
        path = os.path.dirname(path)
        yield ["tokenize", "--tokenizer", path, "--file", line]
        yield ["data", "--tokenizer", path, "--data", line]
    for name in ("a million tokens", "scores", "charsmap"):
        folder = f("with " + name)
        shutil.copytree(f("sound/model"), folder)
        os.remove(os.path.join(folder, "tokenizer.json"))
        shutil.copy(made[name], folder)
        yield ["generate", "--model", folder, "--prompt", "a", "--max-tokens", "1"]
        yield ["convert", "--model", folder, "--to", "gguf", "--codec", "f32", "--out", f("a.gguf")]
        yield ["inspect", folder]


def eval_nested(depth):
    made = {"type": "NFC"}
    for _ in range(depth):
        made = {"type": "Sequence", "normalizers": [made] * 2}
        if len(json.dumps(made)) > 5 * MEGABYTE:
            break
    return made


def ggufs(f):
    tokens = gguf_string("tokenizer.ggml.model") + struct.pack("<I", 8) + gguf_string("gpt2")
    one = gguf_array("tokenizer.ggml.tokens", 8, 1) + gguf_string("a")
    wraps = gguf_string("w") + struct.pack("<IQQIQ", 2, 1 << 32, 1 << 32, 0, 0)
    names = b"".join(gguf_string(f"t{i}") + struct.pack("<IQIQ", 1, 4, 0, 32 * i) for i in range(200_000))
    keys = b"".join(gguf_string(f"k{i}") + struct.pack("<II", 4, 1) for i in range(60_000))
    llama = gguf_string("general.architecture") + struct.pack("<I", 8) + gguf_string("llama")
    blocks = llama + gguf_string("llama.block_count") + struct.pack("<II", 4, 0xFFFFFFFF)
    made = {
        "counts": f.write("counts.gguf", gguf(1 << 63, 1 << 63)),
        "tensors": f.holes("tensors.gguf", gguf(10_000_000, 1), 4_000 * MEGABYTE),
        "key": f.write("key.gguf", gguf(0, 1, struct.pack("<Q", (1 << 64) - 1))),
        "string": f.holes("string.gguf", gguf(0, 1, gguf_string("a") + struct.pack("<IQ", 8, 900 * MEGABYTE)), 1000 * MEGABYTE),
        "array": f.holes("array.gguf", gguf(0, 1, gguf_array("a", 0, 900 * MEGABYTE)), 1000 * MEGABYTE),
        "nested": f.write("nested.gguf", gguf(0, 1, gguf_string("a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 100_000)),
        "scores": f.holes("scores.gguf", gguf(0, 3, tokens + one + gguf_array("tokenizer.ggml.scores", 6, 150 * MEGABYTE)),
                          700 * MEGABYTE),
        "empty strings": f.holes("strings.gguf", gguf(0, 2, tokens + gguf_array("tokenizer.ggml.tokens", 8, 4_000_000)),
                                 40 * MEGABYTE),
        "wraps": f.write("wraps.gguf", gguf(1, 0, wraps) + bytes(64)),
        "names": f.holes("names.gguf", gguf(200_000, 0, names), len(names) + 32 * 200_001 + 64),
        "keys": f.write("keys.gguf", gguf(0, 60_000, keys)),
        "blocks": f.write("blocks.gguf", gguf(0, 2, blocks)),
        "zeros": f.holes("zeros.gguf", b"GGUF", 1000 * MEGABYTE),
    }
    for path in made.values():
        yield ["inspect", path, "--tensors"]
        yield ["tokenize", "--tokenizer", path, "--text", "a"]
    for name in ("counts", "names", "blocks", "scores"):
        yield ["generate", "--model", made[name], "--prompt", "a"]
        yield ["convert", "--model", made[name], "--to", "safetensors", "--out", f("converted")]
        yield ["quantize", "--model", made[name], "--method", "round", "--to", "q4_0", "--out", f("q.gguf")]


def models(f):
    sizes = [("vocab_size", 1 << 31), ("hidden_size", 1 << 30), ("num_hidden_layers", 1 << 31),
             ("num_attention_heads", 1 << 31), ("max_position_embeddings", 1 << 40), ("intermediate_size", 1 << 40)]
    for key, value in sizes:
        path = with_model(f, "config " + key, config__json=json.dumps({**CONFIG, key: value}))
        yield ["inspect", path]
        yield ["finetune", "--model", path, "--data", f("sound/text.txt"), "--steps", "1", "--out", f("out")]
        yield ["generate", "--model", path, "--prompt", "a", "--max-tokens", "1"]
    for name, file, content in [
        ("deep config", "config.json", "[" * 900_000), ("ends", "generation_config.json",
         json.dumps({"eos_token_id": list(range(300_000))})),
        ("large template", "tokenizer_config.json", json.dumps({"chat_template": "a" * 40_000_000})),
        ("decoder", "tokenizer_config.json", json.dumps({"added_tokens_decoder": {
            str(i): {"content": f"<{i}>", "special": True} for i in range(500_000)}})),
        ("index", "model.safetensors.index.json", json.dumps({"weight_map": {
            f"t{i}": f"model-{i}.safetensors" for i in range(1_000_000)}}))]:
        path = with_model(f, name, **{file.replace(".", "__"): content})
        if name == "index":
            os.remove(os.path.join(path, "model.safetensors"))
        yield ["inspect", path]
        yield ["generate", "--model", path, "--prompt", "a", "--max-tokens", "1"]
        yield ["convert", "--model", path, "--to", "gguf", "--codec", "f32", "--out", f("b.gguf")]


def adapters(f):
    base = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "base_model_name_or_path": ""}
    for name, changed in [("rank", {"r": 1 << 31}), ("targets", {"target_modules": [f"m{i}" for i in range(1_000_000)]}),
                          ("ranks", {"rank_pattern": {f"layers.{i}": 4 for i in range(500_000)}}),
                          ("pattern", {"target_modules": "(.*)*" * 2000}), ("deep", {"a": None})]:
        text = json.dumps({**base, **changed}) if name != "deep" else "[" * 1_000_000
        f.write(f"adapter {name}/adapter_config.json", text)
        shutil.copy(f("sound/adapter/adapter_model.safetensors"), f(f"adapter {name}/adapter_model.safetensors"))
        yield ["inspect", f(f"adapter {name}")]
        yield ["generate", "--model", f("sound/model"), "--adapter", f(f"adapter {name}"), "--prompt", "a", "--max-tokens",
               "1"]


def templates(f):
    for name, text in [
        ("loop", "{% for i in range(1000000000) %}{% endfor %}"),
        ("loops", "{% for i in range(100000) %}{% for j in range(100000) %}a{% endfor %}{% endfor %}"),
        ("doubles", "{% set ns = namespace(t='a') %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}"),
        ("times", "{{ 'a' * 4000000000 }}"),
        ("lists", "{% set ns = namespace(t=[1]) %}{% for i in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}"),
        ("macro", "{% macro m(x) %}{{ m(x) }}{{ m(x) }}{% endmacro %}{{ m(1) }}"),
        ("replaces", "{% set ns = namespace(t='a') %}{% for i in range(40) %}{% set ns.t = ns.t|replace('a', 'aaaaaaaa') %}{% endfor %}{{ ns.t }}"),
        ("joins", "{% set ns = namespace(t='a') %}{% for i in range(40) %}{% set ns.t = [ns.t, ns.t, ns.t]|join(ns.t) %}{% endfor %}{{ ns.t }}"),
        ("indents", "{{ ('a\n' * 10000)|indent(1000000) }}"),
        ("brackets", "{{ " + "(" * 200_000 + "1"),
        ("blocks", "{% if 1 %}" * 200_000),
        ("large", "a" * 60_000_000),
        ("json", "{% set ns = namespace(t=[1]) %}{% for i in range(40) %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.t|tojson }}"),
    ]:
        path = f.write(f"template {name}.jinja", text)
        yield ["render", "--chat-template", path, "--data", f("sound/chats.jsonl")]
        yield ["generate", "--model", f("sound/model"), "--chat", "--chat-template", path, "--prompt", "a", "--max-tokens",
               "1"]


def recipes(f):
    laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [" + ",".join([f"*a{i - 1}"] * 10) + "]\n" for i in range(1, 12)) + "data: *a11\n"
    for name, text in [("laughs", laughs), ("deep", "[" * 1_000_000), ("deep blocks", "a: " + "- " * 500_000),
                       ("many", "data: [" + "a," * 500_000 + "]\n"), ("keys", "".join(f"k{i}: 1\n" for i in range(100_000))),
                       ("set", "set: [" + ",".join(["optimizer.beta1=0.5"] * 50_000) + "]\nsize: 1M\ndata: x\n"),
                       ("documents", "---\n" * 250_000)]:
        path = f.write(f"{name}.yaml", text)
        yield ["train", "--config", path, "--out", f("out")]
        yield ["plan", "--config", path]
    yield ["plan", "--config", f.holes("large.yaml", "a: ", 1000 * MEGABYTE)]


def runs(f):
    event = '{"event":"step","step":%d,"loss":1.0,"lr":0.1,"tokens":10}\n'
    made = {
        "line": lambda n: f.repeat(n, '{"event":"', "a", 200 * MEGABYTE),
        "steps": lambda n: f.write(n, "".join(event % i for i in range(1_500_000))),
        "deep": lambda n: f.write(n, "[" * 1_000_000 + "\n" + '{"event":"recipe","settings":' + '{"a":' * 200_000),
        "recipe": lambda n: f.write(n, '{"event":"recipe","settings":{' + ",".join(
            f'"k{i}":"v"' for i in range(1_000_000)) + "}}\n"),
        "memory": lambda n: f.write(n, "".join(f'{{"event":"memory","step":{i},"name":"n{i}","weights":1}}\n'
                                               for i in range(1_000_000))),
        "evals": lambda n: f.write(n, "".join(f'{{"event":"eval","step":{i},"nll":1.0}}\n' for i in range(1_500_000))),
        "zeros": lambda n: f.holes(n, "", 500 * MEGABYTE),
    }
    for name, make in made.items():
        make(f"run {name}/events.jsonl")
        yield ["report", "--run", f(f"run {name}")]
        yield ["inspect", f(f"run {name}")]
    f.write("run sound/events.jsonl", event % 1)
    samples = f.write("samples.jsonl", "".join(f'{{"prompt":"p{i}","reply":"r","reference":"r","exact":true}}\n'
                                              for i in range(1_000_000)))
    yield ["report", "--run", f("run sound"), "--samples", samples]
    yield ["report", "--run", f("run sound"), "--samples", f.repeat("sample.jsonl", '{"prompt":"', "a", 200 * MEGABYTE)]
    names = ",".join(f'"{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(250_000))
    f.write("resumed/checkpoint.safetensors", safetensors("{" + names + "}"))
    meta = '{"__metadata__":{' + ",".join(f'"k{i}":"v"' for i in range(1_000_000)) + "}}"
    f.write("metadata/checkpoint.safetensors", safetensors(meta))
    for name in ("resumed", "metadata"):
        yield ["train", "--size", "100K", "--tokenizer", BYTES, "--data", f("sound/text.txt"), "--steps", "1", "--resume",
               "--out", f(name)]
        yield ["inspect", f(name)]


def grammars(f):
    model = ["generate", "--model", f("sound/model"), "--prompt", "a", "--max-tokens", "4"]
    doubling = "root ::= r0\n" + "".join(f"r{i} ::= r{i + 1} r{i + 1}\n" for i in range(60)) + 'r60 ::= "a"\n'
    for name, text in [("doubling", doubling), ("repeats", 'root ::= "a"{1000000000}\n'), ("left", "root ::= root root\n"),
                       ("deep", "root ::= " + "(" * 200_000), ("large", 'root ::= "' + "a" * 20_000_000 + '"\n'),
                       ("nested", "root ::= " + "(" * 8 + '"a"' + "){1,100}" * 8 + "\n"),
                       ("options", "root ::= " + " | ".join(f'"{i}"' for i in range(300_000)) + "\n")]:
        yield [*model, "--grammar", f.write(f"{name}.gbnf", text)]
    cycle = {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}}
    wide = {"type": "object", "properties": {f"k{i}": {"type": "string"} for i in range(50_000)}}
    for name, schema in [("cycle", json.dumps(cycle)), ("wide", json.dumps(wide)), ("deep", '{"items":' * 100_000),
                         ("many", json.dumps({"type": "array", "minItems": 1 << 40, "items": {}})),
                         ("length", json.dumps({"type": "string", "minLength": 1 << 40})),
                         ("enum", json.dumps({"enum": [str(i) for i in range(300_000)]}))]:
        yield [*model, "--json-schema", f.write(f"{name}.schema.json", schema)]


class Server(http.server.BaseHTTPRequestHandler):
    """A hub that answers with too much: what is asked of it is in the name."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        name = self.path.split("/a/")[-1].split("/")[0].split("?")[0]
        self.send_response(200)
        if name == "bomb":
            body = gzip.compress(bytes(400 * MEGABYTE), 9)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            if name == "bomb":
                self.wfile.write(body)
            if name == "endless":
                while True:
                    self.wfile.write(b'{"siblings":[' + b"1," * MEGABYTE)
            if name == "many":
                self.wfile.write(json.dumps({"sha": "0" * 40, "siblings": [
                    {"rfilename": f"f{i}.json"} for i in range(400_000)]}).encode())
            if name == "deep":
                self.wfile.write(b"[" * 5 * MEGABYTE)
            if name == "headers":
                self.wfile.write(b"{}")
        except OSError:
            pass


def hubs(f):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("bomb", "endless", "many", "deep"):
        yield ["pull", f"a/{name}", "--endpoint", f"http://127.0.0.1:{server.server_port}", "--to", f("pulled"), "--retries",
               "1"]
    server.shutdown()


FAMILIES = [texts, records, compressed, packed, tokenizers, ggufs, models, adapters, templates, recipes, runs, grammars, hubs]


def make_sound(program, f):
    """A small model that is as it should be, and an adapter for it."""
    f.write("sound/text.txt", "one two three four five six seven " * 30)
    f.write("sound/chats.jsonl", '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n')

    def run(*arguments):
        done = subprocess.run([program, *arguments], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{arguments[0]} fails on sound files: {done.stderr}")
    short = ["--context", "32", "--steps", "1", "--scratch", "none", "--data", f("sound/text.txt")]
    run("train", "--size", "100K", "--tokenizer", BYTES, *short, "--out", f("trained"))
    shutil.copytree(f("trained/model"), f("sound/model"))
    run("finetune", "--model", f("sound/model"), *short, "--out", f("tuned"))
    shutil.copytree(f("tuned/adapter"), f("sound/adapter"))


# In a process of its own, which is small: what a process had before it became another program counts as that one's peak.
def measure(command, seconds, temporary):
    begin = time.time()
    with tempfile.TemporaryFile() as err, open(os.devnull, "r+b") as none:
        process = subprocess.Popen(command, stdin=none, stdout=none, stderr=err,
                                   env=dict(os.environ, TMPDIR=temporary))
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        err.seek(0)
        said = err.read(1 << 20).decode(errors="replace").strip()
    return process.returncode, usage.ru_maxrss * 1024, time.time() - begin, said


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--memory", default="200M")
    parser.add_argument("--slack", type=float, default=0, help="megabytes above it")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", default="", help="of the families: " + ", ".join(x.__name__ for x in FAMILIES))
    options = parser.parse_args()
    most = float(options.memory.rstrip("M")) * MEGABYTE + options.slack * MEGABYTE
    program = os.path.abspath(options.program)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    measuring = concurrent.futures.ProcessPoolExecutor(1)
    measuring.submit(int).result()
    failures = count = 0
    largest, slowest = 0, 0
    for family in FAMILIES:
        if options.only not in family.__name__:
            continue
        with tempfile.TemporaryDirectory() as path:
            f = Folder(path)
            make_sound(program, f)
            for command in family(f):
                shutil.rmtree(f("out"), ignore_errors=True)
                whole = [program, *command, "--memory", options.memory]
                code, peak, seconds, said = measuring.submit(measure, whole, options.seconds, path).result()
                allowed = (0, 1, 2, 3) if family is hubs else (0, 2, 3)
                wrong = [text for bad, text in [(code not in allowed, "EXIT CODE"), (peak > most, "MEMORY"),
                                                (seconds >= options.seconds, "TIME")] if bad]
                shown = " ".join(word.replace(path + "/", "") for word in command[:6])
                last = said.splitlines()[-1][:110] if said else ""
                print(f"{family.__name__:10} {code:4} {peak / MEGABYTE:6.0f} MB {seconds:6.1f} s  {shown}: "
                      f"{last.replace(path + '/', '')} {' '.join(wrong)}", flush=True)
                count, failures = count + 1, failures + bool(wrong)
                largest, slowest = max(largest, peak), max(slowest, seconds)
    measuring.shutdown()
    print(f"{count} runs, {failures} failures; at most {largest / MEGABYTE:.0f} MB and {slowest:.1f} s")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
