// deltanet: a state that is corrected towards the value of each key, in place of a cache that grows.
//
//   Paper   Yang et al. 2024, "Parallelizing Linear Transformers with the Delta Rule over Sequence Length",
//           arXiv:2406.06484; Schlag et al. 2021, arXiv:2102.11174
//   Source  flash-linear-attention, fla/layers/delta_net.py, with its defaults
//   Rows    q, k, v = silu(conv(x W^T)), a causal convolution of 4 rows;  q and k of length 1 a head, q times
//           head_dim^-0.5;  beta = sigmoid(x W_b^T), one a head
//   State   S = S (I - beta k k^T) + beta v k^T;  o = S q, then an RMS norm a head
#include <cmath>

#include "models/mixer.h"
#include "ops/pointwise.h"
#include "ops/recurrent.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr int64_t kTaps = 4;

std::vector<TensorSpec> tensors(const Attention& a, int64_t width, const Initial& matrix) {
  const int64_t n = a.q_width();
  std::vector<TensorSpec> out;
  for (const char* row : {"q", "k", "v"}) out.push_back({fmt::format("{}_proj.weight", row), {n, width}, matrix});
  out.push_back({"b_proj.weight", {a.heads, width}, matrix, true});
  // As PyTorch begins a convolution of one column: uniform within 1 / sqrt(taps).
  for (const char* row : {"q", "k", "v"})
    out.push_back({fmt::format("{}_conv1d.weight", row), {n * kTaps}, Initial::uniform(1 / std::sqrt(float{kTaps}))});
  out.push_back({"o_norm.weight", {a.head_dim}, Initial::constant(1)});
  return out;
}

// silu(conv(x W^T)).
ValueId row(const MixerContext& c, const std::string& which) {
  Graph& g = c.graph;
  const ValueId x = c.linear(which + "_proj", *g.value(c.x).type.codec);
  const std::string name = c.name + which + "_conv1d";
  const ValueId w = c.weight(name + ".weight");
  ValueId y = kNone;
  if (c.whole()) {
    y = g.emit(kShortConv, {}, {x, w, c.starts}, name);
  } else {
    const Type state{{c.slot_count, (kTaps - 1) * g.value(x).type.shape[1]}};
    y = g.emit(kShortConvCached, {}, {x, w, g.add_value(name + ".state", state, Role::state), c.slots, c.positions},
               name);
  }
  return g.emit(kActivation, ActivationAttributes{Activation::silu}, {y, kNone}, name + ".silu");
}

// Heads of the length that is asked for. The norm's mean of squares is their sum over the width of a head.
ValueId of_length(const MixerContext& c, ValueId x, double length, const std::string& name) {
  const int64_t d = c.attention.head_dim;
  const double gain = length / std::sqrt(static_cast<double>(d));
  const std::string constant = fmt::format("heads.{}.gain {}", d, gain);
  const ValueId gains = c.graph.constant(constant, {{d}}, Initial::constant(static_cast<float>(gain)));
  constexpr double kEpsilon = 1e-6;  // of the sum of squares
  return c.graph.emit(kRmsNorm, NormAttributes{kEpsilon / static_cast<double>(d)}, {x, gains}, c.name + name);
}

ValueId rates(const MixerContext& c) {
  PointwiseBuilder b;
  b.output(sigmoid(b.tensor()));
  return c.graph.emit(kPointwise, b.attributes(), {c.linear("b_proj", kF32)}, c.name + "beta");
}

ValueId mix(const MixerContext& c) {
  Graph& g = c.graph;
  const Attention& a = c.attention;
  const ValueId q = of_length(c, row(c, "q"), 1 / std::sqrt(static_cast<double>(a.head_dim)), "q");
  const ValueId k = of_length(c, row(c, "k"), 1, "k"), v = row(c, "v"), beta = rates(c);
  const DeltaRuleAttributes attributes{a.heads, c.longest};
  ValueId o = kNone;
  if (c.whole()) {
    o = g.emit(kDeltaRule, attributes, {q, k, v, beta, c.starts}, c.name + "state");
  } else {
    const Type state{{c.slot_count, a.heads, a.head_dim * a.head_dim}};
    o = g.emit(kDeltaRuleCached, attributes,
               {q, k, v, beta, g.add_value(c.name + "cache_s", state, Role::state), c.slots, c.positions},
               c.name + "state");
  }
  return g.emit(kRmsNorm, NormAttributes{c.epsilon}, {o, c.weight(c.name + "o_norm.weight")}, c.name + "o_norm");
}

}  // namespace

const Mixer kDeltaNetMixer = {.name = "deltanet",
                              .summary = "a recurrent state that is corrected towards the value of each key",
                              .paper = "Yang et al. 2024",
                              .recurrent = true,
                              .tensors = tensors,
                              .mix = mix};

}  // namespace thimble
