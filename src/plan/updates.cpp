#include "plan/updates.h"

#include <algorithm>
#include <deque>
#include <optional>

#include "methods/optimizers/update_expr.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"
#include "plan/head_rows.h"
#include "plan/hoist.h"

namespace thimble {
namespace {

// Appends what becomes of every gradient, and the update of every parameter.
class UpdateBuilder {
 public:
  UpdateBuilder(const TrainingSpec& spec, const StepKind& kind, TrainingGraph& train)
      : spec_(spec),
        kind_(kind),
        optimizer_(*spec.optimizer),
        hooks_(optimizer_.hooks),
        train_(train),
        g_(train.graph) {
    layer_.resize(g_.values().size(), -1);
    head_rows_ = head_rows(g_);
    for (const Node& node : g_.nodes())
      for (ValueId id : node.in)
        if (id != kNone && layer_[static_cast<size_t>(id)] < 0) layer_[static_cast<size_t>(id)] = node.block;
  }

  void build(const Gradients& gradients, const std::function<void()>& before) {
    begin_inputs();
    updates_.reserve(gradients.leaves.size());
    for (const auto& p : gradients.leaves) updates_.push_back(begin(p));
    const size_t first_norm = g_.nodes().size();
    std::vector<ValueId> squares;
    for (const Update& update : updates_)
      squares.push_back(g_.emit(kSquaredNorm, {}, {update.gradient}, "norm." + update.name()));
    const ValueId clip = norm(squares);
    for (size_t i = first_norm; i < g_.nodes().size(); ++i) g_.in_last_pass(i);
    if (kind_.of_curvature())
      take_curvature();
    else
      update_all(clip, before);
    end(gradients);
  }

  // Of gradients that are made anew where they are read, and of some that are there.
  void build_estimated(std::span<const ValueId> parameters, const Gradients& derived) {
    begin_inputs();
    estimate_.emplace(Estimate{*spec_.estimator, spec_.estimator_options, directions_of(spec_)});
    for (int k = 0; k < estimate_->directions.count(); ++k)
      estimate_->derivatives.push_back(g_.add_value(derivative_name(k), {{1}}, Role::input));
    updates_.reserve(parameters.size() + derived.leaves.size());
    for (const ValueId parameter : parameters) updates_.push_back(begin({parameter, kNone, kNone}));
    for (const auto& gradient : derived.leaves) updates_.push_back(begin(gradient));
    update_all(kNone);
    end(derived);
  }

 private:
  void end(const Gradients& gradients) {
    for (const StepEnd& emit : gradients.at_step_end) emit(g_);
    belongs_to(kNone);
  }

  void begin_inputs() {
    g_.set_phase(Phase::update);
    learning_rate_ = g_.add_value(kUpdateRate, {{1}}, Role::input);
    step_ = g_.add_value(kUpdateStep, {{1}}, Role::input);
  }

  void update_all(ValueId clip, const std::function<void()>& begin = nullptr) {
    train_.update_begin = g_.nodes().size();
    if (begin) {
      begin();
      belongs_to(kNone);
    }
    count_slot_steps();
    const bool together =
        std::ranges::any_of(spec_.wrappers, [](const WrapperUse& use) { return use.wrapper->together != nullptr; });
    for (Update& update : updates_) {
      if (spec_.clip > 0) update.clip = clip;
      set_rate(update);
      if (in_slot_[index(update)] && draws() && !optimizer_.accumulator) begin_slot(update, index(update));
      reset_states(update);
      if (update.gradient == kNone) estimate(update);
      before(update);
      if (!together) move(update);
    }
    if (together) {
      all_together();
      belongs_to(kNone);
      for (Update& update : updates_) move(update);
    }
    if (optimizer_.total != Total::none) apply_with_totals();
  }

