// Gradient noise: normal noise, whose variance falls from step to step, is added to the gradients of any optimizer.
//
//   Paper   Neelakantan et al. 2015, arXiv:1511.06807, eq. 1
//   Update  g <- clipped g + n, n normal of variance eta / t^gamma, t from 1
//   State   none
//   Choice  the noise is added after clipping, as in the paper's experiments; it is keyed by seed, parameter, step and
//           element. The paper's (1 + t) counts steps from 0
#include "methods/optimizers/update_expr.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"eta", 0.01, 0, 1e6, "variance of the noise at the first step; the paper tries 0.01, 0.3 and 1"},
    {"gamma", 0.55, 0, 10, "the variance falls with this power of the step"},
};

std::vector<StateSpec> states(const Parameter&, const OptionValues&) { return {}; }

void before(Update& u) {
  const uint64_t stream = name_hash("gradient_noise." + u.name());
  ValueId noisy = kNone;
  Fused f(u.graph, "noisy." + u.name());
  const Expr whole = f.tensor(u.gradient);
  const Expr g = u.clip == kNone ? whole : whole * f.scalar(u.clip);
  const Expr deviation = sqrt(u.options["eta"] * pow(f.scalar(u.step), -u.options["gamma"]));
  f.output(noisy, g + deviation * f.builder().normal_noise(stream));
  f.emit();
  u.gradient = noisy, u.clip = kNone;
}

}  // namespace

const Wrapper kGradientNoise = {.name = "gradient_noise",
                                .summary = "normal noise that fades, added to the gradients",
                                .paper = "arXiv:1511.06807",
                                .options = kOptions,
                                .states = states,
                                .on_gradient = true,
                                .before = before};

}  // namespace thimble
