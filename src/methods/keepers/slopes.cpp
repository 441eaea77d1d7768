#include "methods/keepers/slopes.h"

#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

// f(gate) of a gated activation, kept.
ValueId value_of(Keeping& k, const Node& node) {
  const ValueId f = k.once("f", node.out[0], [&] {
    return k.forward(kActivation, node.attributes, {node.in[0], kNone}, k.name(node.out[0]) + ".f")[0];
  });
  return k.saved(f);
}

const StepSlope* slope_for(Keeping& k, const Node& node, SlopeOf slope_of) {
  return node.op == &kActivation ? slope_of(k.options(), node.as<ActivationAttributes>().kind) : nullptr;
}

}  // namespace

ValueId saved_product(Keeping& k, ValueId value, SlopeOf slope_of) {
  Graph& g = k.graph();
  const Node node = g.nodes()[static_cast<size_t>(g.producer(value))];  // a copy: emitting moves the nodes
  if (!slope_for(k, node, slope_of) || node.in[1] == kNone) return value;
  return k.once("product", value, [&] {
    const ValueId f = value_of(k, node), up = k.saved(node.in[1]);
    PointwiseBuilder b;
    const Expr factor = b.tensor();
    b.output(factor * b.tensor(), g.value(value).type.codec);
    return g.emit(kPointwise, b.attributes(), {f, up}, k.name(value) + ".restored");
  });
}

bool slope_gradient(Keeping& k, const Node& node, SlopeOf slope_of) {
  const StepSlope* const slope = slope_for(k, node, slope_of);
  if (!slope) return false;
  Backward& backward = k.backward();
  const ValueId dy = backward.gradient_of(node.out[0]), gate = node.in[0], up = node.in[1];
  if (dy == kNone) return true;
  const ValueId codes = k.forward(kSlopeCodes, *slope, {gate}, k.name(gate))[0];
  const ValueId f = backward.wanted(up) ? value_of(k, node) : kNone;
  const bool wanted[2] = {true, f != kNone};
  const auto out = k.graph().emit_all(kSlopeGradient, *slope, {dy, codes, up == kNone ? kNone : k.saved(up), f},
                                      backward.name(gate), wanted);
  if (backward.wanted(gate)) backward.add(gate, out[0]);
  if (backward.wanted(up)) backward.add(up, out[1]);
  return true;
}

}  // namespace thimble
