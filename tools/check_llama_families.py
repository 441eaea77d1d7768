#!/usr/bin/env python3
"""Every family that llama.cpp runs, through llama.cpp: what thimble writes to GGUF says the same there.

Makes tiny random models of each with transformers, converts them with `thimble convert --to gguf --codec f32`, and
compares logits at every position of two sequences, as differences relative to the spread of the logits:

  hf      transformers against `thimble eval --logits` of the folder
  gguf    `thimble eval --logits` of the GGUF against that of the folder
  llama   llama.cpp on the GGUF, the whole sequence at once, against thimble
  table   the same against transformers with GELU as ggml computes it; of families with GELU only
  cache   llama.cpp one token at a time over its cache, against thimble
  peft    PEFT's logits with a random LoRA adapter of all its linear layers, against thimble with that folder
  lora    llama.cpp with the adapter of `convert --adapter-only`, against thimble with the PEFT folder
  greedy  tokens that llama.cpp takes of those that `thimble generate` took; where they part, by how much

llama.cpp keeps keys and values in f32 and does without its flash kernel. With --golden, models of that folder (one
folder `model` each, without tokenizers) are compared too, where GGUF can say what they are. Nothing is fetched but the
packages. Exit code 1 when a family differs without a cause that is written down here.
"""

import argparse
import glob
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile

import interop

PACKAGES = {"torch": "torch", "transformers": "transformers", "peft": "peft", "safetensors": "safetensors",
            "xllamacpp": "xllamacpp"}
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    interop.add_arguments(parser)
    parser.add_argument("--only", help="families, with commas between")
    parser.add_argument("--golden", help="a folder of models")
    options = parser.parse_args()
    interop.enter_environment(options.venv, PACKAGES)

import numpy
import torch
from interop_llama import LlamaCpp
from peft import LoraConfig, get_peft_model
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

TOKENS, CONTEXT, PROMPT = 24, 64, "The keeper said that"
CLOSE = 1e-4  # of differences relative to the spread
# ggml computes GELU by a table of f16 in the form with tanh (ggml/src/ggml-cpu/vec.h, ggml_vec_gelu_f32), also for models
# trained with erf (llama.cpp's build_ffn has no other LLM_FFN_GELU). With such a table in transformers most of the
# difference is gone: what is left in column `table` is of inputs that round to the other of two neighbours in f16.
OF_GELU, OF_TABLE = 1e-2, 2e-3
COMMON = dict(vocab_size=258, bos_token_id=256, eos_token_id=257, pad_token_id=None)
SHAPE = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
             head_dim=16, max_position_embeddings=128, sliding_window=32)
ROPE = dict(rope_type="default", rope_theta=10000.0)
SCALED = dict(rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32)
# What a family needs besides.
FAMILIES = {
    "llama": {}, "llama linear": dict(family="llama", rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)),
    "llama llama3": dict(family="llama", rope_parameters=dict(SCALED, rope_type="llama3", low_freq_factor=1.0,
                                                             high_freq_factor=4.0)),
    "llama yarn": dict(family="llama", rope_parameters=dict(SCALED, rope_type="yarn")),
    "mistral": dict(sliding_window=None), "qwen2": {}, "qwen3": {},
    "gpt2": dict(n_embd=64, n_layer=3, n_head=4, n_positions=128, n_inner=128),
    "gemma": {}, "gemma2": dict(query_pre_attn_scalar=16, num_hidden_layers=4),
    "gemma3_text": dict(query_pre_attn_scalar=16, num_hidden_layers=6),
    "phi": dict(partial_rotary_factor=0.5, num_key_value_heads=4),
    "phi3": dict(num_key_value_heads=2, sliding_window=None),
    "phi3 longrope": dict(family="phi3", sliding_window=None, rope_parameters=dict(
        rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=32, short_factor=[1.0] * 8,
        long_factor=[1.0 + i / 4 for i in range(8)]), original_max_position_embeddings=32),
    "smollm3": dict(num_hidden_layers=4), "olmo2": {},
    "olmo3": dict(num_hidden_layers=4, rope_parameters=dict(full_attention=ROPE, sliding_attention=ROPE)),
    "granite": dict(attention_multiplier=0.25, embedding_multiplier=3.0, residual_multiplier=0.5, logits_scaling=2.0),
    "gpt_neox": dict(num_key_value_heads=4), "bloom": dict(n_head=4, n_layer=3, hidden_size=64),
    "falcon": dict(new_decoder_architecture=False, multi_query=True, parallel_attn=True, bias=False, alibi=False,
                   num_attention_heads=4, ffn_hidden_size=256),
    "falcon 40B": dict(family="falcon", new_decoder_architecture=True, bias=False, alibi=False, num_kv_heads=2,
                       num_attention_heads=4, ffn_hidden_size=256),
    "stablelm": dict(use_qkv_bias=True), "starcoder2": dict(sliding_window=None, use_bias=True),
    "cohere2": dict(num_hidden_layers=4), "glm4": dict(partial_rotary_factor=0.5),
    "exaone4": dict(num_hidden_layers=4, sliding_window=None, layer_types=["full_attention"] * 4), "nemotron": dict(partial_rotary_factor=0.5),
}
COLUMNS = ["hf", "gguf", "llama", "table", "cache", "peft", "lora"]
BY_TABLE = ["llama", "cache", "lora"]
# What llama.cpp's GGUF of a family cannot say or do, and thimble refuses by name or warns of.
NOT_THERE = ("cannot express", "llama.cpp does not run", "is not supported; those",
             "not of text alone")
