#!/usr/bin/env python3
"""Families of models against transformers: logits, and the losses of a few steps of full fine-tuning.

Makes tiny random models, so nothing is fetched. Prints the largest difference of each; exit code 1 when one is too large.

--draws N compares N random config.json of each dense family instead (random_configs.py): what thimble takes must have
transformers' logits, within 1e-4 of their spread or, of what rounding makes of them, within three times of what
transformers' own have to numbers in double; and what `convert` writes of it must open in transformers with the same.
Whatever else there is is to be refused by name (exit code 2).
"""
import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile

import interop

PACKAGES = {"torch": "torch", "transformers": "transformers", "safetensors": "safetensors"}
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    interop.add_arguments(parser)
    parser.add_argument("--draws", type=int, default=0, help="random configurations of each family")
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    parser.add_argument("--only", help="families, with commas between")
    options = parser.parse_args()
    interop.enter_environment(options.venv, PACKAGES)

import torch
from random_configs import FAMILIES, Draw
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig,
                          MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

CONTEXT, STEPS, BATCH, RATE = 96, 6, 2, 1e-3
BASE = dict(vocab_size=256, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, bos_token_id=None, eos_token_id=None)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)


def scaled(**scaling):
    return LlamaConfig(**BASE, rope_theta=10000.0, rope_scaling=scaling)


CASES = {
    "llama tied": (LlamaForCausalLM, LlamaConfig(**BASE, tie_word_embeddings=True)),
    "llama untied": (LlamaForCausalLM, LlamaConfig(**BASE, tie_word_embeddings=False, rope_theta=500000.0)),
    "llama linear scaling": (LlamaForCausalLM, scaled(rope_type="linear", factor=2.0)),
    "llama3 scaling": (LlamaForCausalLM, scaled(**LLAMA3)),
    "llama yarn scaling": (LlamaForCausalLM, scaled(**YARN)),
    "mistral window 24": (MistralForCausalLM, MistralConfig(**BASE, sliding_window=24)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**BASE)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**BASE, head_dim=32)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=256, n_positions=128, n_embd=64, n_layer=3, n_head=4, resid_pdrop=0.0,
                                         embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None)),
}


def save_tokenizer(folder):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    return tokenizer


