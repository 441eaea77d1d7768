// Building pointwise expressions, and their derivatives: an expression of the same operands and of the gradients of the
// outputs, which computes the values once more instead of keeping them.
#include <numbers>
#include <optional>

#include "ops/backward.h"
#include "ops/pointwise.h"
#include "ops/pointwise_parts.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {

using Kind = PointwiseAttributes::Kind;

Expr PointwiseBuilder::push(PointwiseAttributes::Instruction instruction) {
  attributes_.code.push_back(instruction);
  return {this, static_cast<int>(attributes_.code.size()) - 1};
}
Expr PointwiseBuilder::operand(Kind kind) {
  return push({.kind = kind, .a = attributes_.operands++, .uniform = kind == Kind::scalar});
}
Expr PointwiseBuilder::constant(double value) {
  return push({.kind = Kind::constant, .value = value, .uniform = true});
}
Expr PointwiseBuilder::uniform_noise(uint64_t stream, int64_t period) {
  return push({.kind = Kind::uniform_noise, .value = static_cast<double>(period), .stream = stream});
}
Expr PointwiseBuilder::normal_noise(uint64_t stream, int64_t period) {
  return push({.kind = Kind::normal_noise, .value = static_cast<double>(period), .stream = stream});
}
Expr PointwiseBuilder::apply(Kind kind, Expr a, Expr b) {
  const bool uniform =
      attributes_.code[static_cast<size_t>(a.id)].uniform && attributes_.code[static_cast<size_t>(b.id)].uniform;
  return push({.kind = kind, .a = a.id, .b = b.id, .uniform = uniform});
}
Expr PointwiseBuilder::apply(Kind kind, Expr a) {
  return push({.kind = kind, .a = a.id, .uniform = attributes_.code[static_cast<size_t>(a.id)].uniform});
}
void PointwiseBuilder::store(Expr target, Expr value, uint64_t stream) {
  assert(attributes_.code[static_cast<size_t>(target.id)].a == static_cast<int>(attributes_.outputs.size()));
  (void)target;
  attributes_.outputs.push_back({value.id, nullptr, stream});
}
void PointwiseBuilder::output(Expr value, const Codec* codec) { attributes_.outputs.push_back({value.id, codec, 0}); }

class PointwiseGradient {
 public:
  PointwiseGradient(Backward& backward, const Node& node)
      : backward_(backward), node_(node), code_(node.as<PointwiseAttributes>().code) {}

  Result<void> emit() {
    const PointwiseAttributes& attributes = node_.as<PointwiseAttributes>();
    std::vector<ValueId> upstream;
    for (ValueId out : node_.out) upstream.push_back(backward_.gradient_of(out));
    // A loss is as it is: its gradient is 1.
    const auto is_loss = [&](size_t i) { return upstream[i] == kNone && backward_.is_loss(node_.out[i]); };
    bool any = false;
    for (size_t i = 0; i < upstream.size(); ++i) any |= upstream[i] != kNone || is_loss(i);
    if (!any) return {};
    for (const auto& output : attributes.outputs)
      if (!output.codec)
        return fail(ErrorCode::unsupported, "backward: a pointwise operation that overwrites '{}' has no gradient",
                    backward_.graph().value(node_.in[0]).name);
    b_.attributes_ = attributes;  // the values again
    b_.attributes_.outputs.clear();
    adjoint_.resize(code_.size());
    for (ValueId id : node_.in) operands_.push_back(backward_.saved(id));
    for (size_t i = 0; i < upstream.size(); ++i) {
      if (is_loss(i)) add(attributes.outputs[i].value, b_.constant(1));
      if (upstream[i] == kNone) continue;
      add(attributes.outputs[i].value, b_.tensor());
      operands_.push_back(upstream[i]);
    }
    for (size_t i = code_.size(); i-- > 0;)
      if (adjoint_[i]) pass_down(static_cast<int>(i), *adjoint_[i]);
    return hand_out();
  }

 private:
  Expr value(int i) { return {&b_, i}; }
  void add(int i, Expr d) {
    auto& sum = adjoint_[static_cast<size_t>(i)];
    sum = sum ? *sum + d : d;
  }

