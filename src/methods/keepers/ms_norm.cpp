// ms_norm: a norm and the linear layers behind it share what waits.
//
//   Paper   Yang et al. 2024, "Approximate and Memory-Sharing Backpropagation", arXiv:2406.16282, section 5 (MS-LN and
//           MS-RMSNorm)
//   Equation  y = h gain + bias, h = (x - mean) r or x r;  with u = gain dy: dx = r (u - mean(u) - h mean(u h)), which
//             reads h and r, not x; dgain = sum of dy h
//   Keeps   h, from which the linears' input is recomputed as h gain + bias, and r, one number a row; neither x nor y
//   Choice  gain and bias stay parameters of the norm; the paper merges them into the linears. h is rounded as x is.
//           Where no weight behind the norm trains there is nothing to share, and x waits as ever
#include "methods/keeper.h"
#include "ops/keep.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

// A norm of whole rows whose output a linear reads that trains.
bool shares(Keeping& k, const Node& node) {
  if (node.op != &kRmsNorm && node.op != &kLayerNorm) return false;
  const Graph& g = k.graph();
  const Shape& x = g.value(node.in[0]).type.shape;
  if (node.in[1] != kNone && g.value(node.in[1]).type.shape[0] != x[1]) return false;
  const auto producer = static_cast<size_t>(g.producer(node.out[0]));
  for (size_t i = producer; i < g.nodes().size() && g.nodes()[i].phase == Phase::forward; ++i) {
    const Node& reader = g.nodes()[i];
    for (size_t term = 0; reader.op == &kLinear && term < reader.as<LinearAttributes>().terms.size(); ++term)
      if (reader.in[2 * term] == node.out[0] && k.backward().wanted(reader.in[2 * term + 1])) return true;
  }
  return false;
}

UnitNormAttributes unit_of(Keeping& k, const Node& node) {
  const NormAttributes& a = node.as<NormAttributes>();
  return {.epsilon = a.epsilon,
          .offset = a.offset,
          .group = a.group > 0 ? a.group : k.graph().value(node.in[0]).type.shape[1],
          .centred = node.op == &kLayerNorm};
}

// h; r is the second result of the node that makes it.
ValueId unit(Keeping& k, const Node& node) {
  return k.once("unit", node.out[0],
                [&] { return k.forward(kUnitNorm, unit_of(k, node), {node.in[0]}, k.name(node.out[0]))[0]; });
}

ValueId saved(Keeping& k, ValueId value) {
  Graph& g = k.graph();
  const Node node = g.nodes()[static_cast<size_t>(g.producer(value))];  // a copy: emitting moves the nodes
  if (!shares(k, node)) return value;
  return k.once("restored", value, [&] {
    const ValueId gain = node.in[1], bias = node.op == &kLayerNorm ? node.in[2] : kNone;
    std::vector<ValueId> in{k.saved(unit(k, node))};
    PointwiseBuilder b;
    Expr y = b.tensor();
    if (gain != kNone) y = y * (b.row() + node.as<NormAttributes>().offset), in.push_back(gain);
    if (bias != kNone) y = y + b.row(), in.push_back(bias);
    b.output(y, g.value(value).type.codec);
    return g.emit(kPointwise, b.attributes(), in, k.name(value) + ".restored");
  });
}

bool gradient(Keeping& k, const Node& node) {
  if (!shares(k, node)) return false;
  Backward& backward = k.backward();
  Graph& g = k.graph();
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0], gain = node.in[1];
  if (dy == kNone) return true;
  const UnitNormAttributes attributes = unit_of(k, node);
  const ValueId made = unit(k, node), h = k.saved(made);
  const ValueId r = g.nodes()[static_cast<size_t>(g.producer(made))].out[1];
  if (backward.wanted(gain)) backward.accumulate(gain, kUnitNormDgain, attributes, {dy, h}, ".sum");
  if (node.op == &kLayerNorm && backward.wanted(node.in[2]))
    backward.accumulate(node.in[2], kColumnSum, {}, {dy}, ".sum");
  if (!backward.wanted(x)) return true;
  const ValueId addend = backward.gradient_of(x);
  backward.add(x, g.emit(kUnitNormDx, attributes, {dy, h, r, gain, addend}, backward.name(x)));
  return true;
}

}  // namespace

const Keeper kMsNorm = {.name = "ms_norm",
                        .summary = "norms share what they keep with the linear layers behind them",
                        .paper = "Yang et al. 2024 (arXiv:2406.16282)",
                        .saved = saved,
                        .gradient = gradient};

}  // namespace thimble
