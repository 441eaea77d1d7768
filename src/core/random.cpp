#include "core/random.h"

#include "core/normal_pair.h"

namespace thimble {

std::array<uint32_t, 4> philox(uint64_t key, uint64_t counter_low, uint64_t counter_high) noexcept {
  std::array<uint32_t, 4> c = {static_cast<uint32_t>(counter_low), static_cast<uint32_t>(counter_low >> 32),
                               static_cast<uint32_t>(counter_high), static_cast<uint32_t>(counter_high >> 32)};
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

Random::Random(uint64_t seed, std::string_view stream, uint64_t step) noexcept
    : Random(seed, name_hash(stream), step) {}

float Random::normal(uint64_t element) const noexcept {
  const auto words = philox(key_, element >> 1, high_);
  const NormalPair pair = normal_pair(words[0], words[1]);
  return (element & 1) != 0 ? pair.second : pair.first;
}

}  // namespace thimble
