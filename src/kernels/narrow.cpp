#include "kernels/narrow.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "codecs/nf4_levels.h"
#include "codecs/pattern_body.h"
#include "core/round.h"
#include "kernels/dot/int8_dot.h"
#include "kernels/register_lanes.h"
#include "kernels/tile.h"
#include "kernels/vector.h"

namespace thimble {
namespace {

constexpr int kTogether = 4;            // weight rows, and rows of x, that meet in registers
constexpr int64_t kColumns = kDotRows;  // weight rows whose results are stored together
constexpr int64_t kPrepareRows = 4;     // of x, by one thread at least

int64_t padded(int64_t k) { return (k + kLanes - 1) / kLanes * kLanes; }
int64_t aligned(int64_t bytes) { return round_up(bytes, 64); }

// A weight whose rows can be read where they lie.
bool reads_directly(const Matrix& weight) {
  return (weight.codec == &kF32 && weight.columns % kLanes == 0) ||
         (weight.codec == &kBf16 && weight.columns % (2 * kLanes) == 0) ||
         (weight.codec == &kNf4 && weight.columns % kNf4.block == 0);
}

// A weight with a pattern whose rows are multiplied as rows of bf16 are: to the same bits as without it.
const Pattern* as_bf16(const Matrix& weight) {
  const Pattern* const pattern = pattern_of(*weight.codec);
  return pattern && pattern->dense == &kBf16 && weight.columns % in_2_4::kBlock == 0 ? pattern : nullptr;
}
// Whether blocks of a pattern are unpacked in registers; where these are few, some rows at a time in memory.
bool in_registers() { return isa_has(Isa::avx512); }

// Beside numbers that come in pairs of an even and an odd one, x is taken apart (lanes.h).
bool takes_apart(const Term& term) {
  return (term.b.codec != &kF32 && reads_directly(term.b)) || as_bf16(term.b) != nullptr;
}

// Where things lie in the workspace: x of all terms, as f32 or int8; then for each thread rows and results.
struct Plan {
  std::span<const Product> products;
  bool int8;
  int64_t x_bytes = 0, row_bytes = 0, result_bytes = 0;
  std::array<int64_t, kMostNarrowTerms> x_at;  // of every term, in order
  std::array<bool, kMostNarrowTerms> shared;   // with a term before

  Plan(Multiply multiply, std::span<const Product> products) : products(products), int8(multiply == Multiply::int8) {
    std::array<const Term*, kMostNarrowTerms> terms;
    size_t count = 0;
    for (const Product& p : products) {
      result_bytes = std::max(result_bytes, aligned(3 * p.m * kColumns * 4));
      for (const Term& term : p.terms) {
        // Codecs decode whole blocks.
        row_bytes = std::max(row_bytes, aligned(kTogether * (padded(term.a.columns) + term.b.codec->block) * 4));
        const auto same = std::find_if(terms.begin(), terms.begin() + count,
                                       [&](const Term* other) { return shares_x(term, *other); });
        shared[count] = same != terms.begin() + count;
        x_at[count] = shared[count] ? x_at[static_cast<size_t>(same - terms.begin())] : x_bytes;
        if (!shared[count]) x_bytes += aligned(p.m * x_row_bytes(term));
        terms[count++] = &term;
      }
    }
  }
  const Int8Format* format(const Term& term) const {
    return int8 ? int8_format(*term.b.codec, term.a.columns) : nullptr;
  }
  int64_t x_row_bytes(const Term& term) const {
    const int64_t k = term.a.columns;
    return format(term) ? Int8Rows::row_bytes(k) : padded(k) * 4;
  }
  int64_t thread_bytes() const { return row_bytes + result_bytes; }

