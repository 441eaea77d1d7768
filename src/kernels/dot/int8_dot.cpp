#include "kernels/dot/int8_dot.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "codecs/k_fit.h"
#include "kernels/dot/int8_formats.h"
#include "kernels/register_lanes.h"

namespace thimble {
namespace {

constexpr int64_t kMostPieceBytes = kDotPiece / 32 * 34;  // of a row of q8_0

// One group of one row.
struct Group {
  uint8_t codes[32];
  float scale, offset = 0;
};

uint8_t byte(const std::byte* at) { return static_cast<uint8_t>(*at); }

// 32 nibbles: the low ones first.
void nibbles(const std::byte* at, uint8_t* codes) noexcept {
  for (int i = 0; i < 16; ++i) codes[i] = byte(at + i) & 15, codes[16 + i] = byte(at + i) >> 4;
}

// Layouts as in the codecs' files.
struct Q4_0 {
  static constexpr int kGroup = 32;
  static void unpack(const std::byte* row, int64_t group, Group& to) noexcept {
    const std::byte* const block = row + group * 18;
    to.scale = load_f16(block);
    nibbles(block + 2, to.codes);
  }
};
struct Q4_1 {
  static constexpr int kGroup = 32;
  static void unpack(const std::byte* row, int64_t group, Group& to) noexcept {
    const std::byte* const block = row + group * 20;
    to.scale = load_f16(block), to.offset = load_f16(block + 2);
    nibbles(block + 4, to.codes);
  }
};
template <bool kOffset>
struct Q5 {
  static constexpr int kGroup = 32, kHigh = kOffset ? 4 : 2;
  static void unpack(const std::byte* row, int64_t group, Group& to) noexcept {
    const std::byte* const block = row + group * (kHigh + 20);
    to.scale = load_f16(block);
    if (kOffset) to.offset = load_f16(block + 2);
    nibbles(block + kHigh + 4, to.codes);
    for (int i = 0; i < 32; ++i) to.codes[i] |= (byte(block + kHigh + i / 8) >> i % 8 & 1) << 4;
  }
};
struct Q8_0 {
  static constexpr int kGroup = 32;
  static void unpack(const std::byte* row, int64_t group, Group& to) noexcept {
    const std::byte* const block = row + group * 34;
    to.scale = load_f16(block);
    for (int i = 0; i < 32; ++i) to.codes[i] = byte(block + 2 + i) ^ 0x80;
  }
};
template <int kBytes, int kCodes>
struct Q45K {
  static constexpr int kGroup = 32;
  static void unpack(const std::byte* row, int64_t group, Group& to) noexcept {
    const std::byte* const block = row + group / 8 * kBytes;
    const int g = static_cast<int>(group % 8);
    uint8_t s[kGroups], m[kGroups];
    unpack_scales(block + 4, s, m);
    to.scale = load_f16(block) * static_cast<float>(s[g]);
    to.offset = -(load_f16(block + 2) * static_cast<float>(m[g]));
    for (int i = 0; i < 32; ++i) {
      to.codes[i] = byte(block + kCodes + g / 2 * 32 + i) >> g % 2 * 4 & 15;
      if (kCodes == 48) to.codes[i] |= (byte(block + 16 + i) >> g & 1) << 4;
    }
  }
};
struct Q6_K {
  static constexpr int kGroup = 16;
  static void unpack(const std::byte* row, int64_t group, Group& to) noexcept {
    const std::byte* const block = row + group / 16 * 210;
    const int g = static_cast<int>(group % 16), half = g / 8, k = g % 8 / 2, i0 = g % 2 * 16;
    to.scale = load_f16(block + 208) * static_cast<float>(static_cast<int8_t>(block[192 + g]));
    for (int i = 0; i < 16; ++i) {
      const int low = byte(block + 64 * half + k % 2 * 32 + i0 + i) >> k / 2 * 4 & 15;
      to.codes[i] = static_cast<uint8_t>(low | (byte(block + 128 + 32 * half + i0 + i) >> 2 * k & 3) << 4);
    }
  }
};

template <class F>
void pack_reference(const Int8Source& source, Int8Panel& panel) noexcept {
  for (int64_t row = 0; row < kDotRows; ++row)
    for (int64_t g = 0; g < source.count / F::kGroup; ++g) {
      Group group;
      F::unpack(source.data + row * source.stride, g, group);
      panel.scales[g][row] = group.scale;
      if (F::kGroup == 32) panel.offsets[g][row] = group.offset;
      for (int q = 0; q < F::kGroup / 4; ++q)
        std::memcpy(panel.codes[g * F::kGroup / 4 + q][row], group.codes + 4 * q, 4);
    }
}
constexpr Int8Format kFormats[] = {
    {Int8Kind::q4_0, &kQ4_0, 32, 8, 4, false, pack_reference<Q4_0>},
    {Int8Kind::q4_1, &kQ4_1, 32, 0, 4, true, pack_reference<Q4_1>},
    {Int8Kind::q5_0, &kQ5_0, 32, 16, 5, false, pack_reference<Q5<false>>},
    {Int8Kind::q5_1, &kQ5_1, 32, 0, 5, true, pack_reference<Q5<true>>},
    {Int8Kind::q8_0, &kQ8_0, 32, 128, 8, false, pack_reference<Q8_0>},
    {Int8Kind::q4_K, &kQ4K, 32, 0, 4, true, pack_reference<Q45K<144, 16>>},
    {Int8Kind::q5_K, &kQ5K, 32, 0, 5, true, pack_reference<Q45K<176, 48>>},
    {Int8Kind::q6_K, &kQ6K, 16, 32, 6, false, pack_reference<Q6_K>},
};

void multiply_panel_reference(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                              float* sums, float* rests) noexcept {
  for (int64_t r = 0; r < m; ++r)
    for (int64_t g = 0; g < piece.count / format.group; ++g) {
      const int64_t element = piece.first + g * format.group, block = element / kDotBlock;
      for (int64_t c = 0; c < kDotRows; ++c) {
        int32_t sum = piece.x.corrections(piece.row + r)[element / format.group];
        for (int64_t i = 0; i < format.group; ++i)
          sum += panel.codes[(g * format.group + i) / 4][c][i % 4] * piece.x.codes(piece.row + r)[element + i];
        sums[r * kDotRows + c] += static_cast<float>(sum) * (panel.scales[g][c] * piece.x.scales(piece.row + r)[block]);
        if (format.offsets) rests[r * kDotRows + c] += panel.offsets[g][c] * piece.x.sums(piece.row + r)[block];
      }
    }
}

// Fewer than 16 rows, as 16 with copies of the last.
class WholeRows {
 public:
  WholeRows(const Int8Weights& weights, int64_t first, int64_t count) noexcept
      : data(weights.data + weights.format.codec->bytes(first)), stride(weights.stride) {
    if (weights.columns == kDotRows) return;
    const int64_t bytes = weights.format.codec->bytes(count);
    for (int64_t row = 0; row < kDotRows; ++row)
      std::memcpy(copies_ + row * kMostPieceBytes, data + std::min(row, weights.columns - 1) * stride,
                  static_cast<size_t>(bytes));
    data = copies_;
    stride = kMostPieceBytes;
  }
  const std::byte* data;
  int64_t stride;

