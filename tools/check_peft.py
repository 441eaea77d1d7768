#!/usr/bin/env python3
"""LoRA adapters of thimble and PEFT, each in the other's hands, on the base model dequantised to f32.

  1. one that `thimble finetune` wrote loads in PEFT and gives the logits that thimble has with it
  2. ones that PEFT wrote (random A and B; another with rsLoRA and ranks by module) load in thimble, likewise
Logits are to agree within 1e-3, and likelihoods of windows within 1e-4 nats. Exit code 1 when they do not.
"""

import argparse
import os
import sys
import tempfile

import interop

CONTEXT = 64
PACKAGES = {"torch": "torch", "transformers": "transformers", "peft": "peft", "gguf": "gguf",
            "safetensors": "safetensors", "accelerate": "accelerate"}
OURS = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]},
    "rslora, ranks by module": {"r": 8, "lora_alpha": 4, "use_rslora": True,
                                "target_modules": ["k_proj", "o_proj", "gate_proj"],
                                "rank_pattern": {"layers.3.self_attn.k_proj": 3},
                                "alpha_pattern": {"layers.5.mlp.gate_proj": 9}},
}


def write_adapter(model, config, folder):
    """Made by PEFT, with a B that is not zero."""
    import peft
    import torch
    from interop_torch import base_model

    torch.manual_seed(1)
    adapted = peft.get_peft_model(base_model(model), peft.LoraConfig(task_type="CAUSAL_LM", **config))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.save_pretrained(folder)


def compare(model, adapter, windows, ours):
    """ours: the file of thimble's logits, or None."""
    import peft
    from interop_torch import base_model, largest_difference, likelihoods, window_logits

    base = base_model(model)
    plain = window_logits(base, windows)
    logits = window_logits(peft.PeftModel.from_pretrained(base, adapter).eval(), windows) if adapter else plain
    return {"nll": likelihoods(logits, windows), "effect": (logits - plain).abs().max().item(),
            "difference": largest_difference(logits, ours) if ours else None}


def check(report, o, python, work, what, adapter):
    text = os.path.join(work, "text.txt")
    ids = interop.token_ids(o.thimble, o.model, open(text).read())
    windows = [ids[i:i + CONTEXT] for i in range(0, len(ids) - CONTEXT + 1, CONTEXT)]
    ours = os.path.join(work, "logits.safetensors") if interop.has_logits(o.thimble) else None
    nll = interop.evaluate(o.thimble, o.model, text, CONTEXT, adapter, ours)
    theirs = interop.run_worker(python, __file__, "compare", {
        "model": o.model, "adapter": adapter, "windows": windows, "ours": ours})
    if adapter:
        report.check(f"{what}, largest change of a logit by the adapter", theirs["effect"] > 0.1, f"{theirs['effect']:.3g}")
    if ours:
        report.at_most(f"{what}, largest difference of {len(windows) * CONTEXT} rows of logits", theirs["difference"], 1e-3)
    else:
        print(f"        {what}: this thimble writes no logits, so likelihoods are compared only")
    worst = max(abs(a - b) for a, b in zip(nll, theirs["nll"], strict=True))
    report.at_most(f"{what}, largest difference in nll of {len(nll)} windows, nats", worst, 1e-4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    interop.add_arguments(parser)
    parser.add_argument("--adapter", help="one of thimble's for this model; without it one is trained")
    parser.add_argument("--steps", type=int, default=4, help="of that training")
    o = parser.parse_args()
    python = interop.environment(o.venv, PACKAGES)
    report = interop.Report()
    with tempfile.TemporaryDirectory() as temporary:
        work = o.keep or temporary
        os.makedirs(work, exist_ok=True)
        with open(os.path.join(work, "text.txt"), "w", encoding="utf-8") as file:
            file.write(interop.TEXT)
        check(report, o, python, work, "no adapter", None)
        adapter = o.adapter or interop.finetune(o.thimble, o.model, os.path.join(work, "run"), o.steps)
        check(report, o, python, work, "thimble's adapter in PEFT", adapter)
        for name, config in OURS.items():
            folder = os.path.join(work, name.replace(" ", "-"))
            interop.run_worker(python, __file__, "write", {"model": o.model, "config": config, "folder": folder})
            check(report, o, python, work, f"PEFT's adapter in thimble ({name})", folder)
    report.end()


if __name__ == "__main__":
    if not interop.is_worker({"write": write_adapter, "compare": compare}):
        main()
