#!/usr/bin/env python3
"""thimble beside PyTorch and llama.cpp: the same workload, alternately, in one run; medians and ratios.

  bench/versus.py THIMBLE_BINARY MODEL.gguf [--quick] [--json] [--huge-pages]
                  [--only full,lora,qlora,scratch,prompt,decode,contention] [--isa LEVEL] [--budget-s N]

MODEL.gguf is SmolLM2-135M in Q4_1. The peers (peers.py runs them) are installed from PyPI into an environment of their
own. Both sides train with AdamW and clipping at 1.0 and infer greedily, on two threads. A whole run tries every
configuration of PyTorch, 40 minutes and more, and remembers the fastest beside the environment; --quick takes the
remembered ones. --huge-pages gives the peers what thimble asks the kernel for by itself. --isa holds all sides to one
instruction set level: thimble by its flag, PyTorch by its libraries' variables, llama.cpp by how it is built, into an
environment of that level. contention, which only --only takes, trains and decodes alone and beside two programs that
keep the two CPUs busy, where half the speed would be fair. --budget-s N ends within about N seconds: what is not measured by then is left out by name.

  step      median time between two steps' lines, by this program's clock; a run is ended after its last timed step
  start     training: start of the process to the first step's end, less a step (compilation is in it);
            inference: start of the process to the first token after a short prompt
  peak      ru_maxrss of the process, Python and its libraries included where there are any
  ceiling   training: FLOPs over the better of oneDNN's f32 and bf16 product of 2048^3, probed before and after the run;
            decoding: bytes of weights a token reads over the speed of reading a buffer as large, likewise
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

PACKAGES = {"torch": "torch", "transformers": "transformers", "peft": "peft", "bitsandbytes": "bitsandbytes",
            "gguf": "gguf", "llama-cpp-python": "llama_cpp"}
PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers.py")
WORKLOADS = ["full", "lora", "qlora", "scratch", "prompt", "decode"]
CONTENTION = "contention"
BUSY = 2  # programs beside a run of contention
RATIOS = ["full", "lora", "qlora", "prompt", "decode"]
CONFIGURATIONS = [[mode, precision] for mode in ("compiled", "eager") for precision in ("f32", "bf16", "mixed")]
BATCH, CONTEXT, PROMPT, SHORT, MADE = 4, 512, 512, 16, 64
# A token of SmolLM2's shape at context 512: 6 N + attention; LoRA of rank 8: 4 N + attention + adapters. N is 134.5 M,
# causal attention is 6 x context x width x layers; recomputation is not counted.
FLOPS = {"full": 0.86e9, "lora": 0.60e9}
LONGEST_SECONDS = 3600

# What holds the peers to a level: variables of PyTorch's libraries, and how llama.cpp is built.
LIMITS = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx_vnni": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2_VNNI",
                 "MKL_ENABLE_INSTRUCTIONS": "AVX2_E1"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
               "MKL_ENABLE_INSTRUCTIONS": "AVX512"},
    "avx512_vnni": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI",
                    "MKL_ENABLE_INSTRUCTIONS": "AVX512_E1"},
    "avx512_bf16": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16",
                    "MKL_ENABLE_INSTRUCTIONS": "AVX512_E1"},
    "amx_bf16": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX",
                 "MKL_ENABLE_INSTRUCTIONS": "AVX512_E4"},
}
GGML = ["AVX", "AVX2", "FMA", "F16C", "BMI2", "AVX_VNNI", "AVX512", "AVX512_VNNI", "AVX512_BF16", "AMX_TILE",
        "AMX_INT8", "AMX_BF16"]


def ggml_flags(level):
    """CMake's arguments for llama.cpp on a level."""
    tiles = level == "amx_bf16"
    wide = {"AVX_VNNI": level == "avx_vnni", "AVX512": tiles or level.startswith("avx512"),
            "AVX512_VNNI": level in ("avx512_vnni", "avx512_bf16", "amx_bf16"),
            "AVX512_BF16": level in ("avx512_bf16", "amx_bf16"), "AMX_TILE": tiles, "AMX_INT8": tiles, "AMX_BF16": tiles}
    flags = [f"-DGGML_{name}={'ON' if wide.get(name, True) else 'OFF'}" for name in GGML]
    return " ".join(["-DGGML_NATIVE=OFF", *flags])

