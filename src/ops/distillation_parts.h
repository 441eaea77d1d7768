// What the two passes of linear_distillation share.
#pragma once

#include "ops/cross_entropy_parts.h"
#include "ops/shape_rule.h"

namespace thimble::distillation {

using cross_entropy::cap_slope;
using cross_entropy::describe;
using cross_entropy::gather;
using cross_entropy::log_sum_exp;
using cross_entropy::make_logits;
using cross_entropy::Memory;
using cross_entropy::rows_of;
using cross_entropy::RowScale;
using cross_entropy::scaled_rows;
using cross_entropy::Tile;
using cross_entropy::type_of;

inline std::string text(const std::any& attributes) {
  const auto& a = *std::any_cast<DistillationAttributes>(&attributes);
  return fmt::format("{{temperature {}, cap {}, teacher's {}}}", a.temperature, a.cap, a.teacher_cap);
}

struct Model {
  const Type &x, &w, &bias;
};

inline Result<void> expect_model(std::string_view op, std::string_view whose, const Model& model, int64_t rows) {
  const std::string x = fmt::format("x of the {}", whose), w = fmt::format("w of the {}", whose);
  CHECK_OK(expect_rank(op, x, model.x, 2));
  CHECK_OK(expect_elements(op, x, model.x));
  CHECK_OK(expect_shape(op, x, model.x, {rows, model.x.shape[1]}));
  CHECK_OK(expect_rank(op, w, model.w, 2));
  CHECK_OK(expect_shape(op, w, model.w, {model.w.shape[0], model.x.shape[1]}));
  if (absent(model.bias)) return {};
  const std::string bias = fmt::format("bias of the {}", whose);
  CHECK_OK(expect_shape(op, bias, model.bias, {model.w.shape[0]}));
  return expect_f32(op, bias, model.bias);
}

// Of one vocabulary, and as many rows.
inline Result<void> expect_models(std::string_view op, const Model& student, const Model& teacher) {
  CHECK_OK(expect_rank(op, "x of the student", student.x, 2));
  CHECK_OK(expect_model(op, "student", student, student.x.shape[0]));
  CHECK_OK(expect_model(op, "teacher", teacher, student.x.shape[0]));
  if (student.w.shape[0] == teacher.w.shape[0]) return {};
  return fail(ErrorCode::shape, "{}: student and teacher should have one vocabulary, found {} and {} tokens", op,
              student.w.shape[0], teacher.w.shape[0]);
}

}  // namespace thimble::distillation
