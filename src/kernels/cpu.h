// What this CPU can do, asked once.
#pragma once

namespace thimble {

struct Cpu {
  bool avx2 = false;         // with FMA and F16C
  bool avx512 = false;       // F, BW, DQ, VL
  bool avx512_bf16 = false;  // dot products of bf16 pairs
  bool avx512_vnni = false;  // dot products of int8 quads
};

const Cpu& cpu();

}  // namespace thimble
