// TAPS in training: the mean size of all scores is a part of the loss.
//
//   Paper   Wallingford et al. 2022, arXiv:2203.16708, eq. 4
//   Update  g <- clipped g + penalty / layers * sign(score)
//   State   none
//   Choice  the penalty is added behind clipping, as the data's gradients alone are clipped
#include "methods/optimizers/update_expr.h"
#include "methods/rewrites/taps.h"

namespace thimble {
namespace {

bool is_score(const Update& u) { return u.name().ends_with(kTapsScore); }

std::vector<StateSpec> states(const Parameter&, const OptionValues&) { return {}; }

void together(std::span<Update* const> updates) {
  const auto layers = std::ranges::count_if(updates, [](const Update* u) { return is_score(*u); });
  for (Update* const u : updates) {
    if (!is_score(*u)) continue;
    ValueId gradient = kNone;
    Fused f(u->graph, "taps.pressed." + u->name());
    const Expr score = f.tensor(u->parameter), whole = f.tensor(u->gradient);
    const Expr g = u->clip == kNone ? whole : whole * f.scalar(u->clip);
    f.output(gradient, g + u->options["penalty"] / static_cast<double>(layers) * sign(score));
    f.emit();
    u->gradient = gradient, u->clip = kNone;
  }
}

}  // namespace

const Wrapper kTapsPenalty = {.name = "taps",
                              .summary = "presses the scores of TAPS's layers down",
                              .paper = "arXiv:2203.16708",
                              .options = kTapsOptions,
                              .states = states,
                              .on_gradient = true,
                              .together = together};

}  // namespace thimble
