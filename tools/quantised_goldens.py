#!/usr/bin/env python3
"""Makes tests/models/quantised/*.safetensors: small matrices as other tools quantise them, and what they read back.

    pip install torch transformers bitsandbytes compressed-tensors==0.9.3 safetensors
    pip download --no-deps --no-binary :all: autoawq    # unpacked; --autoawq names the folder
    tools/quantised_goldens.py --autoawq autoawq-0.2.9

Every file has the tensors of a module "m", and "expected": the matrix as the tool itself dequantises it, in the type
that it computes in. bitsandbytes, transformers (fp8), compressed-tensors and AutoAWQ are called; GPTQ is written out, as
GPTQModel's dequantize_weight has it. The metadata hold quantization_config and the model's dtype.
"""

import argparse
import importlib.util
import json
import os

import torch
from safetensors.torch import save_file

ROWS, COLUMNS = 24, 128
FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests/models/quantised")


def weight(rows=ROWS, columns=COLUMNS):
    """Heavy tails, and rows of different sizes."""
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(5))
    return x ** 3 * torch.logspace(-2, 0, rows)[:, None]


def save(name, tensors, expected, config, dtype="bfloat16"):
    tensors = {f"m.{key}": value.contiguous() for key, value in tensors.items()}
    tensors["expected"] = expected.contiguous()
    save_file(tensors, os.path.join(FOLDER, f"{name}.safetensors"),
              {"quantization_config": json.dumps(config), "dtype": dtype,
               "rows": str(expected.shape[0]), "columns": str(expected.shape[1])})


# bitsandbytes

def four_bit(name, kind, dtype, nested, block=64, columns=COLUMNS):
    import bitsandbytes.functional as bnb
    codes, state = bnb.quantize_4bit(weight(columns=columns).to(dtype), quant_type=kind, blocksize=block,
                                     compress_statistics=nested)
    parts = {"weight." + key: value for key, value in state.as_dict(packed=True).items()}
    save(name, {"weight": codes, **parts}, bnb.dequantize_4bit(codes, state),
         {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind})


def eight_bit():
    import bitsandbytes.functional as bnb
    codes, scales, _ = bnb.int8_vectorwise_quant(weight().half())
    expected = bnb.int8_vectorwise_dequant(codes, scales).to(torch.float16)
    save("bitsandbytes_int8", {"weight": codes, "SCB": scales, "weight_format": torch.zeros((), dtype=torch.uint8)},
         expected, {"quant_method": "bitsandbytes", "load_in_8bit": True}, "float16")


# GPTQ and AWQ