  // The gradient as it is, which no wrapper sees.
  void take_curvature() {
    train_.update_begin = g_.nodes().size();
    for (Update& update : updates_) {
      update.loss_scale = g_.find(kLossScale);
      hooks_.curvature(update);
      belongs_to(update.parameter);
    }
  }

  void move(Update& update) {
    const ValueId parameter = update.parameter;  // the hooks replace it by its new version
    if (hooks_.measure) update.statistics = hooks_.measure(update);
    const bool later = optimizer_.total != Total::none && !update.statistics.empty();
    if (!later) apply(update);
    belongs_to(later ? kNone : parameter);
  }

  // Wrappers that see all parameters at once, the outermost first.
  void all_together() {
    for (size_t i = spec_.wrappers.size(); i-- > 0;) {
      if (!spec_.wrappers[i].wrapper->together) continue;
      std::vector<Update*> all;
      for (Update& update : updates_) all.push_back(&wrapped(update)[i]);
      spec_.wrappers[i].wrapper->together(all);
      for (Update& update : updates_) hand_in(update, i);
    }
  }

  // Gradient and clip as wrapper i leaves them, to those within it and to the optimizer.
  void hand_in(Update& update, size_t i) {
    const std::span<Update> all = wrapped(update);
    if (all[i].gradient != update.gradient) update.estimate = nullptr;  // no longer what the estimator made
    update.gradient = all[i].gradient, update.clip = all[i].clip;
    for (Update& inner : all.first(i)) inner.gradient = update.gradient, inner.clip = update.clip;
  }

  // As a value, for updates that are no single expression; where none reads it, it is dropped again.
  void estimate(Update& update) {
    update.estimate = &*estimate_;
    update.threshold = moving_threshold(g_, update.parameter, spec_.estimator->left_out(spec_.estimator_options));
    Fused f(g_, "estimate." + update.name());
    f.builder().shape(update.trained.shape);
    f.output(update.gradient, estimated_gradient(f, update));
    f.emit();
  }

  // The factor of clipping, and the norm: both outlive the pass that makes them.
  ValueId norm(const std::vector<ValueId>& squares) {
    const auto out = g_.emit_all(kClipScale, ClipAttributes{spec_.clip}, squares, "update.clip");
    g_.value(out[0]).role = g_.value(out[1]).role = Role::result;
    g_.value(out[1]).name = "update.norm";
    return out[0];
  }

  Update begin(const Backward::LeafGradient& p) {
    const Value value = g_.value(p.parameter);
    const auto at = static_cast<size_t>(p.parameter);
    TrainedParameter trained{value.name, value.type.shape, {}, head_rows_[at], layer_[at]};
    const std::string& name = names_.emplace_back(value.name);
    const Parameter parameter{name, value.type.shape, layer_[at] >= 0, head_rows_[at], layer_[at]};
    const auto slot = train_.slots.find(value.name);
    const bool in_slot = slot != train_.slots.end();
    const std::string_view owner_name = in_slot ? slot->second : value.name;
    const auto started = [&](const OptionValues& options) {
      return Update{.graph = g_,
                    .options = options,
                    .trained = parameter,
                    .decay = decay(value.name),
                    .parameter = p.parameter,
                    .gradient = p.last,
                    .accumulator = kNone,
                    .states = {},
                    .statistics = {},
                    .totals = {},
                    .learning_rate = learning_rate_,
                    .step = step_,
                    .clip = kNone,
                    .due = in_slot && draws() ? period_names(spec_) : kind_.due,
                    .steps = spec_.scheduled_steps};
    };
    Update update = started(spec_.optimizer_options);
    add_states(optimizer_.name, optimizer_.states(parameter, spec_.optimizer_options), owner_name, update, trained);
    for (const auto& [wrapper, options] : spec_.wrappers) {
      wrapped_.push_back(started(options));
      add_states(wrapper->name, wrapper->states(parameter, options), owner_name, wrapped_.back(), trained);
    }
    train_.parameters.push_back(std::move(trained));
    in_slot_.push_back(in_slot);
    if (optimizer_.accumulator && in_slot && draws()) {
      g_.set_phase(Phase::backward);
      begin_slot(update, updates_.size());
      g_.set_phase(Phase::update);
    }
    if (optimizer_.accumulator) absorb(p.first, optimizer_.accumulator(parameter, spec_.optimizer_options), update);
    return update;
  }

