"""The transformers side of the checks: logits and likelihoods of windows of tokens. Imported by workers only."""

import os

import torch
import transformers
from safetensors.torch import load_file, save_file


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


def reference(logits, windows, file):
    """Keeps the logits in a file; gives the mean negative log-likelihood of every window."""
    save_file({"logits": logits.contiguous()}, file)
    return [torch.nn.functional.cross_entropy(l[:-1], torch.tensor(ids[1:])).item() for l, ids in zip(logits, windows)]


def logits_differ(expected, ours):
    """Largest difference between two files of logits. thimble may write several tensors, whose rows follow each other."""
    def rows(file):
        tensors = load_file(file)
        ordered = sorted(tensors, key=lambda name: (len(name), name))
        return torch.cat([tensors[name].float().reshape(-1, tensors[name].shape[-1]) for name in ordered])
    a, b = rows(expected), rows(ours)
    if a.shape != b.shape:
        raise SystemExit(f"thimble wrote logits {list(b.shape)}, expected {list(a.shape)}")
    return (a - b).abs().max().item()
