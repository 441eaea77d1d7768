// bf16 micro-kernel of AMX: two by two tiles of C, 16 x 16 numbers each, stay in registers while tiles of A [16 rows,
// 16 pairs of k] and of a panel [16 pairs of k, 16 columns] pass.
//
// Numerics: tdpbf16ps sums the products of the first numbers of 16 pairs in one chain and those of the second in
// another, adds the two sums and then C (Intel's Software Developer's Manual, volume 2, TDPBF16PS). Results and
// operands below the normal range are zeros.
#include "core/isa.h"
#include "kernels/micro.h"

#if defined(THIMBLE_X86_INTRINSICS)
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace thimble {
namespace {

constexpr int kSide = 16;  // rows of a tile, and words of a row
constexpr int kRowBytes = 4 * kSide;
constexpr int kRows = 2 * kSide, kColumns = 2 * kSide;

// What ldtilecfg reads.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
// Tiles 0 to 3 are C, 4 and 5 A, 6 and 7 the panel.
constexpr std::array<TileShapes, kRows + 1> kShapes = [] {
  std::array<TileShapes, kRows + 1> all;
  for (int rows = 1; rows <= kRows; ++rows) {
    const int upper = std::min(rows, kSide), lower = rows - upper;
    const int of_tile[] = {upper, upper, lower, lower, upper, lower, kSide, kSide};
    for (int tile = 0; tile < 8; ++tile) {
      all[static_cast<size_t>(rows)].rows[tile] = static_cast<uint8_t>(of_tile[tile]);
      all[static_cast<size_t>(rows)].row_bytes[tile] = of_tile[tile] > 0 ? kRowBytes : 0;
    }
  }
  return all;
}();

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16")

// The intrinsics do not tell the compiler that they read and write memory.
[[gnu::always_inline]] inline void settle_memory() noexcept { asm volatile("" ::: "memory"); }

// One group of 16 steps.
template <bool two_rows, bool two_columns>
[[gnu::always_inline]] inline void multiply_group(const std::byte* a, int64_t a_bytes,
                                                  const std::byte* panel) noexcept {
  constexpr int64_t kPanelBytes = 4 * kColumns;
  _tile_loadd(6, panel, kPanelBytes);
  _tile_loadd(4, a, a_bytes);
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (two_columns) {
    _tile_loadd(7, panel + kRowBytes, kPanelBytes);
    _tile_dpbf16ps(1, 4, 7);
  }
  if constexpr (two_rows) {
    _tile_loadd(5, a + kSide * a_bytes, a_bytes);
    _tile_dpbf16ps(2, 5, 6);
    if constexpr (two_columns) _tile_dpbf16ps(3, 5, 7);
  }
}

// The last group, if it is not whole: what it lacks is zero.
template <bool two_rows, bool two_columns>
void multiply_rest(const std::byte* a, int64_t a_bytes, const std::byte* panel, int64_t steps, int rows) noexcept {
  alignas(64) std::byte whole_a[kRows * kRowBytes] = {}, whole_panel[kSide * 4 * kColumns] = {};
  for (int r = 0; r < rows; ++r) std::memcpy(whole_a + r * kRowBytes, a + r * a_bytes, static_cast<size_t>(steps * 4));
  std::memcpy(whole_panel, panel, static_cast<size_t>(steps * 4 * kColumns));
  settle_memory();
  multiply_group<two_rows, two_columns>(whole_a, kRowBytes, whole_panel);
}

template <bool two_rows, bool two_columns>
void kernel(const std::byte* a, int64_t a_bytes, const std::byte* panel, int64_t steps, int rows, float* c,
            int64_t c_stride, bool fresh) noexcept {
  const int64_t c_bytes = 4 * c_stride;
  float* const lower = c + kSide * c_stride;
  settle_memory();
  _tile_loadconfig(&kShapes[static_cast<size_t>(rows)]);
  if (fresh) {
    _tile_zero(0);
    if constexpr (two_columns) _tile_zero(1);
    if constexpr (two_rows) _tile_zero(2);
    if constexpr (two_rows && two_columns) _tile_zero(3);
  } else {
    _tile_loadd(0, c, c_bytes);
    if constexpr (two_columns) _tile_loadd(1, c + kSide, c_bytes);
    if constexpr (two_rows) _tile_loadd(2, lower, c_bytes);
    if constexpr (two_rows && two_columns) _tile_loadd(3, lower + kSide, c_bytes);
  }
  int64_t step = 0;
  for (; step + kSide <= steps; step += kSide)
    multiply_group<two_rows, two_columns>(a + step * 4, a_bytes, panel + step * 4 * kColumns);
  if (step < steps)
    multiply_rest<two_rows, two_columns>(a + step * 4, a_bytes, panel + step * 4 * kColumns, steps - step, rows);
  _tile_stored(0, c, c_bytes);
  if constexpr (two_columns) _tile_stored(1, c + kSide, c_bytes);
  if constexpr (two_rows) _tile_stored(2, lower, c_bytes);
  if constexpr (two_rows && two_columns) _tile_stored(3, lower + kSide, c_bytes);
  _tile_release();
  settle_memory();
}
#pragma GCC pop_options

void run(const void* a, int64_t row_stride, int64_t, const void* panel, int64_t steps, int rows, int vectors, float* c,
         int64_t c_stride, bool fresh) noexcept {
  constexpr decltype(&kernel<false, false>) kKernels[] = {kernel<false, false>, kernel<false, true>,
                                                          kernel<true, false>, kernel<true, true>};
  kKernels[(rows > kSide ? 2 : 0) + (vectors > 1 ? 1 : 0)](static_cast<const std::byte*>(a), 2 * row_stride,
                                                           static_cast<const std::byte*>(panel), steps, rows, c,
                                                           c_stride, fresh);
}

constexpr MicroKernel kKernel = {
    .rows = kRows, .columns = kColumns, .lanes = kSide, .pair = 2, .grouped = kSide, .along_rows = true, .run = run};

}  // namespace

const MicroKernel* micro_amx() { return isa_has(Isa::amx_bf16) ? &kKernel : nullptr; }

}  // namespace thimble

#else

const thimble::MicroKernel* thimble::micro_amx() { return nullptr; }

#endif
