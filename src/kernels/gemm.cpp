#include "kernels/gemm.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "codecs/interleaved.h"
#include "core/round.h"
#include "kernels/gemm_pack.h"
#include "kernels/micro.h"
#include "kernels/tile.h"

namespace thimble {
namespace {

// Elements of B packed together, which stay in the second-level cache; more where that makes two panels of one.
constexpr int64_t kGroupElements = 192 << 10, kPairElements = 320 << 10;
// Elements of B from which on threads pack its panels together: below, meeting once more costs more than packing.
constexpr int64_t kSharedElements = 64 << 10;
constexpr int64_t kLine = 64;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t aligned(int64_t bytes) { return round_up(bytes, 64); }

int64_t depth_of(const Term& term) { return term.a_transposed ? term.a.rows : term.a.columns; }

// What of C threads divide, and so who packs the panels of B: of its columns, each thread its own; of its rows, each
// thread all of them, or all threads each panel once, which they then share.
enum class Sharing : uint8_t { columns, rows, panels };

// How a product is cut, and how much of the workspace its pieces take.
struct Cut {
  const MicroKernel& micro;
  const Product& product;
  int64_t element;  // bytes of one multiplied number
  int64_t unit;     // panels that must be packed together
  int64_t group;    // panels packed together
  int64_t block;    // rows of A that meet a group together
  int threads;
  Sharing sharing;
  int64_t a_bytes = 0;  // a thread's block of packed A, all terms
  int64_t b_bytes = 0;  // its panels, all terms; where they are shared, its part of the room for them
  int64_t scratch_bytes = 0;
  // No product of the same terms with fewer rows, columns or k takes more; one of odd k may have to pack its A.
  int64_t most_a_bytes = 0, most_b_bytes = 0;

  Cut(Multiply multiply, const Product& p, int count)
      : micro(micro_kernel(multiply)), product(p), block(micro.rows), threads(count) {
    assert(int64_t{micro.rows} * micro.columns <= kMostTile);
    element = micro.pair == 2 ? 2 : 4;
    unit = 1;
    int64_t depth = 0, packed_depth = 0;
    for (const Term& term : p.terms) {
      unit = std::max(unit, panels_together(micro, term.b.codec->block, term.b_transposed));
      depth += padded(depth_of(term), micro);
      if (!reads_directly(micro, term, depth_of(term))) packed_depth += depth_of(term);
      if (term.a_transposed) block = kPackRows;  // what is read of a row of A^T is whole cache lines
    }
    const int64_t panels = ceil_div(p.n, micro.columns), units = ceil_div(panels, unit);
    const int64_t unit_elements = unit * micro.columns * depth;
    const int64_t most = std::max({int64_t{1}, std::min(kMostTogether / unit, kGroupElements / unit_elements),
                                   std::min<int64_t>(2, kPairElements / unit_elements)});
    const int64_t by_one = ceil_div(units, threads);  // units of panels, where threads divide the columns
    sharing = sharing_of(units, most, packed_depth, depth);
    const int64_t share = sharing == Sharing::columns ? by_one : units;
    group = ceil_div(share, ceil_div(share, most)) * unit;
    int64_t scratch = 0;
    for (const Term& term : p.terms) {
      const int64_t k = depth_of(term);
      a_bytes += packed_bytes(term);
      most_a_bytes += block_bytes(term);
      b_bytes += aligned(group * micro.columns * padded(k, micro) * element);
      most_b_bytes += kLine;  // of rounding
      scratch = std::max(
          {scratch, pack_scratch_floats(micro, k, term.b.codec->block), pack_a_scratch_floats(k, term.a.codec->block)});
    }
    scratch_bytes = aligned(scratch * 4);
    const bool pairs = unit_elements > kGroupElements / 2;  // or a product of smaller k has
    const int64_t most_elements = pairs ? std::max(kPairElements, unit_elements) : kGroupElements;
    most_b_bytes += std::min(units * unit_elements, most_elements) * element;
    most_b_bytes = aligned(std::max(b_bytes, most_b_bytes));
  }
  // Of a block of this term's A; 0: the micro-kernel reads it where it is.
  int64_t packed_bytes(const Term& term) const {
    return reads_directly(micro, term, depth_of(term)) ? 0 : block_bytes(term);
  }
  int64_t block_bytes(const Term& term) const { return aligned(block * padded(depth_of(term), micro) * element); }
  int64_t thread_bytes() const { return a_bytes + b_bytes + scratch_bytes; }