def events(binary, *arguments):
    output = interop.thimble(binary, *arguments)
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def torch_losses(model, windows):
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    losses = []
    model.train()
    for step in range(STEPS):
        batch = windows[step * BATCH:(step + 1) * BATCH]
        logits = model(batch).logits[:, :-1].reshape(-1, 256)
        loss = torch.nn.functional.cross_entropy(logits, batch[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def check(binary, name, kind, config, folder):
    torch.manual_seed(1)
    model = kind(config).float()
    with torch.no_grad():
        for parameter in model.parameters():  # larger than the usual start, so that attention is not uniform
            parameter.add_(torch.randn_like(parameter) * 0.08)
    model.eval()
    path = os.path.join(folder, name.replace(" ", "_"))
    model.save_pretrained(path)
    tokenizer = save_tokenizer(path)
    text = "".join(chr(32 + (i * i * 7 + i // 5) % 90) for i in range(CONTEXT * BATCH * STEPS))
    data = os.path.join(path, "data.txt")
    with open(data, "w", encoding="ascii") as file:
        file.write(text)
    ids = torch.tensor(tokenizer.encode(text).ids).reshape(-1, CONTEXT)
    common = ["--model", path, "--data", data, "--context", str(CONTEXT), "--precision", "f32", "--json"]
    logits_path = os.path.join(path, "logits.out.safetensors")
    interop.thimble(binary, "eval", *common, "--logits", logits_path)
    with torch.no_grad():
        expected = model(ids).logits.reshape(-1, 256)
    logits = load_file(logits_path)["logits"]
    logit_error = (logits - expected).abs().max().item()
    told = events(binary, "finetune", *common, "--method", "full", "--batch", str(BATCH), "--steps", str(STEPS), "--lr", str(RATE),
                     "--schedule", "constant", "--warmup", "0", "--weight-decay", "0.01", "--no-shuffle", "--out", path + ".out")
    losses = [event["loss"] for event in told if event["event"] == "step"]
    loss_error = max(abs(a - b) / b for a, b in zip(losses, torch_losses(model, ids)))
    back = kind.from_pretrained(path + ".out/model").float().eval()
    with torch.no_grad():
        exported = (back(ids).logits - model.eval()(ids).logits).abs().max().item()
    good = logit_error < 1e-3 and loss_error < 1e-4 and exported < 5e-2
    print(f"{name:22} logits {logit_error:.1e}  losses {loss_error:.1e}  exported model {exported:.1e}  {'ok' if good else 'TOO LARGE'}")
    return good


def apart(ours, theirs):
    """The largest difference, by the spread; NaN where there is one."""
    return ((ours - theirs).abs().max() / theirs.std()).item()


def random_model(config, path, seed):
    """A model of the configuration, saved with that configuration as it is; None where transformers cannot make it."""
    with open(os.path.join(path, "config.json"), "w") as file:
        json.dump(config, file)
    torch.manual_seed(seed)
    # Falcon's eager attention adds ALiBi twice.
    eager = "sdpa" if config["model_type"] == "falcon" else "eager"
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path), dtype=torch.float32, attn_implementation=eager)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter + torch.randn_like(parameter) * 0.2 if parameter.dim() == 1
                            else torch.randn_like(parameter) * 0.12)
    model.save_pretrained(path)
    with open(os.path.join(path, "config.json"), "w") as file:
        json.dump(config, file)
    return model.eval()


def run(binary, *arguments):
    return subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True)


def check_draw(binary, family, seed, path):
    """What became of it, and why."""
    config = Draw(family, seed).config
    ids = torch.randint(0, config["vocab_size"], (2, 20 + seed % 45), generator=torch.Generator().manual_seed(seed))
    logits = lambda model: model(ids, use_cache=False).logits.detach()
    try:
        model = random_model(config, path, seed)
    except Exception as error:  # whatever transformers says of a configuration that it does not take
        return "not made", str(error)
    try:
        expected = logits(model)
    except Exception:
        expected = None
    save_file({"ids": ids.int()}, os.path.join(path, "ids.safetensors"))
    out, back = os.path.join(path, "logits.safetensors"), os.path.join(path, "back")
    done = run(binary, "eval", "--model", path, "--data", os.path.join(path, "ids.safetensors"), "--precision", "f32",
               "--multiply", "f32", "--context", ids.shape[1], "--logits", out)
    if done.returncode != 0:
        return ("refused" if done.returncode == 2 else "FAILED"), done.stderr.strip()
    if expected is None:
        return "transformers fails", done.stderr.strip()
    ours = load_file(out)["logits"].reshape(expected.shape)
    if not apart(ours, expected) < 1e-4:
        exact = logits(model.double()).float()
        if not apart(ours, exact) < 3 * apart(expected, exact):
            return "WRONG", f"{apart(ours, expected):.1e} {done.stderr.strip()}"
    done = run(binary, "convert", "--model", path, "--to", "safetensors", "--codec", "f32", "--out", back)
    if done.returncode != 0:
        return ("not written" if done.returncode == 2 else "FAILED"), done.stderr.strip()
    written = AutoModelForCausalLM.from_pretrained(back, dtype=torch.float32, attn_implementation=model.config._attn_implementation)
    return ("agrees", "") if apart(logits(written.eval()), expected) < 1e-4 else ("WRITTEN WRONG", "")


def check_draws(o):
    bad = 0
    for family in o.only.split(",") if o.only else FAMILIES:
        tally = collections.Counter()
        for seed in range(o.first, o.first + o.draws):
            with tempfile.TemporaryDirectory() as path:
                what, why = check_draw(o.thimble, family, seed, path)
            tally[what] += 1
            if what.isupper():
                print(f"{family} {seed}: {what}: {why}\n    {json.dumps(Draw(family, seed).config)}", flush=True)
                bad += 1
        print(f"{family:12} {', '.join(f'{count} {what}' for what, count in tally.most_common())}", flush=True)
    sys.exit(1 if bad else 0)


def main(o):
    torch.set_num_threads(2)
    if o.draws:
        check_draws(o)
    with tempfile.TemporaryDirectory() as temporary:
        folder = o.keep or temporary
        os.makedirs(folder, exist_ok=True)
        results = [check(o.thimble, name, kind, config, folder) for name, (kind, config) in CASES.items()]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main(options)
