// What the operations of the delta rule share.
#pragma once

#include "ops/recurrent.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"

namespace thimble::delta {

struct Extents {
  int64_t heads, key, value;
  int64_t state() const { return key * value; }
};
inline Extents extents(int64_t heads, const Shape& k, const Shape& v) { return {heads, k[1] / heads, v[1] / heads}; }

// q, k, v and beta, the first operands of `in`.
inline Result<void> expect_rows(std::string_view op, int64_t heads, std::span<const Type> in) {
  for (const auto& [name, type] : {std::pair{"q", &in[0]}, {"k", &in[1]}, {"v", &in[2]}}) {
    CHECK_OK(expect_rank(op, name, *type, 2));
    CHECK_OK(expect_elements(op, name, *type));
    if (heads < 1 || type->shape[1] % heads != 0 || type->shape[0] != in[0].shape[0])
      return fail(ErrorCode::shape, "{}: {} {} is not of {} rows and {} heads", op, name, type->shape.text(),
                  in[0].shape[0], heads);
  }
  CHECK_OK(expect_shape(op, "k", in[1], in[0].shape));
  CHECK_OK(expect_shape(op, "beta", in[3], {in[0].shape[0], heads}));
  return expect_f32(op, "beta", in[3]);
}

// Element runs of one row and head.
inline const float* read(const Operand& operand, const Extents& e, int64_t t, int64_t head, int64_t width,
                         float* buffer) noexcept {
  return read_run(operand, (t * e.heads + head) * width, width, buffer);
}
inline void write(const Operand& operand, const Extents& e, int64_t t, int64_t head, int64_t width,
                  const float* values) noexcept {
  write_run(operand, (t * e.heads + head) * width, width, values);
}

// state [key, value] += k u^T with u = beta (v - k^T state); error: v - k^T state. All are of one row and head.
inline void correct(const Extents& e, const float* k, const float* v, float beta, float* state, float* error,
                    float* u) noexcept {
  std::copy_n(v, e.value, error);
  for (int64_t i = 0; i < e.key; ++i) add_scaled(error, state + i * e.value, -k[i], e.value);
  for (int64_t j = 0; j < e.value; ++j) u[j] = beta * error[j];
  for (int64_t i = 0; i < e.key; ++i) add_scaled(state + i * e.value, u, k[i], e.value);
}

// One row and head of operands q, k, v, beta and result o. rows: f32 [2 key + 3 value].
inline void one_row(const Call& call, const Extents& e, int64_t t, int64_t head, float* state, float* rows) noexcept {
  float *const q = rows, *const k = q + e.key, *const v = k + e.key, *const error = v + e.value,
               *const u = error + e.value;
  correct(e, read(call.in[1], e, t, head, e.key, k), read(call.in[2], e, t, head, e.value, v),
          call.in[3].as<const float>()[t * e.heads + head], state, error, u);
  const float* const query = read(call.in[0], e, t, head, e.key, q);
  float* const o = error;
  std::fill_n(o, e.value, 0.0f);
  for (int64_t i = 0; i < e.key; ++i) add_scaled(o, state + i * e.value, query[i], e.value);
  write(call.out[0], e, t, head, e.value, o);
}

}  // namespace thimble::delta