  // Those of layers that train in turn count the steps of the period.
  void count_slot_steps() {
    if (std::ranges::none_of(in_slot_, [](char in_slot) { return in_slot; })) return;
    const ValueId step = within_period(step_, "slot.step");
    belongs_to(kNone);
    for (Update& update : updates_) {
      if (!in_slot_[index(update)]) continue;
      update.step = step;
      for (Update& next : wrapped(update)) next.step = step;
    }
  }

  // Whether this kind of step begins a period of the selector.
  bool draws() const { return std::ranges::find(kind_.due, kDrawn) != kind_.due.end(); }

  // The number of a step within its period, from 1.
  ValueId within_period(ValueId step, std::string name) {
    PointwiseBuilder b;
    b.shape({1});
    const Expr number = b.scalar();
    const auto period = static_cast<double>(draw_period(spec_));
    b.output(number - period * floor((number - 1) / period));
    return g_.emit(kPointwise, b.attributes(), {step}, std::move(name));
  }

  // States that were another layer's are as they begin before anything reads them: of an optimizer that takes gradients
  // in pass by pass in the first pass, else in the update.
  void begin_slot(Update& update, size_t number) {
    const TrainedParameter& trained = train_.parameters[number];
    size_t first = 0;
    const auto begin = [&](Update& next) {
      for (ValueId& state : next.states) {
        PointwiseBuilder b;
        const Expr target = b.tensor();
        b.store(target, b.constant(trained.states[first++].second.initial));
        state = g_.emit(kPointwise, b.attributes(), {state}, "begin." + g_.value(state).name);
      }
    };
    begin(update);
    const size_t each = spec_.wrappers.size();
    for (Update& next : std::span(wrapped_).subspan(number * each, each)) begin(next);
  }

  void add_states(std::string_view owner, const std::vector<StateSpec>& states, std::string_view of, Update& update,
                  TrainedParameter& trained) {
    for (StateSpec state : states) {
      state = coded(state, spec_.moves.eight_bit_states ? kInt8Block : *spec_.states);
      update.roots.push_back(state.squares && state.codec->block > 1);
      const std::string name = fmt::format("{}.{}.{}", owner, state.name, of);
      update.states.push_back(g_.add_value(name, {state.shape, state.codec}, Role::state,
                                           Initial::constant(static_cast<float>(state.initial))));
      trained.states.emplace_back(name, state);
    }
  }

  size_t index(const Update& update) const { return static_cast<size_t>(&update - updates_.data()); }

  // What the wrappers do with the parameter of an update, the innermost first.
  std::span<Update> wrapped(const Update& update) {
    const size_t each = spec_.wrappers.size();
    return std::span(wrapped_).subspan(index(update) * each, each);
  }

  // The outermost wrapper has the gradient first, the optimizer last.
  void before(Update& update) {
    const std::span<Update> all = wrapped(update);
    for (size_t i = all.size(); i-- > 0;) {
      Update& own = all[i];
      own.gradient = update.gradient, own.clip = update.clip, own.learning_rate = update.learning_rate;
      if (const auto hook = spec_.wrappers[i].wrapper->before) hook(own);
      hand_in(update, i);
    }
  }

  // The optimizer moves the parameter first; the outermost wrapper has it last.
  void apply(Update& update) {
    hooks_.apply(update);
    const std::span<Update> all = wrapped(update);
    for (size_t i = 0; i < all.size(); ++i) {
      all[i].parameter = update.parameter;
      if (const auto hook = spec_.wrappers[i].wrapper->after) hook(all[i]);
      update.parameter = all[i].parameter;
    }
  }

