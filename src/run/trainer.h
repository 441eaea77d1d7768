// Training: from a recipe to a trained model or adapter.
#pragma once

#include <array>
#include <future>
#include <memory>

#include "adapters/adapter.h"
#include "disk/scratch_file.h"
#include "models/model_source.h"
#include "plan/training.h"
#include "report/events.h"
#include "run/arena.h"
#include "run/checkpoint_files.h"
#include "run/divergence.h"
#include "run/out_lock.h"
#include "run/passes.h"
#include "run/recipe.h"
#include "run/values.h"
#include "text/dataset.h"
#include "text/mismatched.h"

namespace thimble {

// What the reference says of a data set, by example; NaN: not known yet. Empty where the objective reads none.
struct References {
  std::vector<float> margins;     // of pairs, or of judged replies (kPairReference)
  std::vector<float> mismatched;  // log likelihoods of replies to other prompts (text/mismatched.h)

  // Both, with the ends of their names in a checkpoint.
  std::array<std::pair<const char*, std::vector<float>*>, 2> tensors() {
    return {std::pair{"pair.references", &margins}, {"pair.mismatched_references", &mismatched}};
  }
};
inline constexpr const char* kEvalReferences = "eval.";  // before the names of those of the evaluation's data

class Trainer {
 public:
  using FreeBytes = std::function<Result<int64_t>(const std::string& folder)>;

  // Opens what the recipe names, measures the runtime, and plans. Nothing large exists yet.
  static Result<std::unique_ptr<Trainer>> prepare(const Recipe& recipe, Events& events);

  const TrainingPlan& plan() const { return plan_; }
  // How the scratch file's bytes move; without it, as Scratch chooses. For tests.
  void use_queue(decltype(ScratchOptions::queue) queue) { queue_ = std::move(queue); }
  // What is free in a folder. For tests.
  void use_free_bytes(FreeBytes free_bytes) { free_bytes_ = std::move(free_bytes); }
  const TrainingSpec& spec() const { return spec_; }
  const Machine& machine() const { return machine_; }

  // The factor of a step's loss: of what its gradient is multiplied with. For tests.
  void use_scale(std::function<double(int64_t step, double scale)> scale) { scale_ = std::move(scale); }
  // Asked after every step: true ends the run.
  void stop_when(std::function<bool()> stop) { stop_ = std::move(stop); }

  // Takes the arena, loads, trains, writes. Cancelled (ErrorCode::cancelled) when it was stopped: what was done is
  // saved and the message says how to go on.
  Result<void> run();

 private:
  Trainer(const Recipe& recipe, Events& events) : recipe_(recipe), events_(events) {}
  Result<void> open();
  Result<void> open_model_tokenizer();
  Result<void> open_adapted();
  Result<void> open_labels();
  Result<Labels> labels_of_data(Labels::Kind kind) const;
  Result<void> open_teacher();
  Result<void> check_teacher() const;
  Result<void> open_data();
  std::string own_keepers() const;
  Result<void> make_spec();
  Result<void> set_options();
  void scale_rates_by_depth();
  Result<OptionValues> objective_options() const;
  Result<void> make_rewrites();
  Result<void> begin_with_adapter();
  Result<void> resume_adapted(const std::string& began);
  void settle_options();
  Result<void> make_fresh(const std::vector<const Rewrite*>& stack);
  Recipe settled() const;  // the recipe with what was chosen for it
  Result<void> resume_numerics();
  Result<void> make_plan();
  Result<void> score_parameters();  // where the selector goes by what the data say
  // Gradients of another spec on the first windows of the data, of a loss times scale(its terms); `look` sees the
  // results of each.
  Result<void> measure_gradients(const TrainingSpec& spec, int64_t windows,
                                 const std::function<double(int64_t terms)>& scale, const std::function<void()>& look);
  Result<void> measure_windows(int64_t windows, const std::function<double(int64_t terms)>& scale,
                               const std::function<void()>& look);
  Result<void> settle_layers();  // options that techniques settle by layer
  Error larger_refusal(RewriteSpec& spec, const Error& measuring);
  Result<Settling::Measured> probe_layers(size_t place);
  Result<Settling::Measured> measure_weights(const RewriteSpec& spec);
  void report_chosen();
  Result<void> plan_within_budget();
  Result<void> prepare_references(Dataset* data, References& references, std::optional<Mismatched>& mismatched);
  Result<int64_t> count_steps();
  Result<int64_t> text_context() const;
  Packer packed(Dataset& data, int64_t batch, int64_t seed, bool shuffle) const;
  Result<void> train();
  Result<void> take_steps();
  Result<void> allocate();
  Result<void> flush();                               // before parameters and states are read
  Result<void> draw();                                // the plan of the period of the selector that the next step is of
  Result<void> plan_again(const TrainingSpec& spec);  // of a period, in the homes of the first
  Result<void> begin_slots();  // states of drawn layers begin anew, as the first update of a period has them do
  Result<void> learn_importance(int64_t period);          // of a selector that probes
  Result<double> probed_loss(const Packer::State& from);  // of the step whose tokens begin there
  std::string importance_text() const;                    // for the checkpoint; "" where nothing is learnt
  Result<void> restore_importance(const SafetensorsFile& checkpoint);
  // Of the disk tier; a plan alone may have no --out.
  std::string scratch_folder() const;
  Result<void> check_scratch() const;
  Values values();  // while no pass is running
  RunContext context();
  Result<void> fill();

