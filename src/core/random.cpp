#include "core/random.h"

#include "core/normal_pair.h"
#include "core/philox_round.h"

namespace thimble {

std::array<uint32_t, 4> philox(uint64_t key, uint64_t counter_low, uint64_t counter_high) noexcept {
  std::array<uint32_t, 4> c = {static_cast<uint32_t>(counter_low), static_cast<uint32_t>(counter_low >> 32),
                               static_cast<uint32_t>(counter_high), static_cast<uint32_t>(counter_high >> 32)};
  PhiloxKey rounds(key);
  for (int round = 0; round < PhiloxKey::kRounds; ++round, rounds.step()) philox_round(rounds, c[0], c[1], c[2], c[3]);
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
