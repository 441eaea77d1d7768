// Products of few rows with weights [n, k], as decoding makes them: every row of the weight is decoded once, into the
// first-level cache, and meets all rows of x there. The panels of gemm.h would cost more than the product itself.
//
// Numerics: every element is, for each term in the order given, a sum over k in 16 lanes of f32 and then over the lanes
// (the order of dot() in rows.h), multiplied with the term's scale. It does not depend on the number of rows or of
// threads, nor on the instruction set. It differs from gemm()'s in the last bits: which of the two a product goes
// through is settled in planning.
#pragma once

#include "kernels/gemm.h"

namespace thimble {

// Rows up to which the narrow product is the faster one.
constexpr int64_t kNarrowRows = 8;

// With Multiply::int8, weights that have an int8 dot product (dot/int8_dot.h) meet x in blocks of int8.
//
// Terms must be A [m, k] and B [n, k] transposed; C is not accumulated to.
int64_t narrow_workspace_bytes(const Product& product, int threads);
void narrow(Threads& threads, Multiply multiply, const Product& product, std::span<std::byte> workspace) noexcept;

}  // namespace thimble
