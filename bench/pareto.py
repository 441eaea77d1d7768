#!/usr/bin/env python3
"""Draws what `thimble compare` found: loss against peak memory, with the line of variants that no other beats in both.

    bench/pareto.py runs/compare/compare.json --workload pretrain-small --out docs/methods/pretrain-small.svg

Names are written where there is room, those on the line first; all are in the table that compare prints.
"""
import argparse
import json
import math
import sys
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 40, 45
LETTER, LINE = 6.2, 13  # of a label


def ticks(low, high, count):
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= count)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def best_in_both(variants):
    line = []
    for one in sorted(variants, key=lambda v: (v["peak_rss_bytes"], v["loss"])):
        if not line or one["loss"] < line[-1]["loss"]:
            line.append(one)
    return line


def draw(variants, title):
    peaks = [v["peak_rss_bytes"] / 1e6 for v in variants]
    losses = [v["loss"] for v in variants]
    spread_x, spread_y = max(peaks) - min(peaks) or 1, max(losses) - min(losses) or 1
    x0, x1 = min(peaks) - 0.05 * spread_x, max(peaks) + 0.15 * spread_x
    y0, y1 = min(losses) - 0.08 * spread_y, max(losses) + 0.05 * spread_y
    x = lambda mb: LEFT + (mb - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
    y = lambda loss: HEIGHT - BOTTOM - (loss - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
           f'font-size="11">\n<rect width="100%" height="100%" fill="#fff"/>'
           f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>']
    for tick in ticks(y0, y1, 6):
        out.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/><text x="{LEFT - 6}" '
                   f'y="{y(tick) + 4:.1f}" text-anchor="end" fill="#555">{tick:g}</text>')
    for tick in ticks(x0, x1, 8):
        out.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle" fill="#555">{tick:g} MB</text>')
    line = best_in_both(variants)
    points = " ".join(f'{x(v["peak_rss_bytes"] / 1e6):.1f},{y(v["loss"]):.1f}' for v in line)
    out.append(f'<polyline points="{points}" fill="none" stroke="#c9571b" stroke-dasharray="5 4" stroke-width="1.5"/>')
    taken = []
    for one in line + [v for v in variants if v not in line]:
        px, py, name = x(one["peak_rss_bytes"] / 1e6), y(one["loss"]), one["variant"]
        colour = "#c9571b" if one in line else "#1b6ac9"
        out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"><title>{escape(name)}</title></circle>')
        for dx, dy in ((6, 4), (6, -7), (6, 14), (-6 - LETTER * len(name), 4)):
            box = (px + dx, py + dy - LINE, px + dx + LETTER * len(name), py + dy)
            inside = box[0] > LEFT and box[2] < WIDTH and box[1] > TOP and box[3] < HEIGHT - BOTTOM
            if inside and all(box[2] < b[0] or b[2] < box[0] or box[3] < b[1] or b[3] < box[1] for b in taken):
                taken.append(box)
                out.append(f'<text x="{box[0]:.1f}" y="{box[3]:.1f}" fill="{colour}">{escape(name)}</text>')
                break
        taken.append((px - 3, py - 3, px + 3, py + 3))
    out.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle" fill="#555">peak memory</text></svg>\n')
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("compared", help="compare.json")
    parser.add_argument("--workload", required=True)
    parser.add_argument("--leave-out", default="", help="variants, with commas between, that would squeeze the others")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    with open(options.compared, encoding="utf-8") as file:
        rows = [row for row in json.load(file) if row["workload"] == options.workload and "loss" in row]
    variants = [row for row in rows if row["variant"] not in options.leave_out.split(",") and math.isfinite(row["loss"])]
    if not variants:
        sys.exit(f"{options.compared}: no variant of {options.workload} ran")
    with open(options.out, "w", encoding="utf-8") as file:
        file.write(draw(variants, f"{options.workload}: loss against peak memory"))


if __name__ == "__main__":
    main()
