#include "ops/backward.h"

#include "graph/op.h"
#include "ops/table.h"

namespace thimble {

Backward::Backward(Graph& graph) : graph_(graph), wanted_(graph.values().size(), 0) {
  for (size_t i = 0; i < graph.values().size(); ++i) wanted_[i] = graph.values()[i].role == Role::parameter;
  for (const Node& node : graph.nodes())
    for (ValueId in : node.in)
      if (wanted(in) && node.op->gradient)
        for (ValueId out : node.out)
          if (out != kNone) wanted_[static_cast<size_t>(out)] = 1;
}

std::string Backward::name(ValueId value) const { return "d." + graph_.value(value).name; }

void Backward::run() {
  const size_t forward_nodes = graph_.nodes().size();
  graph_.set_phase(Phase::backward);
  for (size_t i = forward_nodes; i-- > 0;) {
    const Node node = graph_.nodes()[i];  // a copy: emitting moves the nodes
    bool differentiable = false;
    for (ValueId in : node.in) differentiable |= wanted(in);
    if (!differentiable || !node.op->gradient) continue;
    graph_.set_block(node.block);
    node.op->gradient(*this, node);
  }
  graph_.set_block(-1);
}

ValueId Backward::settle(ValueId value) {
  const auto found = gathered_.find(value);
  if (found == gathered_.end()) return kNone;
  Gathered gathered = std::move(found->second);
  gathered_.erase(found);
  if (gathered.products.empty()) return gathered.sum;
  LinearAttributes attributes{.terms = {}};
  std::vector<ValueId> in;
  for (const ProductTerm& term : gathered.products) {
    attributes.terms.push_back({term.transposed, term.scale});
    in.push_back(term.x);
    in.push_back(term.w);
  }
  attributes.codec = graph_.value(value).type.codec;
  in.push_back(kNone);  // bias
  in.push_back(gathered.sum);
  return graph_.emit(kLinear, attributes, in, name(value));
}

ValueId Backward::gradient_of(ValueId output) { return output == kNone ? kNone : settle(output); }

void Backward::add(ValueId value, ValueId contribution) {
  Gathered& gathered = gathered_[value];
  if (gathered.sum == kNone)
    gathered.sum = contribution;
  else
    gathered.sum = graph_.emit(kAdd, {}, {gathered.sum, contribution}, name(value) + ".sum");
}

void Backward::add_product(ValueId value, const ProductTerm& term) { gathered_[value].products.push_back(term); }

ValueId Backward::accumulator(ValueId parameter) {
  const auto [found, fresh] = index_.try_emplace(parameter, parameters_.size());
  if (fresh) {
    Type type = graph_.value(parameter).type;
    type.codec = &kF32;
    const ValueId first = graph_.add_value("gradient." + graph_.value(parameter).name, type, Role::gradient);
    parameters_.push_back({parameter, first, first});
  }
  return parameters_[found->second].last;
}

void Backward::set_accumulator(ValueId parameter, ValueId updated) { parameters_[index_.at(parameter)].last = updated; }

}  // namespace thimble