# For PyTorch's own memory and the C library's, where the kernel gives huge pages to those only who ask.
HUGE_PAGES = ["env", "THP_MEM_ALLOC_ENABLE=1", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1",
              "MALLOC_MMAP_THRESHOLD_=8000000000", "MALLOC_TRIM_THRESHOLD_=8000000000", "MALLOC_TOP_PAD_=67108864"]


class Failed(Exception):
    pass


class Run:
    """A finished process: its JSON lines, each with the seconds `at` since the start, and its peak memory."""

    deadline = None  # of all runs, by time.monotonic()

    @classmethod
    def seconds_left(cls):
        return LONGEST_SECONDS if cls.deadline is None else cls.deadline - time.monotonic()

    def __init__(self, command, steps=None):
        self.lines = []
        if Run.seconds_left() <= 0:
            raise Failed("the seconds of --budget-s are over")
        with tempfile.TemporaryFile() as errors:
            begin = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
            watch = threading.Timer(min(LONGEST_SECONDS, Run.seconds_left()), process.kill)
            watch.start()
            for line in process.stdout:
                if line.startswith("{"):
                    self.lines.append(json.loads(line) | {"at": time.perf_counter() - begin})
                if steps and len(self.steps()) == steps:
                    process.kill()
                    break
            _, status, usage = os.wait4(process.pid, 0)  # its maxrss is at least this program's own: some 20 MB
            self.wall = time.perf_counter() - begin
            watch.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            process.stdout.close()
            self.peak = usage.ru_maxrss * 1024
            if process.returncode and not (steps and len(self.steps()) == steps):
                if Run.seconds_left() <= 0:
                    raise Failed("the seconds of --budget-s were over before it was done")
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
                raise Failed(f"exit code {process.returncode}: {said[-1][:300]}")

    def steps(self):
        return [line["at"] for line in self.lines if line.get("event") == "step"]


