#include "methods/side.h"

#include <algorithm>
#include <cmath>

#include "ops/table.h"

namespace thimble {

// What the blocks bring of weights is the technique's: trained and saved as what it adds itself.
template <class Emit>
ValueId SideRewrite::owned(Begin begin, Emit emit) {
  const size_t before = graph.values().size();
  const ValueId out = emit();
  for (size_t i = before; i < graph.values().size(); ++i) {
    const Value& value = graph.values()[i];
    if (value.role != role_) continue;
    AdapterTensor& tensor = tensors_[value.name];
    tensor = {.value = value.name, .stored = value.name, .whole = value.type.shape};
    tensor.derived = begin == Begin::of_model;
  }
  return out;
}

ValueId SideRewrite::block(int64_t layer, ValueId rows, Begin begin) {
  return owned(begin, [&] { return blocks_.block(layer, rows); });
}

ValueId SideRewrite::norm(ValueId rows, Begin begin) {
  return owned(begin, [&] { return blocks_.norm(rows); });
}

ValueId SideRewrite::attend(ValueId q, ValueId k, ValueId v, const std::string& name) {
  const auto attends = [](const Node& node) { return node.op == &kAttention || node.op == &kAttentionCached; };
  const auto found = std::ranges::find_if(graph.nodes(), attends);
  if (found == graph.nodes().end()) {
    failure_ = {ErrorCode::unsupported,
                "it has attention of its own, which goes by the model's, and this model has none"};
    return v;
  }
  const Node own = *found;  // a copy: emitting moves the nodes
  const int64_t columns = graph.value(q).type.shape.columns();
  AttentionAttributes one = own.as<AttentionAttributes>();
  one.heads = one.kv_heads = 1, one.head_dim = columns;
  one.window = 0, one.cap = 0, one.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(columns)));
  const std::string named = std::string(kSide) + name;
  if (own.op == &kAttention) {
    const bool wanted[] = {true, own.out.size() > 1 && own.out[1] != kNone};
    return graph.emit(kAttention, one, {q, k, v, own.in[3], kNone}, named, wanted);
  }
  Type cache = graph.value(own.in[3]).type;
  cache.shape = {cache.shape[0], cache.shape[1], columns};
  const ValueId keys = graph.add_value(named + ".cache_k", cache, Role::state);
  const ValueId values = graph.add_value(named + ".cache_v", cache, Role::state);
  return graph.emit(kAttentionCached, one, {q, k, v, keys, values, own.in[5], own.in[6], kNone}, named);
}

ValueId SideRewrite::trained(const std::string& name, const Shape& shape, const Initial& initial) {
  return add(std::string(kSide) + name, shape, initial, {.shared = true});
}

SideRewrite::Projection SideRewrite::fresh_projection(int64_t in, int64_t out) {
  const Initial initial = Initial::uniform(1 / std::sqrt(static_cast<float>(in)));
  return {out, initial, initial};
}

ValueId SideRewrite::project(ValueId x, const std::string& name, const Projection& how, ValueId addend) {
  const int64_t columns = graph.value(x).type.shape.columns();
  const ValueId weight = trained(name + ".weight", {how.out, columns}, how.weight);
  const ValueId bias = trained(name + ".bias", {how.out}, how.bias);
  return graph.emit(kLinear, LinearAttributes{.codec = attributes.codec}, {x, weight, bias, addend},
                    std::string(kSide) + name);
}

Result<Graph> rewrite_beside(const Graph& graph, const RewriteSpec& spec, RewriteUse use, const ModelTaps& taps,
                             std::map<std::string, AdapterTensor>& tensors) {
  const Rewrite& technique = *spec.rewrite;
  if (!taps.blocks)
    return fail(ErrorCode::unsupported,
                "--method {}: it runs beside a whole model that has one residual stream; this has two, or is a part of "
                "a model",
                technique.name);
  const AdaptedModule& module = spec.modules.begin()->second;
  const Role role = use == RewriteUse::infer ? Role::weight : Role::parameter;
  std::map<std::string, ValueId> made;
  std::optional<SideRewrite> side;
  Error failure;
  const auto begin = [&](GraphCopy& copy) {
    auto blocks = taps.blocks(copy.graph(), technique.narrower(module.options), role);
    if (!blocks) {
      failure = {blocks.error().code, fmt::format("--method {}: {}", technique.name, blocks.error().message)};
      return;
    }
    side.emplace(copy.graph(), module, made, tensors, role, *std::move(blocks));
    const Type& rows = graph.value(taps.hidden).type;
    side->attributes.codec = rows.codec, side->training = use == RewriteUse::train;
  };
  GraphCopy copy = rewrite(graph, [&](GraphCopy& to, const Node& node) {
    if (!side && failure.message.empty()) begin(to);
    if (!side) return false;
    to.copy(node);
    for (const ValueId made_here : node.out) {
      if (made_here == kNone) continue;
      const auto tap = std::ranges::find(taps.streams, made_here);
      if (tap != taps.streams.end()) technique.tap(*side, tap - taps.streams.begin(), to.map(made_here));
      if (made_here == taps.hidden) to.bind(made_here, technique.join(*side, to.map(made_here)));
    }
    return true;
  });
  if (side && !side->failure().message.empty())
    failure = {side->failure().code, fmt::format("--method {}: {}", technique.name, side->failure().message)};
  if (!failure.message.empty()) return Failure(failure);
  return std::move(copy.graph());
}

}  // namespace thimble
