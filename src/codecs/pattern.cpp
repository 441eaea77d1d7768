#include "codecs/pattern.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "codecs/dispatch.h"
#include "codecs/pattern_body.h"

namespace thimble {
namespace {

constexpr Pattern kPatterns[] = {{&kBf16In24, &kBf16, 2, 4, in_2_4::unpack}, {&kF16In24, &kF16, 2, 4, in_2_4::unpack}};

THIMBLE_BODY void unpack_block(const std::byte* from, std::byte* to) noexcept {
#pragma GCC unroll 4
  for (int i = 0; i < in_2_4::kBlock / in_2_4::kInByte; ++i)
    *reinterpret_cast<in_2_4::Eight*>(to + 2 * in_2_4::kInByte * i) = in_2_4::unpack_eight(from, i);
}

THIMBLE_BODY void unpack_body(const std::byte* from, std::byte* to, int64_t count) noexcept {
  for (; count >= in_2_4::kBlock; count -= in_2_4::kBlock, from += in_2_4::kBytes, to += 2 * in_2_4::kBlock)
    unpack_block(from, to);
  if (count == 0) return;
  std::byte rest[2 * in_2_4::kBlock];
  unpack_block(from, rest);
  std::memcpy(to, rest, static_cast<size_t>(2 * count));
}

// The two of four to keep, as bits.
uint32_t largest_two(const float* four) noexcept {
  uint32_t size[4], mask = 0;  // magnitudes compare as their bits do
  for (int i = 0; i < 4; ++i) size[i] = std::bit_cast<uint32_t>(four[i]) & 0x7fffffffu;
  for (int i = 0; i < 4; ++i) {
    int larger = 0;
    for (int j = 0; j < 4; ++j) larger += size[j] > size[i] || (size[j] == size[i] && j > i);
    mask |= static_cast<uint32_t>(larger < 2) << i;
  }
  return mask;
}

}  // namespace

const Pattern* pattern_of(const Codec& codec) {
  const auto* const found = std::ranges::find(kPatterns, &codec, &Pattern::codec);
  return found == std::end(kPatterns) ? nullptr : found;
}

namespace in_2_4 {

void unpack(const std::byte* from, std::byte* to, int64_t count) noexcept { dispatched<unpack_body>(from, to, count); }

void pack(const float* from, const std::byte* words, std::byte* to, int64_t count) noexcept {
  for (; count > 0; count -= kBlock, from += kBlock, words += 2 * kBlock, to += kBytes) {
    std::array<float, kBlock> numbers{};
    std::copy_n(from, std::min(count, kBlock), numbers.begin());
    uint32_t mask = 0;
    for (int64_t g = 0; g < kBlock; g += 4) mask |= largest_two(numbers.data() + g) << g;
    std::memcpy(to, &mask, kMaskBytes);
    std::byte* value = to + kMaskBytes;
    for (int64_t i = 0; i < kBlock; ++i) {
      if ((mask >> i & 1) == 0) continue;
      if (i < count)
        std::memcpy(value, words + 2 * i, 2);
      else
        std::memset(value, 0, 2);
      value += 2;
    }
  }
}

}  // namespace in_2_4

}  // namespace thimble