NO_WINDOW = re.compile("llama.cpp has no window .* on texts of more than ([0-9]+) tokens")


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
    return adapted.eval()


def gelu_of_ggml(module, inputs, output):
    """ggml_vec_gelu_f32: numbers beyond 10 are not looked up."""
    x = inputs[0]
    table = torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()
    return torch.where(x <= -10, torch.zeros_like(x), torch.where(x >= 10, x, table))


def with_table(model, ids):
    """Logits with ggml's GELU; None where the model has no GELU."""
    hooks = [module.register_forward_hook(gelu_of_ggml) for module in model.modules() if "gelu" in type(module).__name__.lower()]
    if not hooks:
        return None
    with torch.no_grad():
        logits = model(torch.tensor(ids)).logits.numpy()
    for hook in hooks:
        hook.remove()
    return logits


def eval_logits(program, model, ids, folder, adapter=None):
    data, out = os.path.join(folder, "ids.safetensors"), os.path.join(folder, "logits.safetensors")
    save_file({"ids": ids.astype("int32")}, data)
    more = ["--adapter", adapter] if adapter else []
    interop.thimble(program, "eval", "--model", model, "--data", data, "--precision", "f32", "--multiply", "f32", "--threads", 1,
                    "--context", ids.shape[1], "--logits", out, *more)
    return load_file(out)["logits"].reshape(*ids.shape, -1)


def apart(ours, theirs):
    """The largest difference, by the spread of the logits."""
    return float(numpy.abs(ours - theirs[..., :ours.shape[-1]]).max() / ours.std())


