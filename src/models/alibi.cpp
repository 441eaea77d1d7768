#include "models/alibi.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <vector>

#include "core/half.h"

namespace thimble {
namespace {

// Slopes of ALiBi (Press et al. 2021, arXiv:2108.12409, section 3), for any number of heads as in the authors' code.
std::vector<float> alibi_slopes(int64_t heads) {
  const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(heads)));
  const auto base = [](double of) { return static_cast<float>(std::pow(2.0, -std::pow(2.0, 3 - std::log2(of)))); };
  std::vector<float> slopes;
  for (int64_t i = 1; i <= power; ++i)
    slopes.push_back(std::pow(base(static_cast<double>(power)), static_cast<float>(i)));
  for (int64_t i = 1; static_cast<int64_t>(slopes.size()) < heads; i += 2)
    slopes.push_back(std::pow(base(2 * static_cast<double>(power)), static_cast<float>(i)));
  return slopes;
}

}  // namespace

Initial alibi_table(const Attention& a, int64_t positions, float scale) {
  const bool rounded = a.bias == Attention::Bias::alibi_bf16;
  const auto round = [rounded](float x) { return rounded ? bf16_to_f32(f32_to_bf16(x)) : x; };
  const auto fill = [=, slopes = alibi_slopes(a.heads)](int64_t first, int64_t count, float* to) {
    for (int64_t e = first; e < first + count; ++e) {
      const float slope = slopes[static_cast<size_t>(e / positions)], at = static_cast<float>(e % positions);
      to[e - first] = round(round(slope) * round(at)) * (rounded ? scale : 1);
    }
  };
  return Initial::table(fill, fmt::format("alibi of {} heads{}", a.heads, rounded ? " in bf16" : ""));
}

}  // namespace thimble
