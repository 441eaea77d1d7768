#include "kernels/gemm.h"

#include <algorithm>

#include "codecs/interleaved.h"
#include "core/round.h"
#include "kernels/gemm_pack.h"
#include "kernels/micro.h"
#include "kernels/tile.h"

namespace thimble {
namespace {

constexpr int64_t kPanelBytes = 384 << 10;
constexpr int64_t kPackedBytes = 2 << 20;  // of A, packed at a time
constexpr int64_t kMostTile = 8 * 48;

int64_t aligned(int64_t bytes) { return round_up(bytes, 64); }

int64_t depth_of(const Term& term) { return term.a_transposed ? term.a.rows : term.a.columns; }

// How a product is cut, and where its pieces lie in the workspace.
struct Cut {
  const MicroKernel& micro;
  const Product& product;
  int64_t element;          // bytes of one multiplied number
  int64_t unit;             // panels that must be packed together
  int64_t group;            // panels packed together
  int64_t packed_rows = 0;  // rows of A packed at a time; 0: none
  int64_t a_bytes = 0;      // packed A, all terms
  int64_t b_bytes = 0;      // one thread's panels, all terms
  int64_t scratch_bytes = 0;

  Cut(Multiply multiply, const Product& p) : micro(micro_kernel(multiply)), product(p) {
    element = micro.pair == 2 ? 2 : 4;
    unit = 1;
    int64_t depth = 0;
    for (const Term& term : p.terms) {
      unit = std::max(unit, panels_together(micro, term.b.codec->block, term.b_transposed));
      depth += padded(depth_of(term), micro);
    }
    // Rows of A, once fetched, meet as many panels as stay in the second-level cache.
    const int64_t panel = micro.columns * depth * element, panels = (p.n + micro.columns - 1) / micro.columns;
    group = std::max<int64_t>(unit, std::min(kMostTogether, kPanelBytes / panel) / unit * unit);
    group = std::min(group, round_up(panels, unit));
    int64_t scratch = 0, deepest = 0;
    for (const Term& term : p.terms) {
      const int64_t k = depth_of(term);
      b_bytes += aligned(group * micro.columns * padded(k, micro) * element);
      scratch = std::max(scratch, pack_scratch_floats(micro, k, term.b.codec->block));
      if (reads_directly(micro, term, k)) continue;
      deepest = std::max(deepest, padded(k, micro) * element);
      scratch = std::max(scratch, pack_a_scratch_floats(k, term.a.codec->block));
    }
    if (deepest > 0) {
      const int64_t most = std::max<int64_t>(kPackRows, kPackedBytes / deepest / kPackRows * kPackRows);
      packed_rows = std::min(most, round_up(p.m, micro.rows));
    }
    for (const Term& term : p.terms)
      if (const int64_t k = depth_of(term); !reads_directly(micro, term, k))
        a_bytes += aligned(packed_rows * padded(k, micro) * element);
    scratch_bytes = aligned(scratch * 4);
  }
  int64_t thread_bytes() const { return b_bytes + scratch_bytes; }
};

// Rows of A from `row` on as the micro-kernel reads them.
Rows rows_of(const Cut& cut, size_t term_index, int64_t row, int64_t first_packed, const std::byte* packed) {
  const Term& term = cut.product.terms[term_index];
  const int64_t k = depth_of(term);
  if (reads_directly(cut.micro, term, k)) return {term.a.row(row), term.a.stride() / cut.element, cut.micro.pair};
  for (size_t i = 0; i < term_index; ++i) {
    const Term& before = cut.product.terms[i];
    if (!reads_directly(cut.micro, before, depth_of(before)))
      packed += aligned(cut.packed_rows * padded(depth_of(before), cut.micro) * cut.element);
  }
  return packed_rows(cut.micro, term.a_transposed, k, packed, row - first_packed);
}

// Packs rows [begin, end) of the A of every term that needs it.
void pack_rows(const Cut& cut, int64_t first, int64_t begin, int64_t end, std::byte* packed,
               std::byte* scratch) noexcept {
  for (const Term& term : cut.product.terms) {
    const int64_t k = depth_of(term);
    if (reads_directly(cut.micro, term, k)) continue;
    const int64_t row_bytes = padded(k, cut.micro) * cut.element;
    for (int64_t row = begin; row < end; row += kPackRows)
      pack_a(cut.micro, term, k, row, std::min(kPackRows, end - row), packed + (row - first) * row_bytes,
             reinterpret_cast<float*>(scratch));
    packed += aligned(cut.packed_rows * row_bytes);
  }
}

// acc -> C for one tile: bias and addend in f32, one rounding.
void store_part(const Cut& cut, const float* acc, int64_t row, int64_t rows, int64_t column, int64_t columns) noexcept {
  const Product& p = cut.product;
  const int64_t element = p.codec->block_bytes;
  const int64_t stride = p.row_bytes ? p.row_bytes / element : p.n;
  const int64_t offset = (row * stride + column) * element;
  const std::byte* const base = p.accumulate ? p.c : p.addend;
  const std::byte* const addend = base ? base + offset : nullptr;
  const TileStore tile{acc, cut.micro.columns, rows, columns, p.bias ? p.bias + column : nullptr, stride};
  if (p.codec == &kF32)
    store_tile(tile, reinterpret_cast<float*>(p.c + offset), reinterpret_cast<const float*>(addend));
  else
    store_tile(tile, reinterpret_cast<uint16_t*>(p.c + offset), reinterpret_cast<const uint16_t*>(addend));
}

// C of one tile comes from memory while the tile is multiplied.
void fetch_part(const Product& p, int64_t row, int64_t rows, int64_t column, int64_t columns) noexcept {
  constexpr int64_t kLine = 64;
  const int64_t element = p.codec->block_bytes, stride = p.row_bytes ? p.row_bytes : p.n * element;
  for (int64_t r = row; r < row + rows; ++r) {
    const std::byte* const from = p.c + r * stride + column * element;
    for (int64_t byte = 0; byte < columns * element; byte += kLine) __builtin_prefetch(from + byte, 1);
  }
}

struct Tile {
  int64_t row, rows;
  int64_t column;  // of the group of panels
  int vectors;
  int64_t width;  // of the group
};

// acc = all terms of one tile, or a piece of k of the only one.
void multiply_tile(const Cut& cut, const Tile& tile, int64_t piece, int64_t first_packed, const std::byte* packed,
                   const std::byte* panel, float* acc) noexcept {
  const MicroKernel& micro = cut.micro;
  const Product& p = cut.product;
  for (size_t t = 0; t < p.terms.size(); ++t) {
    const int64_t steps = padded(depth_of(p.terms[t]), micro) / micro.pair;
    const int64_t from = p.piece * piece / micro.pair,
                  to = p.piece ? std::min(steps, from + p.piece / micro.pair) : steps;
    const Rows a = rows_of(cut, t, tile.row, first_packed, packed);
    micro.run(a.data + from * a.step * cut.element, a.row_stride, a.step,
              panel + (tile.column * steps + from * micro.columns) * micro.pair * cut.element, to - from,
              static_cast<int>(tile.rows), tile.vectors, acc, micro.columns, t == 0);
    panel += aligned(tile.width * steps * micro.pair * cut.element);
  }
}

// C[rows, columns] for rows [row, row_end), columns [column, column_end).
void multiply_part(const Cut& cut, int64_t row, int64_t row_end, int64_t column, int64_t column_end,
                   int64_t first_packed, const std::byte* packed, std::byte* memory) noexcept {
  const MicroKernel& micro = cut.micro;
  const Product& p = cut.product;
  std::byte* const panels = memory;
  float* const scratch = reinterpret_cast<float*>(memory + cut.b_bytes);
  alignas(64) float acc[kMostTile];
  const int64_t width = cut.group * micro.columns, unit = cut.unit * micro.columns;
  for (int64_t group = column; group < column_end; group += width) {
    const int64_t group_end = std::min(group + width, column_end);
    std::byte* place = panels;
    for (const Term& term : p.terms) {
      pack_b(micro, term, depth_of(term), group, round_up(group_end - group, unit), p.n, place, scratch);
      place += aligned(width * padded(depth_of(term), micro) * cut.element);
    }
    for (int64_t r = row; r < row_end; r += micro.rows)
      for (int64_t c = group; c < group_end; c += micro.columns) {
        const int64_t rows = std::min<int64_t>(micro.rows, row_end - r);
        const int64_t columns = std::min<int64_t>(micro.columns, group_end - c);
        const int vectors = static_cast<int>((columns + micro.lanes - 1) / micro.lanes);
        fetch_part(p, r, rows, c, columns);
        const int64_t pieces = p.piece ? (depth_of(p.terms[0]) + p.piece - 1) / p.piece : 1;
        for (int64_t piece = 0; piece < pieces; ++piece) {
          multiply_tile(cut, {r, rows, c - group, vectors, width}, piece, first_packed, packed, panels, acc);
          store_part(cut, acc, r, rows, c, columns);
        }
      }
  }
}

}  // namespace

bool multiplies(Multiply multiply) { return multiply != Multiply::bf16 || micro_bf16() != nullptr; }

void Matrix::decode(int64_t i, int64_t first, int64_t count, float* to) const noexcept {
  const int64_t in_group = i % kInterleavedRows;
  if (codec->rows_of && i - in_group + kInterleavedRows <= rows)
    decode_interleaved(*codec->rows_of, row(i - in_group), in_group, first, count, to);
  else
    (codec->rows_of ? codec->rows_of : codec)->decode(row(i) + codec->bytes(first), to, count);
}

int64_t gemm_workspace_bytes(Multiply multiply, const Product& product, int threads) {
  const Cut cut(multiply, product);
  return cut.a_bytes + threads * cut.thread_bytes();
}

void gemm(Threads& threads, Multiply multiply, const Product& product, std::span<std::byte> workspace) noexcept {
  const Cut cut(multiply, product);
  std::byte* const packed = workspace.data();
  const auto memory = [&](int thread) { return packed + cut.a_bytes + thread * cut.thread_bytes(); };
  const int64_t chunk = cut.packed_rows ? cut.packed_rows : product.m;
  const int64_t width = cut.unit * cut.micro.columns;
  const bool by_columns = product.n >= width * threads.count();
  for (int64_t first = 0; first < product.m; first += chunk) {
    const int64_t end = std::min(product.m, first + chunk);
    if (cut.packed_rows)
      threads.split(end - first, cut.micro.rows, [&](int64_t from, int64_t to, int thread) {
        pack_rows(cut, first, first + from, first + to, packed + 0, memory(thread) + cut.b_bytes);
      });
    if (by_columns)
      threads.split(product.n, width, [&](int64_t from, int64_t to, int thread) {
        multiply_part(cut, first, end, from, to, first, packed, memory(thread));
      });
    else
      threads.split(end - first, cut.micro.rows, [&](int64_t from, int64_t to, int thread) {
        multiply_part(cut, first + from, first + to, 0, product.n, first, packed, memory(thread));
      });
  }
}

}  // namespace thimble
