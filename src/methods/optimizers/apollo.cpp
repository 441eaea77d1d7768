// APOLLO: gradients scaled channel by channel as AdamW would, by what AdamW does to a random projection of them.
// APOLLO-Mini: one factor a matrix, from a projection onto one direction.
//
//   Paper   Zhu et al. 2024, arXiv:2412.05270, Algorithm 1
//   Update  R = P^T G, P [m, r] normal numbers / sqrt(r), drawn anew every `interval` steps;  m, v Adam's of R;
//           N = m / (sqrt(v) + eps);  s_j = |N_j| / |R_j|, j a channel (or all);  U = G diag(s) sqrt(scale), shortened
//           to 1.01 times the length of the step before;  p <- p - lr sqrt(1-b2^t) / (1-b1^t) U;  p <- p - lr wd p
//   State   of a matrix of the blocks [m, n], m <= n: m, v [r, n] and one length; P is never stored
//   Choice  as the authors' code: the limiter of Fira (arXiv:2410.01623), decay after the step; AdamW for the rest
#include <cmath>

#include "methods/optimizers/adamw.h"
#include "methods/optimizers/matrices.h"
#include "methods/optimizers/projection.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("rank", 0, 0, 65536, "dimensions of the projection; 0: a quarter of the smaller side"),
    whole_number("interval", 200, 1, 1'000'000'000, "steps from one projection to the next"),
    {"scale", 1, 0, 1e6, "its root is a factor of the step"},
    zero_or_one("channels", 1, "1: a factor a channel; 0: one a matrix"),
    kAdamOptions[0],
    kAdamOptions[1],
    {"epsilon", 1e-6, 0, 1, "added to the root"},
};
constexpr Option kMiniOptions[] = {
    whole_number("rank", 1, 0, 65536, "dimensions of the projection; 0: a quarter of the smaller side"),
    whole_number("interval", 200, 1, 1'000'000'000, "steps from one projection to the next"),
    {"scale", 128, 0, 1e6, "its root is a factor of the step"},
    zero_or_one("channels", 0, "1: a factor a channel; 0: one a matrix"),
    kAdamOptions[0],
    kAdamOptions[1],
    {"epsilon", 1e-6, 0, 1, "added to the root"},
};

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues& options) {
  if (!parameter.is_hidden_matrix()) return adam_states(parameter.shape);
  std::vector<StateSpec> out = adam_states(Projection(parameter, options).low());
  out.push_back({.name = "length", .shape = {1}, .any_codec = false});
  return out;
}

ValueId basis(Update& u, const Projection& p) {
  PointwiseBuilder b;
  b.shape(p.basis());
  const Expr noise = b.normal_noise(name_hash("apollo." + u.name()), static_cast<int64_t>(u.options["interval"]));
  b.output(noise / std::sqrt(static_cast<double>(p.rank())));
  return u.graph.emit(kPointwise, b.attributes(), {}, "basis." + u.name());
}

// The gradient times the factors of its channels.
ValueId scaled(Update& u, const Projection& p) {
  const ValueId g = clipped_gradient(u);
  const ValueId low = p.project(u.graph, g, basis(u, p), "low." + u.name());
  const ValueId n = adam_ratio(u, low);
  const bool channels = u.options["channels"] > 0;
  const ReduceOver over = !channels ? ReduceOver::all : p.wide() ? ReduceOver::rows : ReduceOver::columns;
  const ValueId after = reduce(u.graph, n, Reduce::squares, over, "after." + u.name()),
                before = reduce(u.graph, low, Reduce::squares, over, "before." + u.name());
  Fused f(u.graph, "scaled." + u.name());
  const Expr whole = f.tensor(g);
  const auto length = [&](ValueId value) {
    return sqrt(!channels ? f.scalar(value) : p.wide() ? f.row(value) : f.column(value));
  };
  const Expr of_n = length(after), of_low = length(before);
  ValueId out = kNone;
  f.output(out, std::sqrt(u.options["scale"]) * whole * (of_n / (of_low + 1e-8)));
  f.emit();
  return out;
}

void apply(Update& u) {
  if (!u.trained.is_hidden_matrix()) return apply_adamw(u);
  const ValueId step = scaled(u, Projection(u.trained, u.options));
  const ValueId length = squared_length(u.graph, step, "length." + u.name());
  {
    Fused f(u.graph, "update." + u.name());
    const Expr p = f.tensor(u.parameter), d = f.tensor(step), rate = f.scalar(u.learning_rate), t = f.scalar(u.step);
    const Expr shortened = d / growth_limit(f.scalar(u.states[2]), sqrt(f.scalar(length)), t);
    const Expr size = rate * sqrt(1 - pow(u.options["beta2"], t)) / (1 - pow(u.options["beta1"], t));
    f.store(u.parameter, (p - size * shortened) * (1 - rate * u.decay));
    f.emit();
  }
  Fused f(u.graph, "limited." + u.name());
  const Expr before = f.tensor(u.states[2]), now = sqrt(f.tensor(length)), t = f.tensor(u.step);
  f.store(u.states[2], now / growth_limit(before, now, t));
  f.emit();
}

}  // namespace

const Optimizer kApollo = {.name = "apollo",
                           .summary = "gradients scaled by channel, from a random projection of few dimensions",
                           .paper = "arXiv:2412.05270",
                           .learning_rate = 2e-3,
                           .options = kOptions,
                           .states = states,
                           .hooks = {.apply = apply}};
const Optimizer kApolloMini = {.name = "apollo_mini",
                               .summary = "gradients scaled by one factor a matrix, from one random direction",
                               .paper = "arXiv:2412.05270",
                               .learning_rate = 2e-3,
                               .options = kMiniOptions,
                               .states = states,
                               .hooks = {.apply = apply}};

}  // namespace thimble
