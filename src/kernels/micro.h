// The innermost products. A micro-kernel multiplies up to `rows` rows of A with one packed panel of B.
#pragma once

#include <cstdint>

namespace thimble {

struct MicroKernel {
  int rows;     // most rows at once
  int columns;  // width of a panel
  int lanes;    // columns of one vector; a panel may be cut to fewer vectors
  int pair;     // consecutive k kept together in A and in the panel: 1 (f32) or 2 (bf16)
  // acc[r][c] += sum over k of a[r][k] * panel[k / pair][c][k % pair], k ascending.
  //   a: row-major, lda elements between rows;  panel: [k / pair, columns, pair];  k: multiple of pair
  //   acc: [rows, columns] f32;  vectors: vectors of columns to compute, 1 .. columns / lanes
  void (*run)(const void* a, int64_t lda, const void* panel, int64_t k, int rows, int vectors, float* acc) noexcept;
};

const MicroKernel& micro_f32();
// nullptr where the CPU does not multiply bf16.
const MicroKernel* micro_bf16();

}  // namespace thimble
