#!/usr/bin/env python3
"""The peers' side of versus.py, run by the Python of the environment where they are installed.

  peers.py make SHAPE FOLDER                        a Llama model of random weights, as a Hugging Face folder
  peers.py train METHOD MODE PRECISION BATCH CONTEXT STEPS [BASE]   PyTorch: one line of JSON after every step
  peers.py infer MODEL.gguf PROMPT_IDS.json SHORT_IDS.json MAKE     llama.cpp: one line of JSON after every part
  peers.py probe                                    what the machine can do, asked for line by line on stdin

versus.py holds a clock to the lines, so that both sides are timed alike. Everything is on two threads.
"""
import json
import mmap
import os
import statistics
import sys
import time

THREADS = 2
SHAPES = {
    # SmolLM2-135M, as its config.json has it; thimble's --size 135M is the same.
    "smollm2": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                    num_key_value_heads=3, rope_theta=100000.0),
    # Rows of whole blocks of 256, which q4_K and q6_K need.
    "wide": dict(hidden_size=768, intermediate_size=2048, num_hidden_layers=18, num_attention_heads=12,
                 num_key_value_heads=4, rope_theta=10000.0),
}


def say(**event):
    print(json.dumps(event), flush=True)


def random_llama(shape):
    from transformers import LlamaConfig, LlamaForCausalLM
    return LlamaForCausalLM(LlamaConfig(vocab_size=49152, max_position_embeddings=8192, tie_word_embeddings=True,
                                        bos_token_id=1, eos_token_id=2, **SHAPES[shape]))


def make(shape, folder):
    import torch
    torch.manual_seed(0)
    random_llama(shape).to(torch.bfloat16).save_pretrained(folder)
    say(event="done")


def quantised_llama(base, dtype):
    """QLoRA's recipe: nf4 weights with double quantisation, computing in dtype, gradient checkpointing."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, device_map="cpu", quantization_config=config)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    return model


def train(method, mode, precision, batch, context, steps, base=None):
    """method: full, lora, qlora; mode: eager, compiled; precision: f32, bf16 (weights too), mixed (f32 masters)."""
    import torch
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = quantised_llama(base, dtype) if method == "qlora" else random_llama("smollm2").to(dtype)
    model.config.use_cache = False
    if method != "full":
        from peft import LoraConfig, get_peft_model
        config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, config)
    model.train()
    if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":  # versus.py --isa: compiled loops are held to it too
        import torch._inductor.config as inductor
        inductor.cpp.simdlen = 256
    run = torch.compile(model) if mode == "compiled" else model
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)  # one pass over memory: the fastest of PyTorch's three
    ids = torch.randint(0, 49152, (int(batch), int(context)))
    for _ in range(int(steps)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "mixed"):
            loss = run(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        say(event="step", loss=loss.item())


def infer(path, prompt_file, short_file, made):
    """The short prompt and `made` tokens after it, then the long prompt, through llama.cpp's own C interface."""
    import llama_cpp as c
    prompt, short = (json.load(open(name, encoding="utf-8")) for name in (prompt_file, short_file))
    quiet = c.llama_log_callback(lambda level, text, data: None)
    c.llama_log_set(quiet, None)
    c.llama_backend_init()
    model = c.llama_model_load_from_file(path.encode(), c.llama_model_default_params())
    if not model:
        sys.exit(f"llama.cpp does not read {path}")
    params = c.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = 1024, 512, 512
    params.n_threads = params.n_threads_batch = THREADS
    context = c.llama_init_from_model(model, params)
    greedy = c.llama_sampler_init_greedy()

    def go_on(ids):
        tokens = (c.llama_token * len(ids))(*ids)
        if c.llama_decode(context, c.llama_batch_get_one(tokens, len(ids))):
            sys.exit(f"llama.cpp: decoding of {len(ids)} tokens failed")
        return c.llama_sampler_sample(greedy, context, -1)

    token = go_on(short)
    say(event="first_token")
    begin = time.perf_counter()
    for _ in range(int(made)):
        token = go_on([token])
    decode = int(made) / (time.perf_counter() - begin)
    rates = []
    for _ in range(2):  # the first one finds its buffers cold
        c.llama_memory_clear(c.llama_get_memory(context), True)
        begin = time.perf_counter()
        go_on(prompt)
        rates.append(len(prompt) / (time.perf_counter() - begin))
    say(event="done", decode=decode, prompt=rates[-1])


def seconds_of(work, repeats):
    work()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def weight_bytes(path):
    """Bytes of weights that one token reads: all but the embedding, which is read whole where it is the head too."""
    from gguf import GGUFReader
    sizes = {t.name: int(t.n_bytes) for t in GGUFReader(path).tensors}
    return sum(sizes.values()) - (sizes.get("token_embd.weight", 0) if "output.weight" in sizes else 0)


def probe():
    """stdin: `gemm`, `read BYTES` or `weights FILE`; one line of JSON answers each."""
    import torch
    torch.set_num_threads(THREADS)
    # 2048^3, or 512^3 where that takes more than 20 ms (bf16 without the instructions for it): it takes 64 times as long.
    operands = {}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        small = torch.randn(512, 512).to(dtype)
        slow = seconds_of(lambda: small @ small, 1) > 0.02
        operands[name] = small if slow else torch.randn(2048, 2048).to(dtype)
    for line in sys.stdin:
        what, _, rest = line.strip().partition(" ")
        if what == "gemm":
            say(**{name: 2 * len(a)**3 / seconds_of(lambda: a @ a, 5) for name, a in operands.items()})
        elif what == "read":
            # In pages of 4 KB and in huge ones, which are faster in some hours only.
            memory = mmap.mmap(-1, int(rest))
            memory.madvise(mmap.MADV_HUGEPAGE)
            huge = torch.frombuffer(memory, dtype=torch.float32, count=int(rest) // 4).fill_(1)
            seconds = min(seconds_of(work, 15) for x in (torch.ones(int(rest) // 4), huge)
                          for work in (x.sum, lambda x=x: torch.dot(x, x)))
            say(bandwidth=huge.numel() * 4 / seconds)
        elif what == "weights":
            say(bytes=weight_bytes(rest))


if __name__ == "__main__":
    {"make": make, "train": train, "infer": infer, "probe": probe}[sys.argv[1]](*sys.argv[2:])
