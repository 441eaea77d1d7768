#!/usr/bin/env python3
"""Heads for labels beside transformers and PEFT: scores, losses and gradient norms, and files in both directions.

  tools/check_labels.py --thimble build/release/thimble --model FOLDER

FOLDER is a Hugging Face folder whose tokenizer is used; the models are small random ones that are made here. Needs torch,
transformers and peft.
"""
import argparse
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig, LlamaForCausalLM

TEXTS = [("The parcel is late.", "delivery", -0.5), ("It broke on the first day, and smells.", "defect", 1.25),
         ("Give me my money back!", "refund", 0.75), ("Where is my parcel now?", "delivery", -1.0),
         ("One leg is shorter.", "defect", 2.0)]
NAMES = ["defect", "delivery", "refund"]
LR, STEPS = 0.05, 3
PLAIN = ["--precision", "f32", "--multiply", "f32"]
WORST = 0.0


def note(what, ours, theirs, bound):
    global WORST
    off = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(ours, theirs, strict=True))
    print(f"{'ok ' if off <= bound else 'BAD'} {what}: {off:.1e}", flush=True)
    WORST = max(WORST, off / bound)


def thimble(binary, *words):
    done = subprocess.run([str(binary), *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def scores_of(model, tokenizer):
    with torch.no_grad():
        return [x for text, _, _ in TEXTS for x in model(**tokenizer(text, return_tensors="pt")).logits[0].tolist()]


class Task:
    """One of the two objectives."""

    def __init__(self, options, name, folder):
        self.binary, self.name, self.folder = options.thimble, name, folder / name
        self.folder.mkdir()
        self.classes = name == "classification"
        self.data = self.folder / "texts.jsonl"
        self.data.write_text("".join(
            json.dumps({"text": text, "label": label if self.classes else number}) + "\n" for text, label, number in TEXTS))
        self.wanted = torch.tensor([NAMES.index(label) if self.classes else number for _, label, number in TEXTS])
        self.base = folder / "base"
        self.tokenizer = AutoTokenizer.from_pretrained(self.base)

    def finetune(self, model, out, *words):
        return thimble(self.binary, "finetune", "--model", model, "--data", self.data, "--objective", self.name,
                       "--no-shuffle", "--context", 128, "--clip", 1e9, "--schedule", "constant", "--warmup", 0, "--json",
                       "--scratch", "none", *PLAIN, "--out", self.folder / out, *words)

    def said(self, model, *words):
        out = self.folder / "said.jsonl"
        thimble(self.binary, "eval", "--metric", "label", "--model", model, "--data", self.data, "--out", out, "--json",
                "--scratch", "none", *PLAIN, *words)
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        return [x for line in lines for x in (line["scores"] if self.classes else [line["said"]])]

    def torch_steps(self, model):
        optimizer, out = torch.optim.SGD(model.parameters(), lr=LR), []
        for _ in range(STEPS):
            optimizer.zero_grad()
            logits = torch.cat([model(**self.tokenizer(text, return_tensors="pt")).logits for text, _, _ in TEXTS])
            loss = (torch.nn.functional.cross_entropy(logits, self.wanted) if self.classes
                    else torch.nn.functional.mse_loss(logits[:, 0], self.wanted.float()))
            loss.backward()
            norm = math.sqrt(sum((p.grad.double() ** 2).sum().item() for p in model.parameters() if p.grad is not None))
            out.append((loss.item(), norm))
            optimizer.step()
        return out

    def check(self):
        import peft

        self.finetune(self.base, "start", "--method", "full", "--optimizer", "sgd", "--lr", 1e-12, "--steps", 1)
        start = self.folder / "start" / "model"
        model = AutoModelForSequenceClassification.from_pretrained(start, dtype=torch.float32).eval()
        if self.classes and [model.config.id2label[i] for i in range(3)] != NAMES:
            sys.exit(f"names of labels: {model.config.id2label}")
        note(f"{self.name}: scores of a model that thimble wrote", self.said(start), scores_of(model, self.tokenizer), 1e-5)
        events = self.finetune(start, "steps", "--method", "full", "--optimizer", "sgd", "--set", "optimizer.momentum=0",
                               "--lr", LR, "--steps", STEPS)
        steps = [e for e in events if e["event"] == "step"]
        theirs = self.torch_steps(model)
        note(f"{self.name}: losses", [e["loss"] for e in steps], [loss for loss, _ in theirs], 1e-4)
        note(f"{self.name}: gradient norms", [e["grad_norm"] for e in steps], [norm for _, norm in theirs], 1e-4)

        self.finetune(self.base, "lora", "--method", "lora", "--lr", 1e-2, "--steps", 4)
        adapter = self.folder / "lora" / "adapter"
        labels = 3 if self.classes else 1
        base = AutoModelForSequenceClassification.from_pretrained(self.base, num_labels=labels, dtype=torch.float32)
        adapted = peft.PeftModel.from_pretrained(base, adapter).eval()
        note(f"{self.name}: thimble's adapter in PEFT", self.said(self.base, "--adapter", adapter),
             scores_of(adapted, self.tokenizer), 1e-5)
        thimble(self.binary, "convert", "--model", self.base, "--adapter", adapter, "--to", "safetensors", "--codec", "f32",
                "--out", self.folder / "merged")
        merged = AutoModelForSequenceClassification.from_pretrained(self.folder / "merged", dtype=torch.float32).eval()
        note(f"{self.name}: the adapter merged", self.said(self.base, "--adapter", adapter),
             scores_of(merged, self.tokenizer), 1e-5)

        torch.manual_seed(5)
        base = AutoModelForSequenceClassification.from_pretrained(self.base, num_labels=labels, dtype=torch.float32)
        config = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["q_proj", "down_proj"])
        adapted = peft.get_peft_model(base, config).eval()
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
        adapted.save_pretrained(self.folder / "peft")
        if self.classes:  # PEFT keeps no names of labels
            names = {str(id): name for id, name in enumerate(NAMES)}
            (self.folder / "peft" / "labels.json").write_text(json.dumps({"id2label": names}))
        note(f"{self.name}: PEFT's adapter in thimble", self.said(self.base, "--adapter", self.folder / "peft"),
             scores_of(adapted, self.tokenizer), 1e-5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thimble", required=True, type=pathlib.Path)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        torch.manual_seed(3)
        vocabulary = json.loads((options.model / "config.json").read_text())["vocab_size"]
        config = LlamaConfig(vocab_size=vocabulary, hidden_size=64, intermediate_size=128, num_hidden_layers=3,
                             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
                             tie_word_embeddings=True, initializer_range=0.1)
        LlamaForCausalLM(config).save_pretrained(folder / "base")
        for file in options.model.glob("tokenizer*"):
            shutil.copy(file, folder / "base")
        for task in ("classification", "regression"):
            Task(options, task, folder).check()
    sys.exit(WORST > 1)


if __name__ == "__main__":
    main()