def convert(program, hf, gguf):
    """How many positions llama.cpp is to agree at: those of a window, where it has none in this family."""
    done = subprocess.run([program, "convert", "--model", hf, "--to", "gguf", "--codec", "f32", "--out", gguf],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    found = NO_WINDOW.search(done.stderr)
    return int(found.group(1)) if found else CONTEXT


def llama_logits(gguf, ids, lora=None):
    model = LlamaCpp(gguf, CONTEXT, lora)
    result = numpy.stack([model.logits(row) for row in ids]), numpy.stack([model.logits(row, 1) for row in ids])
    model.close()
    return result


def of_llama(ours, whole, by_one):
    return {"llama": apart(ours, whole), "cache": apart(ours, by_one)}


def greedy(program, hf, gguf):
    """Of thimble's greedy tokens: how many llama.cpp takes too, and the margin in logits where it takes another."""
    said = json.loads(interop.thimble(program, "generate", "--model", hf, "--prompt", PROMPT, "--max-tokens", TOKENS,
                                      "--temperature", 0, "--precision", "f32", "--multiply", "f32", "--cache-type", "f32",
                                      "--threads", 1, "--no-bos", "--json"))
    prompt, made = said["prompt_ids"], said["ids"]
    model = LlamaCpp(gguf, CONTEXT)
    if model.tokens(PROMPT, special=False) != prompt:
        raise RuntimeError(f"tokens of the prompt: {prompt} by thimble, {model.tokens(PROMPT, False)} by llama.cpp")
    rows = model.logits(prompt + made[:-1], len(prompt))[len(prompt) - 1:]
    model.close()
    others = [row.max() - row[token] for row, token in zip(rows, made, strict=True) if row.argmax() != token]
    return f"{len(made) - len(others)} of {len(made)}" + (f", by {max(others):.1g}" if others else ""), others


def check_made(program, name, folder):
    hf, gguf = os.path.join(folder, "hf"), os.path.join(folder, "model.gguf")
    peft, lora = os.path.join(folder, "peft"), os.path.join(folder, "lora.gguf")
    model = make_model(name, hf)
    ids = numpy.random.default_rng(1).integers(0, 256, (2, CONTEXT))
    with torch.no_grad():
        expected = model(torch.tensor(ids)).logits.numpy()
    ours = eval_logits(program, hf, ids, folder)
    result = {"hf": apart(ours, expected)}
    here = convert(program, hf, gguf)
    result["gguf"] = apart(ours[:, :here], eval_logits(program, gguf, ids, folder)[:, :here])
    whole, by_one = llama_logits(gguf, ids)
    result.update(of_llama(ours[:, :here], whole[:, :here], by_one[:, :here]))
    table = with_table(model, ids)
    if table is not None:
        result["table"] = apart(table[:, :here], whole[:, :here])
    result["greedy"], _ = greedy(program, hf, gguf)
    with torch.no_grad():
        expected = make_adapter(model, peft)(torch.tensor(ids)).logits.numpy()
    adapted = eval_logits(program, hf, ids, folder, peft)
    result["peft"] = apart(adapted, expected)
    try:
        interop.thimble(program, "convert", "--model", hf, "--adapter", peft, "--to", "gguf", "--adapter-only", "--out", lora)
    except SystemExit as refused:
        if "lie by head" not in str(refused):
            raise
        result["greedy"] += "; no adapters in GGUF"
        return result
    result["lora"] = apart(adapted, llama_logits(gguf, ids, lora)[0])
    return result


def check_golden(program, golden, folder):
    gguf, truth = os.path.join(folder, "model.gguf"), load_file(os.path.join(golden, "golden.safetensors"))
    if "ids" not in truth:
        raise RuntimeError("not of text alone")
    hf, ids = os.path.join(golden, "model"), truth["ids"]
    here = convert(program, hf, gguf)
    ours = eval_logits(program, hf, ids, folder)
    result = {"hf": apart(ours, truth["logits"]), "gguf": apart(ours[:, :here], eval_logits(program, gguf, ids, folder)[:, :here])}
    whole, by_one = llama_logits(gguf, ids)
    result.update(of_llama(ours[:, :here], whole[:, :here], by_one[:, :here]))
    table = with_table(AutoModelForCausalLM.from_pretrained(hf, dtype=torch.float32, attn_implementation="eager").eval(), ids)
    if table is not None:
        result["table"] = apart(table[:, :here], whole[:, :here])
    return result


def run(queue, function, *arguments):
    try:
        with tempfile.TemporaryDirectory() as folder:
            torch.set_num_threads(1)
            queue.put(function(*arguments, folder))
    except BaseException as error:  # whatever it is, it is the row of this family alone
        queue.put(str(error).strip().splitlines()[-1])


def apart_from_us(function, *arguments):
    """In a process of its own: llama.cpp ends the process over what it does not take."""
    queue = multiprocessing.get_context("fork").SimpleQueue()
    child = multiprocessing.get_context("fork").Process(target=run, args=(queue, function, *arguments))
    child.start()
    child.join(300)
    return queue.get() if not queue.empty() else f"ended with {child.exitcode}"


def judge(name, result):
    """One row of the table, and whether it is as it should be."""
    if isinstance(result, str):
        return f"{name:20}  {result[:200]}", any(known in result for known in NOT_THERE)
    bound = {c: OF_GELU if "table" in result and c in BY_TABLE else CLOSE for c in COLUMNS}
    bound["table"] = OF_TABLE
    larger = [c for c in COLUMNS if result.get(c, 0) > bound[c]]
    figures = "".join(f"{result[c]:>9.0e}" if c in result else f"{'':>9}" for c in COLUMNS)
    return f"{name:20}{figures}  {result.get('greedy', '')}{'   TOO LARGE: ' + ', '.join(larger) if larger else ''}", not larger


def main():
    wanted = options.only.split(",") if options.only else None
    rows = [(name, check_made, name) for name in FAMILIES]
    for folder in sorted(glob.glob(os.path.join(options.golden, "*", ""))) if options.golden else []:
        name = f"{os.path.basename(folder.rstrip('/'))} (golden)"
        rows.append((name, check_golden, folder))
    failed = []
    print(f"{'family':20}{''.join(f'{c:>9}' for c in COLUMNS)}  greedy", flush=True)
    for name, function, what in rows:
        if wanted and name not in wanted:
            continue
        result = apart_from_us(function, options.thimble, what)
        if isinstance(result, str) and "(golden)" in name and any(known in result for known in NOT_THERE[-2:]):
            continue  # encoders, mixtures of experts and the like
        line, good = judge(name, result)
        print(line, flush=True)
        failed += [] if good else [name]
    print("all agree" if not failed else f"not: {', '.join(failed)}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
