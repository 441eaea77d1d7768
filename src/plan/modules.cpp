#include "plan/modules.h"

#include <algorithm>
#include <map>
#include <optional>

#include "core/count.h"
#include "graph/op.h"
#include "graph/rewrite.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"
#include "plan/denoising.h"
#include "plan/goodness.h"
#include "plan/loss_path.h"

namespace thimble {
namespace {

constexpr std::string_view kModuleLoss = ".module_";  // behind the name of the model's loss

// Whether the node is the last of a module: it makes the module's loss, which is its first output.
bool ends_module(const Graph& graph, const Node& node) {
  if (node.out[0] == kNone) return false;
  const Value& made = graph.value(node.out[0]);
  return made.role == Role::result && made.name.find(kModuleLoss) != std::string::npos;
}

class ModuleCutter {
 public:
  ModuleCutter(const TrainingSpec& spec, const BuildOptions& options, const LocalModules& modules, const Graph& graph,
               const BuiltModel& model, const std::string& loss)
      : spec_(spec),
        options_(options),
        modules_(modules),
        model_(model),
        path_(graph, loss, model.streams.back()),
        copy_(graph) {
    const int64_t layers = spec.architecture.layers();
    for (int64_t m = 1; m < modules.count; ++m)
      ends_[model.streams[static_cast<size_t>(m * layers / modules.count)]] = m;
  }

  GraphCopy cut() {
    copy_.copy_inputs();
    if (modules_.averages()) begin_auxiliary();
    for (const Node* const node : path_.beside) copy(*node);  // the first module reads it already
    for (const Node& node : copy_.from().nodes()) {
      if (path_.is_beside(node)) continue;
      copy(node);
      for (ValueId out : node.out)
        if (const auto end = ends_.find(out); end != ends_.end()) end_module(end->second, out);
    }
    return std::move(copy_);
  }

 private:
  void copy(const Node& node) {
    copy_.graph().set_block(node.block);
    copy_.copy(node);
  }

  void begin_auxiliary() {
    BuildOptions average = options_, beside = options_;
    average.scope = kAverage, average.role = Role::state;
    beside.scope = kBeside, beside.role = Role::parameter;
    average_.emplace(copy_.graph(), spec_.architecture, average);
    beside_.emplace(copy_.graph(), spec_.architecture, beside);
  }

  // The module's loss, and the stream that the next one reads.
  void end_module(int64_t module, ValueId end) {
    Graph& g = copy_.graph();
    const ValueId stream = copy_.map(end);
    const std::string name = module_loss_name(path_.name, module);
    const int64_t next = module * spec_.architecture.layers() / modules_.count;
    const ValueId read = modules_.averages() ? auxiliary(next, stream, name) : stream;
    g.set_block(-1);
    std::map<ValueId, ValueId> local{{model_.streams.back(), read}};
    for (const Node* const node : path_.behind) emit(*node, local, name);
    ValueId loss = local.at(path_.differentiated);
    if (g.nodes().back().out[0] != loss) {  // ends_module()
      PointwiseBuilder b;
      b.output(b.tensor());
      loss = g.emit(kPointwise, b.attributes(), {loss}, name);
    }
    g.value(loss).name = name, g.value(loss).role = Role::result;
    copy_.bind(end, g.emit(kDetach, {}, {stream}, copy_.from().value(end).name));
  }

  // Su et al. 2024, section 3.2: the average of the next block, without a gradient of its weights, and a block that
  // learns what it lacks here, both of the module's output.
  ValueId auxiliary(int64_t next, ValueId stream, const std::string& name) {
    const ValueId average = average_->block(next, stream), beside = beside_->block(next, stream);
    copy_.graph().set_block(-1);
    return copy_.graph().emit(kAdd, {}, {average, beside}, name + ".auxiliary");
  }

  void emit(const Node& node, std::map<ValueId, ValueId>& local, const std::string& name) {
    std::vector<ValueId> in;
    for (ValueId id : node.in) in.push_back(local.contains(id) ? local.at(id) : copy_.map(id));
    Node alone = node;
    for (size_t i = 0; i < alone.out.size(); ++i)
      if (!path_.wants(node, i)) alone.out[i] = kNone;
    const auto out = copy_.emit_beside(alone, in, name);
    for (size_t i = 0; i < out.size(); ++i)
      if (out[i] != kNone) local[node.out[i]] = out[i];
  }

