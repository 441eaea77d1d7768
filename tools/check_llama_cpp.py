#!/usr/bin/env python3
"""Merged exports of thimble in other programs.

  1. what `convert --adapter --to gguf` writes gives the same greedy text in llama.cpp (llama-cpp-python) as in
     `thimble generate`; with q4_1 the two may part at near ties
  2. in f16 and q8_0 that text is the one of base and adapter, apart. (A merge into q4_1 rounds most of what an adapter
     changes away: `convert` measures and says how much is kept.)
  3. `convert --adapter --to safetensors` opens in transformers, with the logits that thimble has with the adapter
     (within 1e-3; likelihoods within 1e-4 nats) and the same tokens
Exit code 1 when they do not agree.
"""

import argparse
import json
import os
import tempfile

import interop

CONTEXT = 64
CODECS = ["f16", "q8_0", "q4_1"]
# llama.cpp rounds activations to 8 bits; where the two likeliest tokens are closer than that, either may come. A merge
# into 4 bits loses much of the adapter and its sureness with it, so that there such ties are met.
LOOSE, NEAR_TIE = "q4_1", 0.3
LLAMA = {"llama_cpp": "llama-cpp-python"}
TORCH = {"torch": "torch", "transformers": "transformers", "safetensors": "safetensors", "accelerate": "accelerate"}
# In the words of examples/receipts, where the adapter is sure of itself.
CHAT = "<|im_start|>system\nPurchase to JSON.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = [CHAT.format(text) for text in (
    "On January 23, 2025, Olivia ordered a plain sticker from Grand House for 49.13 CHF.",
    "4 heavy pencils for GBP 43.92 each, purchased from Station Supplies on 2021-10-16.",
    "Olivia purchased one red folding clock for 471 dollars on September 08, 2022.",
    "Three wooden spoons, 12.50 EUR apiece, at Harbour Kitchen, 3 May 2023.")]
STRINGS = ["Hello world", "1234567 ½ ²", "naïve café", "  two  spaces\n\n\ttab", "<|im_start|>user\nx<|im_end|>", "日本語"]


def llama_greedy(model, prompts, replies):
    """The likeliest tokens, as many as the reply has; and how far below the likeliest each token of the reply is."""
    import llama_cpp
    import numpy

    llm = llama_cpp.Llama(model_path=model, n_ctx=512, n_threads=2, verbose=False)

    def logits():
        return numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llm.ctx, -1), shape=(llm.n_vocab(),))

    def run(ids, choose, count):
        llm.reset()
        llm.eval(ids)
        made, deficits = [], []
        while len(made) < count:
            made.append(choose(len(made)))
            deficits.append(float(logits().max() - logits()[made[-1]]))
            if made[-1] == llm.token_eos():
                break
            llm.eval(made[-1:])
        return made, deficits

    results = []
    for prompt, reply in zip(prompts, replies, strict=True):
        ids = llm.tokenize(prompt.encode(), add_bos=False, special=True)
        made, _ = run(ids, lambda _: int(logits().argmax()), len(reply))
        _, deficits = run(ids, lambda i: reply[i], len(reply))
        results.append({"prompt_ids": ids, "ids": made, "deficits": deficits,
                        "text": llm.detokenize(made, prev_tokens=ids).decode(errors="replace")})
    return results


def transformers_reference(model, windows, strings, file):
    import transformers
    from interop_torch import base_model, reference, window_logits

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    nll = reference(window_logits(base_model(model), windows), windows, file)
    return {"nll": nll, "ids": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in strings],
            "chat": tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)}


def compare(expected, ours):
    from interop_torch import logits_differ

    return logits_differ(expected, ours)


def greedy(o, model, adapter=None):
    arguments = ["--max-tokens", o.tokens, "--temperature", 0, "--precision", "f32", "--json"]
    arguments += ["--adapter", adapter] if adapter else []
    return [json.loads(interop.thimble(o.thimble, "generate", "--model", model, "--prompt", prompt, *arguments))
            for prompt in PROMPTS]


