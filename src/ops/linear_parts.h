// What linear shares with linear_group, and with keepers that have gradients of weights of their own.
#pragma once

#include <functional>

#include "ops/table.h"

namespace thimble {

constexpr size_t kMostTerms = 16;

// The product that a call or a plan describes; operands may have no data. terms: room for all.
Product describe_linear(const LinearAttributes& attributes, std::span<const Operand> in, const Operand& y, Term* terms);

// Emits the gradient of a linear node; that of each weight which is wanted by `weight_gradient`, of which term and of
// dy.
using WeightGradient = std::function<void(size_t term, ValueId dy)>;
void linear_gradient(Backward& backward, const Node& node, const WeightGradient& weight_gradient);

}  // namespace thimble
