// The innermost products. A micro-kernel multiplies up to `rows` rows of A with one packed panel of B.
#pragma once

#include <cstdint>

namespace thimble {

struct MicroKernel {
  int rows;     // most rows at once
  int columns;  // width of a panel
  int lanes;    // columns of one vector; a panel may be cut to fewer vectors
  int pair;     // consecutive k kept together in A and in the panel: 1 (f32) or 2 (bf16)
  // Steps (pairs of k) whose products are added up by themselves before c is added to, 1 where each is added to c. What
  // leaves out steps at the beginning leaves out whole groups of so many.
  int grouped = 1;
  bool along_rows = false;  // a row of A is read along k: step == pair
  // c[r][j] = (fresh ? 0 : c[r][j]) + sum over k of a[r][k] * panel[k / pair][j][k % pair], one chain, k ascending.
  //   a: pair k / pair of row r begins at element r * row_stride + k / pair * step
  //   panel: [steps, columns, pair];  c: rows c_stride floats apart, written in whole vectors
  //   vectors: vectors of columns to compute, 1 .. columns / lanes
  void (*run)(const void* a, int64_t row_stride, int64_t step, const void* panel, int64_t steps, int rows, int vectors,
              float* c, int64_t c_stride, bool fresh) noexcept;
};

constexpr int64_t kMostTile = 32 * 32;  // rows x columns of any of them

// Of the level in use; of the baseline.
const MicroKernel& micro_f32();
const MicroKernel& micro_f32_plain();
// nullptr where the CPU does not multiply bf16.
const MicroKernel* micro_bf16();
const MicroKernel* micro_amx();  // of bf16, by tiles

}  // namespace thimble
