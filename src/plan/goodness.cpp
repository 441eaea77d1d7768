#include "plan/goodness.h"

#include <map>
#include <set>

#include "core/random.h"
#include "graph/op.h"
#include "methods/objective.h"
#include "ops/hybrid_tokens.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"
#include "plan/modules.h"

namespace thimble {
namespace {

constexpr std::string_view kHybrid = "hybrid.";    // before the names of what is of the hybrid
constexpr std::string_view kPreview = "preview.";  // of what is made once before, for the goodness of all modules

class GoodnessCutter {
 public:
  GoodnessCutter(const TrainingSpec& spec, const LocalModules& modules, const Graph& graph, const BuiltModel& model,
                 const std::string& loss)
      : spec_(spec), count_(modules.count), goodness_(*modules.goodness), model_(model), loss_(loss), copy_(graph) {
    find_trunk();
    for (int64_t m = 1; m <= count_; ++m) ends_[end_of(m)] = m;
  }

  GraphCopy cut() {
    copy_.copy_inputs();
    make_hybrid();
    if (goodness_.collaborates) preview();
    for (const Node& node : copy_.from().nodes()) {
      copy_.graph().set_block(node.block);
      copy_.copy(node);
      if (of_text_.contains(&node)) emit(node, hybrid_, {&hybrid_}, kHybrid);
      for (ValueId out : node.out)
        if (const auto end = ends_.find(out); end != ends_.end()) end_module(end->second, out);
      if (std::ranges::find(node.out, end_of(0)) != node.out.end()) hand_on(end_of(0));
    }
    return std::move(copy_);
  }

 private:
  using Copies = std::map<ValueId, ValueId>;
  struct Pair {
    ValueId text = kNone, hybrid = kNone;
  };

  // The residual stream behind so many modules.
  ValueId end_of(int64_t module) const {
    return model_.streams[static_cast<size_t>(module * spec_.architecture.layers() / count_)];
  }

  // What the residual streams are made by, and what of that depends on the tokens.
  void find_trunk() {
    std::set<ValueId> needed{model_.streams.back()}, reached{model_.ids};
    const std::vector<Node>& nodes = copy_.from().nodes();
    for (size_t i = nodes.size(); i-- > 0;) {
      if (std::ranges::none_of(nodes[i].out, [&](ValueId out) { return needed.contains(out); })) continue;
      needed.insert(nodes[i].in.begin(), nodes[i].in.end());
      trunk_.insert(trunk_.begin(), &nodes[i]);
    }
    for (const Node* const node : trunk_) {
      if (std::ranges::none_of(node->in, [&](ValueId in) { return in != kNone && reached.contains(in); })) continue;
      reached.insert(node->out.begin(), node->out.end());
      of_text_.insert(node);
    }
  }

  void make_hybrid() {
    const HybridTokensAttributes attributes{.replaced = goodness_.replaced,
                                            .stream = name_hash(fmt::format("{}.hybrid", spec_.estimator->name)),
                                            .lasting = spec_.objective->of_examples()};
    const auto out = copy_.graph().emit_all(
        kHybridTokens, attributes,
        {copy_.map(model_.ids), copy_.map(model_.starts), copy_.map(copy_.from().find(kLossTargets))},
        std::string(kHybrid) + "ids");
    hybrid_[model_.ids] = out[0], counts_ = {out[1], out[2]};
  }

  // The goodness of all modules from a pass of its own, of which nothing else stays.
  void preview() {
    Copies text, hybrid{{model_.ids, hybrid_.at(model_.ids)}};
    const auto at = [&](ValueId id) { return Pair{read(id, {&text}), read(id, {&hybrid, &text})}; };
    for (const Node* const node : trunk_) {
      copy_.graph().set_block(node->block);
      emit(*node, text, {&text}, kPreview);
      if (of_text_.contains(node)) emit(*node, hybrid, {&hybrid, &text}, "preview.hybrid.");
      for (ValueId out : node->out) {
        const auto end = ends_.find(out);
        if (end == ends_.end()) continue;
        const Pair g = both_goodness(at(end_of(end->second - 1)), at(out), fmt::format("preview.{}", end->second));
        alone_[end->second] = {detached(g.text), detached(g.hybrid)};
      }
    }
    copy_.graph().set_block(-1);
    for (const auto& [module, g] : alone_)
      all_ = module == 1 ? g : Pair{plus(all_.text, g.text), plus(all_.hybrid, g.hybrid)};
  }

  void end_module(int64_t module, ValueId end) {
    Graph& g = copy_.graph();
    g.set_block(-1);
    const ValueId begin = end_of(module - 1);
    const std::string name = module_loss_name(loss_, module);
    const Pair now{copy_.map(end), hybrid_.at(end)};
    const Pair own = both_goodness({copy_.map(begin), hybrid_.at(begin)}, now, name);
    add_loss(module, own, name);
    hand_on(end);
  }