  void pass_down(int i, Expr d) {
    const auto& [kind, a, b, number, stream, uniform] = code_[static_cast<size_t>(i)];
    switch (kind) {
      case Kind::add:
        add(a, d), add(b, d);
        return;
      case Kind::subtract:
        add(a, d), add(b, -1 * d);
        return;
      case Kind::multiply:
        add(a, d * value(b)), add(b, d * value(a));
        return;
      case Kind::divide:
        add(a, d / value(b)), add(b, -1 * d * value(i) / value(b));
        return;
      case Kind::minimum:
        add(a, d * greater(value(b), value(a))), add(b, d * (1 - greater(value(b), value(a))));
        return;
      case Kind::maximum:
        add(a, d * greater(value(a), value(b))), add(b, d * (1 - greater(value(a), value(b))));
        return;
      case Kind::power:
        add(a, d * value(b) * pow(value(a), value(b) - 1));
        if (!code_[static_cast<size_t>(b)].uniform) add(b, d * value(i) * log(value(a)));
        return;
      case Kind::square_root:
        add(a, d / (2 * value(i)));
        return;
      case Kind::absolute:
        add(a, d * sign(value(a)));
        return;
      case Kind::exponential:
        add(a, d * value(i));
        return;
      case Kind::logarithm:
        add(a, d / value(a));
        return;
      case Kind::cosine:
        add(a, d * cos(value(a) + std::numbers::pi / 2));
        return;
      case Kind::tanh:
        add(a, d * (1 - value(i) * value(i)));
        return;
      default:
        return;  // an operand, a number, noise; steps have a slope of 0
    }
  }

  // One node makes what comes to every operand, element by element; what was broadcast is then summed.
  Result<void> hand_out() {
    struct Wanted {
      ValueId operand;
      Kind kind;
    };
    std::vector<Wanted> wanted;
    for (size_t i = 0; i < code_.size(); ++i) {
      const Kind kind = code_[i].kind;
      if (kind > Kind::scalar || !adjoint_[i]) continue;
      const ValueId operand = node_.in[static_cast<size_t>(code_[i].a)];
      if (!backward_.wanted(operand)) continue;
      const bool whole = kind == Kind::tensor && backward_.graph().producer(operand) >= 0;
      b_.output(*adjoint_[i], whole ? backward_.graph().value(operand).type.codec : &kF32);
      wanted.push_back({operand, kind});
    }
    if (wanted.empty()) return {};
    if (b_.attributes().code.size() > kMostPointwise)
      return fail(ErrorCode::unsupported,
                  "backward: the gradient of a pointwise operation takes {} instructions, of {}",
                  b_.attributes().code.size(), kMostPointwise);
    Graph& g = backward_.graph();
    const auto out = g.emit_all(kPointwise, b_.attributes(), operands_, backward_.name(node_.out[0]) + ".pointwise");
    for (size_t i = 0; i < wanted.size(); ++i) sum(wanted[i].operand, wanted[i].kind, out[i]);
    return {};
  }

  void sum(ValueId operand, Kind kind, ValueId each) {
    Graph& g = backward_.graph();
    const auto by_row = [&] {
      return g.emit(kReduce, ReduceAttributes{Reduce::sum, ReduceOver::columns}, {each},
                    backward_.name(operand) + ".rows");
    };
    if (kind == Kind::row)
      backward_.accumulate(operand, kColumnSum, {}, {each}, ".sum");
    else if (kind == Kind::scalar)
      backward_.accumulate(operand, kColumnSum, {}, {by_row()}, ".sum");
    else if (kind == Kind::column)
      backward_.add(operand, by_row());
    else
      backward_.add(operand, like(operand, each));
  }

  // In the rows of the operand, where the node has its elements in others.
  ValueId like(ValueId operand, ValueId each) {
    Graph& g = backward_.graph();
    const Shape shape = g.value(operand).type.shape;
    if (shape == g.value(each).type.shape) return each;
    PointwiseBuilder b;
    b.shape(g.value(operand).type.extent == Extent::fixed ? shape : shape.with_first(0));
    b.output(b.tensor(), g.value(each).type.codec);
    return g.emit(kPointwise, b.attributes(), {each}, backward_.name(operand) + ".rows");
  }

  Backward& backward_;
  const Node& node_;
  const std::vector<PointwiseAttributes::Instruction> code_;
  PointwiseBuilder b_;
  std::vector<std::optional<Expr>> adjoint_;  // by instruction
  std::vector<ValueId> operands_;
};

Result<void> pointwise_gradient(Backward& backward, const Node& node) {
  return PointwiseGradient(backward, node).emit();
}

}  // namespace thimble
