// Constrained OFT in training: what is trained stays within the bound.
//
//   Paper   Qiu et al. 2023, arXiv:2306.07280, section 3.3 (COFT): |R - I| <= eps; of Q and block by block as in PEFT
//   Update  behind a step Q_i <- Q_i min(1, eps / (sqrt(n) |Q_i|)), n blocks; the next step goes from there
//   State   none
//   Choice  PEFT's forward pass writes over its weights, so that the next step goes from there too; what it saves may
//           be beyond the bound by its last step, and counts as scaled down
#include "methods/optimizers/update_expr.h"
#include "methods/rewrites/oft.h"

namespace thimble {
namespace {

constexpr double kLeast = 1e-30;  // of a norm that is divided by

std::vector<StateSpec> states(const Parameter&, const OptionValues&) { return {}; }

void after(Update& u) {
  if (u.options["constrained"] == 0 || !u.name().ends_with(kOftR)) return;
  const ValueId bounded = oft_bounded(u.graph, u.parameter, u.options["eps"], "oft_bounded." + u.name());
  Fused f(u.graph, "oft_within." + u.name());
  (void)f.tensor(u.parameter);
  f.store(u.parameter, f.tensor(bounded));
  f.emit();
}

}  // namespace

ValueId oft_bounded(Graph& graph, ValueId numbers, double eps, const std::string& name) {
  const ReduceAttributes squares{Reduce::squares, ReduceOver::columns};
  const ValueId sum = graph.emit(kReduce, squares, {numbers}, name + ".squares");
  const double bound = eps / std::sqrt(static_cast<double>(graph.value(numbers).type.shape[0]));
  PointwiseBuilder b;
  const Expr number = b.tensor(), norm = sqrt(2.0 * b.column());  // each number is in Q twice
  b.output(number * (bound / max(norm, std::max(bound, kLeast))));
  return graph.emit(kPointwise, b.attributes(), {numbers, sum}, name);
}

const Wrapper kOftBound = {.name = "oft",
                           .summary = "keeps the rotations of constrained OFT within their bound",
                           .paper = "arXiv:2306.07280",
                           .options = kOftOptions,
                           .states = states,
                           .after = after};

}  // namespace thimble
