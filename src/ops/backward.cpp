#include "ops/backward.h"

#include <algorithm>
#include <utility>

#include "graph/op.h"
#include "ops/linear_parts.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {

std::vector<ValueId> parameters_of(const Graph& graph) {
  std::vector<ValueId> out;
  for (size_t i = 0; i < graph.values().size(); ++i)
    if (graph.values()[i].role == Role::parameter) out.push_back(static_cast<ValueId>(i));
  return out;
}

Backward::Backward(Graph& graph, std::span<const ValueId> wanted) : graph_(graph), wanted_(graph.values().size(), 0) {
  for (ValueId id : wanted) wanted_[static_cast<size_t>(id)] = 1;
  see_appended();
}

void Backward::see_appended() {
  wanted_.resize(graph_.values().size(), 0);
  for (; seen_ < graph_.nodes().size(); ++seen_) {
    const Node& node = graph_.nodes()[seen_];
    const bool reached = std::any_of(node.in.begin(), node.in.end(), [&](ValueId in) { return this->wanted(in); });
    for (ValueId out : node.out)
      if (reached && !node.op->detaches && out != kNone && graph_.value(out).type.codec != &kI32)
        wanted_[static_cast<size_t>(out)] = 1;
    for (ValueId in : node.in)
      if (this->wanted(in)) ++tables_[in].readers;
  }
}

bool Backward::reaches(ValueId value) {
  see_appended();
  return wanted(value);
}

bool Backward::is_loss(ValueId id) const { return std::find(losses_.begin(), losses_.end(), id) != losses_.end(); }

Result<void> Backward::run(std::span<const ValueId> losses) {
  losses_.assign(losses.begin(), losses.end());
  see_appended();
  const size_t forward_nodes = graph_.nodes().size();
  graph_.set_phase(Phase::backward);
  for (size_t i = forward_nodes; i-- > begin_;) {
    const Node node = graph_.nodes()[i];  // a copy: emitting moves the nodes
    graph_.set_block(node.block);
    reader_ = &node;
    CHECK_OK(differentiate(node));
    for (ValueId in : node.in)
      if (wanted(in) && --tables_[in].readers == 0) {
        emit_table(in, std::exchange(tables_[in], {}));
        if (graph_.producer(in) < 0) finish_leaf(in);
      }
  }
  graph_.set_block(-1);
  reader_ = nullptr;
  CHECK_OK(check_all_passed_on());
  begin_ = seen_ = graph_.nodes().size();
  if (leaves_.empty())
    return fail(ErrorCode::invalid_argument, "backward: the loss depends on nothing that is to be trained");
  return {};
}

Result<void> Backward::check_all_passed_on() const {
  for (const auto& [value, gathered] : gathered_)
    if (const int producer = graph_.producer(value); producer >= 0 && static_cast<size_t>(producer) < begin_)
      return fail(ErrorCode::unsupported,
                  "backward: '{}' is read by parts of the model that are differentiated one after another",
                  graph_.value(value).name);
  return {};
}

Result<void> Backward::differentiate(const Node& node) {
  if (std::none_of(node.in.begin(), node.in.end(), [&](ValueId in) { return wanted(in); })) return {};
  if (kept_.gradient && TRY(kept_.gradient(node))) return {};
  if (node.op->gradient) return node.op->gradient(*this, node);
  for (ValueId out : node.out)
    if (out != kNone && (gathered_.contains(out) || is_loss(out)))
      return fail(ErrorCode::unsupported, "backward: '{}' is made by {}, which has no gradient, of what is trained",
                  graph_.value(out).name, node.op->name);
  return {};
}

