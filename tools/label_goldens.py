#!/usr/bin/env python3
"""What transformers' classifiers of decoders say, for tests/run/label_test.cpp.

  tools/label_goldens.py > tests/run/label_goldens.inc

The weights are sines, which the test makes too: element i of tensor k, in the order of the tensors' names. Needs torch
and transformers.
"""
import math

import torch
from transformers import AutoModelForSequenceClassification
from transformers.models.gpt2 import GPT2Config
from transformers.models.llama import LlamaConfig

TEXTS = [[72, 5, 190, 33, 7], [1, 2, 3], [250, 9, 9, 101, 17, 64, 3]]
PAD = 271
CLASSES, NUMBERS = [2, 0, 1], [0.5, -1.25, 2.0]
SHARED = {"vocab_size": 272, "pad_token_id": PAD}


def sines(model):
    for k, (name, tensor) in enumerate(sorted(model.state_dict().items())):
        one = tensor.dim() == 1 and name.endswith("weight")
        values = [math.sin(0.3 * (i + 1) * (1 + 0.01 * k) + k) for i in range(tensor.numel())]
        flat = torch.tensor([1 + 0.1 * v if one else 0.3 * v for v in values], dtype=torch.float64)
        tensor.copy_(flat.to(torch.float32).reshape(tensor.shape))


def scores_of(config, labels, problem):
    config.num_labels, config.problem_type = labels, problem
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval().float()
    with torch.no_grad():
        sines(model)
        alone = [model(torch.tensor([ids])).logits[0] for ids in TEXTS]
        longest = max(len(ids) for ids in TEXTS)
        ids = torch.tensor([ids + [PAD] * (longest - len(ids)) for ids in TEXTS])
        wanted = torch.tensor(CLASSES if labels > 1 else NUMBERS)
        out = model(ids, attention_mask=(ids != PAD).long(), labels=wanted)
    assert (out.logits - torch.stack(alone)).abs().max() < 1e-5
    return torch.stack(alone), out.loss.item()


def show(name, scores, loss):
    rows = ",\n     ".join("{" + ", ".join(f"{x:.9g}" for x in row.tolist()) + "}" for row in scores)
    print(f'    {{"{name}",\n     {{{rows}}},\n     {loss:.9g}}},')


def main():
    print("// Made by tools/label_goldens.py: of a model its scores of three texts, and their loss.")
    llama = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "max_position_embeddings": 64, "rope_theta": 10000.0, **SHARED}
    gpt2 = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64, **SHARED}
    for name, config in (("llama", LlamaConfig(**llama)), ("gpt2", GPT2Config(**gpt2))):
        show(name, *scores_of(config, 3, "single_label_classification"))
        show(name, *scores_of(config, 1, "regression"))


if __name__ == "__main__":
    main()
