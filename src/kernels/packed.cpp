#include "kernels/packed.h"

#include <algorithm>

#include "core/round.h"

namespace thimble {
namespace {

int64_t element(const MicroKernel& micro) { return micro.pair == 2 ? 2 : 4; }
int64_t panels(const MicroKernel& micro, int64_t n) { return (n + micro.columns - 1) / micro.columns; }

}  // namespace

int64_t left_bytes(Multiply multiply, int64_t rows, int64_t k) {
  const MicroKernel& micro = micro_kernel(multiply);
  return round_up(round_up(rows, micro.rows) * padded(k, micro) * element(micro), 64);
}

int64_t right_bytes(Multiply multiply, int64_t k, int64_t n) {
  const MicroKernel& micro = micro_kernel(multiply);
  return round_up(panels(micro, n) * micro.columns * padded(k, micro) * element(micro), 64);
}

int64_t lay_scratch_bytes(Multiply multiply, int64_t most_k, const Codec& codec) {
  const int64_t left = pack_a_scratch_floats(most_k, codec.block);
  return round_up(4 * std::max(left, pack_scratch_floats(micro_kernel(multiply), most_k, codec.block)), 64);
}

Rows lay_left(Multiply multiply, const Matrix& a, bool transposed, std::byte* room, float* scratch) noexcept {
  const MicroKernel& micro = micro_kernel(multiply);
  const Term term{.a = a, .a_transposed = transposed};
  const int64_t k = transposed ? a.rows : a.columns, m = transposed ? a.columns : a.rows;
  if (reads_directly(micro, term, k)) return {a.data, a.stride() / element(micro), micro.pair};
  for (int64_t row = 0; row < m; row += kPackRows)
    pack_a(micro, term, k, row, std::min(kPackRows, m - row), room + row * padded(k, micro) * element(micro), scratch);
  return packed_rows(micro, transposed, k, room, 0);
}

void lay_right(Multiply multiply, const Matrix& b, bool transposed, std::byte* room, float* scratch) noexcept {
  const MicroKernel& micro = micro_kernel(multiply);
  const Term term{.b = b, .b_transposed = transposed};
  const int64_t k = transposed ? b.columns : b.rows, n = transposed ? b.rows : b.columns;
  const int64_t group = panels_together(micro, b.codec->block, transposed) * micro.columns;
  for (int64_t column = 0; column < n; column += group)
    pack_b(micro, term, k, column, std::min(group, round_up(n - column, micro.columns)), n,
           room + column * padded(k, micro) * element(micro), scratch);
}

int64_t rows_together(Multiply multiply) { return micro_kernel(multiply).rows; }
int64_t depths_together(Multiply multiply) {
  const MicroKernel& micro = micro_kernel(multiply);
  return int64_t{micro.grouped} * micro.pair;
}

void multiply_packed(Multiply multiply, const PackedProduct& p) noexcept {
  const MicroKernel& micro = micro_kernel(multiply);
  const int64_t depth = padded(p.k, micro), steps = depth / micro.pair, shift = p.reach.shift;
  const Reach::Kind reach = p.reach.kind;
  // Rows of A that were packed transposed lie tile after tile; the others `row_stride` apart.
  const int64_t tile = p.a.step == micro.pair ? micro.rows * p.a.row_stride : micro.rows * depth;
  for (int64_t c = 0; c < p.n; c += micro.columns) {
    const int vectors = static_cast<int>((std::min<int64_t>(micro.columns, p.n - c) + micro.lanes - 1) / micro.lanes);
    const std::byte* const panel = p.b + c * depth * element(micro);
    const int64_t first = reach == Reach::columns_to ? std::clamp<int64_t>(c - shift, 0, p.m) / micro.rows : 0;
    const int64_t end = reach == Reach::columns_from ? std::clamp<int64_t>(c + micro.columns - shift, 0, p.m) : p.m;
    for (int64_t r = first * micro.rows; r < end; r += micro.rows) {
      const int64_t from = reach == Reach::depth_from
                               ? round_down(std::clamp<int64_t>((r + shift) / micro.pair, 0, steps), micro.grouped)
                               : 0;
      const int64_t to = reach == Reach::depth_to
                             ? std::clamp<int64_t>((r + micro.rows + shift + micro.pair - 1) / micro.pair, 0, steps)
                             : steps;
      micro.run(p.a.data + (r / micro.rows * tile + from * p.a.step) * element(micro), p.a.row_stride, p.a.step,
                panel + from * micro.columns * 4, std::max<int64_t>(0, to - from),
                static_cast<int>(std::min<int64_t>(micro.rows, p.m - r)), vectors, p.c + r * p.stride + c, p.stride,
                !p.accumulate);
    }
  }
}

}  // namespace thimble
