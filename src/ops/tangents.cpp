#include "ops/tangents.h"

#include <algorithm>

#include "graph/op.h"
#include "ops/table.h"

namespace thimble {

ValueId Tangents::of(ValueId value) {
  if (value == kNone) return kNone;
  if (graph_.producer(value) >= 0) {
    const auto found = made_.find(value);
    return found == made_.end() ? kNone : found->second;
  }
  const auto [found, inserted] = seeded_.try_emplace(value, kNone);
  if (inserted) found->second = seed_(graph_, value);
  return found->second;
}

Result<void> Tangents::push(const Node& node) {
  seeded_.clear();
  const auto real = [&](ValueId out) { return out != kNone && graph_.value(out).type.codec != &kI32; };
  if (node.op->detaches || std::ranges::none_of(node.out, real)) return {};
  if (std::ranges::none_of(node.in, [&](ValueId in) { return of(in) != kNone; })) return {};
  if (node.op->tangent) return node.op->tangent(*this, node);
  return fail(ErrorCode::unsupported,
              "forward-mode derivative: '{}' is made by {} of what is trained, an operation without one; take "
              "--estimator mezo or backprop",
              graph_.value(*std::ranges::find_if(node.out, real)).name, node.op->name);
}

Result<void> Tangents::push_linear(const Node& node, std::span<const size_t> linear) {
  ValueId sum_of = kNone;
  const std::string name_of = name(node.out[0]);
  for (size_t i = 0; i < node.in.size(); ++i) {
    const ValueId moved = of(node.in[i]);
    if (moved == kNone) continue;
    if (std::ranges::find(linear, i) == linear.end())
      return fail(ErrorCode::unsupported, "forward-mode derivative: operand '{}' of {} may not be trained",
                  graph_.value(node.in[i]).name, node.op->name);
    std::vector<ValueId> in = node.in;
    in[i] = moved;
    sum_of = sum(sum_of, graph_.emit(*node.op, node.attributes, in, name_of), name_of);
  }
  set(node.out[0], sum_of);
  return {};
}

ValueId Tangents::sum(ValueId a, ValueId b, std::string name) {
  if (a == kNone || b == kNone) return a == kNone ? b : a;
  return graph_.emit(kAdd, {}, {a, b}, std::move(name));
}

}  // namespace thimble
