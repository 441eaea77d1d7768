"""The transformers side of the checks: logits and likelihoods of windows of tokens. Imported by workers only."""

import os

import torch
import transformers
from safetensors.torch import load_file


def base_model(model):
    """A GGUF file, dequantised to f32, or a Hugging Face folder."""
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    if os.path.isdir(model):
        source = {"pretrained_model_name_or_path": model}
    else:
        folder, file = os.path.split(os.path.abspath(model))
        source = {"pretrained_model_name_or_path": folder, "gguf_file": file}
    return transformers.AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.float32, attn_implementation="eager").eval()


@torch.no_grad()
def window_logits(model, windows):
    """[windows, tokens, vocabulary]"""
    return torch.stack([model(torch.tensor([ids])).logits[0].float() for ids in windows])


def likelihoods(logits, windows):
    return [torch.nn.functional.cross_entropy(l[:-1], torch.tensor(ids[1:])).item() for l, ids in zip(logits, windows)]


def largest_difference(logits, file):
    """From the logits that thimble wrote: one or more tensors, whose rows follow the windows' tokens."""
    tensors = load_file(file)
    ordered = sorted(tensors, key=lambda name: (len(name), name))
    rows = torch.cat([tensors[name].float().reshape(-1, logits.shape[-1]) for name in ordered])
    expected = logits.reshape(-1, logits.shape[-1])
    if rows.shape != expected.shape:
        raise SystemExit(f"thimble wrote logits {list(rows.shape)}, expected {list(expected.shape)}")
    return (rows - expected).abs().max().item()