  // The gradient is of one pass only, cleared when that begins; what is accumulated takes its name and place.
  void absorb(ValueId whole, const Shape& shape, Update& update) {
    if (shape.rank() == 0) return;  // as it is
    Value& gradient = g_.value(whole);
    const std::string name = gradient.name;
    gradient.name = "pass." + name;
    gradient.role = Role::activation;
    update.accumulator = g_.add_value(name, {shape}, Role::gradient);
    if (g_.find(kPassStep) == kNone) {
      g_.add_value(kPassRate, {{1}}, Role::input);
      g_.add_value(kPassStep, {{1}}, Role::input);
    }
    g_.set_phase(Phase::backward);  // the first pass of a step finds it cleared
    update.learning_rate = g_.find(kPassRate), update.step = g_.find(kPassStep);
    if (in_slot_.back()) update.step = within_period(update.step, "slot.pass_step." + update.name());
    update.gradient = hooks_.absorb(update);
    g_.set_phase(Phase::update);
    update.learning_rate = learning_rate_, update.step = step_;
  }

  // Of a parameter with a rate of its own.
  void set_rate(Update& update) {
    const std::string& name = g_.value(update.parameter).name;
    const auto own = std::find_if(train_.adapter.begin(), train_.adapter.end(),
                                  [&](const AdapterTensor& tensor) { return tensor.value == name; });
    const double factor = (own == train_.adapter.end() ? 1 : own->rate) * factor_of(spec_.rate_of, name);
    if (factor == 1) return;
    PointwiseBuilder b;
    b.shape({1});
    b.output(b.scalar() * factor);
    update.learning_rate = g_.emit(kPointwise, b.attributes(), {learning_rate_}, "rate." + name);
  }

  // Those of the optimizer and of its wrappers.
  void reset_states(Update& update) {
    size_t first = 0;
    const auto reset_next = [&](Update& next) {
      const auto& states = train_.parameters[index(update)].states;
      reset(next, std::span(states).subspan(first, next.states.size()));
      first += next.states.size();
    };
    reset_next(update);
    for (Update& next : wrapped(update)) reset_next(next);
  }

  void reset(Update& update, std::span<const std::pair<std::string, StateSpec>> states) {
    for (size_t i = 0; i < states.size(); ++i) {
      const StateSpec& spec = states[i].second;
      if (spec.reset_every > 0) update.states[i] = reset_when_due(g_, update.states[i], spec, update.step);
    }
  }

  // Of the updates that have statistics in this kind of step; the others are done.
  void apply_with_totals() {
    std::vector<Update*> later;
    for (Update& update : updates_)
      if (!update.statistics.empty()) later.push_back(&update);
    if (later.empty()) return;
    std::vector<ValueId> totals = later.front()->statistics;
    // The first sum is a new value: an update may read its own statistic beside the total.
    const auto joined = [&](bool over) {
      PointwiseBuilder b;
      const Expr total = b.tensor(), one = b.tensor();
      const Expr both = optimizer_.total == Total::sum ? total + one : max(total, one);
      over ? b.store(total, both) : b.output(both);
      return b.attributes();
    };
    for (size_t i = 1; i < later.size(); ++i)
      for (size_t k = 0; k < totals.size(); ++k)
        totals[k] =
            g_.emit(kPointwise, joined(i > 1), {totals[k], later[i]->statistics[k]}, fmt::format("total.{}.{}", k, i));
    belongs_to(kNone);
    for (Update* const update : later) {
      update->totals = totals;
      const ValueId parameter = update->parameter;
      apply(*update);
      belongs_to(parameter);
    }
  }

  // The nodes since the last call are of this parameter's update; kNone: of all.
  void belongs_to(ValueId parameter) { train_.updated.resize(g_.nodes().size() - train_.update_begin, parameter); }

