#!/usr/bin/env python3
"""Every family of models against transformers: logits, and the losses of a few steps of full fine-tuning.

Makes tiny random models, so nothing is fetched. Prints the largest difference of each; exit code 1 when one is too large.
"""
import argparse
import json
import os
import sys
import tempfile

import interop

PACKAGES = {"torch": "torch", "transformers": "transformers", "safetensors": "safetensors"}
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    interop.add_arguments(parser)
    options = parser.parse_args()
    interop.enter_environment(options.venv, PACKAGES)

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig,
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


def main(o):
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as temporary:
        folder = o.keep or temporary
        os.makedirs(folder, exist_ok=True)
        results = [check(o.thimble, name, kind, config, folder) for name, (kind, config) in CASES.items()]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main(options)
