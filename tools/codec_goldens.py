#!/usr/bin/env python3
"""Makes tests/codecs/goldens.inc: what other implementations write and read, for values made by a formula.

    pip install gguf llama-cpp-python torch bitsandbytes
    tools/codec_goldens.py > tests/codecs/goldens.inc
    tools/codec_goldens.py --weighted > tests/codecs/weighted_goldens.inc

The second are the bytes of the same values as rows of 1024, their errors weighted by an importance matrix.

Encoded bytes of the GGUF formats come from ggml (the library inside llama-cpp-python), decoded values from ggml too,
checked against the numpy versions of the gguf package; nf4 and int8_block come from bitsandbytes. Where a package is
missing its rows are left out, with a word on stderr. Only numbers made here are stored: the first bytes in full, so
that a difference can be looked at, and a hash of the rest.
"""

import ctypes
import glob
import importlib.util
import os
import sys

import numpy as np

COUNT = 1 << 14  # values
ROW = 1024  # values of a row with importances
SHOWN = 288  # bytes stored in full
FORMATS = {"q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q4_K": 12, "q5_K": 13, "q6_K": 14}
# Block, bytes, offsets of the f16 scales (their exponents are kept finite in random blocks).
SHAPES = {"q4_0": (32, 18, [0]), "q4_1": (32, 20, [0, 2]), "q5_0": (32, 22, [0]), "q5_1": (32, 24, [0, 2]),
          "q8_0": (32, 34, [0]), "q4_K": (256, 144, [0, 2]), "q5_K": (256, 176, [0, 2]), "q6_K": (256, 210, [208])}


def words(count, seed):
    """A linear congruential generator; tests/codecs/golden_test.cpp has the same."""
    out = np.empty(count, np.uint32)
    state = seed
    for i in range(count):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        out[i] = state
    return out


