// The derivative of a pointwise expression along a direction: an expression of the same operands and of their
// derivatives, which computes the values once more.
#include <numbers>
#include <optional>

#include "ops/pointwise.h"
#include "ops/pointwise_parts.h"
#include "ops/table.h"
#include "ops/tangents.h"
#include "ops/update.h"

namespace thimble {

using Kind = PointwiseAttributes::Kind;

class PointwiseTangent {
 public:
  PointwiseTangent(Tangents& tangents, const Node& node)
      : tangents_(tangents), node_(node), code_(node.as<PointwiseAttributes>().code), operands_(node.in) {}

  Result<void> emit() {
    const PointwiseAttributes& attributes = node_.as<PointwiseAttributes>();
    b_.attributes_ = attributes;  // the values again
    b_.attributes_.outputs.clear();
    moved_.resize(code_.size());
    for (size_t i = 0; i < code_.size(); ++i) moved_[i] = moved(static_cast<int>(i));
    std::vector<ValueId> outputs;
    for (size_t i = 0; i < attributes.outputs.size(); ++i) {
      const auto& [value, codec, stream] = attributes.outputs[i];
      if (node_.out[i] == kNone || !moved_[static_cast<size_t>(value)]) continue;
      if (!codec)
        return fail(ErrorCode::unsupported, "forward-mode derivative: a pointwise operation overwrites '{}'",
                    tangents_.graph().value(node_.in[i]).name);
      b_.output(*moved_[static_cast<size_t>(value)], codec);
      outputs.push_back(node_.out[i]);
    }
    if (outputs.empty()) return {};
    if (b_.attributes().code.size() > kMostPointwise)
      return fail(ErrorCode::unsupported,
                  "forward-mode derivative: that of a pointwise operation takes {} instructions, of {}",
                  b_.attributes().code.size(), kMostPointwise);
    const auto out =
        tangents_.graph().emit_all(kPointwise, b_.attributes(), operands_, tangents_.name(outputs.front()));
    for (size_t i = 0; i < outputs.size(); ++i) tangents_.set(outputs[i], out[i]);
    return {};
  }

 private:
  using Moved = std::optional<Expr>;  // nullopt: 0

  Expr value(int i) { return {&b_, i}; }
  Moved of(int i) const { return i < 0 ? Moved() : moved_[static_cast<size_t>(i)]; }
  // da * by_a + db * by_b, of which what does not move is left out. The factors are made only where they are wanted.
  template <class A, class B>
  Moved sum(const Moved& da, A by_a, const Moved& db, B by_b) {
    Moved out;
    if (da) out = by_a(*da);
    if (!db) return out;
    const Expr second = by_b(*db);
    return out ? *out + second : second;
  }
  template <class A>
  Moved times(const Moved& da, A by_a) {
    return da ? Moved(by_a(*da)) : Moved();
  }

  Moved moved(int i) {
    const auto& [kind, a, b, number, stream, uniform] = code_[static_cast<size_t>(i)];
    if (kind <= Kind::scalar) return operand(kind, a);
    const int left = a, right = b;
    const auto as_is = [](Expr d) { return d; };
    const auto va = [&] { return value(left); };
    const auto vb = [&] { return value(right); };
    const auto vi = [&, i] { return value(i); };
    switch (kind) {
      case Kind::add:
        return sum(of(a), as_is, of(b), as_is);
      case Kind::subtract:
        return sum(of(a), as_is, of(b), [](Expr d) { return -1 * d; });
      case Kind::multiply:
        return sum(
            of(a), [&](Expr d) { return d * vb(); }, of(b), [&](Expr d) { return d * va(); });
      case Kind::divide:
        return sum(
            of(a), [&](Expr d) { return d / vb(); }, of(b), [&](Expr d) { return -1 * d * vi() / vb(); });
      case Kind::minimum:
        return sum(
            of(a), [&](Expr d) { return d * greater(vb(), va()); }, of(b),
            [&](Expr d) { return d * (1 - greater(vb(), va())); });
      case Kind::maximum:
        return sum(
            of(a), [&](Expr d) { return d * greater(va(), vb()); }, of(b),
            [&](Expr d) { return d * (1 - greater(va(), vb())); });
      case Kind::power:
        return sum(
            of(a), [&](Expr d) { return d * vb() * pow(va(), vb() - 1); }, of(b),
            [&](Expr d) { return d * vi() * log(va()); });
      case Kind::square_root:
        return times(of(a), [&](Expr d) { return d / (2 * vi()); });
      case Kind::absolute:
        return times(of(a), [&](Expr d) { return d * sign(va()); });
      case Kind::exponential:
        return times(of(a), [&](Expr d) { return d * vi(); });
      case Kind::logarithm:
        return times(of(a), [&](Expr d) { return d / va(); });
      case Kind::cosine:
        return times(of(a), [&](Expr d) { return d * cos(va() + std::numbers::pi / 2); });
      case Kind::tanh:
        return times(of(a), [&](Expr d) { return d * (1 - vi() * vi()); });
      default:
        return {};  // a number, noise; steps have a slope of 0
    }
  }

  Moved operand(Kind kind, int which) {
    const ValueId tangent = tangents_.of(node_.in[static_cast<size_t>(which)]);
    if (tangent == kNone) return {};
    operands_.push_back(tangent);
    return b_.operand(kind);
  }

  Tangents& tangents_;
  const Node& node_;
  const std::vector<PointwiseAttributes::Instruction> code_;
  PointwiseBuilder b_;
  std::vector<Moved> moved_;  // by instruction
  std::vector<ValueId> operands_;
};

Result<void> pointwise_tangent(Tangents& tangents, const Node& node) { return PointwiseTangent(tangents, node).emit(); }

}  // namespace thimble
