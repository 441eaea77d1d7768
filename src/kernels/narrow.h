// Products with weights [n, k] that do without the panels of gemm.h: of few rows, as decoding makes them, and in int8.
//
// Few rows: every row of the weight is read (and decoded, where it is not f32 or bf16) once and meets all rows of x in
// registers. The panels of gemm.h would cost more than the product itself.
//
// Numerics: every element is, for each term in the order given, a sum over k in 16 lanes of f32 and then over the lanes
// (the order of dot() in rows.h; of weights in bf16 and nf4, a lane has two neighbours of every 32 elements),
// multiplied with the term's scale. With Multiply::int8, terms whose weight has an int8 format are as dot/int8_dot.h
// says instead. An element does not depend on the number of rows or of threads, nor on the instruction set. It differs
// from gemm()'s: which of the two a product goes through is settled in planning.
#pragma once

#include "kernels/gemm.h"

namespace thimble {

// Rows up to which the narrow product is the faster one, weights in int8 formats apart.
constexpr int64_t kNarrowRows = 8;

// Several products at once share one waking of the threads, and what is made of an A that they have in common. They
// have the same m, and no more than kMostNarrowTerms terms. Terms must be A [m, k] and B [n, k] transposed; C is not
// accumulated to.
constexpr size_t kMostNarrowTerms = 32;
int64_t narrow_workspace_bytes(Multiply multiply, std::span<const Product> products, int threads);
void narrow(Threads& threads, Multiply multiply, std::span<const Product> products,
            std::span<std::byte> workspace) noexcept;

}  // namespace thimble