def check_gguf(report, o, python, work, adapter, codec, apart):
    """apart: what base and adapter say"""
    merged = os.path.join(work, f"merged-{codec}.gguf")
    print(interop.thimble(o.thimble, "convert", "--model", o.model, "--adapter", adapter, "--to", "gguf", "--codec",
                          codec, "--out", merged), end="", flush=True)
    replies = greedy(o, merged)
    theirs = interop.run_worker(python, __file__, "llama",
                                {"model": merged, "prompts": PROMPTS, "replies": [r["ids"] for r in replies]})
    for index, (ours, other, base) in enumerate(zip(replies, theirs, apart, strict=True)):
        what = f"{codec}, prompt {index}"
        report.check(f"{what}, tokens of the prompt", ours["prompt_ids"] == other["prompt_ids"], len(other["prompt_ids"]))
        same, worst = ours["ids"] == other["ids"], max(other["deficits"])
        if not same:
            print(f"        thimble   {ours['text']!r}\n        llama.cpp {other['text']!r}")
        where = "the same" if same else "parts at a near tie"
        report.check(f"{what}, text in llama.cpp", same or (codec == LOOSE and worst <= NEAR_TIE),
                     f"{where}, {len(ours['ids'])} tokens, each within {worst:.3g} of llama.cpp's largest logit")
        if codec != LOOSE:
            report.check(f"{what}, text of base and adapter", ours["text"] == base["text"], repr(ours["text"]))


def check_safetensors(report, o, python, work, adapter):
    folder, text = os.path.join(work, "merged-hf"), os.path.join(work, "text.txt")
    with open(text, "w", encoding="utf-8") as file:
        file.write(interop.TEXT)
    print(interop.thimble(o.thimble, "convert", "--model", o.model, "--adapter", adapter, "--to", "safetensors",
                          "--codec", "f32", "--out", folder), end="", flush=True)
    expected = os.path.join(work, "expected.safetensors")
    windows = interop.windows_of(o.thimble, o.model, text, CONTEXT)
    theirs = interop.run_worker(python, __file__, "transformers",
                                {"model": folder, "windows": windows, "strings": STRINGS, "file": expected})
    logits = os.path.join(work, "logits.safetensors") if interop.has_logits(o.thimble) else None
    for what, model, used in (("base and adapter", o.model, adapter), ("the export itself", folder, None)):
        nll = interop.evaluate(o.thimble, model, text, CONTEXT, used, logits)
        difference = logits and interop.run_worker(python, __file__, "compare", {"expected": expected, "ours": logits})
        report.same_logits(f"safetensors in transformers against {what} in thimble", nll, theirs["nll"], difference)
    ours = [interop.token_ids(o.thimble, o.model, text) for text in STRINGS]
    report.check("safetensors, tokens by transformers", ours == theirs["ids"], f"{len(STRINGS)} strings")
    report.check("safetensors, chat template", "<|im_start|>user\nHi<|im_end|>" in theirs["chat"], repr(theirs["chat"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    interop.add_arguments(parser)
    parser.add_argument("--torch-venv", help="another environment for transformers; the same without it")
    parser.add_argument("--adapter", help="one of thimble's for this model; without it one is trained")
    parser.add_argument("--steps", type=int, default=24, help="of that training")
    parser.add_argument("--tokens", type=int, default=64, help="of a text")
    o = parser.parse_args()
    llama_python = interop.environment(o.venv, LLAMA)
    torch_python = interop.environment(o.torch_venv or o.venv, TORCH)
    report = interop.Report()
    with tempfile.TemporaryDirectory() as temporary:
        work = o.keep or temporary
        os.makedirs(work, exist_ok=True)
        adapter = o.adapter or interop.finetune(o.thimble, o.model, os.path.join(work, "run"), o.steps)
        apart = greedy(o, o.model, adapter)
        for codec in CODECS:
            check_gguf(report, o, llama_python, work, adapter, codec, apart)
        check_safetensors(report, o, torch_python, work, adapter)
    report.end()


if __name__ == "__main__":
    if not interop.is_worker({"llama": llama_greedy, "transformers": transformers_reference, "compare": compare}):
        main()
