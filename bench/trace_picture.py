#!/usr/bin/env python3
"""What threads did when, from files of `--trace`, as one SVG: a row of boxes a thread, coloured by operation.

  bench/trace_picture.py TRACE.json [TRACE.json ...] --out PICTURE.svg [--ms 50[,50...]]

Of each file the last --ms milliseconds are drawn, of spans those that are wide enough to be seen."""
import argparse
import json
import os
import xml.sax.saxutils

WIDTH, ROW, LEFT, TOP = 1000, 22, 70, 34
COLOURS = ["#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#edc948", "#76b7b2", "#ff9da7", "#9c755f"]
WAIT, REST = "#e15759", "#bab0ac"
NARROWEST = 0.4  # pixels


def spans_of(path, milliseconds):
    """(thread, name, begin, end) in microseconds, the last ones, and the interval that they are of."""
    with open(path, encoding="utf-8") as file:
        events = [e for e in json.load(file)["traceEvents"] if e.get("ph") == "X"]
    end = max(e["ts"] + e["dur"] for e in events)
    begin = max(end - 1000 * milliseconds, min(e["ts"] for e in events))
    spans = [(e["tid"], e["name"], max(e["ts"], begin), e["ts"] + e["dur"]) for e in events]
    return [s for s in spans if s[3] > begin], begin, end


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--ms", default="50", help="one for all files, or one each")
    args = parser.parse_args()
    each = [float(ms) for ms in args.ms.split(",")]
    if len(each) == 1:
        each *= len(args.traces)
    files = [(path, *spans_of(path, ms)) for path, ms in zip(args.traces, each, strict=True)]
    share = {}  # of its file
    for _, spans, first, last in files:
        for _, name, begin, end in spans:
            share[name] = share.get(name, 0) + (end - begin) / (last - first)
    named = [n for n in sorted(share, key=share.get, reverse=True) if n != "wait"][:len(COLOURS)]
    colour = dict(zip(named, COLOURS)) | {"wait": WAIT}

    out, y = [], TOP
    for path, spans, begin, end in files:
        threads = sorted({s[0] for s in spans})
        title = f"{os.path.basename(path).removesuffix('.json')}: {(end - begin) / 1000:.1f} ms"
        out.append(f'<text x="{LEFT}" y="{y}">{xml.sax.saxutils.escape(title)}</text>')
        for thread in threads:
            y += ROW
            out.append(f'<text x="4" y="{y + 2}">thread {thread}</text>')
            # A span within another is drawn over it.
            for _, name, a, b in sorted((s for s in spans if s[0] == thread), key=lambda s: (s[2], -s[3])):
                x, width = (LEFT + (t - begin) / (end - begin) * WIDTH for t in (a, b))
                width -= x
                if width >= NARROWEST:
                    out.append(f'<rect x="{x:.1f}" y="{y - 12}" width="{width:.1f}" height="{ROW - 4}" '
                               f'fill="{colour.get(name, REST)}"/>')
        y += 2 * ROW
    x = 4
    for name, fill in [*colour.items(), ("other", REST)]:
        out.append(f'<rect x="{x:.0f}" y="{y - 10}" width="10" height="10" fill="{fill}"/><text x="{x + 14:.0f}" y="{y}">'
                   f'{xml.sax.saxutils.escape(name)}</text>')
        x += 34 + 6.2 * len(name)
    with open(args.out, "w", encoding="utf-8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 10}" height="{y + 14}" '
                   f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
                   + "\n".join(out) + "</svg>\n")


if __name__ == "__main__":
    main()