  // Panels that are packed at once, by one thread or by all.
  int64_t panels_at_once() const { return sharing == Sharing::panels ? threads * group : group; }

 private:
  // Threads divide the columns where that packs no more numbers, all threads together, and leaves none of them idle.
  Sharing sharing_of(int64_t units, int64_t most, int64_t packed_depth, int64_t depth) const {
    if (threads == 1) return Sharing::rows;
    const int64_t by_one = ceil_div(units, threads), packed_a = product.m * packed_depth, b = product.n * depth;
    const bool even = units >= threads && by_one * threads * 8 <= units * 9;
    const int64_t columns = threads * ceil_div(by_one, most) * packed_a + b, rows = ceil_div(units, most) * packed_a;
    if (b < kSharedElements)
      return units >= threads && columns <= rows + threads * b ? Sharing::columns : Sharing::rows;
    return even && columns <= rows + b ? Sharing::columns : Sharing::panels;
  }
};

// A thread's memory, and that of its panels: threads lie one after another, then their panels, which may be one room.
struct Room {
  std::byte *a, *b;
  float* scratch;

  Room(const Cut& cut, std::byte* workspace, int thread) {
    const int64_t own = cut.a_bytes + cut.scratch_bytes;
    a = workspace + thread * own;
    scratch = reinterpret_cast<float*>(a + cut.a_bytes);
    b = workspace + cut.threads * own + (cut.sharing == Sharing::panels ? 0 : thread * cut.b_bytes);
  }
};

// Packs rows [row, row + count) of the A of every term that needs it.
void pack_rows(const Cut& cut, int64_t row, int64_t count, const Room& room) noexcept {
  std::byte* to = room.a;
  for (const Term& term : cut.product.terms) {
    const int64_t bytes = cut.packed_bytes(term);
    if (bytes > 0) pack_a(cut.micro, term, depth_of(term), row, count, to, room.scratch);
    to += bytes;
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
  const int64_t element = p.codec->block_bytes, stride = p.row_bytes ? p.row_bytes : p.n * element;
  for (int64_t r = row; r < row + rows; ++r) {
    const std::byte* const from = p.c + r * stride + column * element;
    for (int64_t byte = 0; byte < columns * element; byte += kLine) __builtin_prefetch(from + byte, 1);
  }
}

// Panels of B that lie in memory, of all terms: columns [column, ...) of C, for each term `width` of them.
struct Panels {
  std::byte* data;
  int64_t column, width;

  // Where the panel from `at` on begins, in the term that begins `before` bytes after the first.
  std::byte* place(const Cut& cut, int64_t before, int64_t depth, int64_t at) const {
    return data + before + (at - column) * depth * cut.element;
  }
  int64_t bytes(const Cut& cut, int64_t depth) const { return aligned(width * depth * cut.element); }
};

// Packs columns [column, column_end).
void pack_panels(const Cut& cut, const Panels& panels, int64_t column, int64_t column_end, float* scratch) noexcept {
  int64_t before = 0;
  for (const Term& term : cut.product.terms) {
    const int64_t k = depth_of(term), depth = padded(k, cut.micro);
    pack_b(cut.micro, term, k, column, round_up(column_end - column, cut.unit * cut.micro.columns), cut.product.n,
           panels.place(cut, before, depth, column), scratch);
    before += panels.bytes(cut, depth);
  }
}

struct Tile {
  int64_t row, rows;
  int64_t in_block;  // rows of the block before it
  int64_t column, columns;
};

// acc = all terms of one tile.
void multiply_tile(const Cut& cut, const Tile& tile, const Panels& panels, const std::byte* packed,
                   float* acc) noexcept {
  const MicroKernel& micro = cut.micro;
  const int vectors = static_cast<int>(ceil_div(tile.columns, micro.lanes));
  bool fresh = true;
  int64_t before = 0;
  for (const Term& term : cut.product.terms) {
    const int64_t k = depth_of(term), depth = padded(k, micro), bytes = cut.packed_bytes(term);
    const Rows a = bytes > 0 ? packed_rows(micro, term.a_transposed, k, packed, tile.in_block)
                             : Rows{term.a.row(tile.row), term.a.stride() / cut.element, micro.pair};
    micro.run(a.data, a.row_stride, a.step, panels.place(cut, before, depth, tile.column), depth / micro.pair,
              static_cast<int>(tile.rows), vectors, acc, micro.columns, std::exchange(fresh, false));
    packed += bytes;
    before += panels.bytes(cut, depth);
  }
}

// What threads take: the panels of one group with some rows of A, in an order in which those of a thread's part follow
// one another with the same panels as long as there are.
class Items {
 public:
  static constexpr int64_t kRows = 128;  // of one item, about: a millisecond, so that little waits for a thread

  explicit Items(const Cut& cut) : Items(cut, 0, cut.product.n) {}
  // Of columns [column, column_end) of C, whose panels are there.
  Items(const Cut& cut, int64_t column, int64_t column_end) : cut(cut), first_{column, column_end} {
    const Product& p = cut.product;
    switch (cut.sharing) {
      case Sharing::columns:
        parts_ = cut.threads;
        groups_ = ceil_div(most(column_unit(), p.n), cut.group / cut.unit);
        runs_ = ceil_div(p.m, kRows);
        break;
      case Sharing::rows:
        parts_ = cut.threads;
        groups_ = ceil_div(p.n, width());
        runs_ = ceil_div(most(cut.micro.rows, p.m) * cut.micro.rows, kRows);
        break;
      case Sharing::panels:
        // Several for each thread, as they take different times; the rows of an item meet panels from further away.
        groups_ = ceil_div(column_end - column, width());
        parts_ = ceil_div(p.m, std::clamp(p.m * groups_ / (kItems * cut.threads) / cut.block * cut.block, cut.block,
                                          round_up(kRows, cut.block)));
        runs_ = 1;
    }
  }
  int64_t count() const { return parts_ * groups_ * runs_; }

  struct Item {
    int64_t row, row_end, column, column_end;  // empty where a part has fewer
  };
  Item operator[](int64_t i) const {
    const int64_t part = i / (groups_ * runs_), group = i / runs_ % groups_, run = i % runs_;
    const bool by_columns = cut.sharing == Sharing::columns;
    const auto [row, row_end] = by_columns ? Range{0, cut.product.m} : part_of(cut.product.m, cut.micro.rows, part);
    const auto [column, column_end] = by_columns ? part_of(cut.product.n, column_unit(), part) : first_;
    const int64_t rows = round_up(ceil_div(row_end - row, runs_), cut.block);
    return {std::min(row_end, row + run * rows), std::min(row_end, row + (run + 1) * rows),
            std::min(column_end, column + group * width()), std::min(column_end, column + (group + 1) * width())};
  }

  const Cut& cut;

 private:
  static constexpr int64_t kItems = 4;  // a thread, where panels are shared

  struct Range {
    int64_t begin, end;
  };
  int64_t width() const { return cut.group * cut.micro.columns; }
  int64_t column_unit() const { return cut.unit * cut.micro.columns; }
  int64_t most(int64_t grain, int64_t total) const { return ceil_div(ceil_div(total, grain), parts_); }
  Range part_of(int64_t total, int64_t grain, int64_t part) const {
    const int64_t grains = ceil_div(total, grain);
    return {std::min(total, grains * part / parts_ * grain), std::min(total, grains * (part + 1) / parts_ * grain)};
  }

  Range first_;
  int64_t parts_ = 1;              // of the columns of C, or of its rows
  int64_t groups_ = 1, runs_ = 1;  // of panels, and of rows, in a part
};

// One thread's way through the items that it takes.
class Worker {
 public:
  Worker(const Items& items, const Room& room)
      : items_(items), room_(room), panels_{room.b, -1, items.cut.group * items.cut.micro.columns} {}
  // Panels that all threads have packed.
  Worker(const Items& items, const Room& room, const Panels& panels) : items_(items), room_(room), panels_(panels) {}

  void operator()(int64_t begin, int64_t end) noexcept {
    for (int64_t i = begin; i < end; ++i) multiply(items_[i]);
  }

 private:
  void multiply(const Items::Item& item) noexcept {
    if (item.row == item.row_end || item.column == item.column_end) return;
    const Cut& cut = items_.cut;
    if (cut.sharing != Sharing::panels && panels_.column != item.column) {
      panels_.column = item.column;
      pack_panels(cut, panels_, item.column, item.column_end, room_.scratch);
    }
    for (int64_t block = item.row; block < item.row_end; block += cut.block) {
      const int64_t block_end = std::min(item.row_end, block + cut.block);
      if (cut.a_bytes > 0) pack_rows(cut, block, block_end - block, room_);
      for (int64_t r = block; r < block_end; r += cut.micro.rows)
        for (int64_t c = item.column; c < item.column_end; c += cut.micro.columns)
          run({r, std::min<int64_t>(cut.micro.rows, block_end - r), r - block, c,
               std::min<int64_t>(cut.micro.columns, item.column_end - c)});
    }
  }

  void run(const Tile& tile) noexcept {
    const Cut& cut = items_.cut;
    alignas(64) float acc[kMostTile];
    fetch_part(cut.product, tile.row, tile.rows, tile.column, tile.columns);
    multiply_tile(cut, tile, panels_, room_.a, acc);
    store_part(cut, acc, tile.row, tile.rows, tile.column, tile.columns);
  }

  const Items& items_;
  Room room_;
  Panels panels_;
};

// All threads pack some panels, then multiply with them.
void share_panels(Threads& threads, const Cut& cut, std::byte* workspace) noexcept {
  const int64_t width = cut.panels_at_once() * cut.micro.columns, unit = cut.unit * cut.micro.columns;
  const int64_t n = cut.product.n;
  for (int64_t column = 0; column < n; column += width) {
    const int64_t end = std::min(n, column + width);
    const Panels panels{Room(cut, workspace, 0).b, column, width};
    threads.share(ceil_div(end - column, unit), [&](int64_t from, int64_t to, int thread) {
      const Room room(cut, workspace, thread);
      for (int64_t i = from; i < to; ++i)
        pack_panels(cut, panels, column + i * unit, std::min(end, column + (i + 1) * unit), room.scratch);
    });
    const Items items(cut, column, end);
    threads.share_from(items.count(), [&](int thread) { return Worker(items, Room(cut, workspace, thread), panels); });
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
  const Cut cut(multiply, product, threads);
  return threads * (cut.most_a_bytes + cut.most_b_bytes + cut.scratch_bytes);
}

void gemm(Threads& threads, Multiply multiply, const Product& product, std::span<std::byte> workspace) noexcept {
  const Cut cut(multiply, product, threads.count());
  assert(threads.count() * cut.thread_bytes() <= std::ssize(workspace));
  if (cut.sharing == Sharing::panels) return share_panels(threads, cut, workspace.data());
  const Items items(cut);
  threads.share_from(items.count(), [&](int thread) { return Worker(items, Room(cut, workspace.data(), thread)); });
}

}  // namespace thimble