 private:
  // In planning there is no data yet, and nothing is shared.
  bool shares_x(const Term& a, const Term& b) const {
    return a.a.data && a.a.data == b.a.data && a.a.columns == b.a.columns && format(a) == format(b) &&
           takes_apart(a) == takes_apart(b);
  }
};

// Rows of x and of a weight for tiles(): `stride` elements apart (of a weight in blocks: blocks), `depth` of them
// multiplied, whole lanes. Beside anything but f32, x is taken apart (lanes.h).
template <class Weight>
struct Rows {
  const float* x;
  int64_t x_stride;
  const Weight* w;
  int64_t w_stride;
  int64_t depth;
};

// A block of codecs/pattern.h, unpacked in registers.
struct Block24 {
  std::byte mask[in_2_4::kMaskBytes], values[in_2_4::kBlock];
};

// A block of nf4, likewise.
struct BlockNf4 {
  std::byte scale[4], codes[32];
};

template <class Weight>
constexpr int64_t kElements = 1;  // of a Weight
template <>
constexpr int64_t kElements<Block24> = in_2_4::kBlock;
template <>
constexpr int64_t kElements<BlockNf4> = 2 * sizeof(BlockNf4::codes);

// The even, and the odd of elements [i, i + 32) of a row.
template <int bytes>
THIMBLE_BODY RegisterPair<bytes> pair_at(const uint16_t* row, int64_t i) noexcept {
  return pair_of(load<RegisterWords<bytes>>(row + i));
}
template <int bytes>
THIMBLE_BODY RegisterPair<bytes> pair_at(const Block24* row, int64_t i) noexcept {
  const Block24* const at = row + i / in_2_4::kBlock;
  using Half = uint32_t __attribute__((vector_size(32), may_alias));
  const auto half = [&](int i) __attribute__((always_inline)) {
    const auto a = in_2_4::unpack_eight(at->mask, i), b = in_2_4::unpack_eight(at->mask, i + 1);
    const auto both = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return reinterpret_cast<const Half&>(both);
  };
  const LaneWords words =
      __builtin_shufflevector(half(0), half(2), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return pair_of(__builtin_bit_cast(RegisterWords<bytes>, words));
}
template <int bytes>
THIMBLE_BODY RegisterPair<bytes> pair_at(const BlockNf4* row, int64_t i) noexcept {
  const BlockNf4* const at = row + i / kElements<BlockNf4>;
  float scale;
  std::memcpy(&scale, at->scale, sizeof scale);
  const RegisterWords<bytes> pairs = load_bytes<bytes>(at->codes + i % kElements<BlockNf4> / 2);
  return {look_up<bytes>(kLevelsNf4, pairs >> 4) * scale, look_up<bytes>(kLevelsNf4, pairs) * scale};
}

// Sums of the products of R rows of x and kTogether of a weight.
template <int R, int bytes>
using Sums = RegisterLanes<bytes>[R][kTogether];

// sums[r][c] += x_r * w_c for the next elements of each.
template <int R, int bytes>
THIMBLE_BODY void step(Sums<R, bytes>& sums, const Rows<float>& rows, int64_t i) noexcept {
  using In = RegisterLanes<bytes>;
  In b[kTogether];
#pragma GCC unroll 4
  for (int c = 0; c < kTogether; ++c) b[c] = load<In>(rows.w + c * rows.w_stride + i);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const In a = load<In>(rows.x + r * rows.x_stride + i);
#pragma GCC unroll 4
    for (int c = 0; c < kTogether; ++c) sums[r][c] = sums[r][c] + a * b[c];
  }
}
template <int R, int bytes, class Weight>
THIMBLE_BODY void step(Sums<R, bytes>& sums, const Rows<Weight>& rows, int64_t i) noexcept {
  using In = RegisterLanes<bytes>;
#pragma GCC unroll 4
  for (int c = 0; c < kTogether; ++c) {
    const RegisterPair<bytes> b = pair_at<bytes>(rows.w + c * rows.w_stride, i);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      sums[r][c] = sums[r][c] + load<In>(rows.x + r * rows.x_stride + i) * b.even;
      sums[r][c] = sums[r][c] + load<In>(rows.x + r * rows.x_stride + i + kLanes) * b.odd;
    }
  }
}

// out[r * kColumns + c] += scale * dot(x_r, w_c), r < R, c < kTogether.
template <int R, int bytes, class Weight>
THIMBLE_BODY void tile(const Rows<Weight>& rows, float scale, float* out) noexcept {
  constexpr int64_t kStep = std::is_same_v<Weight, float> ? kLanes : 2 * kLanes;
  constexpr int64_t kUnit = kElements<Weight>;
  Sums<R, bytes> sums = {};
  for (int64_t i = 0; i < rows.depth; i += kStep) {
#pragma GCC unroll 4
    for (int64_t c = 0; c < kTogether; ++c)  // the next rows, in the order of addresses: what memory is fast at
      __builtin_prefetch(rows.w + kTogether * (rows.w_stride + i / kUnit) + c * kStep / kUnit);
    step<R, bytes>(sums, rows, i);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < kTogether; ++c) out[r * kColumns + c] += scale * fold(sums[r][c]);
}

template <class Weight, int bytes>
THIMBLE_BODY void tiles_body(const Rows<Weight>& all, int64_t m, float scale, float* out) noexcept {
  Rows<Weight> rows = all;
  for (; m >= 4; m -= 4, rows.x += 4 * rows.x_stride, out += 4 * kColumns) tile<4, bytes>(rows, scale, out);
  if (m == 3) tile<3, bytes>(rows, scale, out);
  if (m == 2) tile<2, bytes>(rows, scale, out);
  if (m == 1) tile<1, bytes>(rows, scale, out);
}
template <class Weight>
constexpr auto* tiles = dispatched<tiles_body<Weight, 64>, tiles_body<Weight, 32>, tiles_body<Weight, 16>>;

// Row `row` of x as f32, zeros up to whole lanes.
void widen(const Term& term, int64_t row, float* to) noexcept {
  const int64_t k = term.a.columns;
  if (term.a.codec == &kBf16)
    from_bf16(reinterpret_cast<const uint16_t*>(term.a.row(row)), to, k);
  else
    term.a.codec->decode(term.a.row(row), to, k);
  std::fill(to + k, to + padded(k), 0.0f);
  if (takes_apart(term)) take_apart(to, to, k);
}

// Rows [begin, end) of x as the products read them.
void prepare(const Plan& plan, int64_t begin, int64_t end, std::byte* all_x, std::byte* memory) noexcept {
  size_t t = 0;
  for (const Product& product : plan.products)
    for (const Term& term : product.terms) {
      const size_t i = t++;
      if (plan.shared[i]) continue;
      const int64_t k = term.a.columns;
      const Int8Format* const format = plan.format(term);
      std::byte* const x = all_x + plan.x_at[i];
      for (int64_t row = begin; row < end; ++row) {
        float* const wide = reinterpret_cast<float*>(format ? memory : x + row * padded(k) * 4);
        widen(term, row, wide);
        if (format) quantise_int8(wide, *format, {x, k}, row);
      }
    }
}

// One term of `columns` columns from `column` on, with x in f32.
void multiply_wide(const Term& term, int64_t column, int64_t columns, const float* x, float* rows,
                   float* results) noexcept {
  const int64_t k = term.a.columns, stride = padded(k), m = term.a.rows;
  for (int64_t c = 0; c < columns; c += kTogether) {
    const int64_t count = std::min<int64_t>(kTogether, columns - c);
    const auto from = [&](auto* data, int64_t weight_stride) {
      using Weight = std::remove_cvref_t<decltype(*data)>;
      tiles<Weight>(Rows<Weight>{x, stride, data, weight_stride, stride}, m, term.scale, results + c);
    };
    const std::byte* data = term.b.row(column + c);
    int64_t row_bytes = term.b.stride();
    const Pattern* const pattern = as_bf16(term.b);
    if (pattern && !in_registers()) {
      for (int64_t i = 0; i < count; ++i)
        pattern->unpack(term.b.row(column + c + i), reinterpret_cast<std::byte*>(rows) + 2 * i * k, k);
      from(reinterpret_cast<const uint16_t*>(rows), k);
      continue;
    }
    if (!pattern && !reads_directly(term.b)) {
      for (int64_t i = 0; i < count; ++i) {
        term.b.decode(column + c + i, 0, k, rows + i * stride);
        std::fill(rows + i * stride + k, rows + (i + 1) * stride, 0.0f);
      }
      from(rows, stride);
      continue;
    }
    if (count < kTogether) {  // there is nothing to read behind the last row
      row_bytes = term.b.codec->bytes(k);
      data = reinterpret_cast<const std::byte*>(rows);
      for (int64_t i = 0; i < count; ++i)
        std::memcpy(reinterpret_cast<std::byte*>(rows) + i * row_bytes, term.b.row(column + c + i),
                    static_cast<size_t>(row_bytes));
    }
    if (pattern)
      from(reinterpret_cast<const Block24*>(data), row_bytes / in_2_4::kBytes);
    else if (term.b.codec == &kBf16)
      from(reinterpret_cast<const uint16_t*>(data), row_bytes / 2);
    else if (term.b.codec == &kNf4)
      from(reinterpret_cast<const BlockNf4*>(data), row_bytes / static_cast<int64_t>(sizeof(BlockNf4)));
    else
      from(reinterpret_cast<const float*>(data), row_bytes / 4);
  }
}

// Bias and addend in f32, one rounding.
void store(const Product& p, const float* results, int64_t column, int64_t columns) noexcept {
  const int64_t element = p.codec->block_bytes, stride = p.row_bytes ? p.row_bytes / element : p.n;
  const TileStore tile{results, kColumns, p.m, columns, p.bias ? p.bias + column : nullptr, stride};
  std::byte* const c = p.c + column * element;
  const std::byte* const addend = p.addend ? p.addend + column * element : nullptr;
  if (p.codec == &kF32)
    store_tile(tile, reinterpret_cast<float*>(c), reinterpret_cast<const float*>(addend));
  else
    store_tile(tile, reinterpret_cast<uint16_t*>(c), reinterpret_cast<const uint16_t*>(addend));
}

// 16 columns of a product, or what is left of them, whose first term is number `first_term` of all.
void multiply_columns(const Plan& plan, const Product& p, size_t first_term, int64_t column, const std::byte* all_x,
                      std::byte* memory) noexcept {
  float* const rows = reinterpret_cast<float*>(memory);
  float* const results = reinterpret_cast<float*>(memory + plan.row_bytes);
  float* const sums = results + p.m * kColumns;
  const int64_t columns = std::min(kColumns, p.n - column);
  std::fill(results, results + p.m * kColumns, 0.0f);
  for (size_t i = 0; i < p.terms.size(); ++i) {
    const Term& term = p.terms[i];
    std::byte* const x = const_cast<std::byte*>(all_x) + plan.x_at[first_term + i];
    if (const Int8Format* const format = plan.format(term))
      multiply_int8(
          {*format, term.b.row(column), term.b.stride(), columns, term.b.codec->rows_of && columns == kInterleavedRows},
          {x, term.a.columns}, p.m, term.scale, results, sums);
    else
      multiply_wide(term, column, columns, reinterpret_cast<const float*>(x), rows, results);
  }
  store(p, results, column, columns);
}

int64_t groups_of(const Product& p) { return (p.n + kColumns - 1) / kColumns; }

// see(product, number of its first term, first, last) for what groups [begin, end), counted over all products, are of
// each product.
template <class See>
void each_part(const Plan& plan, int64_t begin, int64_t end, See see) noexcept {
  int64_t first = 0;
  size_t first_term = 0;
  for (const Product& p : plan.products) {
    const int64_t from = std::max(begin, first), to = std::min(end, first + groups_of(p));
    if (from < to) see(p, first_term, from - first, to - first);
    first += groups_of(p);
    first_term += p.terms.size();
  }
}

void multiply_groups(const Plan& plan, int64_t begin, int64_t end, const std::byte* x, std::byte* memory) noexcept {
  each_part(plan, begin, end, [&](const Product& p, size_t first_term, int64_t from, int64_t to) {
    for (int64_t g = from; g < to; ++g) multiply_columns(plan, p, first_term, g * kColumns, x, memory);
  });
}

// The weights that those groups read, or the first of them.
Threads::Ahead weights_of(const Plan& plan, int64_t begin, int64_t end) noexcept {
  Threads::Ahead ahead;
  size_t count = 0;
  each_part(plan, begin, end, [&](const Product& p, size_t, int64_t from, int64_t to) {
    for (const Term& term : p.terms)
      if (count < ahead.size()) {
        const std::byte* const data = term.b.row(from * kColumns);
        ahead[count++] = {data, static_cast<size_t>(term.b.row(std::min(to * kColumns, p.n)) - data)};
      }
  });
  return ahead;
}

}  // namespace

int64_t narrow_workspace_bytes(Multiply multiply, std::span<const Product> products, int threads) {
  const Plan plan(multiply, products);
  return plan.x_bytes + threads * plan.thread_bytes();
}

void narrow(Threads& threads, Multiply multiply, std::span<const Product> products,
            std::span<std::byte> workspace) noexcept {
  const Plan plan(multiply, products);
  std::byte* const x = workspace.data();
  const auto memory = [&](int thread) { return x + plan.x_bytes + thread * plan.thread_bytes(); };
  threads.split(products[0].m, kPrepareRows,
                [&](int64_t begin, int64_t end, int thread) { prepare(plan, begin, end, x, memory(thread)); });
  int64_t groups = 0;
  for (const Product& p : products) groups += groups_of(p);
  threads.share(
      groups, [&](int64_t begin, int64_t end, int thread) { multiply_groups(plan, begin, end, x, memory(thread)); },
      [&](int64_t begin, int64_t end) { return weights_of(plan, begin, end); });
}

}  // namespace thimble