  Result<std::optional<StepEvent>> step();
  // Of the micro-batches of a step that hold something.
  struct StepSize {
    int64_t batches = 0, windows = 0;
    int64_t terms = 0;         // of the loss, which is their mean: targets, or pairs
    Packer::State begin = {};  // where they are in the data
    double divisor() const { return static_cast<double>(std::max<int64_t>(1, terms)); }
  };
  Result<StepSize> measure_step();
  // Of the loss, in a micro-batch.
  int64_t terms_in(const Rows& rows) const {
    return spec_.objective->of_examples() ? static_cast<int64_t>(rows.terms.size()) : rows.predicted;
  }
  bool reads_twice() const { return recipe_.accumulate > 1 || spec_.objective->drift; }
  Result<double> run_passes(RunContext& run, PassPlace place);
  double read_balance();  // of a pass
  // The mean loss of a target, or of a pair, of all micro-batches of the step.
  Result<double> run_batches(RunContext& run, const StepSize& size);
  Result<void> pass_over(const std::string& what, const Packer::State& from);
  // Rows [first, first + plan rows) become the inputs of a program, whose names begin with `prefix`.
  void write_rows(const std::string& prefix, const Rows& rows, int64_t first, const References& references);
  // What a program counts: of evaluation it may be another than what is learnt.
  const Objective& objective_of(const std::string& prefix) const {
    return prefix == plan_.train.prefix ? *spec_.objective : evaluated_objective(*spec_.objective);
  }
  // The same of what a teacher reads, where that is not what the model reads.
  void write_teacher_rows(const std::string& prefix, const Rows& rows, int64_t first);
  // The same of the labels of texts.
  void write_labels(const std::string& prefix, const Rows& rows, int64_t first);
  std::span<const float> scores_at(int64_t row);  // of the evaluation that has just run
  // Of the program that has just run on them, the sum of the losses; the rewards of pairs are added to `rewards_`.
  double read_losses(const std::string& prefix, const Rows& rows, int64_t first);
  Result<void> evaluate_rows(const Rows& rows, int64_t first, const References& references);
  // Of pairs, by what the model as the run begins says of them; those that are known stay as they are.
  Result<void> find_references();
  // Of the examples in rows_; returns how many of them were not known.
  Result<int64_t> measure_references(References& references);
  Result<void> find_references(Packer& packer, int64_t steps, int64_t micro_batches, References& references);
  Result<void> find_mismatched_references(Mismatched& data, References& references);
  Result<void> load_references(const std::string& prefix, References& references);
  // Examples one after another, none at the end.
  using NextExample = std::function<std::optional<int64_t>()>;
  // The log likelihoods of mismatched pairs, by what the parameters are now. Uses rows_.
  Result<void> visit_mismatched(Mismatched& data, const References& references, const NextExample& next,
                                const std::function<void(int64_t example, double likelihood)>& visit);
  // kReplyDrift of these examples: written for the program of that prefix, and noted in rewards_.
  Result<void> measure_drift(const std::string& prefix, Mismatched& data, const References& references,
                             const NextExample& next);
  Result<EvalEvent> evaluate();
  bool evaluation_is_due() const;
  Result<void> evaluate_and_keep_best();
  bool in_checkpoint(const std::string& name, const Layout::Entry& entry) const;
  std::string began_with() const;
  // A checkpoint of what was done so far: begun, and known to be on disk. At most one is under way.
  struct SavedValue {
    const std::string* name;
    const Layout::Entry* entry;
    int position;  // SaveGate::position
  };
  std::vector<SavedValue> saved_values();
  std::map<std::string, std::string> checkpoint_metadata() const;
  Result<void> begin_save(std::launch how);
  Result<void> settle_save();  // waits for it; nothing where none is under way
  Result<void> settle_save_if_done();
  Result<void> save_checkpoint();  // both
  Result<void> read_position();    // of the checkpoint: steps done and the place in the data
  Result<void> restore_checkpoint();
  Result<void> load_checkpoint();  // weights and states alone
  Result<void> export_model(const std::string& folder);
  Result<void> export_adapter(const std::string& folder);
  Result<void> read_result(Values& all, const std::string& name, int64_t first, std::span<float> to) const;
  void forget_earlier();  // the results of a run that this one replaces
  Result<void> finish();
  std::vector<std::string> first_events() const;
  Result<void> begin_log(const std::vector<std::string>& first);
  Result<void> check_space() const;
  Failure stopped();
  Failure stopped_before(const char* when) const;  // the first step of this call
  Result<void> check_names() const;                // of what the user named
  int64_t heap_of_a_save() const;                  // of the tensors of a checkpoint
  // Of a selector that draws: the heap that planning another period takes while plan_ is there.
  Result<int64_t> heap_of_a_period() const;
  int64_t touched_later() const;  // bytes that are resident only when the run is under way
  Failure diverged(const std::string& what) const;
  Result<void> given_up(const Error& error);  // of an evaluation
  void report();
  template <class T>
  T* input(const std::string& name) {
    return reinterpret_cast<T*>(arena_->data() + plan_.layout.find(name)->offset);
  }

