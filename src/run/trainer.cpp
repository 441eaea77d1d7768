#include "run/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "plan/modules.h"
#include "plan/planner.h"
#include "plan/profile.h"
#include "report/report.h"
#include "report/run_log.h"
#include "run/derived.h"
#include "run/earlier_run.h"
#include "run/label_scores.h"
#include "run/setup.h"
#include "run/weights.h"
#include "text/json_output.h"

namespace thimble {
namespace {

constexpr size_t kProfilePoints = 400;  // as many columns as a picture shows

}  // namespace

Result<void> Trainer::allocate() {
  arena_ = std::make_unique<Arena>(TRY(Arena::create(plan_.arena_bytes, *threads_)));
  passes_ = std::make_unique<Passes>(plan_, arena_->data(), scratch_.get());
  return {};
}

std::string Trainer::scratch_folder() const {
  const std::string& folder = recipe_.scratch.empty() ? recipe_.out : recipe_.scratch;
  return folder.empty() ? "." : folder;
}

Values Trainer::values() { return {plan_, arena_->data(), scratch_.get()}; }

RunContext Trainer::context() {
  return {*threads_, spec_.multiply, static_cast<uint64_t>(recipe_.seed), static_cast<uint64_t>(done_), 0};
}

Result<void> Trainer::flush() {
  RunContext run = context();
  return passes_->flush(run);
}

Result<void> Trainer::fill() {
  Values all = values();
  Loaded loaded;
  if (source_) CHECK_OK(load_weights(*source_, all, loaded));
  if (teacher_) CHECK_OK(load_weights(*teacher_, all, loaded, kTeacher));
  for (const char* beside : {kAverage, kBeside})
    if (source_ && spec_.estimator->modules) CHECK_OK(load_weights(*source_, all, loaded, beside));
  if (!adapters_.empty()) CHECK_OK(load_adapters(adapters_, plan_.train.adapter, all, loaded));
  CHECK_OK(initialise(all, loaded, static_cast<uint64_t>(recipe_.seed)));
  if (!source_) return {};
  for (const AdapterTensor& tensor : plan_.train.adapter)
    if (recipe_.resume && tensor.trained) loaded.insert(tensor.value);  // the checkpoint has it
  return begin_from_weights(
      spec_.rewrites, plan_.train.adapter, *source_, *threads_, all, loaded,
      [this](int64_t done, int64_t layers) -> Result<void> {
        events_.progress(fmt::format("--method {}: initial values, layer {} of {}", recipe_.method, done + 1, layers));
        return stop_() ? stopped_before("while initial values were computed") : Result<void>();
      });
}

void Trainer::write_rows(const std::string& prefix, const Rows& rows, int64_t first, const References& references) {
  const auto write = [&](std::string_view name, const auto& column, int32_t less = 0) {
    const std::string whole = prefix + std::string(name);
    if (!plan_.layout.find(whole)) return;
    auto* const to = input<std::remove_cvref_t<decltype(column[0])>>(whole);
    for (int64_t i = 0; i < plan_.rows; ++i) to[i] = column[static_cast<size_t>(first + i)] - less;
  };
  const auto begin = static_cast<int32_t>(first);
  write("ids", rows.ids), write("targets", rows.targets), write("positions", rows.positions);
  write_labels(prefix, rows, first);
  write_teacher_rows(prefix + kTeacher, rows, first);
  write("starts", rows.starts, begin), write(kPairStarts, rows.pair_starts, begin);
  write(kPairSign, rows.sign), write(kPairShare, rows.share);
  const auto mark = [&](std::string_view name, auto of_term) {
    const std::string whole = prefix + std::string(name);
    if (!plan_.layout.find(whole)) return;
    float* const to = input<float>(whole);
    std::fill_n(to, plan_.rows, 0.0f);
    for (const Rows::Term& term : rows.terms)
      if (term.row >= first && term.row < first + plan_.rows) to[term.row - first] = of_term(term);
  };
  mark(kPairFirst, [](const Rows::Term&) { return 1.0f; });
  mark(kReplyLabel, [](const Rows::Term& term) { return term.label; });
  mark(kPairReference, [&](const Rows::Term& term) { return references.margins[static_cast<size_t>(term.example)]; });
}

// Of texts without the virtual tokens before them, whose rows see nothing.
void Trainer::write_teacher_rows(const std::string& prefix, const Rows& rows, int64_t first) {
  if (!plan_.layout.find(prefix + "ids")) return;
  const auto lead = static_cast<int32_t>(lead_of(spec_.rewrites).rows);
  auto *const ids = input<int32_t>(prefix + "ids"), *const positions = input<int32_t>(prefix + "positions"),
              *const starts = input<int32_t>(prefix + "starts");
  for (int64_t i = 0; i < plan_.rows; ++i) {
    const auto row = static_cast<size_t>(first + i);
    const bool of_text = rows.positions[row] >= lead;
    ids[i] = rows.ids[row];
    positions[i] = of_text ? rows.positions[row] - lead : 0;
    starts[i] = of_text ? rows.starts[row] + lead - static_cast<int32_t>(first) : static_cast<int32_t>(i);
  }
}

double Trainer::read_losses(const std::string& prefix, const Rows& rows, int64_t first) {
  double sum = 0;
  const float* const losses = input<float>(loss_name(objective_of(prefix), prefix));
  for (int64_t i = 0; i < plan_.rows; ++i) sum += losses[i];
  if (!plan_.layout.find(prefix + std::string(kPairReward))) return sum;
  for (const Rows::Term& term : rows.terms) {
    if (term.row < first || term.row >= first + plan_.rows) continue;
    const float reward = input<float>(prefix + std::string(kPairReward))[term.row - first];
    if (term.label > 0)
      ++rewards_.wanted, rewards_.of_wanted += reward;
    else if (term.label < 0)
      ++rewards_.unwanted, rewards_.of_unwanted += reward;
    else
      ++rewards_.pairs, rewards_.preferred += reward > 0, rewards_.margin += reward;
  }
  return sum;
}

// What the next step holds: its losses are divided by its targets, and micro-batches after the last example of an epoch
// are empty and left out. One micro-batch is in memory at a time; where a step has several, or rows_ is wanted between,
// they are read twice.
Result<Trainer::StepSize> Trainer::measure_step() {
  StepSize size;
  packer_->begin_step();
  size.begin = packer_->state();
  for (int64_t i = 0; i < recipe_.accumulate; ++i) {
    CHECK_OK(packer_->next(rows_));
    if (rows_.windows == 0) break;
    ++size.batches;
    size.windows += rows_.windows;
    size.terms += terms_in(rows_);
  }
  rewards_ = {};
  if (spec_.objective->drift) {
    const Packer::State end = packer_->state();
    const NextExample next = [this, at = size.begin, end]() mutable { return packer_->example(at, end); };
    CHECK_OK(measure_drift(plan_.train.prefix, *mismatched_, references_, next));
  }
  if (reads_twice()) CHECK_OK(packer_->restore(size.begin));
  return size;
}

double Trainer::read_balance() {
  const std::string name = plan_.train.prefix + std::string(kBalance);
  if (!plan_.layout.find(name)) return 0;
  const float* const losses = input<float>(name);
  return std::accumulate(losses, losses + plan_.rows, 0.0);
}

// Sum of the losses of a micro-batch.
Result<double> Trainer::run_passes(RunContext& run, PassPlace place) {
  double loss = 0;
  const int64_t rows = recipe_.batch * recipe_.context;
  for (int64_t first = 0; first < rows; first += plan_.rows) {
    write_rows(plan_.train.prefix, rows_, first, references_);
    CHECK_OK(passes_->pass(run, {place.first && first == 0, place.last && first + plan_.rows >= rows}));
    run.first_row += static_cast<uint64_t>(plan_.rows);
    loss += read_losses(plan_.train.prefix, rows_, first);
    balance_ += read_balance();
  }
  return loss;
}

Result<double> Trainer::run_batches(RunContext& run, const StepSize& size) {
  double loss = 0;
  for (int64_t i = 0; i < size.batches; ++i) {
    if (reads_twice()) CHECK_OK(packer_->next(rows_));
    loss += TRY(run_passes(run, {i == 0, i + 1 == size.batches}));
  }
  return loss / size.divisor();
}

// Nothing where the step was passed over: its gradient has entered no weight and no state.
Result<std::optional<StepEvent>> Trainer::step() {
  const auto begin = std::chrono::steady_clock::now();
  CHECK_OK(draw());
  const StepSize size = TRY(measure_step());
  balance_ = 0;
  RunContext run = context();
  StepEvent event{
      .step = done_ + 1, .steps = steps_, .learning_rate = learning_rate(recipe_, base_rate_, done_, steps_)};
  passes_->begin_step(run, {event.learning_rate, scale_(event.step, 1 / size.divisor())});
  const auto sweep = [&]() -> Result<double> {
    if (reads_twice()) CHECK_OK(packer_->restore(size.begin));
    return run_batches(run, size);
  };
  if (spec_.estimator->differentiates()) {
    event.loss = TRY(run_batches(run, size));
    event.grad_norm = *input<float>("update.norm");
  } else {
    const Estimated estimated = TRY(passes_->estimate(run, sweep));
    event.loss = estimated.loss, event.grad_norm = estimated.norm;
  }
  event.tokens = size.windows * recipe_.context;
  event.rewards = rewards_, event.balance = balance_;
  tokens_ += event.tokens;
  if (const std::string wrong = watch_.look(event.loss, event.grad_norm); !wrong.empty()) {
    CHECK_OK(pass_over(wrong, size.begin));
    return std::nullopt;
  }
  passed_over_ = 0;
  watch_.add(event.loss, event.grad_norm);
  CHECK_OK(passes_->end_step(run));
  if (!TRY(passes_->measure_curvature(run, sweep)))
    events_.note(fmt::format("warning: step {}: the gradient of drawn labels is not finite: left out of the curvature",
                             event.step));
  ++done_;
  event.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  event.tokens_per_second = static_cast<double>(event.tokens) / event.seconds;
  event.peak_rss_bytes = peak_resident_bytes();
  return std::optional(event);
}

Result<void> Trainer::evaluate_rows(const Rows& rows, int64_t first, const References& references) {
  RunContext run = context();
  write_rows("eval.", rows, first, references);
  *input<float>("eval.scale") = 1;
  return passes_->evaluate(run);
}

Result<EvalEvent> Trainer::evaluate() {
  CHECK_OK(flush());
  Packer packer = packed(*eval_data_, plan_.rows / recipe_.context, 0, false);
  double sum = 0;
  int64_t predicted = 0, terms = 0;
  const auto& labels = spec_.architecture.labels;
  LabelScores scores(labels ? labels->kind : Labels::Kind::classes);
  rewards_ = {};
  if (spec_.objective->drift) {
    const NextExample next = [i = int64_t{0}, size = eval_data_->size()]() mutable {
      return i < size ? std::optional(i++) : std::nullopt;
    };
    CHECK_OK(measure_drift("eval.", *eval_mismatched_, eval_references_, next));
  }
  while (!packer.finished()) {
    if (stop_()) return fail(ErrorCode::cancelled, "evaluating was stopped");
    CHECK_OK(packer.next(rows_));
    predicted += rows_.predicted;
    CHECK_OK(evaluate_rows(rows_, 0, eval_references_));
    sum += read_losses("eval.", rows_, 0);
    terms += terms_in(rows_);
    for (const Rows::Term& term : rows_.terms)
      if (labels) scores.add(scores_at(term.last), term.label);
  }
  const double mean = sum / static_cast<double>(std::max<int64_t>(1, terms));
  const double perplexity = spec_.objective->of_examples() ? 0 : std::exp(mean);
  return EvalEvent{.step = done_,
                   .nll = mean,
                   .perplexity = perplexity,
                   .tokens = predicted,
                   .rewards = rewards_,
                   .labels = scores.result()};
}

// Before the first step, after the last, and every so many: also where a run was interrupted before it was done.
bool Trainer::evaluation_is_due() const {
  if (!eval_data_ || (done_ > 0 && evaluated_ == done_)) return false;
  return done_ == 0 || done_ >= steps_ || (recipe_.eval_every > 0 && done_ % recipe_.eval_every == 0);
}

Result<void> Trainer::evaluate_and_keep_best() {
  const EvalEvent event = TRY(evaluate());
  events_.eval(event);
  evaluated_ = done_;
  if (!std::isfinite(event.nll)) return diverged(fmt::format("evaluating at step {}: the loss is not finite", done_));
  if (event.nll >= best_nll_ || done_ == 0) return {};
  best_nll_ = event.nll;
  return export_model(recipe_.out + "/best");
}

// Made before the arena exists: the profile takes some memory for a moment.
std::vector<std::string> Trainer::first_events() const {
  std::vector<std::string> events{fmt::format("{{\"event\":\"recipe\",\"settings\":{}}}", recipe_json(recipe_))};
  for (const ProfilePoint& point : memory_profile(plan_, spec_.runtime_bytes, kProfilePoints)) {
    std::string bytes;
    for (size_t i = 0; i < kHeldNames.size(); ++i) bytes += fmt::format(",\"{}\":{}", kHeldNames[i], point.bytes[i]);
    events.push_back(
        fmt::format("{{\"event\":\"memory\",\"step\":{},\"name\":{}{}}}", point.step, json_string(point.name), bytes));
  }
  return events;
}

Result<void> Trainer::begin_log(const std::vector<std::string>& first) {
  if (recipe_.resume) CHECK_OK(drop_events_after(recipe_.out + kEventsFile, done_, evaluated_));
  CHECK_OK(events_.open_log(recipe_.out + kEventsFile, recipe_.resume));
  for (const std::string& event : first) events_.log(event);
  return {};
}

// A report that cannot be written does not undo the run.
void Trainer::report() {
  if (const Result<void> written = write_report(recipe_.out); !written)
    events_.note("warning: " + written.error().message);
}

// What a failure of the disk leaves to go on from.
Result<void> Trainer::run() {
  Result<void> done = train();
  // A save that was under way when a step failed.
  if (const Result<void> saved = settle_save(); !saved) events_.note("warning: " + saved.error().message);
  lock_.reset();
  if (done || done.error().code != ErrorCode::io || saved_ < 0) return done;
  return fail(ErrorCode::io,
              "{}. The checkpoint of step {} in {} is untouched: go on with the same command and --resume",
              done.error().message, saved_, recipe_.out);
}

Result<void> Trainer::train() {
  CHECK_OK(check_inputs_stay(recipe_, spec_.trains_weights()));
  CHECK_OK(make_directories(recipe_.out));
  lock_.emplace(TRY(OutLock::take(recipe_.out)));
  if (!recipe_.resume && !checkpoints_in(recipe_.out).empty()) {
    events_.note(fmt::format("note: {} holds an earlier run, which this one replaces; --resume would go on with it",
                             recipe_.out));
    earlier_ = earlier_results(recipe_);
  }
  if (recipe_.resume) CHECK_OK(read_position());
  // Nothing of an earlier run is lost to one that cannot begin.
  if (plan_.scratch_bytes > 0)
    scratch_ =
        TRY(Scratch::create({.folder = scratch_folder(), .bytes = plan_.scratch_bytes, .queue = queue_}, *threads_));
  CHECK_OK(check_space());
  const std::vector<std::string> first = first_events();
  CHECK_OK(allocate());
  CHECK_OK(fill());
  CHECK_OK(find_references());
  CHECK_OK(begin_log(first));
  if (recipe_.resume) CHECK_OK(restore_checkpoint());
  populate_heap(plan_.ledger.planned_bytes - touched_later());
  return take_steps();
}

Result<void> Trainer::take_steps() {
  for (;;) {
    if (evaluation_is_due())
      if (const auto evaluated = evaluate_and_keep_best(); !evaluated) return given_up(evaluated.error());
    if (done_ >= steps_) return finish();
    if (const std::optional<StepEvent> taken = TRY(step())) events_.step(*taken);
    CHECK_OK(settle_save_if_done());
    if (stop_()) {
      events_.note("stopping: saving what was done");
      CHECK_OK(save_checkpoint());
      if (done_ < steps_) return stopped();
    } else if (recipe_.save_every > 0 && done_ % recipe_.save_every == 0) {
      CHECK_OK(recipe_.wait_for_saves ? save_checkpoint() : begin_save(std::launch::async));
    }
  }
}

// One that was stopped is made up for by --resume.
Result<void> Trainer::given_up(const Error& error) {
  if (error.code != ErrorCode::cancelled || done_ == 0) return Failure(error);
  CHECK_OK(settle_save());
  if (saved_ < done_) CHECK_OK(save_checkpoint());
  return stopped();
}

void Trainer::forget_earlier() {
  remove_results(earlier_);
  earlier_.clear();
}

Failure Trainer::stopped_before(const char* when) const {
  return fail(ErrorCode::cancelled,
              "stopped {}, before the first step: nothing was trained, give the same command again", when);
}

Failure Trainer::stopped() {
  report();
  return fail(ErrorCode::cancelled,
              "stopped after step {} of {}; everything is saved in {}. Go on with the same command and --resume",
              saved_, steps_, recipe_.out);
}

}  // namespace thimble
