// Matrix products over any codec: C = sum over terms of scale * A * B (+ bias) (+ addend), rounded once.
//
// B is decoded and packed a few panels at a time into workspace, and these meet all rows of A. That is what a frozen
// quantised weight needs, and why the product is thimble's own: a library's product wants B whole, in its own layout,
// with memory of its own.
//
// Numerics: every element of C is one chain over k in ascending order, terms in the order given, in f32 (products of a
// pair of bf16, or of a group of 16 pairs, are added first where the CPU multiplies bf16). It does not depend on the
// number of rows, of columns or of threads, or on where a panel or a block of rows begins.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "codecs/codec.h"
#include "core/threads.h"

namespace thimble {

// How operands are multiplied; accumulation is always f32. int8 is for inference: products through narrow.h whose
// weights have an int8 format (dot/int8_dot.h); all others are as with bf16. B in f32 (a master) is rounded to bf16
// wherever A is bf16, however they are multiplied.
enum class Multiply { f32, bf16, int8 };

// bf16 products need an instruction of their own; without it bf16 operands widen to f32, which rounds otherwise.
bool multiplies(Multiply multiply);

// Row-major [rows, columns] in any codec, rows one after another.
struct Matrix {
  const Codec* codec = &kF32;
  const std::byte* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t row_bytes = 0;  // distance between rows; 0: codec->bytes(columns)

  int64_t stride() const { return row_bytes ? row_bytes : codec->bytes(columns); }
  const std::byte* row(int64_t i) const { return data + i * stride(); }  // unless interleaved
  // Elements [first, first + count) of a row as f32; whole blocks but at the end of the row.
  void decode(int64_t row, int64_t first, int64_t count, float* to) const noexcept;
};

// A: [m, k], or [k, m] when a_transposed; B: [k, n], or [n, k] when b_transposed (a weight [out, in]).
struct Term {
  Matrix a;
  Matrix b;
  bool a_transposed = false;
  bool b_transposed = false;
  float scale = 1;  // applied to B when it is decoded
};

// C: [m, n], f32 or bf16.
struct Product {
  std::span<const Term> terms;
  const Codec* codec = &kF32;
  std::byte* c = nullptr;
  int64_t m = 0;
  int64_t n = 0;
  int64_t row_bytes = 0;              // distance between rows of C; 0: tight
  bool accumulate = false;            // C +=: the product is added to the old value; there is no other addend
  const float* bias = nullptr;        // [n]
  const std::byte* addend = nullptr;  // [m, n] in C's codec and layout; may be C itself
};

// Workspace that a product needs, and every product of the same terms with fewer rows, columns or k; its pointers may
// be null. Panels of B, and rows of A that must be converted or transposed, are packed here, about a megabyte a thread
// unless k is large.
int64_t gemm_workspace_bytes(Multiply multiply, const Product& product, int threads);

// Runs on all threads. The workspace is at least gemm_workspace_bytes().
void gemm(Threads& threads, Multiply multiply, const Product& product, std::span<std::byte> workspace) noexcept;

}  // namespace thimble
