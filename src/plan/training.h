// The training program: model, method, backward pass and updates in one graph; and the plan of its memory.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "methods/keeper.h"
#include "methods/objective.h"
#include "methods/optimizer.h"
#include "methods/rewrite.h"
#include "methods/selector.h"
#include "models/build.h"
#include "plan/homes.h"
#include "plan/machine.h"
#include "plan/near_moves.h"
#include "plan/plan.h"
#include "plan/schedule.h"

namespace thimble {

struct TrainingPlan;

// A model that is read as it is, beside the one that trains.
struct FrozenModel {
  Architecture architecture;
  std::function<const Codec*(const std::string& name)> stored;  // as TrainingSpec::stored
};
inline constexpr const char* kTeacher = "teacher.";  // before the names of its values
// Of a model that says labels, a result of the evaluation: f32 [rows, labels].
inline constexpr const char* kEvalScores = "eval.scores";

struct TrainingSpec {
  Architecture architecture;
  // Codec in which a weight is stored; nullptr when there is none of that name.
  std::function<const Codec*(const std::string& name)> stored;
  std::optional<FrozenModel> teacher;                         // of an objective that has one
  std::vector<RewriteSpec> rewrites = {{.rewrite = &kFull}};  // in the order in which they are applied
  const Optimizer* optimizer = &kAdamw;
  OptionValues optimizer_options = OptionValues(optimizer->options);
  std::vector<WrapperUse> wrappers;  // around the optimizer, the innermost first
  const Objective* objective = &kNextToken;
  OptionValues objective_options = OptionValues(objective->options);
  const Estimator* estimator = &kBackprop;  // of the gradients
  OptionValues estimator_options = OptionValues(estimator->options);
  std::vector<KeeperUse> keepers;            // of the activations, in the order in which they are asked
  const Selector* selector = &kAllSelector;  // of the parameters
  OptionValues selector_options = OptionValues(selector->options);
  uint64_t seed = 0;                          // of what the selector draws
  int64_t draw = 0;                           // number of the selector's period that is planned
  std::map<std::string, double> scores = {};  // by parameter, what a scored selector goes by
  std::vector<double> importance = {};        // by layer, what a selector that probes has learnt; empty: nothing yet
  bool measures_gradients = false;            // what a method would train is measured (plan/selection.h)
  double weight_decay = 0;
  std::vector<std::string> no_decay;  // parts of the names of parameters that do not decay
  // Factors of the learning rate and of the decay by parts of parameters' names; of several that fit the last counts.
  std::vector<std::pair<std::string, double>> rate_of, decay_of;
  double clip = 1;
  bool judges_gradients = false;  // an update waits until the whole gradient is known to be sound
  int64_t batch = 1, accumulate = 1, context = 512;
  const Codec* activation = &kBf16;
  Multiply multiply = Multiply::f32;
  int threads = 1;
  Near near = Near::never;
  const Codec* states = &kF32;                       // of the optimizer, where its states may be in another
  NearMoves moves;                                   // with Near::always these; otherwise set by the planner
  bool evaluates = false;                            // an evaluation program is planned too
  int64_t begin_bytes = 0;                           // of memory in which values that begin with the weights are made
  int64_t budget_bytes = 0;                          // of the whole process; 0: none
  int64_t runtime_bytes = 0;                         // of the process without the arena
  int64_t runtime_heap = 0;                          // of that, what the plan takes with which it was measured
  std::function<int64_t(const TrainingPlan&)> heap;  // what a plan takes; nullptr: not counted
  std::string rates;                                 // how the learning rate goes, for the hash of the numerics
  bool from_scratch = false;                         // the weights are no model's
  int64_t steps = 0;                                 // of the run, for what it writes to disk in all; 0: not known
  int64_t scheduled_steps = 0;                       // as the run was begun: what the schedules of techniques are for
  bool disk = false;                                 // values may live on disk
  int64_t disk_least_bytes = 64 << 10;               // of a value that does