def grouped(bits, group_size, act_order, rows=ROWS, columns=COLUMNS):
    """Numbers, zeros, scales and groups of [columns, rows]; zeros over all of their range that every version has."""
    random = torch.Generator().manual_seed(7)
    groups = -(-columns // group_size)
    of = torch.arange(columns) // group_size
    if act_order:
        of = of[torch.randperm(columns, generator=random)]
    q = torch.randint(0, 2 ** bits, (columns, rows), generator=random)
    zeros = torch.randint(1, 2 ** bits, (groups, rows), generator=random)
    scales = (torch.rand(groups, rows, generator=random) * 0.1 + 1e-3).half()
    return q, zeros, scales, of


def packed(x, bits, order=None):
    """Fields of the last axis into words; field order[k] holds element k."""
    fields = 32 // bits
    x = x.reshape(*x.shape[:-1], -1, fields).to(torch.int64)
    words = sum(x[..., k] << (bits * (order[k] if order else k)) for k in range(fields))
    return torch.where(words >= 2 ** 31, words - 2 ** 32, words).to(torch.int32)


def gptq(name, bits, act_order, version, group_size=32):
    q, zeros, scales, of = grouped(bits, group_size, act_order)
    stored = zeros - 1 if version == "gptq" else zeros
    tensors = {"qweight": packed(q.T, bits).T, "qzeros": packed(stored, bits), "scales": scales, "g_idx": of.int()}
    expected = scales[of] * (q - zeros[of]).to(torch.int16)
    save(name, tensors, expected.T,
         {"quant_method": "gptq", "bits": bits, "group_size": group_size, "desc_act": act_order,
          "checkpoint_format": version}, "float16")


def awq(folder):
    spec = importlib.util.spec_from_file_location("packing", os.path.join(folder, "awq/utils/packing_utils.py"))
    packing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(packing)
    q, zeros, scales, _ = grouped(4, 32, False)
    order = packing.AWQ_REVERSE_ORDER
    tensors = {"qweight": packed(q, 4, order), "qzeros": packed(zeros, 4, order), "scales": scales}
    expected = packing.dequantize_gemm(tensors["qweight"], tensors["qzeros"], scales, 4, 32)
    save("awq", tensors, expected.T, {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm",
                                      "zero_point": True}, "float16")


# 8-bit floating-point numbers

def in_blocks(rows, columns):
    """f8_e4m3 numbers and the f32 scale of every block."""
    x = weight()
    blocks = x.reshape(ROWS // rows, rows, COLUMNS // columns, columns)
    scale = blocks.abs().amax(dim=(1, 3)) / 448
    q = (blocks / scale[:, None, :, None]).reshape(ROWS, COLUMNS).to(torch.float8_e4m3fn)
    return q, scale


def fp8_block():
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize
    q, scale = in_blocks(8, 32)
    expected = Fp8Dequantize(None)._dequantize_one(q, scale, torch.bfloat16)
    save("fp8_block", {"weight": q, "weight_scale_inv": scale}, expected,
         {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [8, 32]})


def fp8_tensor():
    q, scale = in_blocks(ROWS, COLUMNS)
    expected = (q.float() * scale.reshape(())).to(torch.float16)
    save("fp8_tensor", {"weight": q, "weight_scale": scale.reshape(()), "input_scale": torch.ones(())}, expected,
         {"quant_method": "modelopt", "quant_algo": "FP8"}, "float16")


def fp8_row():
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    q, scale = in_blocks(1, COLUMNS)
    scale = scale.to(torch.bfloat16)
    expected = dequantize(q, scale, args=QuantizationArgs(num_bits=8, type="float", strategy="channel"))
    save("fp8_row", {"weight": q, "weight_scale": scale}, expected,
         {"quant_method": "compressed-tensors", "format": "float-quantized"})


# 2:4 sparse matrices, packed

def sparse_24(name, dtype, columns=COLUMNS):
    from compressed_tensors.compressors.sparse_compressors.sparse_24_bitmask import Sparse24BitMaskTensor
    packed = Sparse24BitMaskTensor.from_dense(weight(columns=columns).to(dtype))
    save(name, {"compressed": packed.compressed, "bitmask": packed.bitmask,
                "shape": torch.tensor(packed.shape).reshape(-1, 1)}, packed.decompress(),
         {"quant_method": "compressed-tensors",
          "sparsity_config": {"format": "sparse-24-bitmask", "global_sparsity": 0.5, "ignore": ["lm_head"],
                              "registry_requires_subclass": False, "sparsity_structure": "2:4", "targets": ["Linear"]}})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--autoawq", required=True, help="folder of AutoAWQ's source")
    options = parser.parse_args()
    os.makedirs(FOLDER, exist_ok=True)
    four_bit("bitsandbytes_nf4", "nf4", torch.float32, nested=False)
    four_bit("bitsandbytes_nf4_nested", "nf4", torch.bfloat16, nested=True)
    four_bit("bitsandbytes_fp4", "fp4", torch.float16, nested=False, columns=40)
    four_bit("bitsandbytes_nf4_nested_f32", "nf4", torch.float32, nested=True, block=128)
    four_bit("bitsandbytes_nf4_double", "nf4", torch.float32, nested=True, columns=1024)  # two groups of scales
    four_bit("bitsandbytes_nf4_double_part", "nf4", torch.float32, nested=True)
    four_bit("bitsandbytes_nf4_double_across", "nf4", torch.float32, nested=True, columns=192)
    eight_bit()
    gptq("gptq", 4, False, "gptq")
    gptq("gptq_act_order_v2", 4, True, "gptq_v2")
    gptq("gptq_8bit", 8, True, "gptq", group_size=128)
    awq(options.autoawq)
    fp8_block()
    fp8_tensor()
    fp8_row()
    sparse_24("sparse_24", torch.bfloat16)
    sparse_24("sparse_24_f16_part", torch.float16, columns=44)
    sparse_24("sparse_24_f32", torch.float32, columns=72)


if __name__ == "__main__":
    main()