 private:
  std::byte copies_[kDotRows * kMostPieceBytes];
};

// multiply(piece, begin, sums, rests) for every piece of the rows, of so many elements, which begins at a row's byte
// `begin`.
template <class Multiply>
void multiply_pieces(const Int8Weights& weights, const Int8Rows& x, int64_t m, int64_t elements, float scale,
                     float* out, float* sums, Multiply multiply) noexcept {
  const Int8Format& format = weights.format;
  float* const rests = sums + m * kDotRows;
  std::fill(sums, rests + m * kDotRows, 0.0f);
  for (int64_t first = 0; first < x.n; first += elements)
    multiply(Int8Piece{x, 0, first, std::min(elements, x.n - first)}, format.codec->bytes(first), sums, rests);
  for (int64_t r = 0; r < m; ++r)
    for (int64_t c = 0; c < weights.columns; ++c) {
      const int64_t i = r * kDotRows + c;
      out[i] += scale * (format.offsets ? sums[i] + rests[i] : sums[i]);
    }
}

// Codes of 16 elements, and their sum.
template <int bytes>
THIMBLE_BODY int32_t put_codes(const float* x, float inverse, int8_t* codes) noexcept {
  using Bytes = int8_t __attribute__((vector_size(16), aligned(1), may_alias));
  // Adding and taking away 1.5 * 2^23 rounds to nearest even.
  const auto rounded = (load<RegisterLanes<bytes>>(x) * inverse + 12582912.0f) - 12582912.0f;
  const auto numbers = __builtin_convertvector(__builtin_bit_cast(Lanes, rounded), LaneNumbers);
  *reinterpret_cast<Bytes*>(codes) = __builtin_convertvector(numbers, Bytes);
  return static_cast<int32_t>(fold(rounded));  // small whole numbers: exact in any order
}

template <int bytes>
THIMBLE_BODY void quantise_body(const float* x, const Int8Format& format, const Int8Rows& to, int64_t row) noexcept {
  const auto magnitude = [](const float* from) __attribute__((always_inline)) {
    return lanes_of(load<RegisterWords<bytes>>(from) & 0x7fffffffu);
  };
  int8_t* const codes = to.codes(row);
  float* const scales = to.scales(row);
  float* const sums = to.sums(row);
  int32_t* const corrections = to.corrections(row);
  for (int64_t b = 0; b < to.n / kDotBlock; ++b) {
    const float* const from = x + b * kDotBlock;
    const float largest = largest_lane(at_least(magnitude(from), magnitude(from + kLanes)));
    const float scale = largest / 127, inverse = largest > 0 ? 127 / largest : 0;
    const int32_t halves[] = {put_codes<bytes>(from, inverse, codes + b * kDotBlock),
                              put_codes<bytes>(from + kLanes, inverse, codes + b * kDotBlock + kLanes)};
    scales[b] = scale;
    sums[b] = scale * static_cast<float>(halves[0] + halves[1]);
    if (format.group == 32) {
      corrections[b] = -format.zero * (halves[0] + halves[1]);
    } else {
      corrections[2 * b] = -format.zero * halves[0];
      corrections[2 * b + 1] = -format.zero * halves[1];
    }
  }
}
constexpr auto* quantise = dispatched<quantise_body<64>, quantise_body<32>, quantise_body<16>>;

// Of the level in use.
MultiplyInt8 multiply_panel() noexcept {
#if defined(THIMBLE_X86_INTRINSICS)
  if (isa_has(Isa::avx512_vnni)) return multiply_panel_vnni;
  if (isa_has(Isa::avx_vnni)) return multiply_panel_avx_vnni;
  if (isa_has(Isa::avx2)) return multiply_panel_avx2;
#elif defined(__aarch64__)
  if (isa_has(Isa::neon_i8mm)) return multiply_panel_i8mm;
  if (isa_has(Isa::neon_dotprod)) return multiply_panel_dotprod;
  if (isa_has(Isa::neon)) return multiply_panel_neon;
#endif
  return multiply_panel_reference;
}
// For one row of x; nullptr: by panels.
MultiplyOneInt8 multiply_one(Int8Kind kind) noexcept {
#if defined(THIMBLE_X86_INTRINSICS)
  if (isa_has(Isa::avx512_vnni)) return multiply_one_vnni(kind);
  if (isa_has(Isa::avx_vnni)) return multiply_one_avx_vnni(kind);
  if (isa_has(Isa::avx2)) return multiply_one_avx2(kind);
#elif defined(__aarch64__)
  if (isa_has(Isa::neon_dotprod)) return multiply_one_dotprod(kind);
  if (isa_has(Isa::neon)) return multiply_one_neon(kind);
#endif
  static_cast<void>(kind);
  return nullptr;
}

}  // namespace

void quantise_int8(const float* x, const Int8Format& format, const Int8Rows& to, int64_t row) noexcept {
  quantise(x, format, to, row);
}

const Int8Format* int8_format(const Codec& codec, int64_t n) {
  for (const Int8Format& format : kFormats)
    if (n % kDotBlock == 0 && (format.codec == &codec || format.codec == codec.rows_of)) return &format;
  return nullptr;
}

bool int8_is_fast() { return isa_has(Isa::avx2) || isa_has(Isa::neon); }

void multiply_int8(const Int8Weights& weights, const Int8Rows& x, int64_t m, float scale, float* out,
                   float* sums) noexcept {
  const Int8Format& format = weights.format;
  alignas(64) std::byte memory[kMostPieceBytes * kDotRows];
  const auto group = [&](const Int8Piece& piece, int64_t begin) {
    if (weights.interleaved) return weights.data + begin * kDotRows;
    const WholeRows rows(weights, piece.first, piece.count);
    interleave_rows(*format.codec, rows.data, rows.stride, piece.count, memory);
    return static_cast<const std::byte*>(memory);
  };
  if (const MultiplyOneInt8 one = m == 1 ? multiply_one(format.kind) : nullptr) {
    multiply_pieces(weights, x, m, weights.interleaved ? x.n : kDotPiece, scale, out, sums,
                    [&](const Int8Piece& piece, int64_t begin, float* to, float* rests) {
                      one(group(piece, begin), piece, to, rests);
                    });
    return;
  }
  Int8Panel panel;
  const PackInt8 pack = pack_int8(format.kind);
  const MultiplyInt8 multiply = multiply_panel();
  multiply_pieces(weights, x, m, kDotPiece, scale, out, sums,
                  [&](const Int8Piece& piece, int64_t begin, float* to, float* rests) {
                    pack(group(piece, begin), piece.count, panel);
                    multiply(format, panel, piece, m, to, rests);
                  });
}

void multiply_int8_reference(const Int8Weights& weights, const Int8Rows& x, int64_t m, float scale, float* out,
                             float* sums) noexcept {
  Int8Panel panel;
  multiply_pieces(weights, x, m, kDotPiece, scale, out, sums,
                  [&](const Int8Piece& piece, int64_t, float* to, float* rests) {
                    const WholeRows rows(weights, piece.first, piece.count);
                    weights.format.pack_reference({rows.data, rows.stride, piece.count}, panel);
                    multiply_panel_reference(weights.format, panel, piece, m, to, rests);
                  });
}

}  // namespace thimble
