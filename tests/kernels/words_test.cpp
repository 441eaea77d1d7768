#include "kernels/words.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "core/half.h"

namespace thimble {
namespace {

// Numbers of every kind: ties, subnormals, infinities, NaNs whose payload is in the lower half only.
std::vector<float> numbers(int64_t count) {
  std::vector<float> out;
  for (int64_t i = 0; i < count; ++i)
    out.push_back(std::ldexp(static_cast<float>(i * 7919 % 5003 - 2500), static_cast<int>(i % 60) - 40));
  const float special[] = {
      std::bit_cast<float>(0x3f808000u), std::bit_cast<float>(0x3f818000u),      std::bit_cast<float>(0x00000001u),
      std::bit_cast<float>(0x807fffffu), std::numeric_limits<float>::infinity(), std::bit_cast<float>(0x7f800001u),
      std::bit_cast<float>(0xffffffffu), std::bit_cast<float>(0x7fa00000u),      std::bit_cast<float>(0x7f7fffffu)};
  for (size_t i = 0; i < out.size(); i += 11) out[i] = special[i / 11 % std::size(special)];
  return out;
}

struct Table {
  const Codec* codec;
  std::vector<std::byte> data;
  std::vector<float> values;
  int64_t stride;

  Table(const Codec& codec, int64_t rows, int64_t stride) : codec(&codec), stride(stride) {
    values = numbers(rows * stride);
    data.resize(static_cast<size_t>(codec.bytes(rows * stride)));
    codec.encode(values.data(), data.data(), rows * stride);
    codec.decode(data.data(), values.data(), rows * stride);
  }
  uint32_t word(Word word, int64_t first, int64_t second) const {
    const float a = values[static_cast<size_t>(first)], b = values[static_cast<size_t>(second)];
    if (word == Word::pair) return f32_to_bf16(a) | static_cast<uint32_t>(f32_to_bf16(b)) << 16;
    return word == Word::rounded ? static_cast<uint32_t>(f32_to_bf16(a)) << 16 : std::bit_cast<uint32_t>(a);
  }
};

constexpr Word kWords[] = {Word::pair, Word::f32, Word::rounded};

TEST(Words, cut_tiles) {
  for (const Codec* codec : {&kF32, &kBf16})
    for (Word word : kWords)
      for (int64_t width : {4, 8, 12, 16, 24, 32, 48})
        for (int64_t tiles : {0, 1, 5}) {
          const int64_t words = 7, stride = 251, rows = word == Word::pair ? 2 : 1;
          const Table table(*codec, words * rows, stride);
          std::vector<uint32_t> to(static_cast<size_t>(tiles * words * width));
          cut_tiles(word, {table.data.data(), codec, stride}, {words, tiles, width}, to.data());
          for (int64_t t = 0; t < tiles; ++t)
            for (int64_t w = 0; w < words; ++w)
              for (int64_t i = 0; i < width; ++i) {
                const int64_t at = w * rows * stride + t * width + i;
                ASSERT_EQ(to[static_cast<size_t>((t * words + w) * width + i)],
                          table.word(word, at, at + (rows - 1) * stride));
              }
        }
}

TEST(Words, turn_rows) {
  for (const Codec* codec : {&kF32, &kBf16})
    for (Word word : kWords)
      for (auto [rows, words] :
           {std::array<int64_t, 2>{16, 1}, {16, 15}, {16, 16}, {16, 37}, {16, 96}, {8, 37}, {4, 20}}) {
        const int64_t step = word == Word::pair ? 2 : 1, stride = words * step + 3, to_stride = 48;
        const Table table(*codec, 16, stride);
        std::vector<uint32_t> to(static_cast<size_t>(words * to_stride));
        turn_rows(word, {table.data.data(), codec, stride}, rows, words, to.data(), to_stride);
        for (int64_t w = 0; w < words; ++w)
          for (int64_t r = 0; r < rows; ++r) {
            const int64_t at = r * stride + w * step;
            ASSERT_EQ(to[static_cast<size_t>(w * to_stride + r)], table.word(word, at, at + step - 1))
                << words << " " << w << " " << r;
          }
      }
}

}  // namespace
}  // namespace thimble
