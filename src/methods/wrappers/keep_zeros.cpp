// Keep zeros: weights that were pruned stay zero while the others train.
//
//   Paper   none; sparse retraining with a frozen mask, as Han et al. 2015 (arXiv:1506.02626) retrain what is left, and
//           Mishra et al. 2021 (arXiv:2104.08378), section 4, a 2:4 network
//   Update  g <- mask g before the optimizer, p <- mask p behind it; mask = 1 where p is not 0 when training begins
//   State   mask, of matrices of the blocks, in nf4, which has 0 and 1 (4.5 bits an element)
//   Choice  masked on both sides: the optimizer's own statistics see no pruned weight, and optimizers that mix the
//           elements of a matrix (muon) move none. All else trains as ever, also where it begins with zeros (biases)
#include "methods/optimizers/update_expr.h"

namespace thimble {
namespace {

constexpr std::string_view kBegins = "keep_zeros begins";

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) {
  if (!parameter.is_hidden_matrix()) return {};
  StateSpec mask = coded({.name = "mask", .shape = parameter.shape}, kNf4);
  mask.any_codec = false;
  return {mask};
}

void before(Update& u) {
  if (u.states.empty()) return;
  if (u.is_due(kBegins)) {
    Fused f(u.graph, "mask." + u.name());
    (void)f.tensor(u.states[0]);
    f.store(u.states[0], greater(abs(f.tensor(u.parameter)), 0));
    f.emit();
  }
  ValueId masked = kNone;
  Fused f(u.graph, "masked." + u.name());
  f.output(masked, f.tensor(u.gradient) * f.tensor(u.states[0]));
  f.emit();
  u.gradient = masked;
}

void after(Update& u) {
  if (u.states.empty()) return;
  Fused f(u.graph, "kept_zeros." + u.name());
  f.store(u.parameter, f.tensor(u.parameter) * f.tensor(u.states[0]));
  f.emit();
}

constexpr Period kPeriods[] = {{kBegins, [](const OptionValues&) { return kOnce; }}};

}  // namespace

const Wrapper kKeepZeros = {.name = "keep_zeros",
                            .summary = "weights that are zero when training begins stay zero",
                            .paper = "arXiv:1506.02626",
                            .options = {},
                            .states = states,
                            .on_gradient = true,
                            .of_weights = true,
                            .before = before,
                            .after = after,
                            .periods = kPeriods};

}  // namespace thimble
