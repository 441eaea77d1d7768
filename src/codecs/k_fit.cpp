#include "codecs/k_fit.h"

#include <algorithm>
#include <cmath>

#include "core/half.h"

namespace thimble {
namespace {

constexpr float kTopScale = 63;  // of six bits

struct Range {
  float least, most;
};

// The range always takes in zero, so that a lowering is never negative.
Range range_of(const float* x) noexcept {
  Range range{x[0], x[0]};
  for (int i = 1; i < kGroup; ++i) {
    range.least = x[i] < range.least ? x[i] : range.least;
    range.most = x[i] > range.most ? x[i] : range.most;
  }
  range.least = range.least > 0 ? 0 : range.least;
  return range;
}

float weighted_error(const float* x, const float* weights, const uint8_t* codes, float scale, float least) noexcept {
  float error = 0;
  for (int i = 0; i < kGroup; ++i) {
    const float off = scale * static_cast<float>(codes[i]) + least - x[i];
    error += weights[i] * (off * off);
  }
  return error;
}

void round_codes(const float* x, float inverse, float least, int top, uint8_t* codes) noexcept {
  for (int i = 0; i < kGroup; ++i)
    codes[i] = static_cast<uint8_t>(round_within(inverse * (x[i] - least), 0, static_cast<float>(top)));
}

// Sums over the group: of weights w, of w * x, and with the codes l.
struct Moments {
  float w = 0, wx = 0, wl = 0, wll = 0, wlx = 0;
};

// Weighted least squares for x = scale * l + least with least <= 0; false when the codes do not determine it.
bool solve(const Moments& sum, float& scale, float& least) noexcept {
  const float determinant = sum.w * sum.wll - sum.wl * sum.wl;
  if (!(determinant > 0)) return false;
  scale = (sum.w * sum.wlx - sum.wx * sum.wl) / determinant;
  least = (sum.wll * sum.wx - sum.wl * sum.wlx) / determinant;
  if (least > 0) {
    least = 0;
    scale = sum.wlx / sum.wll;
  }
  return true;
}

// Weights grow with the magnitude, from the root mean square up.
void weigh(const float* x, float* weights) noexcept {
  float squares = 0;
  for (int i = 0; i < kGroup; ++i) squares += x[i] * x[i];
  const float typical = std::sqrt(squares / kGroup);
  for (int i = 0; i < kGroup; ++i) weights[i] = typical + std::abs(x[i]);
}

}  // namespace

int round_within(float value, float least, float most) noexcept {
  value = value > least ? value : least;
  value = value < most ? value : most;
  return static_cast<int>(std::lrint(value));
}

GroupFit fit_group(const GroupSearch& search, const float* x, const float* weights, uint8_t* codes) noexcept {
  const Range range = range_of(x);
  if (range.least == range.most) {
    std::memset(codes, 0, kGroup);
    return {0, -range.least};
  }
  Moments fixed;
  fixed.w = weights[0];
  fixed.wx = weights[0] * x[0];
  for (int i = 1; i < kGroup; ++i) {
    fixed.w += weights[i];
    fixed.wx += weights[i] * x[i];
  }
  const float top = static_cast<float>(search.top);
  const float inverse = top / (range.most - range.least);
  float scale = 1 / inverse;
  float least = range.least;
  round_codes(x, inverse, range.least, search.top, codes);
  float error = weighted_error(x, weights, codes, scale, least);

  for (int k = 0; k <= search.tries; ++k) {
    // From the best minimum so far, as the reference has it.
    const float steps = search.first + search.delta * static_cast<float>(k) + top;
    uint8_t tried[kGroup];
    round_codes(x, steps / (range.most - least), least, search.top, tried);
    Moments sum = fixed;
    for (int i = 0; i < kGroup; ++i) {
      const float l = static_cast<float>(tried[i]);
      const float wl = weights[i] * l;
      sum.wl += wl;
      sum.wll += wl * l;
      sum.wlx += wl * x[i];
    }
    float tried_scale, tried_least;
    if (!solve(sum, tried_scale, tried_least)) continue;
    const float tried_error = weighted_error(x, weights, tried, tried_scale, tried_least);
    if (tried_error < error) {
      std::memcpy(codes, tried, kGroup);
      error = tried_error;
      scale = tried_scale;
      least = tried_least;
    }
  }
  return {scale, -least};
}

void weigh_by_importance(const float* x, const float* importance, float variance, int count, float* weights) noexcept {
  for (int i = 0; i < count; ++i) weights[i] = importance[i] * std::sqrt(variance + x[i] * x[i]);
}

namespace {

constexpr float kNothing = 1e-15f;  // what is below this is all zeros

// Products of the codes l = round(x * inverse) with x, weighted.
struct Products {
  float lx = 0, ll = 0;
};

Products products(const float* x, const float* weights, int count, int half, float inverse) noexcept {
  Products sum;
  for (int i = 0; i < count; ++i) {
    const float l =
        static_cast<float>(round_within(inverse * x[i], static_cast<float>(-half), static_cast<float>(half - 1)));
    sum.lx += weights[i] * x[i] * l;
    sum.ll += weights[i] * l * l;
  }
  return sum;
}

void round_signed(const float* x, int count, int half, float inverse, uint8_t* codes) noexcept {
  for (int i = 0; i < count; ++i)
    codes[i] = static_cast<uint8_t>(
        round_within(inverse * x[i], static_cast<float>(-half), static_cast<float>(half - 1)) + half);
}

// One code after another, each to what is best beside the others; five rounds at most.
Products improve(const float* x, const float* weights, int count, int top, Products sum, uint8_t* codes) noexcept {
  for (int round = 0; round < 5; ++round) {
    bool moved = false;
    for (int i = 0; i < count; ++i) {
      const float w = weights[i], old = static_cast<float>(codes[i]);
      Products other{sum.lx - w * x[i] * old, sum.ll - w * old * old};
      if (!(other.lx > 0 && other.ll > 0)) continue;
      const int l = round_within(x[i] * other.ll / other.lx, 0, static_cast<float>(top));
      if (l == codes[i]) continue;
      other.lx += w * x[i] * static_cast<float>(l);
      other.ll += w * static_cast<float>(l) * static_cast<float>(l);
      if (!(other.lx * other.lx * sum.ll > sum.lx * sum.lx * other.ll)) continue;
      codes[i] = static_cast<uint8_t>(l), sum = other, moved = true;
    }
    if (!moved) break;
  }
  return sum;
}

// The six-bit scales and lowerings of a super-block, and what they are multiplied with.
struct BlockScales {
  float scale, lowering;
  uint8_t s[kGroups], m[kGroups];
};

BlockScales plain_scales(const GroupFit* groups) noexcept {
  BlockScales out{};
  float largest_scale = 0, largest_lowering = 0;
  for (int j = 0; j < kGroups; ++j) {
    largest_scale = groups[j].scale > largest_scale ? groups[j].scale : largest_scale;
    largest_lowering = groups[j].lowering > largest_lowering ? groups[j].lowering : largest_lowering;
  }
  const float per_scale = largest_scale > 0 ? kTopScale / largest_scale : 0.0f;
  const float per_lowering = largest_lowering > 0 ? kTopScale / largest_lowering : 0.0f;
  for (int j = 0; j < kGroups; ++j) {
    out.s[j] = static_cast<uint8_t>(round_within(per_scale * groups[j].scale, 0, kTopScale));
    out.m[j] = static_cast<uint8_t>(round_within(per_lowering * groups[j].lowering, 0, kTopScale));
  }
  out.scale = largest_scale / kTopScale, out.lowering = largest_lowering / kTopScale;
  return out;
}

// A group's scale counts as its weights do together.
BlockScales weighted_scales(const GroupFit* groups, const float* sums) noexcept {
  BlockScales out{};
  float scales[kGroups], lowerings[kGroups];
  for (int j = 0; j < kGroups; ++j) scales[j] = groups[j].scale, lowerings[j] = groups[j].lowering;
  out.scale = fit_positive(scales, sums, kGroups, static_cast<int>(kTopScale), out.s);
  out.lowering = fit_positive(lowerings, sums, kGroups, static_cast<int>(kTopScale), out.m);
  return out;
}

}  // namespace

float fit_signed(const float* x, const float* weights, int count, int half, uint8_t* codes) noexcept {
  float magnitude = 0, extreme = 0;
  for (int i = 0; i < count; ++i)
    if (std::abs(x[i]) > magnitude) magnitude = std::abs(x[i]), extreme = x[i];
  if (magnitude < kNothing) {
    std::memset(codes, 0, static_cast<size_t>(count));
    return 0;
  }
  const float steps = static_cast<float>(half);
  float inverse = -steps / extreme;
  round_signed(x, count, half, inverse, codes);
  Products sum = products(x, weights, count, half, inverse);
  float scale = sum.ll != 0 ? sum.lx / sum.ll : 0.0f;
  float best = scale * sum.lx;
  for (int k = -9; k <= 9; ++k) {
    if (k == 0) continue;
    inverse = -(steps + 0.1f * static_cast<float>(k)) / extreme;
    sum = products(x, weights, count, half, inverse);
    // The error falls by lx^2 / ll at the best scale for these codes.
    if (sum.ll > 0 && sum.lx * sum.lx > best * sum.ll) {
      round_signed(x, count, half, inverse, codes);
      scale = sum.lx / sum.ll;
      best = scale * sum.lx;
    }
  }
  return scale;
}

float fit_positive(const float* x, const float* weights, int count, int top, uint8_t* codes) noexcept {
  float largest = 0;
  for (int i = 0; i < count; ++i) largest = x[i] > largest ? x[i] : largest;
  if (largest < kNothing) {
    std::memset(codes, 0, static_cast<size_t>(count));
    return 0;
  }
  const float steps = static_cast<float>(top);
  const auto code = [&](float value, float inverse) {
    return static_cast<float>(round_within(inverse * value, 0, steps));
  };
  const auto error = [&](float inverse) {
    const float scale = 1 / inverse;
    float sum = 0;
    for (int i = 0; i < count; ++i) {
      const float off = x[i] - scale * code(x[i], inverse);
      sum += weights[i] * off * off;
    }
    return sum;
  };
  float inverse = steps / largest, least = error(inverse);
  for (int k = -4; k <= 4; ++k) {
    if (k == 0) continue;
    const float tried = (0.1f * static_cast<float>(k) + steps) / largest, found = error(tried);
    if (found < least) least = found, inverse = tried;
  }
  Products sum;
  for (int i = 0; i < count; ++i) {
    const float l = code(x[i], inverse);
    codes[i] = static_cast<uint8_t>(l);
    sum.lx += weights[i] * x[i] * l;
    sum.ll += weights[i] * l * l;
  }
  sum = improve(x, weights, count, top, sum, codes);
  return sum.ll > 0 ? sum.lx / sum.ll : 0.0f;
}

void fit_super_block(const GroupSearch& search, const float* x, const float* importance, SuperBlockFit& fit) noexcept {
  float squares = 0;
  for (int i = 0; importance && i < kSuperBlock; ++i) squares += x[i] * x[i];
  GroupFit groups[kGroups];
  float sums[kGroups] = {};
  for (int j = 0; j < kGroups; ++j) {
    const float* const of_group = x + kGroup * j;
    float weights[kGroup];
    if (importance)
      weigh_by_importance(of_group, importance + kGroup * j, 2 * squares / kSuperBlock, kGroup, weights);
    else
      weigh(of_group, weights);
    for (const float weight : weights) sums[j] += weight;
    groups[j] = fit_group(search, of_group, weights, fit.codes + kGroup * j);
  }
  const BlockScales block = importance ? weighted_scales(groups, sums) : plain_scales(groups);
  pack_scales(block.s, block.m, fit.scales);
  fit.d = f32_to_f16(block.scale);
  fit.dmin = f32_to_f16(block.lowering);

  // Codes once more, for the scales as they will be read. A scale of zero leaves the codes of the fit.
  for (int j = 0; j < kGroups; ++j) {
    const float d = f16_to_f32(fit.d) * static_cast<float>(block.s[j]);
    if (d == 0) continue;
    const float lowering = f16_to_f32(fit.dmin) * static_cast<float>(block.m[j]);
    for (int i = kGroup * j; i < kGroup * (j + 1); ++i)
      fit.codes[i] = static_cast<uint8_t>(round_within((x[i] + lowering) / d, 0, static_cast<float>(search.top)));
  }
}

}  // namespace thimble
