#!/usr/bin/env python3
"""The step functions of the keeper few_bit: src/methods/keepers/few_bit_tables.h, on standard output.

Of all functions q with 2^b steps, the one with the least integral of (f'(x) - q(x))^2 over [-100, 100], by dynamic
programming over a grid of edges (Novikov et al. 2022, arXiv:2202.00441, section 3), then refined off the grid: every
level is the mean of f' over its step, every edge where f' is the mean of the levels beside it.
"""
import math


def silu(x):
    return x / (1 + math.exp(-x)) if x > -500 else 0.0


def silu_slope(x):
    s = 1 / (1 + math.exp(-x)) if x > -500 else 0.0
    return s * (1 + x * (1 - s))


def gelu(x):
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def gelu_slope(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2))) + x * math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


C = math.sqrt(2 / math.pi)


def gelu_tanh(x):
    return 0.5 * x * (1 + math.tanh(C * (x + 0.044715 * x**3)))


def gelu_tanh_slope(x):
    t = math.tanh(C * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * C * (1 + 3 * 0.044715 * x * x)


FUNCTIONS = {"silu": (silu, silu_slope, 12.0), "gelu": (gelu, gelu_slope, 5.0), "gelu_tanh": (gelu_tanh, gelu_tanh_slope, 5.0)}
LIMIT, POINTS = 100.0, 1200


def squares(slope, a, b, parts):
    """The integral of f'^2 over [a, b], by Simpson's rule."""
    h = (b - a) / (2 * parts)
    total = slope(a) ** 2 + slope(b) ** 2
    total += sum((4 if i % 2 else 2) * slope(a + i * h) ** 2 for i in range(1, 2 * parts))
    return total * h / 3


def on_grid(f, slope, width, steps):
    """Edges of the best `steps` steps whose edges lie on the grid."""
    grid = [-LIMIT] + [width * (2 * i / POINTS - 1) for i in range(POINTS + 1)] + [LIMIT]
    prefix = [0.0]
    for a, b in zip(grid, grid[1:]):
        prefix.append(prefix[-1] + squares(slope, a, b, 2000 if b - a > 1 else 2))
    primitive = [f(x) for x in grid]
    last = len(grid) - 1

    def cost(i, j):
        return prefix[j] - prefix[i] - (primitive[j] - primitive[i]) ** 2 / (grid[j] - grid[i])

    best = [cost(0, j) if j else 0.0 for j in range(last + 1)]
    choices = []
    for _ in range(steps - 1):
        following, chosen = [math.inf] * (last + 1), [0] * (last + 1)
        # The best last edge does not move left as the end moves right.
        stack = [(1, last, 0, last)]
        while stack:
            low, high, first, final = stack.pop()
            if low > high:
                continue
            j = (low + high) // 2
            for i in range(max(first, 0), min(final, j - 1) + 1):
                value = best[i] + cost(i, j)
                if value < following[j]:
                    following[j], chosen[j] = value, i
            stack += [(low, j - 1, first, chosen[j]), (j + 1, high, chosen[j], final)]
        best = following
        choices.append(chosen)
    edges, j = [], last
    for chosen in reversed(choices):
        j = chosen[j]
        edges.append(grid[j])
    return edges[::-1]


def levels_of(f, edges):
    ends = [-LIMIT, *edges, LIMIT]
    return [(f(b) - f(a)) / (b - a) for a, b in zip(ends, ends[1:])]


def crossing(slope, middle, edge, spacing):
    """Where f' crosses `middle`, nearest to the edge by doubling what is looked through around it."""
    reach = spacing / 64
    while (slope(edge - reach) - middle) * (slope(edge + reach) - middle) > 0:
        reach *= 2
        if reach > 64 * spacing:
            return edge
    a, b = edge - reach, edge + reach
    for _ in range(60):
        m = 0.5 * (a + b)
        a, b = (m, b) if (slope(a) - middle) * (slope(m) - middle) > 0 else (a, m)
    return 0.5 * (a + b)


def refined(f, slope, edges, spacing):
    """Edges moved off the grid, until none moves any more."""
    for _ in range(2000):
        levels = levels_of(f, edges)
        edges = [crossing(slope, 0.5 * (levels[k] + levels[k + 1]), e, spacing) for k, e in enumerate(edges)]
    return edges, levels_of(f, edges)


def numbers(values):
    return ", ".join(f"{round(v, 6) + 0.0:.6f}" for v in values)


def main():
    print("// Step functions nearest to the derivatives of activation functions. Made by tools/few_bit_tables.py.")
    print("#pragma once\n")
    print('#include "ops/keep.h"\n\nnamespace thimble {\n')
    for name, (f, slope, width) in FUNCTIONS.items():
        print(f"// {name}: of 2, 3 and 4 bits.")
        print(f"inline const StepSlope k{''.join(p.title() for p in name.split('_'))}Slopes[] = {{")
        for bits in (2, 3, 4):
            edges, levels = refined(f, slope, on_grid(f, slope, width, 2**bits), width / POINTS)
            print(f"    {{.bits = {bits}, .edges = {{{numbers(edges)}}}, .levels = {{{numbers(levels)}}}}},")
        print("};\n")
    print("}  // namespace thimble")


if __name__ == "__main__":
    main()