ValueId Backward::emit_gathered(ValueId value) {
  const auto found = gathered_.find(value);
  if (found == gathered_.end()) return kNone;
  const Gathered gathered = std::move(found->second);
  gathered_.erase(found);
  ValueId sum = gathered.sum;
  for (size_t first = 0; first < gathered.products.size(); first += kMostTerms) {
    LinearAttributes attributes{.terms = {}, .codec = graph_.value(value).type.codec};
    std::vector<ValueId> in;
    for (size_t i = first; i < std::min(gathered.products.size(), first + kMostTerms); ++i) {
      const ProductTerm& term = gathered.products[i];
      attributes.terms.push_back({term.transposed, term.scale});
      in.insert(in.end(), {term.x, term.w});
    }
    in.insert(in.end(), {kNone, sum});  // bias, addend
    sum = graph_.emit(kLinear, attributes, in, name(value));
  }
  return sum;
}

void Backward::add(ValueId value, ValueId contribution) {
  Gathered& gathered = gathered_[value];
  if (gathered.sum == kNone)
    gathered.sum = contribution;
  else
    gathered.sum = graph_.emit(kAdd, {}, {gathered.sum, contribution}, name(value) + ".sum");
}

void Backward::finish_leaf(ValueId leaf) {
  const ValueId gathered = emit_gathered(leaf);
  if (gathered == kNone) return;
  PointwiseBuilder b;
  const Expr total = b.tensor();
  b.store(total, total + b.tensor());
  accumulate(leaf, kPointwise, b.attributes(), {gathered}, ".sum");
}

void Backward::add_product(ValueId value, const ProductTerm& term) { gathered_[value].products.push_back(term); }

ValueId Backward::accumulator(ValueId leaf) {
  const auto [found, inserted] = index_.try_emplace(leaf, leaves_.size());
  if (inserted) {
    const Type type{graph_.value(leaf).type.shape};
    const ValueId first = graph_.add_value("gradient." + graph_.value(leaf).name, type, Role::gradient);
    leaves_.push_back({leaf, first, first});
  }
  return leaves_[found->second].last;
}

void Backward::accumulate(ValueId value, const Op& op, std::any attributes, std::vector<ValueId> in,
                          std::string_view suffix) {
  const bool leaf = graph_.producer(value) < 0;
  const ValueId before =
      leaf ? accumulator(value)
           : graph_.emit(kZeros, ZerosAttributes{graph_.value(value).type.shape}, {}, name(value) + ".zero");
  in.insert(in.begin(), before);
  const ValueId after = graph_.emit(op, std::move(attributes), std::move(in),
                                    fmt::format("gradient.{}{}", graph_.value(value).name, suffix));
  if (!leaf) {
    sums_within_pass_ = true;
    return add(value, after);
  }
  LeafGradient& gradient = leaves_[index_.at(value)];
  sums_within_pass_ |= gradient.last != gradient.first;  // the other uses come first, of all tokens of a pass
  gradient.last = after;
}

void Backward::accumulate_lookup(ValueId table, const Node& embedding, ValueId dy) {
  tables_[table].lookups.push_back({embedding.as<EmbeddingAttributes>().first, embedding.in[0], dy});
}

void Backward::accumulate_head(ValueId table, const HeadUse& use) { tables_[table].heads.push_back(use); }

// A head and a look-up of one table are added granule by granule, by one operation: the order of the sum is then the
// same however many granules a pass holds. Of several heads or look-ups, and of look-ups that do not begin at the first
// row, each is added for itself.
void Backward::emit_table(ValueId table, const TableUses& uses) {
  size_t next = 0;  // look-up
  for (const HeadUse& head : uses.heads) {
    std::vector<ValueId> in = head.in;
    if (next < uses.lookups.size() && uses.lookups[next].first == 0) {
      in[HeadUse::kIds] = uses.lookups[next].ids, in[HeadUse::kDy] = uses.lookups[next].dy;
      ++next;
    }
    const bool with_rows = in[HeadUse::kIds] != kNone;
    accumulate(table, *head.op, head.attributes, std::move(in), with_rows ? ".rows" : ".head");
  }
  for (; next < uses.lookups.size(); ++next) {
    const TableUses::Lookup& lookup = uses.lookups[next];
    accumulate(table, kEmbeddingGrad, EmbeddingAttributes{.first = lookup.first}, {lookup.ids, lookup.dy}, ".rows");
  }
}

}  // namespace thimble
