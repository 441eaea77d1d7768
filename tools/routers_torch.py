#!/usr/bin/env python3
"""Switch's routed FFN (Fedus et al. 2022) in a Llama of bytes, in PyTorch: thimble's initial values, batches and AdamW.

  common="--size 50K --tokenizer examples/workloads/bytes/tokenizer.json --data train.txt --eval-data held.txt
    --context 128 --batch 8 --memory 400M --precision f32 --no-shuffle --seed 1 --set block.router=switch"
  thimble train $common --steps 1 --lr 1e-30 --out runs/begin
  thimble train $common --steps 400 --lr 3e-3 --out runs/switch
  tools/routers_torch.py --model runs/begin/model --data train.txt --eval-data held.txt --steps 400 --lr 3e-3
"""
import argparse
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

CONTEXT, BATCH, GRANULE = 128, 8, 512


def rms_norm(x, gain):
    return F.rms_norm(x, gain.shape, gain, 1e-5)


def rotated(x):
    angles = torch.outer(torch.arange(x.shape[-2]), 10000.0 ** -torch.arange(0, 1, 2 / x.shape[-1])).repeat(1, 2)
    a, b = x.chunk(2, -1)
    return x * angles.cos() + torch.cat([-b, a], -1) * angles.sin()


def attention(w, x):
    q, k, v = (x @ w[f"self_attn.{name}_proj.weight"].T for name in "qkv")  # of one head
    return F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True) @ w["self_attn.o_proj.weight"].T


def ffn(w, x, prefix="mlp."):
    gate, up, down = (w[f"{prefix}{name}_proj.weight"].T for name in ("gate", "up", "down"))
    return (F.silu(x @ gate) * (x @ up)) @ down


def switch(w, x, config, trains):
    """Section 2.2: what the experts make, and the balance loss (equation 4)."""
    n, rows = config["num_experts"], x.flatten(0, 1)
    p = (rows @ w["mlp.router.weight"].T).softmax(-1)
    gate, chosen = p.max(-1)
    hot = F.one_hot(chosen, n).float().view(-1, GRANULE if trains else len(rows), n)
    balance = n * (hot.mean(1) * p.view_as(hot).mean(1)).sum(-1).mean()
    places = math.ceil(config["expert_capacity"] * GRANULE / n) if trains else len(rows)
    kept, out = (hot.cumsum(1) * hot).sum(-1).flatten() <= places, torch.zeros_like(rows)
    for e in range(n):
        at = ((chosen == e) & kept).nonzero()[:, 0]
        out = out.index_add(0, at, gate[at, None] * ffn(w, rows[at], f"mlp.experts.{e}."))
    return out.view_as(x), config["router_aux_loss_coef"] * balance


def losses(tensors, config, ids, trains=False):
    x, balance = tensors["model.embed_tokens.weight"][ids], torch.zeros(())
    for i in range(config["num_hidden_layers"]):
        w = {name.split(f".{i}.", 1)[1]: t for name, t in tensors.items() if f"layers.{i}." in name}
        x = x + attention(w, rms_norm(x, w["input_layernorm.weight"]))
        y = rms_norm(x, w["post_attention_layernorm.weight"])
        made, more = switch(w, y, config, trains) if "mlp.router.weight" in w else (ffn(w, y), 0)
        x, balance = x + made, balance + more
    logits = rms_norm(x, tensors["model.norm.weight"])[:, :-1] @ tensors["model.embed_tokens.weight"].T
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()), balance


def windows(path):
    text = pathlib.Path(path).read_bytes()
    return torch.tensor(list(text[:len(text) // CONTEXT * CONTEXT])).view(-1, CONTEXT)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in {"model": str, "data": str, "eval-data": str, "steps": int, "lr": float}.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    o = parser.parse_args()
    config = json.loads(pathlib.Path(o.model, "config.json").read_text(encoding="utf-8"))
    tensors = {name: t.requires_grad_() for name, t in load_file(f"{o.model}/model.safetensors").items()}
    update = torch.optim.AdamW(tensors.values(), lr=o.lr, weight_decay=0)
    warm, batches = math.ceil(0.03 * o.steps), windows(o.data).split(BATCH)[:-1]
    for step in range(o.steps):
        fall = (1 + math.cos(math.pi * (step - warm) / (o.steps - warm))) / 2
        update.param_groups[0]["lr"] = o.lr * (fall if step >= warm else (step + 1) / warm)
        loss, balance = losses(tensors, config, batches[step % len(batches)], trains=True)
        update.zero_grad()
        (loss + balance).backward()
        torch.nn.utils.clip_grad_norm_(tensors.values(), 1)
        update.step()
        if (step + 1) % 10 == 0:
            print(f"step {step + 1}  loss {loss.item():.4f}  balance {balance.item():.4f}", flush=True)
    held = windows(o.eval_data)
    with torch.no_grad():
        print(f"held out {sum(losses(tensors, config, w[None])[0].item() for w in held) / len(held):.4f}")


if __name__ == "__main__":
    main()
