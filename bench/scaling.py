#!/usr/bin/env python3
"""How cost grows with the context and with the model, and falls with threads: seconds and peak memory, pictures, and
what they come to.

  bench/scaling.py THIMBLE_BINARY MODEL.gguf DATA.txt [--out docs/performance] [--largest 1B]
  bench/scaling.py THIMBLE_BINARY MODEL.gguf DATA.txt --threads 1,2,4,8,16 [--seconds 8] [--out docs/performance]

  context   full fine-tuning of MODEL over the same 8192 tokens a step, cut into windows of 128 .. 8192; decoding of 32
            tokens after a prompt of so many
  size      training from scratch, 1 x 512 tokens a step, models of 1M .. 1B parameters with MODEL's tokenizer

An exponent is the slope of a least-squares line through the logarithms: seconds a token ~ context^e, seconds a step ~
size^e. Memory is taken and touched before the first step, so that one step tells its time.

  --threads  full and LoRA fine-tuning (4 x 512), a prompt of 512 tokens and decoding of 64 after it, for each number of
             threads: speed against one thread, and the serial part s of Amdahl's law, t(n) = t(1) (s + (1 - s) / n), by
             least squares over 1 / t. With the most threads a run is traced: how long threads wait, where, and how much
             one of them does alone
"""
import argparse
import json
import math
import os
import signal
import statistics
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


def train_with(threads, binary, model, data, method, seconds, trace=None):
    """Tokens a second of fine-tuning, by the median of steps after the first; about `seconds` of them."""
    with tempfile.TemporaryDirectory(dir=os.path.expanduser("~/.cache/thimble")) as out:
        command = [binary, "finetune", "--model", model, "--data", data, "--method", method, "--batch", "4", "--context",
                   "512", "--lr", "1e-5", "--steps", "1000", "--threads", str(threads), "--json", "--out", out]
        process = subprocess.Popen(command + (["--trace", trace] if trace else []), stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        times = []
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] != "step":
                continue
            times.append(event["seconds"])
            if len(times) >= 2 and sum(times[1:]) >= seconds:
                process.send_signal(signal.SIGINT)
                break
        process.communicate()
    return 4 * 512 / statistics.median(times[1:])


def generate_with(threads, binary, model, trace=None):
    """Tokens a second of a prompt of 512 and of decoding 64 after it: medians of two runs."""
    with tempfile.TemporaryDirectory() as folder:
        prompt = os.path.join(folder, "prompt.txt")
        with open(prompt, "w", encoding="ascii") as file:
            file.write("The" + " word" * 511)
        command = [binary, "generate", "--model", model, "--prompt-file", prompt, "--max-tokens", "64", "--temperature",
                   "0", "--context", "640", "--threads", str(threads), "--json"]
        said = [run(command)[-1] for _ in range(2)]
        if trace:
            run(command + ["--trace", trace])
    middle = lambda key: statistics.median(s[key] for s in said)
    return middle("prompt_tokens_per_second"), middle("tokens_per_second")


def serial_part(speeds):
    """s of Amdahl's law that fits speeds {threads: tokens a second} best, and its efficiency at the most threads."""
    base = speeds[min(speeds)] / min(speeds)
    best = min((i / 10000 for i in range(10001)),
               key=lambda s: sum((speed / base - 1 / (s + (1 - s) / n)) ** 2 for n, speed in speeds.items()))
    most = max(speeds)
    return best, speeds[most] / (base * most)


def threads_panel(at, title, speeds, serial):
    """Speed over threads: points, the line of no loss, and Amdahl's curve."""
    most, base = max(speeds), speeds[min(speeds)] / min(speeds)
    x = lambda n: LEFT + n / most * (WIDTH - LEFT - 20)
    y = lambda v: HEIGHT - BOTTOM - v / most * (HEIGHT - BOTTOM - 40)
    curve = [(n, 1 / (serial + (1 - serial) / n)) for n in range(1, most + 1)]
    out = [f'<g transform="translate({at},0)"><text x="{LEFT}" y="20" font-size="14">{title}: serial '
           f'{100 * serial:.1f} %</text>',
           f'<path d="M{x(0):.1f} {y(0):.1f}L{x(most):.1f} {y(most):.1f}" stroke="#ddd"/>',
           '<path d="' + "".join(f'{"M" if i == 0 else "L"}{x(n):.1f} {y(v):.1f}' for i, (n, v) in enumerate(curve))
           + '" stroke="#c9571b" stroke-dasharray="4 3" fill="none"/>']
    for n, speed in speeds.items():
        out.append(f'<circle cx="{x(n):.1f}" cy="{y(speed / base):.1f}" r="3.5" fill="#1b6ac9"/><text x="{x(n):.1f}" '
                   f'y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#555">{n}</text><text x="{x(n) - 6:.1f}" '
                   f'y="{y(speed / base) - 6:.1f}" text-anchor="end" fill="#555">{speed / base:.1f}</text>')
    return "".join(out) + "</g>"


def say_trace(title, path):
    with open(path, encoding="utf-8") as file:
        data = json.load(file)["otherData"]
    print(f"{title}, traced on {data['threads']} threads, {data['seconds']:.2f} s: they wait {100 * data['waiting']:.1f} % "
          f"of their time, one works alone {100 * data['alone']:.1f} %")
    for o in data["operations"][:12]:
        print(f"  {o['name']:28} {o['calls']:6} calls  {o['seconds']:8.3f} s  waiting {100 * o['waiting']:5.1f} %  alone "
              f"{100 * o['alone']:5.1f} %", flush=True)


def by_threads(args):
    counts = sorted(int(n) for n in args.threads.split(","))
    speeds = {title: {} for title in ("full", "lora", "prompt", "decoding")}
    with tempfile.TemporaryDirectory() as folder:
        trace = lambda title: os.path.join(folder, title + ".json")
        for n in counts:
            most = n == counts[-1]
            for method in ("full", "lora"):
                speeds[method][n] = train_with(n, args.binary, args.model, args.data, method, args.seconds)
            speeds["prompt"][n], speeds["decoding"][n] = generate_with(n, args.binary, args.model,
                                                                       trace("decoding") if most else None)
            print(f"{n:3} threads  " + "  ".join(f"{title} {speed[n]:8.1f} tok/s" for title, speed in speeds.items()),
                  flush=True)
        for method in ("full", "lora"):
            train_with(counts[-1], args.binary, args.model, args.data, method, args.seconds / 2, trace(method))
        for title in ("full", "lora", "decoding"):
            say_trace(title, trace(title))
    parts = []
    for i, (title, speed) in enumerate(speeds.items()):
        serial, efficiency = serial_part(speed)
        print(f"{title}: serial part {100 * serial:.2f} %, {100 * efficiency:.0f} % of {counts[-1]} times one thread")
        parts.append(threads_panel(i * WIDTH, title, speed, serial))
    write_svg(os.path.join(args.out, "threads.svg"), parts)


def write_svg(path, parts):
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {len(parts) * WIDTH} {HEIGHT}" '
                   'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
                   + "".join(parts) + "</svg>\n")


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
    parser.add_argument("--threads", help="numbers of threads: 1,2,4")
    parser.add_argument("--seconds", type=float, default=8, help="of steps for each number of threads")
    args = parser.parse_args()
    os.makedirs(os.path.expanduser("~/.cache/thimble"), exist_ok=True)
    if args.threads:
        return by_threads(args)
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
    write_svg(os.path.join(args.out, "scaling.svg"), [part for part, _ in parts])


if __name__ == "__main__":
    sys.exit(main())
