// Trainer: what the data say of the parameters, for selectors that choose by it. Done once, before the first step; the
// checkpoint keeps it, so that a run that is resumed trains the same.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/count.h"
#include "files/json.h"
#include "plan/selection.h"
#include "run/resume.h"
#include "run/trainer.h"

namespace thimble {
namespace {

Result<std::map<std::string, double>> read_scores(const SafetensorsFile& checkpoint) {
  const auto json = TRY(parse_ordered_json(metadata_text(checkpoint, "scores"), checkpoint.path()));
  std::map<std::string, double> scores;
  for (const auto& [name, score] : json.items())
    if (score.is_number()) scores[name] = score.get<double>();
  if (!scores.empty()) return scores;
  return fail(ErrorCode::corrupt, "{}: the checkpoint does not say how what trains was chosen; begin a new run",
              checkpoint.path());
}

}  // namespace

Result<void> Trainer::score_parameters() {
  if (!spec_.selector->scored) return {};
  if (checkpoint_) {
    spec_.scores = TRY(read_scores(*checkpoint_));
    return {};
  }
  const int64_t windows = spec_.selector->scored(spec_.selector_options);
  std::map<std::string, double> scores;
  const auto by_terms = [](int64_t terms) { return 1 / static_cast<double>(std::max<int64_t>(1, terms)); };
  const Result<void> measured = measure_gradients(scoring_spec(spec_), windows, by_terms, [&] {
    for (const TrainedParameter& parameter : plan_.train.parameters)
      scores[parameter.name] += *input<float>(score_name(parameter.name)) / static_cast<double>(windows);
  });
  spec_.scores = std::move(scores);
  if (measured) return {};
  return fail(
      measured.error().code, "choosing what trains (--select {}): {}{}", spec_.selector->name, measured.error().message,
      measured.error().code == ErrorCode::over_budget ? "; the run itself may need more than choosing does" : "");
}

// Windows as the run meets them, one at a time; another spec is planned than that of the run, which is there again
// when they are done. Before the first step the model is its own reference, from which nothing has drifted: what it
// says of a window is computed just before its gradients, and not kept, as the run computes its own.
Result<void> Trainer::measure_gradients(const TrainingSpec& spec, int64_t windows,
                                        const std::function<double(int64_t terms)>& scale,
                                        const std::function<void()>& look) {
  TrainingSpec own = std::exchange(spec_, spec);
  const Result<void> measured = measure_windows(windows, scale, look);
  spec_ = std::move(own), plan_ = TrainingPlan();
  passes_.reset(), arena_.reset();
  std::ranges::fill(references_.margins, std::nanf(""));
  return measured;
}

Result<void> Trainer::measure_windows(int64_t windows, const std::function<double(int64_t terms)>& scale,
                                      const std::function<void()>& look) {
  CHECK_OK(plan_within_budget());
  CHECK_OK(allocate());
  CHECK_OK(fill());
  Packer packer = packed(*data_, 1, recipe_.seed, !recipe_.no_shuffle);
  RunContext run = context();
  for (int64_t window = 0; window < windows; ++window) {
    packer.begin_step();
    CHECK_OK(packer.next(rows_));
    if (spec_.objective->reference) CHECK_OK(measure_references(references_));
    passes_->begin_step(run, {0, scale(terms_in(rows_))});
    if (spec_.objective->drift) *input<float>(plan_.train.prefix + std::string(kReplyDrift)) = 0;
    write_rows(plan_.train.prefix, rows_, 0, references_);
    CHECK_OK(passes_->pass(run, {true, true}));
    CHECK_OK(passes_->end_step(run));
    look();
    events_.progress(fmt::format("choosing what trains: {} of {}", window + 1, counted(windows, "window")));
  }
  return {};
}

// The checkpoint names all of them.
void Trainer::report_chosen() {
  constexpr size_t kShown = 24;
  std::vector<std::string> names;
  for (const TrainedParameter& parameter : plan_.train.parameters) names.push_back(parameter.name);
  std::ranges::sort(names);
  const size_t shown = std::min(names.size(), kShown);
  events_.note(fmt::format("--select {}: {} trained by what the first {} say: {}{}", spec_.selector->name,
                           counted(static_cast<int64_t>(names.size()), "parameter is", "parameters are"),
                           counted(spec_.selector->scored(spec_.selector_options), "window"),
                           fmt::join(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
                           names.size() > shown ? fmt::format(" and {} more", names.size() - shown) : ""));
}

}  // namespace thimble
