// Small pieces of shape rules.
#pragma once

#include "graph/op.h"

namespace thimble {

inline bool absent(const Type& type) { return type.codec == nullptr; }

inline Result<void> expect_operands(std::string_view op, std::span<const Type> in, size_t count) {
  if (in.size() != count) return fail(ErrorCode::shape, "{}: expected {} operands, found {}", op, count, in.size());
  return {};
}

// Numbers in any codec: kernels decode them by rows.
inline Result<void> expect_numbers(std::string_view op, std::string_view operand, const Type& type) {
  if (absent(type)) return fail(ErrorCode::shape, "{}: {} is missing", op, operand);
  if (type.codec == &kI32) return fail(ErrorCode::shape, "{}: {} should be numbers, found {}", op, operand, kI32.name);
  return {};
}

// What kernels read as it lies in memory.
inline Result<void> expect_f32(std::string_view op, std::string_view operand, const Type& type) {
  if (absent(type) || type.codec == &kF32) return {};
  return fail(ErrorCode::shape, "{}: {} should be f32, found {}", op, operand, type.codec->name);
}

// One codec block an element: columns can be taken apart.
inline Result<void> expect_elements(std::string_view op, std::string_view operand, const Type& type) {
  if (absent(type) || (type.codec->block == 1 && type.codec != &kI32)) return {};
  return fail(ErrorCode::shape, "{}: {} should be of single elements, found {}, whose blocks are of {}", op, operand,
              type.codec->name, type.codec->block);
}

// Row by row or element by element the same bytes: a kernel may pass over the whole as one run.
inline Result<void> expect_run(std::string_view op, std::string_view operand, const Type& type) {
  CHECK_OK(expect_numbers(op, operand, type));
  if (type.shape.rows() <= 1 || type.shape.columns() % type.codec->block == 0) return {};
  return fail(ErrorCode::shape, "{}: {} has rows of {}, which are no whole blocks of {} ({})", op, operand,
              type.shape.columns(), type.codec->name, type.codec->block);
}

// Indices: of tokens, rows, positions.
inline Result<void> expect_indices(std::string_view op, std::string_view operand, const Type& type) {
  if (absent(type)) return fail(ErrorCode::shape, "{}: {} are missing", op, operand);
  if (type.codec != &kI32 || type.shape.rank() != 1)
    return fail(ErrorCode::shape, "{}: {} should be i32[n], found {}{}", op, operand, type.codec->name,
                type.shape.text());
  return {};
}
inline Result<void> expect_indices(std::string_view op, std::string_view operand, const Type& type, int64_t count) {
  CHECK_OK(expect_indices(op, operand, type));
  if (type.shape[0] != count)
    return fail(ErrorCode::shape, "{}: {} should be {}, found {}", op, operand, count, type.shape[0]);
  return {};
}

inline Result<void> expect_shape(std::string_view op, std::string_view operand, const Type& type, const Shape& shape) {
  CHECK_OK(expect_numbers(op, operand, type));
  if (!(type.shape == shape))
    return fail(ErrorCode::shape, "{}: {} should be {}, found {}", op, operand, shape.text(), type.shape.text());
  return {};
}

inline Result<void> expect_rank(std::string_view op, std::string_view operand, const Type& type, int rank) {
  CHECK_OK(expect_numbers(op, operand, type));
  if (type.shape.rank() != rank)
    return fail(ErrorCode::shape, "{}: {} should have {} extents, found {}", op, operand, rank, type.shape.text());
  return {};
}

// Of places (experts.h): i32 [tokens, count].
inline Result<void> expect_places(std::string_view op, const Type& type, int64_t tokens, int64_t count) {
  if (absent(type)) return fail(ErrorCode::shape, "{}: tokens are missing", op);
  if (type.codec == &kI32 && type.shape == Shape{tokens, count}) return {};
  return fail(ErrorCode::shape, "{}: tokens should be i32[{}, {}], found {}{}", op, tokens, count, type.codec->name,
              type.shape.text());
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