def values():
    """Cubes of uniform numbers (heavy tails), every run of 256 on its own scale, runs of 32 sometimes of one sign."""
    bits = words(COUNT, 1)
    x = ((bits >> 8).astype(np.int64) - (1 << 23)).astype(np.float32) * np.float32(2.0**-23)
    x = x * x * x
    index = np.arange(COUNT)
    x = x * (np.float32(2.0) ** ((index // 256) % 9 - 4).astype(np.float32))
    one_sign = (index // 32) % 5 == 3
    return np.where(one_sign, np.abs(x), x).astype(np.float32)


def random_blocks(name):
    block, size, scales = SHAPES[name]
    blocks = COUNT // block
    data = (words(blocks * size, 2) >> 24).astype(np.uint8).reshape(blocks, size)
    for offset in scales:
        data[:, offset + 1] &= 0xBF  # exponent below 16
    return data


def fnv(data):
    state = 0xCBF29CE484222325
    for byte in np.ascontiguousarray(data).view(np.uint8).ravel().tolist():
        state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return state


def row(name, encoded, decoded_random):
    shown = np.ascontiguousarray(encoded).view(np.uint8).ravel()
    print(f'    {{"{name}", 0x{fnv(encoded):016x}u, 0x{decoded_random:016x}u,')
    print(f'     "{shown[:SHOWN].tobytes().hex()}"}},')


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def ggml_library():
    """Of llama-cpp-python, or of xllamacpp, which brings it compiled."""
    spec = importlib.util.find_spec("llama_cpp") or importlib.util.find_spec("xllamacpp")
    folder = os.path.dirname(spec.origin)
    paths = glob.glob(os.path.join(folder, "**", "libggml-base.so*"), recursive=True) or glob.glob(folder + "/*.so")
    library = ctypes.CDLL(paths[0])
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    return library


def importance():
    """Mean squares of the inputs of 1024 columns, some of them zero; tests/codecs/golden_test.cpp has the same."""
    bits = (words(ROW, 3) >> 8).astype(np.int64).astype(np.float32) * np.float32(2.0**-24)
    squares = bits * bits
    squares = squares * squares * np.float32(16)
    return np.where(np.arange(ROW) % 37 == 5, np.float32(0), squares).astype(np.float32)


def weighted_rows(x):
    library, weights = ggml_library(), importance()
    for name, number in FORMATS.items():
        if name == "q8_0":
            continue  # it has no fit
        block, size, _ = SHAPES[name]
        encoded = np.zeros((COUNT // block, size), np.uint8)
        library.ggml_quantize_chunk(number, pointer(x), pointer(encoded), ctypes.c_int64(0), ctypes.c_int64(COUNT // ROW),
                                    ctypes.c_int64(ROW), pointer(weights))
        row(name, encoded, 0)


def ggml_rows(x):
    import gguf
    library = ggml_library()
    for name, number in FORMATS.items():
        block, size, _ = SHAPES[name]
        encoded = np.zeros((COUNT // block, size), np.uint8)
        library.ggml_quantize_chunk(number, pointer(x), pointer(encoded), ctypes.c_int64(0), ctypes.c_int64(1),
                                    ctypes.c_int64(COUNT), None)
        blocks = random_blocks(name)
        decoded = np.zeros(COUNT, np.float32)
        getattr(library, f"dequantize_row_{name}")(pointer(blocks), pointer(decoded), ctypes.c_int64(COUNT))
        kind = gguf.GGMLQuantizationType(number)
        assert np.array_equal(decoded, gguf.quants.dequantize(blocks, kind).ravel()), f"gguf and ggml decode {name}"
        if not name.endswith("K"):
            # The numpy encoder may round ties otherwise; say so, but trust ggml.
            other = gguf.quants.quantize(x.reshape(COUNT // block, block), kind)
            if not np.array_equal(encoded, other):
                print(f"{name}: {np.count_nonzero(encoded != other)} bytes differ from gguf's numpy encoder",
                      file=sys.stderr)
        row(name, encoded, fnv(decoded))


def bitsandbytes_rows(x):
    import bitsandbytes.functional as bnb
    import torch
    tensor = torch.from_numpy(x)
    packed, state = bnb.quantize_4bit(tensor, blocksize=64, quant_type="nf4")
    codes = packed.numpy().reshape(-1, 32)
    scales = state.absmax.numpy().reshape(-1, 1)
    decoded = bnb.dequantize_4bit(packed, state).numpy()
    row("nf4", np.hstack([scales.view(np.uint8).reshape(-1, 4), codes]), fnv(decoded.astype(np.float32)))
    double_rows(bnb, x, scales.ravel(), codes)
    # Its quantize_blockwise for processors goes through a coarse table, so the nearest code is found here.
    table = bnb.create_dynamic_map(signed=True).numpy()
    blocks = x.reshape(-1, 256)
    scales = np.abs(blocks).max(axis=1, keepdims=True)
    unit = (blocks / scales).astype(np.float64)
    codes = np.abs(unit[:, :, None] - table.astype(np.float64)).argmin(axis=2).astype(np.uint8)
    decoded = bnb.dequantize_blockwise(torch.from_numpy(codes.ravel()), absmax=torch.from_numpy(scales.ravel()),
                                       code=torch.from_numpy(table), blocksize=256).numpy()
    row("int8_block", np.hstack([scales.view(np.uint8), codes]), fnv(decoded))


def double_rows(bnb, x, scales, codes):
    """bitsandbytes' numbers of the scales and of the values, for every 512 values as if they were a matrix."""
    import torch
    encoded, decoded = [], []
    for at in range(0, len(x) // 512):
        own, bits = scales[8 * at:8 * at + 8], codes[8 * at:8 * at + 8]
        offset = np.float32(own.astype(np.float64).mean())
        departures = torch.from_numpy(own - offset)
        table = bnb.create_dynamic_map(signed=True)
        nested = departures.abs().max()
        unit = (departures / nested).double()
        nearest = (unit[:, None] - table.double()[None, :]).abs().argmin(dim=1).to(torch.uint8)
        absmax = bnb.dequantize_blockwise(nearest, absmax=nested[None], code=table, blocksize=256) + float(offset)
        state = bnb.QuantState(absmax=absmax, shape=torch.Size([512]), dtype=torch.float32, blocksize=64,
                               quant_type="nf4", code=bnb.get_4bit_type("nf4", device="cpu"))
        packed = torch.from_numpy(np.ascontiguousarray(bits).reshape(-1, 1))
        decoded.append(bnb.dequantize_4bit(packed, state).numpy().ravel())
        header = np.array([offset, nested.item()], np.float32).view(np.uint8)
        parts = np.hstack([nearest.numpy().reshape(-1, 1), bits]).ravel()
        encoded.append(np.concatenate([header, parts]))
    row("nf4_double", np.concatenate(encoded), fnv(np.concatenate(decoded).astype(np.float32)))


def main():
    x = values()
    if sys.argv[1:] == ["--weighted"]:
        print("// Made by tools/codec_goldens.py --weighted; do not edit.")
        print("// name, hash of the encoded bytes, nothing, the first encoded bytes")
        return weighted_rows(x)
    print("// Made by tools/codec_goldens.py; do not edit.")
    print("// name, hash of the encoded bytes, hash of decoded values (GGUF: of random blocks; others: of the encoded")
    print("// ones), the first encoded bytes")
    for part, rows in (("ggml", ggml_rows), ("bitsandbytes", bitsandbytes_rows)):
        try:
            rows(x)
        except ImportError as error:
            print(f"no {part} rows: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