  // The optimizer and its wrappers with their default options.
  void set_optimizer(const OptimizerStack& stack);
  bool trains_weights() const { return thimble::trains_weights(rewrites); }
};

// What methods put around the optimizer, with their options; set_optimizer() comes first. Refuses options that do not
// suit a run of so many steps (0: not known), and optimizers of which no wrapper can see the gradient.
Result<void> add_wrappers(TrainingSpec& spec);

struct TrainedParameter {
  std::string name;
  Shape shape;
  std::vector<std::pair<std::string, StateSpec>> states;  // name of the value
  int64_t head_rows = 0;                                  // Parameter::head_rows
  int layer = -1;                                         // Parameter::layer
};

struct TrainingGraph {
  Graph graph;
  size_t update_begin = 0;       // first node of the update, when there is a barrier
  bool barrier = true;           // gradients are held until all are known
  bool whole_passes = false;     // a pass must hold all tokens of a micro-batch: Backward::sums_within_pass()
  std::vector<ValueId> updated;  // by node from update_begin on: whose update it is part of; kNone: all parameters'
  std::vector<TrainedParameter> parameters;
  std::vector<AdapterTensor> adapter;  // what of it an adapter's file holds
  std::vector<std::string> keeper_states;
  std::vector<std::string_view> idle_keepers;  // of those asked for: nothing in this run waits that they are for
  std::vector<std::string> averages;           // states: of blocks, in auxiliary networks
  std::set<std::string> frozen;                // parameters of the method that its selector never trains
  int64_t resting = 0;                         // parameters that train in other periods
  std::map<std::string, std::string>
      slots;         // by parameter of a layer that is drawn: what its gradient and states are called by
  std::string loss;  // the result with the losses of rows
  std::string prefix = "train.";
  PassLog passes;  // that made the graph
};

// The nodes of one pass with the updates of the step before among them, each block's just before its weights are wanted
// in the forward pass: what the disk moves for an update hides behind the compute of the pass.
std::vector<int> deferred_order(const TrainingGraph& train);

// Inputs of a step, by name: what the passes read, and what the update reads, which may be done in the first pass of
// the next step.
inline constexpr const char* kLossScale = "train.scale";
inline constexpr const char* kLossTargets = "train.targets";
inline constexpr const char* kPassRate = "pass.learning_rate";
inline constexpr const char* kPassStep = "pass.step";
inline constexpr const char* kUpdateRate = "update.learning_rate";
inline constexpr const char* kUpdateStep = "update.step";

// The period of a selector that draws: its first step, in which the slots of layers that train in turn begin.
inline constexpr std::string_view kDrawn = "drawn";

// What steps differ in: which periods of the optimizer are due, and whether the logits of the head are kept until its
// gradient is made.
struct StepKind {
  std::vector<std::string_view> due = {};
  bool keep_logits = false;

  bool of_curvature() const { return std::ranges::find(due, kCurvature) != due.end(); }
};

// Of an estimator that probes the loss: how far the parameters move along direction k, and the derivative along it.
std::string move_name(int k);
std::string derivative_name(int k);

Directions directions_of(const TrainingSpec& spec);

// The passes read every trained parameter where the moves have it: what an estimator needs that leaves numbers out.
void read_moved(const TrainingSpec& spec, TrainingGraph& train);
// What trains, by where its gradient comes from.
struct TrainedValues {
  std::vector<ValueId> estimated, derived;
};
// The passes carry the derivative along the sum of the directions, each times its move, beside every value; that of the
// loss becomes a result, kTangent behind the loss's name. The ids of what trains change.
inline constexpr std::string_view kTangent = ".tangent";
Result<void> carry_tangents(const TrainingSpec& spec, TrainedValues& trained, TrainingGraph& train);
// Moves every trained parameter by those, in place.
Result<Graph> build_perturbation(const TrainingSpec& spec, const TrainingGraph& train);

// What an objective reads of a model.
LossHead head_of(const BuiltModel& model);

// What a token counts in a mean over all tokens of a step, be they learnt or not.
double token_share(const TrainingSpec& spec);
// Of what techniques lose on every token beside the objective, f32 [rows]: the sum, times token_share().
ValueId scaled_sum(Graph& graph, std::span<const ValueId> losses, double share, const std::string& name);

// `rows` tokens a pass.
Result<TrainingGraph> build_training(const TrainingSpec& spec, int64_t rows, bool barrier, const StepKind& kind = {});

// Another kind of step, in which some of the optimizer's periods are due: its first pass and its update. That of the
// curvature comes after the step, and all passes are of its kind.
struct PlannedVariant {
  std::vector<std::string_view> names;  // of the periods that are due in it
  std::vector<int64_t> due, others;     // steps of those periods, and of the ones that are not
  TrainingGraph train;
  Schedule pass, update;
  bool after = false;  // the step, instead of in its place

