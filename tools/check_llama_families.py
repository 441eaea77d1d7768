#!/usr/bin/env python3
"""Every family that llama.cpp runs, through llama.cpp: what thimble writes to GGUF says the same there.

Makes a tiny random model of each with transformers and a tokenizer with `tokenizers`, converts it with `thimble convert
--to gguf`, and compares the log probabilities of the likeliest tokens after a prompt and each of 12 greedy
tokens with those of `thimble generate`; then the same with a LoRA adapter of `convert --adapter-only`. llama.cpp is that of xllamacpp, with its cache
in f32. Nothing is fetched but the packages. Exit code 1 when a family differs.
"""

import argparse
import json
import os
import sys
import tempfile

import interop

PACKAGES = {"torch": "torch", "transformers": "transformers", "peft": "peft", "xllamacpp": "xllamacpp"}
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    interop.add_arguments(parser)
    parser.add_argument("--only", help="families, with commas between")
    options = parser.parse_args()
    interop.enter_environment(options.venv, PACKAGES)

import torch
import xllamacpp
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

TOKENS, TOP = 12, 5
# Larger differences of log probabilities are errors. Sums are in another order, and llama.cpp's exponentials of f32
# are polynomials.
CLOSE = 2e-3
PROMPTS = ["The keeper said that", "snow, ice and 12"]
COMMON = dict(vocab_size=258, bos_token_id=256, eos_token_id=257, pad_token_id=None)
SHAPE = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
             head_dim=16, max_position_embeddings=128, sliding_window=32)
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
# What a family needs besides; "drop" are fields that it does not have.
FAMILIES = {
    "llama": {}, "llama llama3": dict(family="llama", rope_parameters=dict(
        rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32)),
    "llama yarn": dict(family="llama", rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0,
                                                           original_max_position_embeddings=32)),
    "qwen2": {}, "qwen3": {},
    "gpt2": dict(n_embd=64, n_layer=3, n_head=4, n_positions=128, n_inner=128),
    "gemma": {}, "gemma2": dict(query_pre_attn_scalar=16, num_hidden_layers=4),
    "gemma3_text": dict(query_pre_attn_scalar=16, num_hidden_layers=6),
    "phi": dict(partial_rotary_factor=0.5, num_key_value_heads=4),
    "phi3": dict(num_key_value_heads=2, sliding_window=None),
    "smollm3": dict(num_hidden_layers=4), "olmo2": {},
    "granite": dict(attention_multiplier=0.25, embedding_multiplier=3.0, residual_multiplier=0.5, logits_scaling=2.0),
    "gpt_neox": dict(num_key_value_heads=4), "bloom": dict(n_head=4, n_layer=3, hidden_size=64),
    "falcon": dict(new_decoder_architecture=False, multi_query=True, parallel_attn=True, bias=False, alibi=False,
                   num_attention_heads=4, ffn_hidden_size=256),
    "stablelm": dict(use_qkv_bias=True), "starcoder2": dict(sliding_window=None, use_bias=True),
    "cohere2": dict(num_hidden_layers=4), "glm4": dict(partial_rotary_factor=0.5),
    "exaone4": dict(num_hidden_layers=4), "nemotron": dict(partial_rotary_factor=0.5),
}


def tokenizer():
    """Bytes, and two special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|begin|>", "<|end|>"])
    return made


def make_model(name, folder):
    extra = dict(FAMILIES[name])
    family = extra.pop("family", name)
    wanted = {**COMMON, **SHAPE, **extra}
    known = CONFIG_MAPPING[family]().to_dict()
    config = CONFIG_MAPPING[family](**{k: v for k, v in wanted.items() if k in known or k in extra})
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():  # so that layers matter, and that norms and biases are no ones and zeros
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            else:
                parameter.mul_(4)
    model.save_pretrained(folder)
    tokenizer().save(os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin|>", "eos_token": "<|end|>",
                   "add_bos_token": False}, file)
    return model


def make_adapter(model, folder):
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.mul_(0.3)
    adapted.save_pretrained(folder)


def of_llama_cpp(gguf, prompts, lora=None):
    """Of prompts and replies to them: what llama.cpp makes of each next token, whatever it would have taken itself."""
    p = xllamacpp.CommonParams()
    p.model.path, p.n_ctx, p.n_parallel, p.warmup = gguf, 128, 1, False
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
    p.cache_type_k = p.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    p.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if lora:
        info = xllamacpp.CommonAdapterLoraInfo(lora, 1.0)
        p.lora_adapters = [info]
    server, replies = xllamacpp.Server(p), []
    for ids, reply in prompts:
        tops = []
        for count in range(len(reply)):
            answer = server.handle_completions({"prompt": ids + reply[:count], "n_predict": 1, "temperature": 0,
                                                "n_probs": TOP, "ignore_eos": True, "cache_prompt": True})
            answer = json.loads(answer) if isinstance(answer, str) else answer
            if "choices" not in answer:
                raise RuntimeError(json.dumps(answer)[:300])
            token = answer["choices"][0]["logprobs"]["content"][0]
            tops.append([(t["id"], t["logprob"]) for t in token["top_logprobs"]])
        replies.append(tops)
    return replies


def of_thimble(program, model, prompt, adapter=None):
    more = ["--adapter", adapter] if adapter else []
    said = json.loads(interop.thimble(program, "generate", "--model", model, "--prompt", prompt, "--max-tokens", TOKENS,
                                      "--temperature", 0, "--precision", "f32", "--multiply", "f32", "--cache-type",
                                      "f32", "--threads", 1, "--no-bos", "--logprobs", TOP, "--json", *more))
    return said["prompt_ids"], said["ids"], [[(t["id"], t["logprob"]) for t in token["top"]] for token in said["logprobs"]]


def difference(ours, theirs):
    """The largest difference of log probabilities; at near ties the last of the likeliest may be others."""
    worst = 0.0
    for mine, other in zip(ours, theirs, strict=True):
        theirs_of = dict(other)
        worst = max([worst, *(abs(p - theirs_of.get(i, other[-1][1])) for i, p in mine)])
    return worst


def check(program, name, folder):
    hf, gguf = os.path.join(folder, "hf"), os.path.join(folder, "model.gguf")
    peft, lora = os.path.join(folder, "peft"), os.path.join(folder, "lora.gguf")
    model = make_model(name, hf)
    interop.thimble(program, "convert", "--model", hf, "--to", "gguf", "--codec", "f32", "--out", gguf)
    make_adapter(model, peft)
    interop.thimble(program, "convert", "--model", hf, "--adapter", peft, "--to", "gguf", "--adapter-only", "--out", lora)
    results = []
    for adapter, file in ((None, None), (peft, lora)):
        ours = [of_thimble(program, hf, prompt, adapter) for prompt in PROMPTS]
        theirs = of_llama_cpp(gguf, [(ids, reply) for ids, reply, _ in ours], file)
        results.append(max(difference(tops, other) for (_, _, tops), other in zip(ours, theirs)))
    return results


def main():
    names = options.only.split(",") if options.only else list(FAMILIES)
    failed = []
    print(f"{'family':16} {'model':>10} {'with LoRA':>10}   largest difference of log probabilities")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                model, lora = check(options.thimble, name, folder)
                print(f"{name:16} {model:10.2g} {lora:10.2g}", flush=True)
                if max(model, lora) > CLOSE:
                    failed.append(name)
            except (RuntimeError, SystemExit, ValueError) as error:
                print(f"{name:16} {str(error).strip().splitlines()[-1][:150]}", flush=True)
                failed.append(name)
    print("all agree" if not failed else f"not: {', '.join(failed)}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