class Probe:
    """A process that waits beside the runs and measures the machine between them."""

    def __init__(self, python):
        self.process = subprocess.Popen([python, PEERS, "probe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.products = []

    def ask(self, question):
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("the probe ended: does `import torch` work in the environment of the peers?")
        return json.loads(answer)

    def product(self):
        self.products.append(self.ask("gemm"))
        return max(self.products[-1].values())

    def fastest_product(self):
        """Which of f32 and bf16 is faster here, by the medians of this run."""
        return max(("f32", "bf16"), key=lambda name: statistics.median(p[name] for p in self.products))

    def bandwidth(self, size):
        return self.ask(f"read {size}")["bandwidth"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Bench:
    def __init__(self, args, folder, say):
        self.args, self.folder, self.say = args, folder, say
        self.failures, self.results = [], {}
        self.python = environment(args.venv, self.failures, args.isa)
        self.isa = ["--isa", args.isa] if args.isa else []
        self.peer = [*(HUGE_PAGES if args.huge_pages else []), self.python, PEERS]
        self.memory = os.path.join(args.venv, "winners.json")
        self.winners = read_json(self.memory) if os.path.exists(self.memory) else {}
        if args.budget_s:
            Run.deadline = time.monotonic() + args.budget_s
        self.probe = Probe(self.python)
        self.probe.product()
        self.text = self.write("text.txt", " ".join(f"word{i * 7919 % 5003}" for i in range(20000)))
        self.models = {"q4_1": args.model}
        self.timed = args.steps or (3 if args.quick else 5)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="ascii") as file:
            file.write(text)
        return self.path(name)

    def attempt(self, name, work, *arguments):
        """work's result, or None and a named failure."""
        try:
            return work(*arguments)
        except Failed as error:
            self.failures.append(f"{name}: {error}")
            self.say(f"  {name}: left out, {error}")
            return None

    def gguf(self, codec):
        """The model in another codec; the K formats are of a random model whose rows are whole blocks of 256."""
        if codec not in self.models:
            source, out = [self.args.model], self.path(f"{codec}.gguf")
            if codec in ("q4_K", "q6_K"):
                if not os.path.exists(self.path("wide")):
                    Run([self.python, PEERS, "make", "wide", self.path("wide")])
                source = [self.path("wide"), "--tokenizer", self.args.model]
            Run([self.args.binary, "convert", "--model", *source, "--to", "gguf", "--codec", codec, "--out", out])
            self.models[codec] = out
        return self.models[codec]


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def environment(folder, failures, isa):
    """The environment's Python, with every peer that installs."""
    python = os.path.join(folder, "bin", "python")
    if not os.path.exists(python):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    find = "import importlib.util as u, sys; sys.exit(u.find_spec(sys.argv[1]) is None)"
    for package, module in PACKAGES.items():
        if subprocess.run([python, "-c", find, module], check=False).returncode == 0:
            continue
        build, settings = [], dict(os.environ)
        if isa and module == "llama_cpp":  # its wheels are of another level
            build, settings["CMAKE_ARGS"] = ["--no-binary", package, "--no-cache-dir"], ggml_flags(isa)
        done = subprocess.run([python, "-m", "pip", "install", "-q", *build, package], check=False, stdout=sys.stderr,
                              env=settings)
        if done.returncode:
            failures.append(f"{package}: pip does not install it")
    return python


# Training ------------------------------------------------------------------------------------------------------------

def train(bench, command, warm, batch, flops):
    """One process: its first `warm` steps are not timed."""
    before = bench.probe.product()
    run = Run(command, steps=warm + bench.timed)
    ceiling = (before + bench.probe.product()) / 2
    at = run.steps()
    step = statistics.median(b - a for a, b in zip(at[warm - 1:], at[warm:]))
    rate = batch * CONTEXT / step
    return {"tokens_per_second": rate, "step_seconds": step, "start_seconds": max(0.0, at[0] - step),
            "peak_bytes": run.peak, "ceiling_percent": 100 * rate * flops / ceiling}


def median_of(runs):
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def show(bench, name, m):
    bench.say(f"  {name:40} {m['tokens_per_second']:7.1f} tok/s {m['ceiling_percent']:5.1f} % of the ceiling"
              f"  peak {m['peak_bytes'] * 1e-6:6.0f} MB  start {m['start_seconds']:6.2f} s")
    return m


def thimble_train(bench, method, batch, model=None, memory=None):
    steps = str(1 + bench.timed)
    what = (["train", "--size", "135M", "--tokenizer", bench.args.model] if method == "scratch" else
            ["finetune", "--model", model or bench.args.model, "--method", method])
    with tempfile.TemporaryDirectory(dir=bench.folder) as out:
        return train(bench, [bench.args.binary, *what, "--data", bench.text, "--batch", str(batch), "--context",
                             str(CONTEXT), "--steps", steps, "--lr", "1e-5", "--clip", "1", "--threads", "2", "--json",
                             "--out", out, *bench.isa, *(["--memory", memory] if memory else [])],
                     1, batch, FLOPS["lora" if method == "lora" else "full"])


def torch_train(bench, method, configuration, batch):
    base = bench.path("base")
    if method == "qlora" and not os.path.exists(base):
        Run([bench.python, PEERS, "make", "smollm2", base])
    warm = 2 if configuration[0] == "compiled" else 1
    return train(bench, [*bench.peer, "train", method, *configuration, str(batch), str(CONTEXT),
                         str(warm + bench.timed), base], warm, batch, FLOPS["full" if method == "full" else "lora"])


def candidates(bench, method):
    """Configurations in the order in which to try them; --quick stops at the first that runs."""
    if not bench.args.quick:
        return CONFIGURATIONS
    guess = ["eager" if method == "qlora" else "compiled", bench.probe.fastest_product()]
    if method == "lora" and guess[1] == "bf16":
        guess[1] = "mixed"
    first = bench.winners.get(method, guess)
    return [first] + [c for c in CONFIGURATIONS if c != first]


def compare_training(bench, workload, method, batch, ours):
    """thimble and every candidate of PyTorch alternately; ours() is one run of thimble."""
    bench.say(f"{workload}: batch {batch} x {CONTEXT}")
    mine, peers = [], {}
    for configuration in candidates(bench, method):
        one = bench.attempt(f"thimble {workload}", ours) if len(mine) < 4 else None
        if one:
            mine.append(show(bench, "thimble", one))
        name = f"PyTorch {method} {' '.join(configuration)}"
        peer = bench.attempt(name, torch_train, bench, method, configuration, batch)
        if peer:
            peers[tuple(configuration)] = show(bench, name, peer)
            if bench.args.quick:
                break
    result = {"thimble": median_of(mine) if mine else None, "peers": {" ".join(c): m for c, m in peers.items()}}
    if peers:
        best = max(peers, key=lambda c: peers[c]["tokens_per_second"])
        if not bench.args.quick:
            bench.winners[method] = list(best)
        result |= {"peer": " ".join(best), "peer_tokens_per_second": peers[best]["tokens_per_second"]}
        if mine:
            result["ratio"] = result["thimble"]["tokens_per_second"] / result["peer_tokens_per_second"]
    bench.results[workload] = result
    return result


def variant(bench, result, name, *arguments, **options):
    """Another way for thimble to do the workload, measured once."""
    one = bench.attempt(f"thimble {name}", lambda: thimble_train(bench, *arguments, **options))
    if one:
        result.setdefault("variants", {})[name] = show(bench, f"thimble {name}", one)


def full(bench):
    result = compare_training(bench, "full", "full", BATCH, lambda: thimble_train(bench, "full", BATCH))
    for memory in ("600M", "800M"):
        variant(bench, result, f"full {memory}", "full", BATCH, memory=memory)


def lora(bench):
    """Both sides begin with bf16 weights; at 300M thimble takes the Q4_1 file."""
    model = bench.gguf("bf16")
    result = compare_training(bench, "lora", "lora", BATCH, lambda: thimble_train(bench, "lora", BATCH, model=model))
    variant(bench, result, "lora Q4_1 300M", "lora", BATCH, memory="300M")


def qlora(bench):
    result = compare_training(bench, "qlora", "qlora", 1, lambda: thimble_train(bench, "lora", 1))
    variant(bench, result, "lora bf16, batch 1", "lora", 1, model=bench.gguf("bf16"))
    variant(bench, result, "qlora 230M", "lora", 1, memory="230M")


def scratch(bench):
    """PyTorch's program is that of full: its weights are random there too."""
    known = bench.results.get("full", {})
    if "peer" not in known:
        compare_training(bench, "scratch", "full", BATCH, lambda: thimble_train(bench, "scratch", BATCH))
        return
    bench.say(f"scratch: batch {BATCH} x {CONTEXT}; PyTorch as in full")
    one = bench.attempt("thimble scratch", thimble_train, bench, "scratch", BATCH)
    result = bench.results["scratch"] = {"thimble": one} | {k: known[k] for k in ("peer", "peer_tokens_per_second")}
    if one:
        show(bench, "thimble", one)
        result["ratio"] = one["tokens_per_second"] / known["peer_tokens_per_second"]


# Inference -----------------------------------------------------------------------------------------------------------

def thimble_generate(bench, model, multiply, prompt, made):
    run = Run([bench.args.binary, "generate", "--model", model, "--prompt-file", prompt, "--max-tokens", str(made),
               "--temperature", "0", "--threads", "2", "--json", "--multiply", multiply, *bench.isa])
    return run, run.lines[-1]


def thimble_infer(bench, model, multiply):
    """The short prompt with the tokens after it, then the long prompt."""
    run, said = thimble_generate(bench, model, multiply, bench.path("short.txt"), MADE + 1)
    made = len(said["ids"])  # the first one comes out of the prompt: made - 1 steps are timed
    if made < 2:
        raise Failed("the reply ended at once")
    long_run, long_said = thimble_generate(bench, model, multiply, bench.path("prompt.txt"), 1)
    return {"decode": said["tokens_per_second"], "prompt": long_said["prompt_tokens_per_second"],
            "start_seconds": run.wall - (made - 1) / said["tokens_per_second"], "peak_bytes": max(run.peak, long_run.peak)}


def llama_infer(bench, model):
    run = Run([*bench.peer, "infer", model, bench.path("prompt.json"), bench.path("short.json"), str(MADE)])
    return {"decode": run.lines[-1]["decode"], "prompt": run.lines[-1]["prompt"],
            "start_seconds": run.lines[0]["at"], "peak_bytes": run.peak}


def write_prompts(bench):
    """The same tokens for both: thimble says what a text's ids are."""
    for name, size in (("prompt", PROMPT), ("short", SHORT)):
        text = bench.write(f"{name}.txt", "The" + " word" * (size - 1))
        _, said = thimble_generate(bench, bench.args.model, "auto", text, 1)
        bench.write(f"{name}.json", json.dumps(said["prompt_ids"]))


def infer_codec(bench, codec):
    """Every contender on one file, in turn, a few times round; medians."""
    model = bench.gguf(codec)
    size = bench.probe.ask(f"weights {model}")["bytes"]
    ways = ("auto",) if codec == "bf16" else ("auto", "int8")  # int8 activations are for quantised weights
    contenders = {f"thimble {m}": (thimble_infer, bench, model, m) for m in ways}
    contenders["llama.cpp"] = (llama_infer, bench, model)
    runs, bandwidths = {}, [bench.probe.bandwidth(size)]
    for _ in range(bench.timed):
        for name, work in list(contenders.items()):
            one = bench.attempt(f"{name} {codec}", *work)
            bandwidths.append(bench.probe.bandwidth(size))
            if one:
                runs.setdefault(name, []).append(one)
                bench.say(f"    {codec} {name}: prompt {one['prompt']:.1f}, decode {one['decode']:.1f} tok/s")
            else:
                del contenders[name]
    bandwidth = statistics.median(bandwidths)
    result = {"weight_bytes": size, "bandwidth": bandwidth}
    for name in runs:
        m = result[name] = median_of(runs[name])
        m["ceiling_percent"] = 100 * m["decode"] * size / bandwidth
        bench.say(f"  {codec:5} {name:14} prompt {m['prompt']:7.1f} tok/s  decode {m['decode']:6.1f} tok/s"
                  f" {m['ceiling_percent']:5.1f} % of {bandwidth * 1e-9:.1f} GB/s"
                  f"  peak {m['peak_bytes'] * 1e-6:5.0f} MB  start {m['start_seconds']:5.2f} s")
    return result


def best_thimble(result, what):
    """(value, name) of thimble's better way of multiplying. New tokens go the same way in both: then the default's."""
    ways = [name for name in result if name == "thimble auto" or (name.startswith("thimble") and what == "prompt")]
    return max(((result[name][what], name) for name in ways), default=(0.0, "none"))


def inference(bench, wanted):
    """Decoding's ratio is on the file as shipped, the prompt's on that against llama.cpp's best format."""
    write_prompts(bench)
    bench.say(f"prompt of {PROMPT} tokens, {MADE} tokens after a prompt of {SHORT}; batch 1")
    codecs = ["q4_1", "q4_0", "q8_0", "bf16"] + ([] if bench.args.quick else ["q4_K", "q6_K"])
    formats = {c: r for c in codecs if (r := bench.attempt(f"inference {c}", infer_codec, bench, c))}
    bench.results["inference"] = formats
    peers = {c: r["llama.cpp"] for c, r in formats.items() if "llama.cpp" in r and c not in ("q4_K", "q6_K")}
    for what in wanted:
        value, name = best_thimble(formats.get("q4_1", {}), what)
        codec = "q4_1" if what == "decode" else max(peers, key=lambda c: peers[c]["prompt"], default="q4_1")
        bench.results[what] = {"thimble": value, "with": f"{name} on q4_1", "peer": f"llama.cpp {codec}"}
        if codec in peers and value:
            bench.results[what] |= {"peer_tokens_per_second": peers[codec][what], "ratio": value / peers[codec][what]}


# Contention ----------------------------------------------------------------------------------------------------------

class Busy:
    """Programs that compute all the time."""

    def __enter__(self):
        self.programs = [subprocess.Popen(["yes"], stdout=subprocess.DEVNULL) for _ in range(BUSY)]

    def __exit__(self, *_):
        for program in self.programs:
            program.kill()
            program.wait()


def contention(bench):
    """Tokens a second of each side, alone and beside busy programs in turn; medians, and their ratio over a half."""
    write_prompts(bench)
    bench.say(f"training of {BATCH} x {CONTEXT} and decoding of q4_1, alone and beside {BUSY} busy programs")
    peer = candidates(bench, "full")[0]
    model = bench.models["q4_1"]
    rate = "tokens_per_second"
    sides = [("thimble decode", bench.timed, lambda: thimble_infer(bench, model, "auto")["decode"]),
             ("llama.cpp decode", bench.timed, lambda: llama_infer(bench, model)["decode"]),
             ("thimble full", 1, lambda: thimble_train(bench, "full", BATCH)[rate]),
             (f"PyTorch full {' '.join(peer)}", 1, lambda: torch_train(bench, "full", peer, BATCH)[rate])]
    bench.results[CONTENTION] = {}
    for name, rounds, work in sides:
        alone, beside = [], []
        for _ in range(rounds):
            if (one := bench.attempt(name, work)) is None:
                break
            with Busy():
                other = bench.attempt(f"{name} beside {BUSY}", work)
            if other is None:
                break
            alone.append(one)
            beside.append(other)
        if not beside:
            continue
        rates = statistics.median(alone), statistics.median(beside)
        share = rates[1] / rates[0] / 0.5
        bench.results[CONTENTION][name] = {"alone": rates[0], "beside": rates[1], "share": share}
        bench.say(f"  {name:30} {rates[0]:7.1f} tok/s alone, {rates[1]:7.1f} beside: {share:5.2f} of the fair share")


def contention_checks(bench):
    for name, one in bench.results.get(CONTENTION, {}).items():
        if name.startswith("thimble"):
            yield f"{name} beside {BUSY}: of the fair share", one["share"], 0.7


# The outcome ---------------------------------------------------------------------------------------------------------

def training_checks(bench):
    """(claim, value, bound) of what the results allow; every value is to be at least its bound."""
    r = bench.results
    share = 70 if bench.probe.fastest_product() == "f32" else 65
    for what, bound in (("full", 1.25), ("lora", 1.6)):
        if (r.get(what) or {}).get("thimble"):
            reached = r[what]["thimble"]["ceiling_percent"]
            yield f"{what}: % of the ceiling", reached, share
            if "ratio" in r[what]:  # or 75 % of the ceiling, where that is less
                yield f"{what} / fastest PyTorch", r[what]["ratio"], min(bound, 75 / reached * r[what]["ratio"])

    def over(what, name, rate):
        one = r.get(what, {}).get("variants", {}).get(name)
        return one["tokens_per_second"] / rate if one and rate else None

    q, f = r.get("qlora", {}), r.get("full", {}).get("peer_tokens_per_second")
    own = (q.get("thimble") or {}).get("tokens_per_second")
    versus_lora = over("qlora", "lora bf16, batch 1", own)
    yield "qlora / lora, 1 x 512", versus_lora and 1 / versus_lora, 0.9
    yield "qlora / bitsandbytes", q.get("ratio"), 2.5
    yield "qlora at 230M / bitsandbytes", over("qlora", "qlora 230M", q.get("peer_tokens_per_second")), 1.7
    yield ("lora at 300M / fastest PyTorch",
           over("lora", "lora Q4_1 300M", r.get("lora", {}).get("peer_tokens_per_second")), 1.0)
    yield "full at 600M / fastest PyTorch", over("full", "full 600M", f), 1 / 1.15
    yield "full at 800M / fastest PyTorch", over("full", "full 800M", f), 1.0


def inference_checks(bench):
    for codec, result in bench.results.get("inference", {}).items():
        value, name = best_thimble(result, "decode")
        if value:
            yield f"decode {codec}: % of bandwidth, {name}", result[name]["ceiling_percent"], 85
        if value and "llama.cpp" in result:
            yield f"decode {codec} / llama.cpp", value / result["llama.cpp"]["decode"], 1.0 if codec == "bf16" else 1.25
    yield "prompt / llama.cpp's best format", bench.results.get("prompt", {}).get("ratio"), 1.25
    for codec, result in bench.results.get("inference", {}).items():
        if "thimble auto" in result:
            yield f"0.3 s / start to first token, {codec}", 0.3 / result["thimble auto"]["start_seconds"], 1.0


def report(bench):
    checks = [c for part in (training_checks, inference_checks, contention_checks) for c in part(bench) if c[1] is not None]
    ratios = {n: round(bench.results[n]["ratio"], 3) for n in RATIOS if "ratio" in bench.results.get(n, {})}
    products = {n: statistics.median(p[n] for p in bench.probe.products) for n in ("f32", "bf16")}
    bench.say(f"product of 2048^3, median of {len(bench.probe.products)}: "
              + ", ".join(f"{n} {v * 1e-9:.0f} GFLOP/s" for n, v in products.items()))
    for claim, value, bound in checks:
        bench.say(f"{'yes' if value >= bound else ' no'}  {claim:45} {value:7.2f}  (>= {bound:.2f})")
    for name, ratio in ratios.items():
        r = bench.results[name]
        way = f" ({r['with']})" if "with" in r else ""
        bench.say(f"{name}: {ratio:.2f} times the peer's fastest, {r['peer']}{way}")
    for failure in bench.failures:
        bench.say(f"left out: {failure}")
    if bench.args.json:
        print(json.dumps({"ratios": ratios, "checks": [{"claim": c, "value": v, "at_least": b, "reached": v >= b}
                                                       for c, v, b in checks],
                          "results": bench.results, "products_flops": products, "failures": bench.failures}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=os.path.abspath)
    parser.add_argument("model", type=os.path.abspath)
    parser.add_argument("--quick", action="store_true", help="remembered configurations, three steps each: ten minutes")
    parser.add_argument("--json", action="store_true", help="one JSON object; the report goes to stderr")
    parser.add_argument("--only", default=",".join(WORKLOADS), help=f"some of {','.join(WORKLOADS)},{CONTENTION}")
    parser.add_argument("--huge-pages", action="store_true", help="for the peers too")
    parser.add_argument("--steps", type=int, help="timed steps of a run: 5, or 3 with --quick")
    parser.add_argument("--venv", default=os.path.expanduser("~/.cache/thimble/versus"), type=os.path.abspath)
    parser.add_argument("--isa", choices=sorted(LIMITS), help="the instruction set level of all sides")
    parser.add_argument("--budget-s", type=float, help="seconds for everything but the installation of the peers")
    args = parser.parse_args()
    if args.isa:
        args.venv += f"-{args.isa}"
        os.environ.update(LIMITS[args.isa])
    only = args.only.split(",")
    if unknown := set(only) - set(WORKLOADS) - {CONTENTION}:
        parser.error(f"--only: {', '.join(sorted(unknown))} is none of {', '.join(WORKLOADS)}, {CONTENTION}")
    say = lambda text: print(text, file=sys.stderr if args.json else sys.stdout, flush=True)
    os.makedirs(os.path.dirname(args.venv), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(args.venv)) as folder:  # on a disk: /tmp may be memory
        bench = Bench(args, folder, say)
        for name, work in (("full", full), ("lora", lora), ("qlora", qlora), ("scratch", scratch)):
            if name in only:
                bench.attempt(name, work, bench)
        if wanted := [w for w in ("prompt", "decode") if w in only]:
            bench.attempt("inference", inference, bench, wanted)
        if CONTENTION in only:
            bench.attempt(CONTENTION, contention, bench)
        report(bench)
        bench.probe.close()
    if not args.quick:
        with open(bench.memory, "w", encoding="utf-8") as file:
            json.dump(bench.winners, file)


if __name__ == "__main__":
    main()