  // Steps are counted from 0.
  bool is_due(int64_t step) const;
  double share() const;  // of all steps
};
// Names of all periods of the optimizer and its wrappers.
std::vector<std::string_view> period_names(const TrainingSpec& spec);
// Steps after which the selector draws anew; 0: never.
int64_t draw_period(const TrainingSpec& spec);
// The kinds of steps that occur besides the ordinary one, without graphs.
std::vector<PlannedVariant> variants_of(const TrainingSpec& spec);

// The graph with what Optimizer::evaluated says in place of each of the parameters; the optimizer has to say something.
Graph with_evaluated(const Graph& graph, const TrainingSpec& spec, std::span<const TrainedParameter> parameters);
// Elements [first, first + to.size()) of what evaluation takes in place of a parameter; `read` reads f32 values.
using ReadElements = std::function<Result<void>(const std::string& value, int64_t first, std::span<float> to)>;
Result<void> read_evaluated(const TrainingSpec& spec, const TrainedParameter& parameter, int64_t first,
                            std::span<float> to, const ReadElements& read);

// What was chosen for a plan: another graph of the same run is put into it.
struct PlanHomes {
  NearMoves moves;
  bool keep_logits = false;  // of the head, until its gradient is made
  int64_t rows = 0;          // tokens a pass
  Choice choice;
};

// Prefixes of the programs beside the passes and their update.
inline constexpr const char* kEvaluation = "eval.";
inline constexpr const char* kPerturbation = "perturb.";

struct TrainingPlan : Plan, PlanHomes {
  TrainingGraph train;
  const Estimator* estimator = &kBackprop;
  OptionValues estimator_options;
  int64_t layers = 0;     // of the model
  Schedule pass, update;  // of the training graph; update is empty without a barrier
  Schedule deferred;      // pass with the updates of the step before; empty: they follow their pass at once
  std::vector<PlannedVariant> variants;
  int64_t passes = 1;          // a step
  double variant_seconds = 0;  // of those of a step, for the periods of the optimizer
  double least_seconds = 0;    // that any plan within the budget takes
  double planning_seconds = 0;
  std::string numerics_hash;

  // All that runs, in any period.
  std::vector<Schedule*> schedules() {
    std::vector<Schedule*> all{&pass, &update, &deferred};
    for (Program& program : programs) all.push_back(&program.schedule);
    for (PlannedVariant& variant : variants) all.insert(all.end(), {&variant.pass, &variant.update});
    return all;
  }
  std::vector<const Schedule*> schedules() const {
    const std::vector<Schedule*> all = const_cast<TrainingPlan*>(this)->schedules();
    return {all.begin(), all.end()};
  }
  // What an ordinary step of one pass runs, in order.
  std::vector<const Schedule*> ordinary_step() const {
    return deferred.steps.empty() ? std::vector{&pass, &update} : std::vector{&deferred};
  }
};

// Fills the ledger of a plan: where every byte is, what was chosen, how far it can be from the fastest.
void describe(const TrainingSpec& spec, const Machine& machine, TrainingPlan& plan);

}  // namespace thimble
