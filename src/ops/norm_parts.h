// What rms_norm and layer_norm share: the groups of columns that are normalised, and the gains over them.
#pragma once

#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {

struct NormGroups {
  int64_t width;       // of a group
  int64_t gain_count;  // gains repeat after so many columns
  float offset;

  // gain: rank 0 where there is none.
  NormGroups(const std::any& any, const Shape& gain, int64_t columns)
      : gain_count(gain.rank() > 0 ? gain[0] : columns), offset(std::any_cast<NormAttributes>(&any)->offset) {
    const int64_t group = std::any_cast<NormAttributes>(&any)->group;
    width = group > 0 ? group : gain_count;
  }

  // offset + gain, [gain_count]: the operand itself, or made in `buffer`. nullptr: there is none.
  const float* gains(const Operand& gain, float* buffer) const noexcept {
    if (!gain || offset == 0) return gain.as<const float>();
    for (int64_t j = 0; j < gain_count; ++j) buffer[j] = offset + gain.as<const float>()[j];
    return buffer;
  }
  // Of element `at` of all.
  double gain(const ReferenceOperand& gain, int64_t at) const {
    return gain ? static_cast<double>(offset) + gain[at % gain_count] : 1.0;
  }
};

// x [t, d]; gains [w] where they are not absent; whole groups in both.
inline Result<void> expect_groups(std::string_view op, const std::any& any, const Type& x, const Type& gain) {
  CHECK_OK(expect_rank(op, "x", x, 2));
  if (!absent(gain)) {
    CHECK_OK(expect_rank(op, "gain", gain, 1));
    CHECK_OK(expect_f32(op, "gain", gain));
  }
  const int64_t columns = x.shape[1], gains = absent(gain) ? columns : gain.shape[0];
  const NormAttributes& a = *std::any_cast<NormAttributes>(&any);
  if (gains <= 0 || columns % gains != 0)
    return fail(ErrorCode::shape, "{}: rows of {} are not whole groups of {}", op, columns, gains);
  if (a.group < 0 || (a.group > 0 && gains % a.group != 0))
    return fail(ErrorCode::shape, "{}: {} gains are not whole groups of {}", op, gains, a.group);
  return {};
}

// Emits the derivative of a norm along a direction; centred: of layer_norm.
Result<void> norm_tangent(Tangents& tangents, const Node& node, bool centred);

inline std::string norm_text(const std::any& any) {
  const NormAttributes& a = *std::any_cast<NormAttributes>(&any);
  std::string text = fmt::format("{{epsilon {}", a.epsilon);
  if (a.offset != 0) text += fmt::format(", offset {}", a.offset);
  if (a.group != 0) text += fmt::format(", groups of {}", a.group);
  return text + "}";
}

}  // namespace thimble