  Recipe recipe_;
  Events& events_;
  std::unique_ptr<Threads> threads_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<Adapter> adapters_;            // to begin with
  JsonBox<nlohmann::ordered_json> configs_;  // an array: of the adapter's techniques, as they are saved
  bool settled_layers_ = false;              // some of them have options that were settled by layer
  std::unique_ptr<ModelSource> source_;      // null when training from scratch
  std::unique_ptr<ModelSource> teacher_;     // null without one
  std::string model_fingerprint_;
  std::unique_ptr<Dataset> data_, eval_data_;
  std::unique_ptr<Packer> packer_;
  References references_, eval_references_;
  std::optional<Mismatched> mismatched_, eval_mismatched_;  // where the objective reads the drift
  Rewards rewards_;                                         // of the step, or of the evaluation
  double balance_ = 0;                                      // of the step: StepEvent::balance
  TrainingSpec spec_;
  Machine machine_;
  HeapHoles holes_;  // as long as a plan is carried out
  TrainingPlan plan_;
  int64_t period_heap_ = 0;  // heap_of_a_period(), at most
  double base_rate_ = 0;
  int64_t steps_ = 0;
  std::optional<SafetensorsFile> checkpoint_;  // that is resumed, until it has been
  std::vector<std::string> damaged_;           // checkpoints that it was found behind
  int64_t saved_ = -1;                         // step of the checkpoint in --out; -1: there is none of this run
  int64_t done_ = 0;                           // steps
  int64_t tokens_ = 0;
  int64_t evaluated_ = 0;         // step of the last evaluation; of the first there is no checkpoint
  int64_t saved_evaluation_ = 0;  // the same, in the checkpoint
  double best_nll_ = 1e300;
  DivergenceWatch watch_;
  int passed_over_ = 0;  // steps in a row
  int64_t skipped_ = 0;  // steps that were passed over, of this process
  int64_t learned_ = 0;  // the period that spec_.importance was learnt before
  std::function<double(int64_t, double)> scale_ = [](int64_t, double scale) { return scale; };
  std::function<bool()> stop_ = [] { return false; };
  std::vector<std::string> earlier_;  // files of a run that this one replaces, until it saves something itself
  FreeBytes free_bytes_ = free_disk_bytes;
  std::unique_ptr<Arena> arena_;
  decltype(ScratchOptions::queue) queue_;
  std::unique_ptr<Scratch> scratch_;  // null: nothing waits on disk
  std::unique_ptr<Passes> passes_;
  Rows rows_;  // a micro-batch
  std::optional<OutLock> lock_;
  struct {
    int64_t step = 0, evaluation = 0;  // as saved_ and saved_evaluation_ will be
  } being_saved_;
  std::future<Result<void>> save_;  // the last member: what it reads is there until it is done
};

}  // namespace thimble
