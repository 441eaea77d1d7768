#!/usr/bin/env python3
"""LoRA adapters of thimble and PEFT, each in the other's hands, on the base model dequantised to f32.

  1. one that `thimble finetune` wrote loads in PEFT and gives the logits that thimble has with it
  2. ones that PEFT wrote (random A and B; another with rsLoRA and ranks by module) load in thimble, likewise
Logits are to agree within 1e-3, and likelihoods of windows within 1e-4 nats. Exit code 1 when they do not.
"""

import argparse
import os
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


def references(model, windows, adapter, folder):
    """Logits of the base, with thimble's adapter, and with adapters that PEFT makes and saves here."""
    import peft
    import torch
    from interop_torch import base_model, reference, window_logits

    base = base_model(model)
    plain = window_logits(base, windows)

    def record(index, logits):
        nll = reference(logits, windows, os.path.join(folder, f"expected-{index}.safetensors"))
        return {"nll": nll, "effect": (logits - plain).abs().max().item()}

    results = [record(0, plain)]
    adapted = peft.PeftModel.from_pretrained(base, adapter).eval()
    results.append(record(1, window_logits(adapted, windows)))
    base = adapted.unload()
    for index, config in enumerate(OURS.values(), 2):
        torch.manual_seed(index)
        adapted = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **config)).eval()
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        adapted.save_pretrained(os.path.join(folder, f"peft-{index}"))
        results.append(record(index, window_logits(adapted, windows)))
        base = adapted.unload()
    return results


def compare(expected, ours):
    from interop_torch import logits_differ

    return logits_differ(expected, ours)


def check(report, o, python, work):
    text = os.path.join(work, "text.txt")
    with open(text, "w", encoding="utf-8") as file:
        file.write(interop.TEXT)
    adapter = o.adapter or interop.finetune(o.thimble, o.model, os.path.join(work, "run"), o.steps)
    windows = interop.windows_of(o.thimble, o.model, text, CONTEXT)
    print(f"transformers and PEFT: {len(windows)} windows of {CONTEXT} tokens", flush=True)
    results = interop.run_worker(python, __file__, "references",
                                 {"model": o.model, "windows": windows, "adapter": adapter, "folder": work})
    names = ["no adapter", "thimble's adapter in PEFT"] + [f"PEFT's adapter in thimble ({name})" for name in OURS]
    adapters = [None, adapter] + [os.path.join(work, f"peft-{index}") for index in range(2, 2 + len(OURS))]
    logits = os.path.join(work, "logits.safetensors") if interop.has_logits(o.thimble) else None
    for index, (name, path, result) in enumerate(zip(names, adapters, results, strict=True)):
        if path:
            report.check(f"{name}, largest change of a logit by the adapter", result["effect"] > 0.1,
                         f"{result['effect']:.3g}")
        nll = interop.evaluate(o.thimble, o.model, text, CONTEXT, path, logits)
        difference = logits and interop.run_worker(python, __file__, "compare", {
            "expected": os.path.join(work, f"expected-{index}.safetensors"), "ours": logits})
        report.same_logits(name, nll, result["nll"], difference)


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
        check(report, o, python, work)
    report.end()


if __name__ == "__main__":
    if not interop.is_worker({"references": references, "compare": compare}):
        main()
