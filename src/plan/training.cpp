// Building the training graph: model -> method -> backward -> updates.
#include "plan/training.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "ops/backward.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"
#include "plan/modules.h"
#include "plan/selection.h"
#include "plan/taps.h"
#include "plan/updates.h"

namespace thimble {

bool PlannedVariant::is_due(int64_t step) const {
  const auto divides = [&](int64_t steps) { return step % steps == 0; };
  return std::all_of(due.begin(), due.end(), divides) && std::none_of(others.begin(), others.end(), divides);
}

double PlannedVariant::share() const {
  constexpr int64_t kSteps = 10'000;
  int64_t count = 0;
  for (int64_t step = 0; step < kSteps; ++step) count += is_due(step);
  return static_cast<double>(count) / static_cast<double>(kSteps);
}

void TrainingSpec::set_optimizer(const OptimizerStack& stack) {
  optimizer = stack.optimizer;
  optimizer_options = OptionValues(optimizer->options);
  wrappers.clear();
  for (const Wrapper* wrapper : stack.wrappers) wrappers.push_back({wrapper, OptionValues(wrapper->options)});
}

Result<void> add_wrappers(TrainingSpec& spec) {
  for (const WrapperUse& use : spec.wrappers)
    if (use.wrapper->of_weights && !spec.trains_weights())
      return fail(ErrorCode::invalid_argument,
                  "--optimizer {},{}: {} is for training the model's own weights, as --method full does; leave it out",
                  spec.optimizer->name, use.wrapper->name, use.wrapper->name);
  for (const RewriteSpec& rewrite : spec.rewrites) {
    if (const auto check = rewrite.rewrite->check_run) CHECK_OK(check(rewrite.options, spec.scheduled_steps));
    const Wrapper* const wrapper = rewrite.rewrite->wrapper;
    if (!wrapper) continue;
    if (wrapper->on_gradient && spec.optimizer->accumulator)
      return fail(ErrorCode::invalid_argument,
                  "--method {}: it reads whole gradients, which --optimizer {} does not keep; choose another optimizer",
                  rewrite.rewrite->name, spec.optimizer->name);
    spec.wrappers.push_back({wrapper, rewrite.options});
  }
  return {};
}

namespace {

// Of the optimizer and its wrappers.
std::vector<std::pair<std::string_view, int64_t>> periods_of(const TrainingSpec& spec) {
  std::vector<std::pair<std::string_view, int64_t>> periods;
  const auto add = [&](std::span<const Period> all, const OptionValues& options) {
    for (const Period& period : all)
      if (const int64_t steps = period.steps(options); steps > 0) periods.emplace_back(period.name, steps);
  };
  add(spec.optimizer->periods, spec.optimizer_options);
  std::erase_if(periods, [](const auto& period) { return period.first == kCurvature; });
  for (const auto& [wrapper, options] : spec.wrappers) add(wrapper->periods, options);
  return periods;
}

}  // namespace

std::vector<std::string_view> period_names(const TrainingSpec& spec) {
  std::vector<std::string_view> names;
  for (const auto& [name, steps] : periods_of(spec)) names.push_back(name);
  return names;
}

int64_t draw_period(const TrainingSpec& spec) {
  return spec.selector->period ? spec.selector->period(spec.selector_options) : 0;
}

std::vector<PlannedVariant> variants_of(const TrainingSpec& spec) {
  std::vector<std::pair<std::string_view, int64_t>> periods = periods_of(spec);
  if (const int64_t steps = draw_period(spec); steps > 0) periods.emplace_back(kDrawn, steps);
  std::vector<PlannedVariant> out;
  for (size_t set = 1; set < size_t{1} << periods.size(); ++set) {
    PlannedVariant variant;
    int64_t together = 1;
    for (size_t i = 0; i < periods.size(); ++i) {
      const auto [name, steps] = periods[i];
      if ((set >> i & 1) == 0) {
        variant.others.push_back(steps);
        continue;
      }
      together = steps == kOnce || together == 0 ? 0 : std::lcm(together, steps);  // 0: never again
      variant.names.push_back(name);
      variant.due.push_back(steps);
    }
    if (variant.is_due(0) || variant.is_due(together)) out.push_back(std::move(variant));
  }
  for (const Period& period : spec.optimizer->periods)
    if (period.name == kCurvature)
      out.push_back({.names = {kCurvature}, .due = {period.steps(spec.optimizer_options)}, .after = true});
  return out;
}

std::vector<int> deferred_order(const TrainingGraph& train) {
  const Graph& graph = train.graph;
  const auto& nodes = graph.nodes();
  // Where each parameter is wanted first: the first node of that block.
  std::vector<int> block_begin, wanted(graph.values().size(), -1);
  for (size_t i = 0; i < train.update_begin; ++i) {
    const Node& node = nodes[i];
    if (node.block >= static_cast<int>(block_begin.size())) block_begin.resize(static_cast<size_t>(node.block) + 1, -1);
    if (node.block >= 0 && block_begin[static_cast<size_t>(node.block)] < 0)
      block_begin[static_cast<size_t>(node.block)] = static_cast<int>(i);
    for (ValueId id : node.in)
      if (id != kNone && wanted[static_cast<size_t>(id)] < 0)
        wanted[static_cast<size_t>(id)] =
            node.block >= 0 ? block_begin[static_cast<size_t>(node.block)] : static_cast<int>(i);
  }
  std::vector<std::pair<int, int>> order;  // (before which node, node), updates first
  for (size_t i = train.update_begin; i < nodes.size(); ++i) {
    const ValueId updated = train.updated[i - train.update_begin];
    order.emplace_back(updated == kNone ? 0 : std::max(0, wanted[static_cast<size_t>(updated)]), static_cast<int>(i));
  }
  for (size_t i = 0; i < train.update_begin; ++i) order.emplace_back(static_cast<int>(i), static_cast<int>(i));
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<int> out;
  out.reserve(order.size());
  for (const auto& [before, node] : order) out.push_back(node);
  return out;
}

Directions directions_of(const TrainingSpec& spec) {
  return {*spec.estimator, spec.estimator_options, spec.architecture.layers()};
}

std::string move_name(int k) { return fmt::format("perturb.move.{}", k); }
std::string derivative_name(int k) { return fmt::format("update.derivative.{}", k); }

LossHead head_of(const BuiltModel& model) {
  return {model.hidden, model.head, model.head_bias, static_cast<float>(model.logit_cap)};
}

namespace {

TokenTerms terms_of(const TrainingSpec& spec) {
  return spec.objective->terms ? spec.objective->terms(spec.objective_options) : TokenTerms();
}

// Whether a backward pass is built, of all that trains or of some.
bool derives(const TrainingSpec& spec) {
  return spec.estimator->differentiates() || spec.estimator->derives(spec.estimator_options) > 0;
}

// Parameters that are first read in the last layers, or behind them, have derived gradients where the estimator says
// so.
Result<TrainedValues> by_origin(const TrainingSpec& spec, const Graph& graph, std::span<const ValueId> trained) {
  if (spec.estimator->differentiates()) return TrainedValues{.derived = {trained.begin(), trained.end()}};
  TrainedValues out;
  const int64_t layers = spec.architecture.layers(), last = spec.estimator->derives(spec.estimator_options);
  std::map<std::string, int, std::less<>> first_block;
  for (const Selectable& parameter : selectable_parameters(spec, graph))
    first_block[std::string(parameter.name)] = parameter.first;
  for (ValueId id : trained)
    (last > 0 && first_block[graph.value(id).name] >= layers - last ? out.derived : out.estimated).push_back(id);
  if (!out.estimated.empty()) return out;
  return fail(ErrorCode::invalid_argument,
              "--set {}.layers={}: the gradients of all that trains would be derived; give fewer layers, or leave "
              "--estimator out",
              spec.estimator->name, last);
}

// The teacher behind the model that trains, on the same rows; where some are virtual tokens, which it does not know,
// with inputs of its own: texts begin behind them.
Result<LossHead> add_teacher(Graph& graph, const TrainingSpec& spec, BuildOptions options) {
  const FrozenModel& teacher = *spec.teacher;
  if (lead_of(spec.rewrites).rows > 0) options.prefix += kTeacher;
  options.scope = kTeacher, options.role = Role::weight, options.differentiable = false;
  options.codec = [&](const std::string& name, const Shape&) { return teacher.stored(name); };
  return head_of(TRY(build_model(graph, teacher.architecture, options)));
}

}  // namespace

double token_share(const TrainingSpec& spec) {
  return 1 / static_cast<double>(spec.batch * spec.context * spec.accumulate);
}

ValueId scaled_sum(Graph& graph, std::span<const ValueId> losses, double share, const std::string& name) {
  constexpr size_t kAtOnce = 8;
  ValueId sum = losses.front();
  for (size_t first = 1; first < losses.size(); first += kAtOnce) {
    const auto some = losses.subspan(first, std::min(kAtOnce, losses.size() - first));
    PointwiseBuilder b;
    Expr more = b.tensor();
    for (size_t i = 0; i < some.size(); ++i) more = more + b.tensor();
    b.output(more);
    std::vector<ValueId> in{sum};
    in.insert(in.end(), some.begin(), some.end());
    sum = graph.emit(kPointwise, b.attributes(), in, fmt::format("{}.to_{}", name, first));
  }
  PointwiseBuilder b;
  b.output(b.tensor() * share);
  return graph.emit(kPointwise, b.attributes(), {sum}, name);
}

namespace {

// The name of the pass, for people.
std::string backward_pass(const TrainingSpec& spec) {
  std::string out = "backward";
  for (const KeeperUse& use : spec.keepers)
    out += fmt::format("{}{}", &use == spec.keepers.data() ? ", keep " : ",", use.keeper->name);
  return out;
}

// Drawn labels give the Gauss-Newton matrix of a loss of predicted tokens, of one model.
Result<void> check_curvature(const TrainingSpec& spec) {
  const std::string_view name = spec.optimizer->name;
  if (spec.objective->of_examples() && spec.objective->labels != Labels::Kind::classes)
    return fail(ErrorCode::unsupported,
                "--optimizer {}: the curvature that it measures is that of predicted tokens or classes, which "
                "--objective {} does not predict; take another optimizer",
                name, spec.objective->name);
  if (!spec.estimator->differentiates() || spec.estimator->modules)
    return fail(ErrorCode::unsupported,
                "--optimizer {}: it measures curvature by gradients through the whole model, which --estimator {} does "
                "not derive; take another optimizer",
                name, spec.estimator->name);
  return {};
}

// Appends the loss that a step makes smaller, or that of drawn labels; returns the result that holds it.
Result<std::string> add_loss(const TrainingSpec& spec, const StepKind& kind, const BuiltModel& model,
                             const BuildOptions& options, Graph& graph) {
  if (kind.of_curvature()) {
    CHECK_OK(check_curvature(spec));
    const TokenLoss tokens = add_token_loss(
        graph, model,
        {.prefix = options.prefix, .gradient = true, .keep_logits = kind.keep_logits, .draws_targets = true});
    return graph.value(tokens.nll).name;
  }
  const TokenLoss tokens =
      add_token_loss(graph, model,
                     {.prefix = options.prefix,
                      .gradient = derives(spec),
                      .tangent = spec.estimator->tangents,
                      .keep_logits = kind.keep_logits,
                      .negligible = spec.moves.skip_negligible ? kNegligible : 0,
                      .terms = terms_of(spec),
                      .loss = !spec.objective->reads_nll || spec.objective->reads_nll(spec.objective_options)});
  add_balance_loss(graph, model, token_share(spec), options.prefix);
  if (spec.objective->loss && tokens.nll != kNone) graph.value(tokens.nll).role = Role::activation;
  LossInputs inputs{tokens.nll, model.starts, tokens.targets, tokens.scale, head_of(model)};
  inputs.gradient = derives(spec);
  if (spec.teacher) inputs.teacher = TRY(add_teacher(graph, spec, options));
  add_objective(graph, *spec.objective, spec.objective_options, options.prefix, inputs);
  return loss_name(*spec.objective, options.prefix);
}

// What gradients are derived of: the loss, and those that layers and techniques have beside it.
std::vector<ValueId> losses_of(const TrainingSpec& spec, std::span<const std::string> beside,
                               const TrainingGraph& train) {
  const ValueId scaled = train.graph.find(train.loss + std::string(kScaledLoss));
  std::vector<ValueId> losses{scaled != kNone ? scaled : train.graph.find(train.loss)};
  for (const std::string& name : beside)
    if (const ValueId loss = train.graph.find(name); loss != kNone && spec.estimator->differentiates())
      losses.push_back(loss);
  return losses;
}

// What techniques compute of parameters that have moved.
Result<void> end_steps(const TrainingSpec& spec, std::vector<StepEnd>& ends) {
  for (const RewriteSpec& rewrite : spec.rewrites) {
    if (!rewrite.rewrite->end_step) continue;
    if (spec.optimizer->evaluated)
      return fail(ErrorCode::unsupported,
                  "--optimizer {}: it hands out an average of steps, and --method {} what it computes of every step; "
                  "take another optimizer",
                  spec.optimizer->name, rewrite.rewrite->name);
    for (const auto& module : rewrite.modules)
      ends.push_back([end = rewrite.rewrite->end_step, &own = module.second](Graph& graph) { end(graph, own); });
  }
  return {};
}

// Gradients and updates, as the estimator has them.
Result<void> add_gradients(const TrainingSpec& spec, const StepKind& kind, const TrainedValues& trained,
                           std::span<const ValueId> losses, TrainingGraph& train) {
  const Estimator& estimator = *spec.estimator;
  Gradients gradients = TRY(estimator.modules ? backward_by_modules(spec, trained.derived, losses, train.graph)
                                              : backpropagated(spec, trained.derived, losses, train));
  CHECK_OK(end_steps(spec, gradients.at_step_end));
  if (!estimator.differentiates())
    return add_estimated_updates(spec, kind, trained.estimated, std::move(gradients), train);
  CHECK_OK(train.passes.end(backward_pass(spec), train.graph));
  std::function<void()> before;
  if (estimator.modules)
    before = [&] { train.averages = average_blocks(estimator.modules(spec.estimator_options).momentum, train.graph); };
  return add_updates(spec, kind, std::move(gradients), before, train);
}

}  // namespace

Result<TrainingGraph> build_training(const TrainingSpec& spec, int64_t rows, bool barrier, const StepKind& kind) {
  TrainingGraph train;
  BuildOptions options{.prefix = train.prefix,
                       .rows = rows,
                       .positions = spec.context,
                       .activation = spec.activation,
                       .differentiable = spec.estimator->differentiates() || spec.estimator->tangents};
  options.role = spec.trains_weights() ? Role::parameter : Role::weight;
  options.codec = [&](const std::string& name, const Shape&) {
    const Codec* codec = spec.stored(name);
    return codec && spec.trains_weights() ? &kF32 : codec;
  };
  BuiltModel model = TRY(build_model(train.graph, spec.architecture, options));
  CHECK_OK(train.passes.end("model", train.graph));
  train.loss = TRY(add_loss(spec, kind, model, options, train.graph));
  CHECK_OK(train.passes.end(kind.of_curvature() ? "drawn labels" : fmt::format("objective {}", spec.objective->name),
                            train.graph));
  if (spec.estimator->modules) {
    CHECK_OK(cut_into_modules(spec, options, train.loss, train.graph, model));
    CHECK_OK(train.passes.end("modules", train.graph));
  }
  Rewritten rewritten = TRY(rewrite_model(std::move(train.graph), spec.rewrites, RewriteUse::train, train.passes,
                                          taps_of(model, spec.architecture, options)));
  train.graph = std::move(rewritten.graph), train.adapter = std::move(rewritten.tensors);
  std::vector<std::string> beside{train.prefix + std::string(kBalance), train.prefix + "adapter_losses"};
  if (spec.estimator->modules) rewritten.losses = add_to_modules(rewritten.losses, token_share(spec), train.graph);
  if (!rewritten.losses.empty() && spec.estimator->differentiates() && !kind.of_curvature()) {
    const std::string& name = beside[train.graph.find(beside[0]) == kNone ? 0 : 1];
    train.graph.value(scaled_sum(train.graph, rewritten.losses, token_share(spec), name)).role = Role::result;
  }
  train.barrier = barrier;
  TrainedValues trained = TRY(by_origin(spec, train.graph, TRY(select_parameters(spec, train))));
  CHECK_OK(train.passes.end(fmt::format("select {}", spec.selector->name), train.graph));
  if (spec.estimator->tangents) {
    CHECK_OK(carry_tangents(spec, trained, train));
    CHECK_OK(train.passes.end("tangents", train.graph));
  }
  CHECK_OK(add_gradients(spec, kind, trained, losses_of(spec, beside, train), train));
  if (!verify_every_pass) CHECK_OK(train.graph.verify());
  return train;
}

}  // namespace thimble
