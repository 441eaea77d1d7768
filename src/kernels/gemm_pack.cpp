#include "kernels/gemm_pack.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "codecs/pattern.h"
#include "kernels/round_bf16.h"
#include "kernels/vector.h"
#include "kernels/words.h"

namespace thimble {
namespace {

constexpr int64_t kStrip = 16;  // rows transposed together

// Decodes elements [begin, end) of a row into `to`; decodes whole blocks, so up to a block more on either side.
// Returns where element `begin` is.
float* decode_range(const Matrix& matrix, int64_t row, int64_t begin, int64_t end, float* to) noexcept {
  const int64_t block = matrix.codec->block;
  const int64_t first = begin / block * block;
  const int64_t last = std::min((end + block - 1) / block * block, matrix.columns);
  matrix.decode(row, first, last - first, to);
  return to + (begin - first);
}

// Whether B is a master in f32 that meets activations in bf16.
bool rounds(const Term& term) { return term.a.codec == &kBf16 && term.b.codec == &kF32; }

// The same of B, as it is multiplied: scaled, and perhaps rounded.
float* decode_b(const Term& term, int64_t row, int64_t begin, int64_t end, float* to) noexcept {
  float* const values = decode_range(term.b, row, begin, end, to);
  if (term.scale != 1)
    for (int64_t i = 0; i < end - begin; ++i) values[i] *= term.scale;
  if (rounds(term)) round_to_bf16(values, end - begin);
  return values;
}

bool plain(const Codec& codec) { return &codec == &kF32 || &codec == &kBf16; }
bool plain(const Matrix& matrix) { return plain(*matrix.codec); }

WordRows words_of(const Matrix& matrix, int64_t row, int64_t column) {
  return {matrix.row(row) + matrix.codec->bytes(column), matrix.codec, matrix.stride() / matrix.codec->block_bytes};
}

// What words of B hold.
Word word_of(const MicroKernel& micro, const Term& term) {
  return micro.pair == 2 ? Word::pair : rounds(term) ? Word::rounded : Word::f32;
}

// One strip of up to 16 columns of B = rows of W [n, k], turned into the panel; decoded row by row where they cannot
// be read where they are.
void pack_strip(const MicroKernel& micro, const Term& term, int64_t k, int64_t row, int64_t rows, uint32_t* panel,
                float* scratch) noexcept {
  const int64_t words = padded(k, micro) / micro.pair;
  const int64_t all = std::min<int64_t>(kStrip, micro.lanes);
  if (rows == all && k % micro.pair == 0 && term.scale == 1 && plain(term.b))
    return turn_rows(word_of(micro, term), words_of(term.b, row, 0), all, words, panel, micro.columns);
  const int64_t room = k + 2 * term.b.codec->block + 2;
  uint32_t* const strip = reinterpret_cast<uint32_t*>(scratch + room);
  const Pattern* const pattern = pattern_of(*term.b.codec);
  if (rows == all && k % micro.pair == 0 && term.scale == 1 && pattern && plain(*pattern->dense)) {
    auto* const to = reinterpret_cast<std::byte*>(strip);
    for (int64_t r = 0; r < rows; ++r) pattern->unpack(term.b.row(row + r), to + pattern->dense->bytes(r * k), k);
    return turn_rows(word_of(micro, term), {to, pattern->dense, k}, all, words, panel, micro.columns);
  }
  for (int64_t r = 0; r < rows; ++r) {
    uint32_t* const to = strip + r * words;
    if (micro.pair == 1) {
      decode_b(term, row + r, 0, k, reinterpret_cast<float*>(to));
      continue;
    }
    float* const values = decode_b(term, row + r, 0, k, scratch);
    if (k % 2) values[k] = 0;
    to_bf16(values, reinterpret_cast<uint16_t*>(to), words * 2);
  }
  if (rows < kStrip) std::memset(strip + rows * words, 0, static_cast<size_t>((kStrip - rows) * words * 4));
  turn_rows(Word::f32, {reinterpret_cast<const std::byte*>(strip), &kF32, words}, all, words, panel, micro.columns);
}

void pack_transposed(const MicroKernel& micro, const Term& term, int64_t k, int64_t column, int64_t count, int64_t n,
                     std::byte* panels, float* scratch) noexcept {
  const int64_t words = padded(k, micro) / micro.pair;
  const int64_t strip = std::min<int64_t>(kStrip, micro.lanes);
  for (int64_t c = 0; c < std::min(count, n - column); c += strip) {
    uint32_t* const panel = reinterpret_cast<uint32_t*>(panels) + (c / micro.columns * words) * micro.columns;
    const int64_t rows = std::min(n - (column + c), strip);
    pack_strip(micro, term, k, column + c, rows, panel + c % micro.columns, scratch);
  }
}

// B = W [k, n] as it lies: rows k (and k + 1) side by side.
void pack_straight(const MicroKernel& micro, const Term& term, int64_t k, int64_t column, int64_t count, int64_t n,
                   std::byte* panels, float* scratch) noexcept {
  const int64_t words = padded(k, micro) / micro.pair;
  uint32_t* to = reinterpret_cast<uint32_t*>(panels);
  if (k % micro.pair == 0 && term.scale == 1 && plain(term.b)) {
    const int64_t whole = std::clamp<int64_t>(n - column, 0, count) / micro.columns;
    cut_tiles(word_of(micro, term), words_of(term.b, 0, column), {words, whole, micro.columns}, to);
    column += whole * micro.columns, count -= whole * micro.columns, to += whole * words * micro.columns;
  }
  if (count == 0) return;
  const int64_t width = std::clamp<int64_t>(n - column, 0, count);
  const int64_t room = count + 2 * term.b.codec->block;
  for (int64_t w = 0; w < words; ++w) {
    float* rows[2] = {nullptr, nullptr};
    for (int p = 0; p < micro.pair; ++p) {
      const int64_t i = w * micro.pair + p;
      float* const place = scratch + p * room;
      rows[p] = place;
      if (i < k && width > 0) {
        rows[p] = decode_b(term, i, column, column + width, place);
      }
      std::fill(rows[p] + (i < k ? width : 0), rows[p] + count, 0.0f);
    }
    for (int64_t c = 0; c < count; c += micro.columns) {
      uint32_t* const out = to + (c / micro.columns * words + w) * micro.columns;
      if (micro.pair == 2)
        interleave_bf16(rows[0] + c, rows[1] + c, out, micro.columns);
      else
        std::memcpy(out, rows[0] + c, static_cast<size_t>(micro.columns) * 4);
    }
  }
}

// use(w, r, word) for words w of columns row + r of A^T [k, m].
template <class Use>
void each_word_of_columns(const MicroKernel& micro, const Term& term, int64_t k, int64_t row, int64_t count,
                          float* scratch, const Use& use) noexcept {
  const int64_t room = kPackRows + 2 * term.a.codec->block;
  for (int64_t w = 0; w < padded(k, micro) / micro.pair; ++w) {
    const float* rows[2] = {};
    for (int p = 0; p < micro.pair; ++p)
      if (const int64_t i = w * micro.pair + p; i < k)
        rows[p] = decode_range(term.a, i, row, row + count, scratch + p * room);
    for (int64_t r = 0; r < count; ++r) {
      const float low = rows[0][r], high = rows[1] ? rows[1][r] : 0;
      use(w, r, micro.pair == 2 ? round_bf16(low) | round_bf16(high) << 16 : std::bit_cast<uint32_t>(low));
    }
  }
}

// A^T [k, m]: rows k (and k + 1) side by side, cut into tiles of micro.rows. Whole tiles of f32 or bf16 are read where
// they are.
void pack_a_transposed(const MicroKernel& micro, const Term& term, int64_t k, int64_t row, int64_t count, uint32_t* to,
                       float* scratch) noexcept {
  const int64_t words = padded(k, micro) / micro.pair, tile = micro.rows;
  if (count % tile == 0 && k % micro.pair == 0 && plain(term.a))
    return cut_tiles(micro.pair == 2 ? Word::pair : Word::f32, words_of(term.a, 0, row), {words, count / tile, tile},
                     to);
  each_word_of_columns(micro, term, k, row, count, scratch, [&](int64_t w, int64_t r, uint32_t word) {
    to[(r / tile * words + w) * tile + r % tile] = word;
  });
  if (count % tile)
    for (int64_t w = 0; w < words; ++w) {
      uint32_t* const last = to + (count / tile * words + w) * tile;
      std::fill(last + count % tile, last + tile, 0);
    }
}

// The same as rows that are read along k. Of f32 or bf16, squares of 16 x 16 words are turned where they can be.
void pack_a_along_rows(const MicroKernel& micro, const Term& term, int64_t k, int64_t row, int64_t count, uint32_t* to,
                       float* scratch) noexcept {
  const int64_t words = padded(k, micro) / micro.pair;
  if (count % kStrip || k % micro.pair || !plain(term.a))
    return each_word_of_columns(micro, term, k, row, count, scratch,
                                [&](int64_t w, int64_t r, uint32_t word) { to[r * words + w] = word; });
  alignas(64) uint32_t cut[kPackRows * kStrip];
  for (int64_t w = 0; w < words; w += kStrip) {
    const int64_t some = std::min(kStrip, words - w);
    cut_tiles(Word::pair, words_of(term.a, micro.pair * w, row), {some, count / kStrip, kStrip}, cut);
    for (int64_t r = 0; r < count; r += kStrip)
      turn_rows(Word::f32, {reinterpret_cast<const std::byte*>(cut + r * some), &kF32, kStrip}, some, kStrip,
                to + r * words + w, words);
  }
}

}  // namespace

const MicroKernel& micro_kernel(Multiply multiply) {
  const MicroKernel* const bf16 = multiply != Multiply::f32 ? micro_bf16() : nullptr;
  return bf16 ? *bf16 : micro_f32();
}

int64_t panels_together(const MicroKernel& micro, int64_t block, bool b_transposed) {
  if (b_transposed || block == 1) return 1;
  int64_t panels = 1;
  while (panels < kMostTogether && panels * micro.columns % block != 0) ++panels;
  return panels;
}

int64_t pack_scratch_floats(const MicroKernel& micro, int64_t k, int64_t block) {
  const int64_t transposed = k + 2 * block + 2 + kStrip * padded(k, micro) / micro.pair;
  const int64_t straight = 2 * (kMostTogether * micro.columns + 2 * block);
  return std::max(transposed, straight) + 16;
}

void pack_b(const MicroKernel& micro, const Term& term, int64_t k, int64_t column, int64_t count, int64_t n,
            std::byte* panels, float* scratch) noexcept {
  const auto pack = term.b_transposed ? pack_transposed : pack_straight;
  pack(micro, term, k, column, count, n, panels, scratch);
}

bool reads_directly(const MicroKernel& micro, const Term& term, int64_t k) {
  return !term.a_transposed && k % micro.pair == 0 && term.a.codec == (micro.pair == 2 ? &kBf16 : &kF32);
}

int64_t pack_a_scratch_floats(int64_t k, int64_t block) { return std::max(k + 2, 2 * kPackRows) + 4 * block; }

Rows packed_rows(const MicroKernel& micro, bool a_transposed, int64_t k, const std::byte* packed, int64_t row) {
  const int64_t depth = padded(k, micro), element = micro.pair == 2 ? 2 : 4;
  if (a_transposed && !micro.along_rows)
    return {packed + row * depth * element, micro.pair, int64_t{micro.rows} * micro.pair};
  return {packed + row * depth * element, depth, micro.pair};
}

void pack_a(const MicroKernel& micro, const Term& term, int64_t k, int64_t row, int64_t count, std::byte* to,
            float* scratch) noexcept {
  if (term.a_transposed) {
    const auto pack = micro.along_rows ? pack_a_along_rows : pack_a_transposed;
    return pack(micro, term, k, row, count, reinterpret_cast<uint32_t*>(to), scratch);
  }
  const int64_t depth = padded(k, micro), element = micro.pair == 2 ? 2 : 4;
  for (int64_t r = 0; r < count; ++r) {
    std::byte* const out = to + r * depth * element;
    if (micro.pair == 1) {
      term.a.decode(row + r, 0, k, reinterpret_cast<float*>(out));
      continue;
    }
    float* const values = decode_range(term.a, row + r, 0, k, scratch);
    if (depth > k) values[k] = 0;
    to_bf16(values, reinterpret_cast<uint16_t*>(out), depth);
  }
}

}  // namespace thimble
