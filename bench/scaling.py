#!/usr/bin/env python3
"""How cost grows with the context and with the model: seconds and peak memory, a picture, and the exponents.

  bench/scaling.py THIMBLE_BINARY MODEL.gguf DATA.txt [--out docs/performance] [--largest 1B]

  context   full fine-tuning of MODEL over the same 8192 tokens a step, cut into windows of 128 .. 8192; decoding of 32
            tokens after a prompt of so many
  size      training from scratch, 1 x 512 tokens a step, models of 1M .. 1B parameters with MODEL's tokenizer

An exponent is the slope of a least-squares line through the logarithms: seconds a token ~ context^e, seconds a step ~
size^e. Memory is taken and touched before the first step, so that one step tells its time.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile

TOKENS = 8192
CONTEXTS = [128, 256, 512, 1024, 2048, 4096, 8192]
SIZES = {"1M": 1e6, "3M": 3e6, "10M": 1e7, "30M": 3e7, "100M": 1e8, "300M": 3e8, "1B": 1e9}
WIDTH, HEIGHT, LEFT, BOTTOM = 420, 300, 60, 40


def run(command):
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def train(binary, what, data, batch, context):
    """(seconds, peak bytes) of a step."""
    with tempfile.TemporaryDirectory(dir=os.path.expanduser("~/.cache/thimble")) as out:
        lines = run([binary, *what, "--data", data, "--batch", str(batch), "--context", str(context), "--steps", "1",
                     "--lr", "1e-5", "--json", "--out", out])
    step = [line for line in lines if line["event"] == "step"][-1]
    return step["seconds"], step["peak_rss_bytes"]


def decode(binary, model, context, folder):
    """(seconds a token, peak bytes) of decoding after a prompt of about `context` tokens."""
    prompt = os.path.join(folder, "prompt.txt")
    with open(prompt, "w", encoding="ascii") as file:
        file.write("The" + " word" * (context - 1))
    said = run([binary, "generate", "--model", model, "--prompt-file", prompt, "--max-tokens", "32", "--temperature",
                "0", "--context", str(context + 40), "--json"])[-1]
    return 1 / said["tokens_per_second"], said.get("peak_rss_bytes", 0)


def exponent(points):
    """Slope and intercept of log y over log x."""
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((a - x) * (b - y) for a, b in zip(xs, ys)) / sum((a - x) ** 2 for a in xs)
    return slope, y - slope * x


def panel(at, title, unit, points, labels):
    """One log-log picture: points, the fitted line, and its exponent."""
    slope, intercept = exponent(points)
    xs, ys = [math.log10(x) for x, _ in points], [math.log10(y) for _, y in points]
    low, high = math.floor(min(ys)), math.ceil(max(ys) + 1e-9)
    place_x = lambda v: LEFT + (v - xs[0]) / (xs[-1] - xs[0]) * (WIDTH - LEFT - 20)
    place_y = lambda v: HEIGHT - BOTTOM - (v - low) / (high - low) * (HEIGHT - BOTTOM - 40)
    out = [f'<g transform="translate({at},0)"><text x="{LEFT}" y="20" font-size="14">{title}: exponent '
           f'{slope:.2f}</text>']
    for power in range(low, high + 1):
        y = place_y(power)
        out.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 20}" stroke="#ddd"/><text x="{LEFT - 6}" y="{y + 4:.1f}" '
                   f'text-anchor="end" fill="#555">{10.0**power:g} {unit}</text>')
    line = [(v, (slope * v * math.log(10) + intercept) / math.log(10)) for v in (xs[0], xs[-1])]
    out.append('<path d="' + "".join(f'{"ML"[i]}{place_x(a):.1f} {place_y(b):.1f}' for i, (a, b) in enumerate(line))
               + '" stroke="#c9571b" stroke-dasharray="4 3" fill="none"/>')
    for x, y, label in zip(xs, ys, labels):
        out.append(f'<circle cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="3.5" fill="#1b6ac9"/>'
                   f'<text x="{place_x(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#555">{label}'
                   '</text>')
    return "".join(out) + "</g>", slope


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=os.path.abspath)
    parser.add_argument("model", type=os.path.abspath)
    parser.add_argument("data", type=os.path.abspath)
    parser.add_argument("--out", default=".", help="folder for scaling.svg")
    parser.add_argument("--largest", default="1B", choices=SIZES)
    args = parser.parse_args()
    sizes = [s for s in SIZES if SIZES[s] <= SIZES[args.largest]]
    training, decoding, growing = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for context in CONTEXTS:
            seconds, peak = train(args.binary, ["finetune", "--model", args.model, "--method", "full"], args.data,
                                  TOKENS // context, context)
            token, _ = decode(args.binary, args.model, context, folder)
            training.append((context, seconds / TOKENS))
            decoding.append((context, token))
            print(f"context {context:5}  {1e3 * seconds / TOKENS:7.2f} ms a trained token  peak {peak * 1e-6:6.0f} MB"
                  f"  {1e3 * token:6.2f} ms a decoded token", flush=True)
    for size in sizes:
        seconds, peak = train(args.binary, ["train", "--size", size, "--tokenizer", args.model], args.data, 1, 512)
        growing.append((SIZES[size], seconds))
        print(f"size {size:>5}  {seconds:8.3f} s a step of 512 tokens  peak {peak * 1e-6:6.0f} MB", flush=True)
    parts = [panel(0, "training, seconds a token over context", "s", training, CONTEXTS),
             panel(WIDTH, "decoding, seconds a token over context", "s", decoding, CONTEXTS),
             panel(2 * WIDTH, "training, seconds a step over size", "s", growing, sizes)]
    for name, (_, slope) in zip(("training over context", "decoding over context", "training over size"), parts):
        print(f"exponent of {name}: {slope:.2f}")
    with open(os.path.join(args.out, "scaling.svg"), "w", encoding="utf-8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {3 * WIDTH} {HEIGHT}" '
                   'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
                   + "".join(part for part, _ in parts) + "</svg>\n")


if __name__ == "__main__":
    sys.exit(main())
