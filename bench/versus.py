#!/usr/bin/env python3
"""thimble beside PyTorch and llama.cpp on the same workload, alternately, in one run: medians and ratios.

usage: bench/versus.py THIMBLE_BINARY MODEL.gguf [--quick] [--json] [--venv DIR] [--only full,lora,prompt,decode]
The peers (torch, transformers, peft, gguf, llama-cpp-python) are installed from PyPI into an environment of their own.
Training: the model's shape with random weights is enough for speed; batch 4 x 512, AdamW, clipping at 1.0, two threads.
A whole run tries every configuration of PyTorch (eager and compiled, f32 and bf16) and remembers the fastest; --quick uses
the remembered one and takes three steps each. A GEMM probe is taken between the runs: GFLOP/s of PyTorch's 2048^3 product.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

PACKAGES = ["torch", "transformers", "peft", "gguf", "llama-cpp-python"]
BATCH, CONTEXT = 4, 512
TOKENS = BATCH * CONTEXT

TORCH = r"""
import json, sys, time, torch
from transformers import LlamaConfig, LlamaForCausalLM
what, compiled, precision, steps = sys.argv[1], sys.argv[2] == "compiled", sys.argv[3], int(sys.argv[4])
torch.set_num_threads(2)
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
    num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True, rope_theta=100000.0, max_position_embeddings=8192))
model.config.use_cache = False
if precision == "bf16": model = model.to(torch.bfloat16)
if what == "lora":
    from peft import LoraConfig, get_peft_model
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
model.train()
run = torch.compile(model) if compiled else model
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-4)
x = torch.randint(0, 49152, (4, 512))
seconds = []
for step in range(steps + 2):
    begin = time.perf_counter()
    loss = run(input_ids=x, labels=x).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step(); optimizer.zero_grad()
    if step >= 2: seconds.append(time.perf_counter() - begin)
a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
probe = []
for _ in range(5):
    begin = time.perf_counter(); a @ b; probe.append(2 * 2048**3 / (time.perf_counter() - begin) * 1e-9)
print(json.dumps({"seconds": sorted(seconds)[len(seconds) // 2], "gflops": sorted(probe)[2]}))
"""

LLAMA = r"""
import json, sys, time
from llama_cpp import Llama
llama = Llama(sys.argv[1], n_ctx=1024, n_threads=2, n_threads_batch=2, n_batch=512, verbose=False)
ids = [(i * 7919) % 40000 + 100 for i in range(512)]
prompt, decode = [], []
for _ in range(int(sys.argv[2]) + 1):
    llama.reset(); begin = time.perf_counter(); llama.eval(ids); prompt.append(512 / (time.perf_counter() - begin))
    begin = time.perf_counter()
    for i in range(64): llama.eval([ids[i]])
    decode.append(64 / (time.perf_counter() - begin))
print(json.dumps({"prompt": sorted(prompt[1:])[len(prompt[1:]) // 2], "decode": sorted(decode[1:])[len(decode[1:]) // 2]}))
"""


def environment(folder):
    python = os.path.join(folder, "bin", "python")
    if not os.path.exists(python):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    return python


def last_json(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def thimble_step(args, folder, what, steps):
    """(median seconds of a step, peak bytes)"""
    data = os.path.join(folder, "text.txt")
    with open(data, "w", encoding="ascii") as file:
        file.write(" ".join(f"word{i * 7919 % 5003}" for i in range(9000)))
    events = last_json([args.binary, "finetune", "--model", args.model, "--data", data, "--method", what, "--batch", str(BATCH), "--context", str(CONTEXT),
                        "--steps", str(steps + 1), "--threads", "2", "--out", os.path.join(folder, "out"), "--json", "--lr", "1e-5"])
    seconds = [e["seconds"] for e in events if e["event"] == "step"][1:]
    return statistics.median(seconds), events[-1]["peak_rss_bytes"]


def training(args, python, folder, what, winners, say):
    configurations = [winners[what]] if args.quick and what in winners else [[c, p] for c in ("eager", "compiled") for p in ("f32", "bf16")]
    steps = 3 if args.quick else 5
    best, ours, gflops = None, [], []
    for compiled, precision in configurations:
        peer = last_json([python, "-c", TORCH, what, compiled, precision, str(steps)])[-1]
        gflops.append(peer["gflops"])
        seconds, peak = thimble_step(args, folder, what, steps)
        ours.append(seconds)
        say(f"{what}: PyTorch {compiled} {precision} {TOKENS / peer['seconds']:.0f} tok/s, thimble {TOKENS / seconds:.0f} tok/s in {peak * 1e-6:.0f} MB, probe {peer['gflops']:.0f} GFLOP/s")
        if best is None or peer["seconds"] < best[0]:
            best = (peer["seconds"], [compiled, precision])
    winners[what] = best[1]
    return {"thimble_tokens_per_second": TOKENS / statistics.median(ours), "peer_tokens_per_second": TOKENS / best[0], "peer": " ".join(best[1]),
            "probe_gflops": statistics.median(gflops), "ratio": best[0] / statistics.median(ours)}


def inference(args, python, folder, say):
    repeats = 3 if args.quick else 5
    peer = last_json([python, "-c", LLAMA, args.model, str(repeats)])[-1]
    prompt_file = os.path.join(folder, "prompt.txt")
    with open(prompt_file, "w", encoding="ascii") as file:
        file.write(" word" * 510)
    ours = [last_json([args.binary, "generate", "--model", args.model, "--prompt-file", prompt_file, "--max-tokens", "64", "--context", "640",
                       "--temperature", "0", "--threads", "2", "--json"])[-1] for _ in range(repeats)]
    prompt = statistics.median(e["prompt_tokens_per_second"] for e in ours)
    decode = statistics.median(e["tokens_per_second"] for e in ours)
    say(f"prompt: llama.cpp {peer['prompt']:.0f}, thimble {prompt:.0f} tok/s; decode: llama.cpp {peer['decode']:.0f}, thimble {decode:.0f} tok/s")
    return {"prompt": {"thimble": prompt, "peer": peer["prompt"], "ratio": prompt / peer["prompt"]},
            "decode": {"thimble": decode, "peer": peer["decode"], "ratio": decode / peer["decode"]}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--venv", default=os.path.expanduser("~/.cache/thimble/versus"))
    parser.add_argument("--only", default="full,lora,prompt,decode")
    args = parser.parse_args()
    say = lambda text: print(text, file=sys.stderr if args.json else sys.stdout, flush=True)
    python = environment(args.venv)
    memory = os.path.join(args.venv, "winners.json")
    winners = json.load(open(memory, encoding="utf-8")) if os.path.exists(memory) else {}
    only, results = args.only.split(","), {}
    with tempfile.TemporaryDirectory() as folder:
        for what in ("full", "lora"):
            if what in only:
                results[what] = training(args, python, folder, what, winners, say)
        if "prompt" in only or "decode" in only:
            results |= inference(args, python, folder, say)
    with open(memory, "w", encoding="utf-8") as file:
        json.dump(winners, file)
    print(json.dumps({"ratios": {k: round(v["ratio"], 3) for k, v in results.items()}, "results": results}) if args.json
          else "\n".join(f"{k}: {v['ratio']:.2f} times the fastest peer" for k, v in results.items()))


if __name__ == "__main__":
    main()