  const TrainingSpec& spec_;
  const BuildOptions options_;
  const LocalModules modules_;
  const BuiltModel& model_;
  const LossPath path_;
  GraphCopy copy_;
  std::map<ValueId, int64_t> ends_;  // residual stream: number of the module that begins with it
  std::optional<BlockBuilder> average_, beside_;
};

// Of models whose blocks denoise, and of the estimator that is for them.
Result<void> check_denoising(const TrainingSpec& spec, const LocalModules& modules) {
  const std::string_view name = spec.estimator->name;
  if (modules.denoises && !spec.architecture.denoises)
    return fail(
        ErrorCode::unsupported,
        "--estimator {}: it is for models whose blocks find a label behind noise, each from the text; begin one "
        "with --size and --set block.denoises=1",
        name);
  if (modules.denoises && spec.objective->labels != Labels::Kind::classes)
    return fail(ErrorCode::unsupported,
                "--estimator {}: its blocks learn the embedding of a text's class, which --objective {} does not have; "
                "take --objective classification",
                name, spec.objective->name);
  if (!modules.denoises && spec.architecture.denoises)
    return fail(ErrorCode::unsupported,
                "--estimator {}: blocks of this model do not read one another, so that they make no modules; take "
                "--estimator noprop or backprop",
                name);
  return {};
}

// As many as were asked for; where nobody did, at most one a block.
LocalModules modules_of(const TrainingSpec& spec) {
  LocalModules modules = spec.estimator->modules(spec.estimator_options);
  if (!spec.estimator_options.is_given("modules")) modules.count = std::min(modules.count, spec.architecture.layers());
  return modules;
}

Result<void> check(const TrainingSpec& spec, const LocalModules& modules) {
  const std::string_view name = spec.estimator->name;
  const int64_t layers = spec.architecture.layers();
  CHECK_OK(check_denoising(spec, modules));
  if (!modules.denoises && !modules.goodness && layers < 2)
    return fail(ErrorCode::unsupported,
                "--estimator {}: the model has {}, which makes no modules that learn by themselves; take --estimator "
                "backprop",
                name, counted(layers, "block"));
  if (!modules.denoises && modules.count > layers)
    return fail(ErrorCode::invalid_argument, "--set {}.modules={}: the model has {} blocks; give that many or fewer",
                name, modules.count, layers);
  if (spec.architecture.coupled)
    return fail(ErrorCode::unsupported, "--estimator {}: blocks with coupled streams cannot be cut into modules", name);
  if (draw_period(spec) > 0)
    return fail(ErrorCode::unsupported,
                "--estimator {}: --select {} lets layers train in turn, and a module may then have none; take --select "
                "all or last_layers",
                name, spec.selector->name);
  if (spec.selector->scored && spec.estimator->modules(spec.estimator_options).averages())
    return fail(ErrorCode::unsupported,
                "--estimator {}: --select {} scores what backpropagation trains, to which the networks beside the "
                "modules do not belong; take --estimator local, or --select all or last_layers",
                name, spec.selector->name);
  for (const RewriteSpec& rewrite : spec.rewrites) {
    if (rewrite.rewrite->tap || rewrite.rewrite->stream)
      return fail(ErrorCode::unsupported,
                  "--estimator {}: --method {} changes what is between the blocks; take full or an adapter of layers",
                  name, rewrite.rewrite->name);
    if (modules.goodness && rewrite.rewrite->virtual_tokens)
      return fail(
          ErrorCode::unsupported,
          "--estimator {}: tokens of a text are replaced, and those of --method {} are no text; take --method full",
          name, rewrite.rewrite->name);
    if (modules.averages() && !rewrite.rewrite->trains_weights)
      return fail(ErrorCode::unsupported,
                  "--estimator {}: it averages weights that train, which --method {} leaves as they are; take --method "
                  "full, or --estimator local",
                  name, rewrite.rewrite->name);
  }
  return {};
}

}  // namespace

std::string module_loss_name(std::string_view loss, int64_t module) {
  return fmt::format("{}{}{}", loss, kModuleLoss, module);
}

Result<void> cut_into_modules(const TrainingSpec& spec, const BuildOptions& options, const std::string& loss,
                              Graph& graph, BuiltModel& model) {
  const LocalModules modules = modules_of(spec);
  CHECK_OK(check(spec, modules));
  GraphCopy copy = modules.goodness   ? cut_by_goodness(spec, modules, graph, model, loss)
                   : modules.denoises ? cut_by_denoising(spec, graph, model, loss)
                                      : ModuleCutter(spec, options, modules, graph, model, loss).cut();
  BuiltModel cut = model;
  for (ValueId* id : {&cut.ids, &cut.positions, &cut.starts, &cut.slots, &cut.stream, &cut.hidden, &cut.head,
                      &cut.head_bias, &cut.balance})
    *id = copy.map(*id);
  for (ValueId& stream : cut.streams) stream = copy.map(stream);
  cut.reads.clear(), cut.made.clear();
  model = cut;
  graph = std::move(copy.graph());
  return {};
}

std::vector<ValueId> add_to_modules(std::span<const ValueId> losses, double share, Graph& graph) {
  std::vector<ValueId> open;  // of the module that is being copied
  GraphCopy copy = rewrite(graph, [&](GraphCopy& to, const Node& node) {
    to.copy(node);
    for (const ValueId out : node.out)
      if (std::ranges::find(losses, out) != losses.end()) open.push_back(to.map(out));
    if (open.empty() || !ends_module(graph, node)) return true;
    const ValueId objective = to.map(node.out[0]);
    const std::string name = graph.value(node.out[0]).name;
    to.graph().value(objective).name = name + ".objective", to.graph().value(objective).role = Role::activation;
    PointwiseBuilder b;  // kAdd is no loss: it passes on a gradient that it is given
    b.output(b.tensor() + b.tensor());
    const ValueId beside = scaled_sum(to.graph(), open, share, name + ".beside");
    const ValueId both = to.graph().emit(kPointwise, b.attributes(), {objective, beside}, name);
    to.graph().value(both).role = Role::result;
    open.clear();
    return true;
  });
  graph = std::move(copy.graph());
  return open;
}

Result<Gradients> backward_by_modules(const TrainingSpec& spec, std::span<const ValueId> trained,
                                      std::span<const ValueId> losses, Graph& graph) {
  const std::string_view estimator = spec.estimator->name;
  GraphCopy copy(graph);
  copy.copy_inputs();
  const std::vector<KeeperUse> keepers = active_keepers(spec);
  Backward backward(copy.graph(), copy.mapped(trained));
  Kept kept(backward, keepers);
  for (const Node& node : graph.nodes()) {
    copy.graph().set_phase(node.phase), copy.graph().set_block(node.block);
    copy.copy(node);
    if (!ends_module(graph, node)) continue;
    const ValueId loss = copy.map(node.out[0]);
    if (!backward.reaches(loss)) continue;
    if (const auto ran = backward.run({&loss, 1}); !ran)
      return fail(ran.error().code, "--estimator {}: {}; take --estimator backprop", estimator, ran.error().message);
  }
  if (!backward.reaches(copy.map(losses[0])))
    return fail(ErrorCode::unsupported,
                "--estimator {}: what predicts, the last norm and the head, learns from its loss alone, and nothing of "
                "it trains here; take --method full",
                estimator);
  CHECK_OK(backward.run(copy.mapped(losses)));
  Gradients out = gathered(backward, kept);
  // Updates are made in this order: none waits for what modules share, which is complete only at the end.
  std::ranges::stable_sort(out.leaves, {},
                           [&](const Backward::LeafGradient& leaf) { return copy.graph().producer(leaf.last); });
  graph = std::move(copy.graph());
  return out;
}

std::vector<std::string> average_blocks(double momentum, Graph& graph) {
  std::vector<std::string> names;
  const size_t count = graph.values().size();
  for (size_t i = 0; i < count; ++i) {
    const auto average = static_cast<ValueId>(i);
    const Value value = graph.value(average);
    if (value.role != Role::state || !value.name.starts_with(kAverage) || graph.producer(average) >= 0) continue;
    const ValueId weight = graph.find(value.name.substr(std::string_view(kAverage).size()));
    PointwiseBuilder b;
    const Expr so_far = b.tensor(), now = b.tensor();
    b.store(so_far, momentum * so_far + (1 - momentum) * now);
    graph.emit(kPointwise, b.attributes(), {average, weight}, "average." + value.name);
    names.push_back(value.name);
  }
  return names;
}

}  // namespace thimble
