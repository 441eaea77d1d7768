// Small pieces of shape rules.
#pragma once

#include "graph/op.h"

namespace thimble {

inline bool absent(const Type& type) { return type.codec == nullptr; }

inline Result<void> expect_operands(std::string_view op, std::span<const Type> in, size_t count) {
  if (in.size() != count) return fail(ErrorCode::shape, "{}: expected {} operands, found {}", op, count, in.size());
  return {};
}

inline Result<void> expect_shape(std::string_view op, std::string_view operand, const Type& type, const Shape& shape) {
  if (absent(type)) return fail(ErrorCode::shape, "{}: {} is missing", op, operand);
  if (!(type.shape == shape))
    return fail(ErrorCode::shape, "{}: {} should be {}, found {}", op, operand, shape.text(), type.shape.text());
  return {};
}

inline Result<void> expect_rank(std::string_view op, std::string_view operand, const Type& type, int rank) {
  if (absent(type)) return fail(ErrorCode::shape, "{}: {} is missing", op, operand);
  if (type.shape.rank() != rank)
    return fail(ErrorCode::shape, "{}: {} should have {} extents, found {}", op, operand, rank, type.shape.text());
  return {};
}

// Bytes of all operands: the cost of an operation that moves each once.
inline double moved_bytes(std::span<const Type> in, std::span<const Type> out) {
  double bytes = 0;
  for (const Type& type : in)
    if (!absent(type)) bytes += static_cast<double>(type.bytes());
  for (const Type& type : out)
    if (!absent(type)) bytes += static_cast<double>(type.bytes());
  return bytes;
}
inline Cost pointwise_cost(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  return {.bytes = moved_bytes(in, out)};
}

}  // namespace thimble
