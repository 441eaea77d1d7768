// Projections of a gradient G [m, n] into few dimensions of its smaller side, for optimizers that keep their states
// there. The basis is P [d, r], d = min(m, n): of a wide matrix (m < n) P^T G [r, n], of a tall one G P [m, r].
#pragma once

#include "methods/optimizers/update_expr.h"

namespace thimble {

class Projection {
 public:
  // rank 0: a quarter of the smaller side.
  Projection(const Shape& whole, int64_t rank);
  Projection(const Parameter& parameter, const OptionValues& options)
      : Projection(parameter.shape, static_cast<int64_t>(options["rank"])) {}

  bool wide() const { return whole_[0] < whole_[1]; }
  int64_t rank() const { return rank_; }
  Shape basis() const { return {std::min(whole_[0], whole_[1]), rank_}; }
  Shape low() const { return wide() ? Shape{rank_, whole_[1]} : Shape{whole_[0], rank_}; }

  // Products with the matrix itself: [other, c] from x [side, c] and back, side and other the smaller and larger
  // extent.
  ValueId to_other(Graph& graph, ValueId whole, ValueId x, const std::string& name) const;
  ValueId to_side(Graph& graph, ValueId whole, ValueId x, const std::string& name) const;

  ValueId project(Graph& graph, ValueId whole, ValueId basis, const std::string& name) const;
  ValueId back(Graph& graph, ValueId low, ValueId basis, const std::string& name) const;

  // The directions in which the matrix is largest, as columns, the largest first: its singular vectors, by
  // `iterations` of the power method from random numbers of `stream`, drawn anew at every step (Halko et al. 2011,
  // arXiv:0909.4061, Algorithms 4.4 and 5.1, with eight more columns than are asked for).
  ValueId dominant(Graph& graph, ValueId whole, uint64_t stream, int iterations, const std::string& name) const;

 private:
  Shape whole_;
  int64_t rank_;
};

// Of the optimizers that find a basis anew every `interval` steps.
inline constexpr Option kBasisOptions[] = {
    whole_number("rank", 0, 0, 65536, "dimensions that are kept; 0: a quarter of the smaller side"),
    whole_number("interval", 200, 1, 1'000'000'000, "steps from one basis to the next"),
    whole_number("iterations", 4, 0, 1000, "of the power method that finds a basis"),
};
inline constexpr Period kBasisPeriods[] = {
    {"basis", [](const OptionValues& options) { return static_cast<int64_t>(options["interval"]); }}};

// Adam's m and v of what is projected, and the basis.
std::vector<StateSpec> basis_states(const Projection& projection);

// Where it is due, the dominant directions of `whole` become the basis in state `state`. `owner`: whose stream of
// random numbers it begins from.
inline void renew_basis(Update& u, const Projection& p, size_t state, ValueId whole, std::string_view owner) {
  if (!u.is_due("basis")) return;
  const uint64_t stream = name_hash(std::string(owner) + "." + u.name());
  store_over(u, state,
             p.dominant(u.graph, whole, stream, static_cast<int>(u.options["iterations"]), "found." + u.name()));
}

// What a step of length `now` is divided by, lest it grows to more than 1.01 times the length of the step before (Fira,
// Chen et al. 2024, arXiv:2410.01623, section 4.3). 1 at the first step.
inline Expr growth_limit(Expr before, Expr now, Expr step) {
  constexpr double kMost = 1.01;
  const Expr first = greater(1.5, step), grown = max(now / (before + 1e-8), kMost) / kMost;
  return select(first, step / step, min(grown, 1e30));
}

}  // namespace thimble