  double decay(const std::string& name) const {
    for (const std::string& part : spec_.no_decay)
      if (name.find(part) != std::string::npos) return 0;
    return spec_.weight_decay * factor_of(spec_.decay_of, name);
  }

  static double factor_of(const std::vector<std::pair<std::string, double>>& factors, const std::string& name) {
    double out = 1;
    for (const auto& [part, factor] : factors)
      if (name.find(part) != std::string::npos) out = factor;
    return out;
  }

  const TrainingSpec& spec_;
  const StepKind& kind_;
  const Optimizer& optimizer_;
  const Hooks hooks_;
  std::vector<int> layer_;          // by value: the first block that reads it
  std::vector<int64_t> head_rows_;  // likewise
  TrainingGraph& train_;
  Graph& g_;
  std::deque<std::string> names_;  // that updates refer to, of parameters
  std::vector<Update> updates_;
  std::vector<Update> wrapped_;  // by parameter and wrapper
  std::optional<Estimate> estimate_;
  std::vector<char> in_slot_;  // by parameter: of a layer that trains in turn
  ValueId learning_rate_ = kNone, step_ = kNone;
};

// The name of the pass, for people.
std::string updates_pass(const TrainingSpec& spec) {
  std::string out = fmt::format("update {}", spec.optimizer->name);
  for (const WrapperUse& use : spec.wrappers) out += fmt::format(",{}", use.wrapper->name);
  if (!spec.estimator->differentiates()) out += fmt::format(" by {}", spec.estimator->name);
  return out;
}

// What of them outlives the building of updates.
void take(Gradients gradients, TrainingGraph& train) {
  train.whole_passes = gradients.sums_within_pass;
  train.keeper_states = std::move(gradients.keeper_states);
  train.idle_keepers = std::move(gradients.idle_keepers);
}

}  // namespace

Result<void> add_updates(const TrainingSpec& spec, const StepKind& kind, Gradients gradients,
                         const std::function<void()>& before, TrainingGraph& train) {
  for (const auto& leaf : gradients.leaves)
    if (const auto slot = train.slots.find(train.graph.value(leaf.parameter).name); slot != train.slots.end())
      train.graph.value(leaf.first).name = "gradient." + slot->second;
  const size_t begin = train.graph.nodes().size();
  UpdateBuilder(spec, kind, train).build(gradients, before);
  take(std::move(gradients), train);
  CHECK_OK(train.passes.end(updates_pass(spec), train.graph));
  const size_t end = train.barrier ? train.update_begin : train.graph.nodes().size();
  return train.passes.optional(kHoistedUpdates, train.graph, [&](Graph& graph) { hoist(graph, begin, end); });
}

Result<void> add_estimated_updates(const TrainingSpec& spec, const StepKind& kind, std::span<const ValueId> estimated,
                                   Gradients derived, TrainingGraph& train) {
  if (spec.optimizer->accumulator)
    return fail(ErrorCode::unsupported,
                "--optimizer {} takes its gradient in before a step ends, --estimator {} has it only then; take {} or "
                "another optimizer",
                spec.optimizer->name, spec.estimator->name, spec.estimator->optimizer);
  UpdateBuilder(spec, kind, train).build_estimated(estimated, derived);
  take(std::move(derived), train);
  const std::vector<char> kept = train.graph.prune();
  std::vector<ValueId> updated;
  for (size_t i = train.update_begin; i < kept.size(); ++i)
    if (kept[i]) updated.push_back(train.updated[i - train.update_begin]);
  train.updated = std::move(updated);
  if (spec.estimator->left_out(spec.estimator_options) > 0) read_moved(spec, train);
  train.update_begin = train.graph.nodes().size() - train.updated.size();
  CHECK_OK(train.graph.verify());
  return train.passes.end(updates_pass(spec), train.graph);
}

}  // namespace thimble
