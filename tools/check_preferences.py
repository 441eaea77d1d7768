#!/usr/bin/env python3
"""Objectives of preference pairs and of judged replies beside PyTorch: losses and gradient norms of a few steps of full fine-tuning.

  tools/check_preferences.py --thimble build/release/thimble --model FOLDER

FOLDER is a Hugging Face folder in f32 with a tokenizer (thimble convert --to safetensors makes one). The losses are
written out below as the papers have them, on the logits of transformers in f32; both sides train with plain SGD.
Needs torch and transformers.
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

PAIRS = [
    ("What is two and three?", " Five, thank you for asking.", " I do not know."),
    ("Name a colour.", " Blue.", " A colour is a thing that eyes see when light falls on something."),
    ("Say yes.", " Yes, of course.", " No!"),
    ("Where does the sun rise?", " In the east, every day.", " In the west."),
]
# One reply of each, and two more: neighbours have other prompts, as the drift is estimated with those.
REPLIES = [(p, (c, r)[i % 2], i % 2 == 0) for i, (p, c, r) in enumerate(PAIRS + PAIRS[1:3])]
MISMATCHED = [(p, REPLIES[i - 1][1]) for i, (p, _, _) in enumerate(REPLIES)]
JUDGED = ("kto", "apo_zero_unpaired")
WEIGHTS = {"desirable_weight": 1.3, "undesirable_weight": 0.8}
LR, STEPS = 1e-3, 3  # a step has all of them, in one window


def pair_losses(name, chosen, rejected, reference):
    """chosen, rejected: (sum of log likelihoods, number of tokens); reference: both sums of the model at the start."""
    (c, nc), (r, nr) = chosen, rejected
    margin = (c - r) - (reference[0] - reference[1])
    if name == "dpo":
        return -F.logsigmoid(0.1 * margin)
    if name == "hinge":
        return torch.relu(1 - 0.1 * margin)
    if name == "ipo":
        return (c / nc - r / nr - (reference[0] / nc - reference[1] / nr) - 1 / (2 * 0.1)) ** 2
    if name == "simpo":
        return -F.logsigmoid(2 * (c / nc - r / nr) - 0.5)
    if name == "orpo":
        odds = [m - torch.log1p(-torch.exp(m)) for m in (c / nc, r / nr)]
        return -c / nc - 0.1 * F.logsigmoid(odds[0] - odds[1])
    raise ValueError(name)


class Torch:
    def __init__(self, folder):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.folder = folder

    def likelihood(self, prompt, reply):
        before = self.tokenizer(prompt, add_special_tokens=False).input_ids
        after = self.tokenizer(reply, add_special_tokens=False).input_ids + [self.tokenizer.eos_token_id]
        ids = torch.tensor([before + after])
        logp = F.log_softmax(self.model(ids).logits[0, :-1].float(), dim=-1)
        picked = logp.gather(1, ids[0, 1:, None])[len(before) - 1:, 0]
        return picked.sum(), len(after)

    def total(self, name, references):
        if name not in JUDGED:
            losses = [pair_losses(name, self.likelihood(p, c), self.likelihood(p, r), reference)
                      for (p, c, r), reference in zip(PAIRS, references, strict=True)]
            return sum(losses) / len(losses)
        with torch.no_grad():
            kl = torch.stack([self.likelihood(p, y)[0] - reference[1]
                              for (p, y), reference in zip(MISMATCHED, references, strict=True)]).mean()
        ratios = [(wanted, self.likelihood(p, y)[0] - reference[0])
                  for (p, y, wanted), reference in zip(REPLIES, references, strict=True)]
        losses = judged_losses(name, ratios, kl)
        return sum(losses) / len(losses)

    def references(self, name):
        if name in JUDGED:
            return [[self.likelihood(p, y)[0], self.likelihood(*other)[0]]
                    for (p, y, _), other in zip(REPLIES, MISMATCHED, strict=True)]
        return [[self.likelihood(p, reply)[0] for reply in (c, r)] for p, c, r in PAIRS]

    def run(self, name):
        self.model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)
        self.model.eval()
        with torch.no_grad():
            references = self.references(name)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=LR)
        out = []
        for _ in range(STEPS):
            optimizer.zero_grad()
            total = self.total(name, references)
            total.backward()
            squares = [(p.grad.double() ** 2).sum().item() for p in self.model.parameters() if p.grad is not None]
            out.append((total.item(), math.sqrt(sum(squares))))
            optimizer.step()
        return out


def judged_losses(name, ratios, kl):
    """As trl/trainer/kto_trainer.py has them. ratios: (whether it is wanted, log ratio to the reference) of replies;
    kl: of the batch."""
    d, u, beta = WEIGHTS["desirable_weight"], WEIGHTS["undesirable_weight"], 0.1
    z = kl.detach().clamp(min=0) if name == "kto" else torch.zeros(())
    return [d * (1 - torch.sigmoid(beta * (r - z))) if wanted else u * (1 - torch.sigmoid(beta * (z - r)))
            for wanted, r in ratios]


def thimble_run(thimble, model, name, folder):
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps({"prompt": p, "chosen": c, "rejected": r}) + "\n" for p, c, r in PAIRS))
    if name in JUDGED:
        data.write_text("".join(json.dumps({"prompt": p, "completion": y, "label": wanted}) + "\n"
                                for p, y, wanted in REPLIES))
    command = [thimble, "finetune", "--model", model, "--data", data, "--objective", name, "--method", "full",
               "--optimizer", "sgd", "--set", "optimizer.momentum=0", "--lr", str(LR), "--schedule", "constant",
               "--warmup", "0", "--clip", "1e9", "--precision", "f32", "--multiply", "f32", "--no-shuffle",
               "--context", "256", "--steps", str(STEPS), "--json", "--out", folder / name]
    if name in JUDGED:
        command += [word for key, value in WEIGHTS.items() for word in ("--set", f"objective.{key}={value}")]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{name}: {done.stderr}")
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    steps = [e for e in events if e["event"] == "step"]
    if any(e.get("pairs", 0) != len(PAIRS) and e.get("replies", 0) != len(REPLIES) for e in steps):
        sys.exit(f"{name}: a step does not hold all examples")
    return [(e["loss"], e["grad_norm"]) for e in steps]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thimble", required=True, type=pathlib.Path)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--bound", type=float, default=1e-3, help="largest relative difference")
    arguments = parser.parse_args()
    peer, worst = Torch(arguments.model), 0.0
    print("| objective | step | loss | in PyTorch | norm | in PyTorch |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("dpo", "ipo", "hinge", "simpo", "orpo", *JUDGED):
            ours = thimble_run(arguments.thimble, arguments.model, name, pathlib.Path(folder))
            theirs = peer.run(name)
            for step, ((a, an), (b, bn)) in enumerate(zip(ours, theirs, strict=True), 1):
                print(f"| {name} | {step} | {a:.6f} | {b:.6f} | {an:.5f} | {bn:.5f} |", flush=True)
                worst = max(worst, abs(a - b) / max(abs(b), 1e-6), abs(an - bn) / max(abs(bn), 1e-6))
    print(f"largest relative difference: {worst:.2e}")
    sys.exit(worst > arguments.bound)


if __name__ == "__main__":
    main()
