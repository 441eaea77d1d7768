// What this CPU can do, asked once.
#pragma once

namespace thimble {

struct Cpu {
  bool avx2 = false;         // with FMA and F16C
  bool avx512 = false;       // F, BW, DQ, VL
  bool avx512_bf16 = false;  // dot products of bf16 pairs
  bool avx512_vnni = false;  // dot products of int8 quads
  // Whether reading weights once is faster with instructions that fetch them ahead. Of Emerald Rapids it is (decoding
  // in q4_1 by a third), of Zen 4 it is slower (q4_1 by a tenth, q4_K and q6_K by a sixth).
  bool fetches = false;
};

const Cpu& cpu();

}  // namespace thimble
