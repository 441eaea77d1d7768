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

GroupFit fit_group(const GroupSearch& search, const float* x, uint8_t* codes) noexcept {
  float weights[kGroup];
  weigh(x, weights);
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

void fit_super_block(const GroupSearch& search, const float* x, SuperBlockFit& fit) noexcept {
  GroupFit groups[kGroups];
  float largest_scale = 0, largest_lowering = 0;
  for (int j = 0; j < kGroups; ++j) {
    groups[j] = fit_group(search, x + kGroup * j, fit.codes + kGroup * j);
    largest_scale = groups[j].scale > largest_scale ? groups[j].scale : largest_scale;
    largest_lowering = groups[j].lowering > largest_lowering ? groups[j].lowering : largest_lowering;
  }
  const float per_scale = largest_scale > 0 ? kTopScale / largest_scale : 0.0f;
  const float per_lowering = largest_lowering > 0 ? kTopScale / largest_lowering : 0.0f;
  uint8_t s[kGroups], m[kGroups];
  for (int j = 0; j < kGroups; ++j) {
    s[j] = static_cast<uint8_t>(round_within(per_scale * groups[j].scale, 0, kTopScale));
    m[j] = static_cast<uint8_t>(round_within(per_lowering * groups[j].lowering, 0, kTopScale));
  }
  pack_scales(s, m, fit.scales);
  fit.d = f32_to_f16(largest_scale / kTopScale);
  fit.dmin = f32_to_f16(largest_lowering / kTopScale);

  // Codes once more, for the scales as they will be read. A scale of zero leaves the codes of the fit.
  for (int j = 0; j < kGroups; ++j) {
    const float d = f16_to_f32(fit.d) * static_cast<float>(s[j]);
    if (d == 0) continue;
    const float lowering = f16_to_f32(fit.dmin) * static_cast<float>(m[j]);
    for (int i = kGroup * j; i < kGroup * (j + 1); ++i)
      fit.codes[i] = static_cast<uint8_t>(round_within((x[i] + lowering) / d, 0, static_cast<float>(search.top)));
  }
}

}  // namespace thimble
