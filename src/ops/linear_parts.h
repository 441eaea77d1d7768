// What linear and linear_group share.
#pragma once

#include "ops/table.h"

namespace thimble {

constexpr size_t kMostTerms = 16;

// The product that a call or a plan describes; operands may have no data. terms: room for all.
Product describe_linear(const LinearAttributes& attributes, std::span<const Operand> in, const Operand& y, Term* terms);

}  // namespace thimble
