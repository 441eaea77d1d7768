#include "reference.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/half.h"

namespace thimble {
namespace {

uint32_t byte(const std::byte* from, int64_t index) { return std::to_integer<uint32_t>(from[index]); }
uint16_t word(const std::byte* from) { return static_cast<uint16_t>(byte(from, 0) | byte(from, 1) << 8); }
float half(const std::byte* from) { return f16_to_f32(word(from)); }
float single(const std::byte* from) { return std::bit_cast<float>(word(from) | uint32_t{word(from + 2)} << 16); }
int signed_byte(const std::byte* from, int64_t index) { return static_cast<int8_t>(byte(from, index)); }

// The nibble of element i where the first half of 2n elements lies in the low nibbles of n bytes.
int nibble(const std::byte* from, int i, int n) { return i < n ? byte(from, i) & 15 : byte(from, i - n) >> 4; }
int bit(const std::byte* from, int i) { return byte(from, i / 8) >> (i % 8) & 1; }

// Six-bit scale `j` and minimum `j` of a K block.
int k_scale(const std::byte* s, int j) {
  return j < 4 ? byte(s, j) & 63 : (byte(s, j + 4) & 15) | byte(s, j - 4) >> 6 << 4;
}
int k_minimum(const std::byte* s, int j) {
  return j < 4 ? byte(s, j + 4) & 63 : byte(s, j + 4) >> 4 | byte(s, j) >> 6 << 4;
}
float k_value(const std::byte* b, int group, int code) {
  return half(b) * k_scale(b + 4, group) * code - half(b + 2) * k_minimum(b + 4, group);
}

float q4_0(const std::byte* b, int i) { return (nibble(b + 2, i, 16) - 8) * half(b); }
float q4_1(const std::byte* b, int i) { return nibble(b + 4, i, 16) * half(b) + half(b + 2); }
float q5_0(const std::byte* b, int i) { return (nibble(b + 6, i, 16) + 16 * bit(b + 2, i) - 16) * half(b); }
float q5_1(const std::byte* b, int i) { return (nibble(b + 8, i, 16) + 16 * bit(b + 4, i)) * half(b) + half(b + 2); }
float q8_0(const std::byte* b, int i) { return signed_byte(b + 2, i) * half(b); }

float q4_k(const std::byte* b, int i) { return k_value(b, i / 32, nibble(b + 16 + 32 * (i / 64), i % 64, 32)); }
float q5_k(const std::byte* b, int i) {
  const int fifth = byte(b + 16, i % 32) >> (i / 32) & 1;
  return k_value(b, i / 32, nibble(b + 48 + 32 * (i / 64), i % 64, 32) + 16 * fifth);
}
float q6_k(const std::byte* b, int i) {
  const int low = nibble(b + 64 * (i / 128), i % 128, 64);
  const int high = byte(b + 128 + 32 * (i / 128), i % 32) >> (i % 128 / 32 * 2) & 3;
  return half(b + 208) * signed_byte(b + 192, i / 16) * (low + 16 * high - 32);
}

float nf4(const std::byte* b, int i) {
  static constexpr float kLevels[16] = {-1.0f,
                                        -0.6961928009986877f,
                                        -0.5250730514526367f,
                                        -0.39491748809814453f,
                                        -0.28444138169288635f,
                                        -0.18477343022823334f,
                                        -0.09105003625154495f,
                                        0.0f,
                                        0.07958029955625534f,
                                        0.16093020141124725f,
                                        0.24611230194568634f,
                                        0.33791524171829224f,
                                        0.44070982933044434f,
                                        0.5626170039176941f,
                                        0.7229568362236023f,
                                        1.0f};
  return kLevels[i % 2 ? byte(b, 4 + i / 2) & 15 : byte(b, 4 + i / 2) >> 4] * single(b);
}

struct Reference {
  std::string_view name;
  float (*element)(const std::byte* block, int index);
};

constexpr Reference kReferences[] = {
    {"f32", [](const std::byte* b, int) { return single(b); }},
    {"f16", [](const std::byte* b, int) { return half(b); }},
    {"bf16", [](const std::byte* b, int) { return bf16_to_f32(word(b)); }},
    {"q4_0", q4_0},
    {"q4_1", q4_1},
    {"q5_0", q5_0},
    {"q5_1", q5_1},
    {"q8_0", q8_0},
    {"q4_K", q4_k},
    {"q5_K", q5_k},
    {"q6_K", q6_k},
    {"nf4", nf4},
};

const Reference* find(std::string_view codec) {
  const auto found =
      std::find_if(std::begin(kReferences), std::end(kReferences), [&](const Reference& r) { return r.name == codec; });
  return found == std::end(kReferences) ? nullptr : found;
}

}  // namespace

bool has_reference(std::string_view codec) { return find(codec) != nullptr; }

float reference_element(const Codec& codec, const std::byte* bytes, int64_t index) {
  return find(codec.name)
      ->element(bytes + index / codec.block * codec.block_bytes, static_cast<int>(index % codec.block));
}

}  // namespace thimble