  // To the next module, as a number.
  void hand_on(ValueId stream) {
    copy_.bind(stream, detached(copy_.map(stream)));
    hybrid_[stream] = detached(hybrid_.at(stream));
  }

  void add_loss(int64_t module, const Pair& own, const std::string& name) {
    std::vector<ValueId> in{own.text, own.hybrid, counts_.text, counts_.hybrid,
                            copy_.map(copy_.from().find(kLossScale))};
    PointwiseBuilder b;
    Expr text = b.tensor(), hybrid = b.tensor();
    const Expr counts = b.tensor(), wrong = b.tensor(), scale = b.scalar();
    if (goodness_.collaborates) {
      in.insert(in.end(), {all_.text, alone_.at(module).text, all_.hybrid, alone_.at(module).hybrid});
      const Expr all = b.tensor(), alone = b.tensor(), all_hybrid = b.tensor(), alone_hybrid = b.tensor();
      text = text + (all - alone), hybrid = hybrid + (all_hybrid - alone_hybrid);
    }
    const double threshold = goodness_.threshold * static_cast<double>(spec_.architecture.width);
    const Expr of_text = counts * minus_log_sigmoid(text - threshold);
    b.output(scale * (of_text + wrong * minus_log_sigmoid(threshold - hybrid)));
    Graph& g = copy_.graph();
    const ValueId loss = g.emit(kPointwise, b.attributes(), in, name);
    g.value(loss).role = Role::result;
  }

  // f32 [rows]: the sum of squares of what has been added to the stream (Hinton 2022, eq. 1), where the stream that it
  // is added to has a mean square of 1.
  ValueId goodness(ValueId before, ValueId now, const std::string& name) {
    Graph& g = copy_.graph();
    PointwiseBuilder b;
    const Expr x = b.tensor(), y = b.tensor(), added = y - x;
    b.output(added * added);
    const ValueId squares = g.emit(kPointwise, b.attributes(), {before, now}, name + ".squares");
    const ValueId sum = g.emit(kReduce, ReduceAttributes{Reduce::sum, ReduceOver::columns}, {squares}, name + ".sum");
    const ValueId size =
        g.emit(kReduce, ReduceAttributes{Reduce::squares, ReduceOver::columns}, {before}, name + ".size");
    PointwiseBuilder r;
    const Expr of_added = r.tensor(), of_stream = r.tensor();
    r.output(of_added * static_cast<double>(spec_.architecture.width) / (of_stream + 1e-12));
    return g.emit(kPointwise, r.attributes(), {sum, detached(size)}, name + ".goodness");
  }
  Pair both_goodness(const Pair& before, const Pair& now, const std::string& name) {
    return {goodness(before.text, now.text, name + ".text"), goodness(before.hybrid, now.hybrid, name + ".hybrid")};
  }

  ValueId detached(ValueId value) {
    return copy_.graph().emit(kDetach, {}, {value}, copy_.graph().value(value).name + ".detached");
  }

  ValueId plus(ValueId a, ValueId b) { return copy_.graph().emit(kAdd, {}, {a, b}, "preview.sum"); }

  // A value in the first of the copies that has it; else that of the text.
  ValueId read(ValueId id, std::initializer_list<const Copies*> copies) {
    for (const Copies* const each : copies)
      if (const auto found = each->find(id); found != each->end()) return found->second;
    return copy_.map(id);
  }

  void emit(const Node& node, Copies& to, std::initializer_list<const Copies*> from, std::string_view prefix) {
    std::vector<ValueId> in;
    for (ValueId id : node.in) in.push_back(id == kNone ? kNone : read(id, from));
    const auto out = copy_.emit_beside(node, in, std::string(prefix) + "x");
    for (size_t i = 0; i < out.size(); ++i) {
      if (out[i] == kNone) continue;
      copy_.graph().value(out[i]).name = std::string(prefix) + copy_.from().value(node.out[i]).name;
      to[node.out[i]] = out[i];
    }
  }

  const TrainingSpec& spec_;
  const int64_t count_;
  const Goodness goodness_;
  const BuiltModel& model_;
  const std::string loss_;
  GraphCopy copy_;
  std::vector<const Node*> trunk_;
  std::set<const Node*> of_text_;
  std::map<ValueId, int64_t> ends_;  // residual stream: number of the module that ends with it
  Copies hybrid_;
  Pair counts_, all_;              // rows that count; goodness of all modules
  std::map<int64_t, Pair> alone_;  // goodness of each, from the pass before
};

}  // namespace

GraphCopy cut_by_goodness(const TrainingSpec& spec, const LocalModules& modules, const Graph& graph,
                          const BuiltModel& model, const std::string& loss) {
  return GoodnessCutter(spec, modules, graph, model, loss).cut();
}

}  // namespace thimble
