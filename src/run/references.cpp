// What the model as a run begins says of preference pairs: the reference that some objectives compare with, computed
// once, by the program of evaluation, for the pairs that the run will see.
#include <algorithm>
#include <cmath>

#include "core/count.h"
#include "run/resume.h"
#include "run/trainer.h"
#include "text/mismatched.h"

namespace thimble {
namespace {

// log pi(chosen) - log pi(rejected), as the objective weighs tokens. `nll`: of the rows from `first` on.
double margin(const Rows& rows, const Rows::Term& pair, int64_t first, const float* nll, Likelihood likelihood) {
  double sum = 0;
  for (auto row = static_cast<size_t>(pair.row); row < rows.pair_starts.size(); ++row) {
    if (rows.pair_starts[row] != pair.row) break;
    const float share = likelihood == Likelihood::mean ? rows.share[row] : 1;
    sum -= static_cast<double>(rows.sign[row] * share) * static_cast<double>(nll[static_cast<int64_t>(row) - first]);
  }
  return sum;
}

bool any_unknown(const Rows& rows, const std::vector<float>& references) {
  return std::ranges::any_of(
      rows.terms, [&](const Rows::Term& pair) { return std::isnan(references[static_cast<size_t>(pair.example)]); });
}

}  // namespace

Result<int64_t> Trainer::measure_references(References& all) {
  int64_t unknown = 0;
  for (int64_t first = 0; first < static_cast<int64_t>(rows_.ids.size()); first += plan_.rows) {
    CHECK_OK(evaluate_rows(rows_, first, all));
    const float* const nll = input<float>("eval.nll");
    for (const Rows::Term& pair : rows_.terms) {
      if (pair.row < first || pair.row >= first + plan_.rows) continue;
      float& reference = all.margins[static_cast<size_t>(pair.example)];
      unknown += std::isnan(reference);
      reference = static_cast<float>(margin(rows_, pair, first, nll, spec_.objective->likelihood));
    }
  }
  return unknown;
}

Result<void> Trainer::find_references(Packer& packer, int64_t steps, int64_t micro_batches, References& all) {
  std::vector<float>& references = all.margins;
  // With an adapter to begin with, the weights of the beginning are not there when the run goes on.
  const bool gone = recipe_.resume && checkpoint_ && !metadata_text(*checkpoint_, "adapter").empty();
  auto left = static_cast<int64_t>(std::ranges::count_if(references, [](float x) { return std::isnan(x); }));
  for (int64_t step = 0; step < steps && left > 0; ++step) {
    packer.begin_step();
    for (int64_t i = 0; i < micro_batches; ++i) {
      if (stop_()) return stopped_before("while the reference was computed");
      CHECK_OK(packer.next(rows_));
      if (!any_unknown(rows_, references)) continue;
      if (gone)
        return fail(ErrorCode::unsupported,
                    "--resume: the run meets pairs whose reference was not computed, as it was to be shorter, and the "
                    "adapter that it began with is needed for that; go on with the --steps that it was begun with");
      left -= TRY(measure_references(all));
      events_.progress(fmt::format("reference: {} left", counted(left, "example")));
    }
  }
  return {};
}

Result<void> Trainer::visit_mismatched(Mismatched& data, const References& references, const NextExample& next,
                                       const std::function<void(int64_t, double)>& visit) {
  const Lead lead = lead_of(spec_.rewrites);
  const Example* pair = nullptr;
  std::optional<int64_t> example = next();
  if (example) pair = TRY(data.read(*example));
  while (example) {
    rows_.clear(recipe_.batch * recipe_.context, LossTerm::reply);
    int64_t used = 0;
    for (int64_t window = 0; window < recipe_.batch; ++window) {
      const int64_t end = (window + 1) * recipe_.context;
      for (int64_t row = window * recipe_.context; example;) {
        if (row + Rows::rows_of(std::ssize(pair->ids), LossTerm::reply, lead) > end) break;
        used = row += rows_.place(*pair, *example, row, LossTerm::reply, lead);
        example = next();
        if (example) pair = TRY(data.read(*example));
      }
    }
    for (int64_t first = 0; first < used; first += plan_.rows) {
      CHECK_OK(evaluate_rows(rows_, first, references));
      for (const Rows::Term& term : rows_.terms)
        if (term.row >= first && term.row < first + plan_.rows)
          visit(term.example, margin(rows_, term, first, input<float>("eval.nll"), Likelihood::sum));
    }
  }
  return {};
}

Result<void> Trainer::measure_drift(const std::string& prefix, Mismatched& data, const References& references,
                                    const NextExample& next) {
  CHECK_OK(flush());
  double sum = 0;
  int64_t count = 0;
  CHECK_OK(visit_mismatched(data, references, next, [&](int64_t example, double likelihood) {
    sum += likelihood - static_cast<double>(references.mismatched[static_cast<size_t>(example)]);
    ++count;
  }));
  const double drift = count > 0 ? sum / static_cast<double>(count) : 0;
  *input<float>(prefix + std::string(kReplyDrift)) = static_cast<float>(drift);
  rewards_.drift = std::max(0.0, drift);
  return {};
}

// Of those whose own reference is known: the run sees no others.
Result<void> Trainer::find_mismatched_references(Mismatched& data, References& references) {
  const NextExample next = [&, i = size_t{0}]() mutable -> std::optional<int64_t> {
    if (stop_()) return std::nullopt;
    for (; i < references.margins.size(); ++i)
      if (!std::isnan(references.margins[i]) && std::isnan(references.mismatched[i])) return static_cast<int64_t>(i++);
    return std::nullopt;
  };
  CHECK_OK(visit_mismatched(data, references, next, [&](int64_t example, double likelihood) {
    references.mismatched[static_cast<size_t>(example)] = static_cast<float>(likelihood);
  }));
  return stop_() ? Result<void>(stopped_before("while the reference was computed")) : Result<void>();
}

Result<void> Trainer::load_references(const std::string& prefix, References& references) {
  for (const auto& [name, values] : references.tensors()) {
    const SafetensorsEntry* const tensor = checkpoint_->find(prefix + name);
    if (!tensor) continue;
    if (tensor->bytes != values->size() * sizeof(float))
      return fail(ErrorCode::corrupt, "{}: '{}' is of another size than the data", checkpoint_->path(), prefix + name);
    CHECK_OK(checkpoint_->file().read(tensor->offset, std::as_writable_bytes(std::span(*values))));
  }
  return {};
}

Result<void> Trainer::find_references() {
  if (!spec_.objective->reference) return {};
  if (recipe_.resume) {
    CHECK_OK(load_references("", references_));
    if (metadata_text(*checkpoint_, "eval_data") == fingerprint_text(eval_data_.get()))
      CHECK_OK(load_references(kEvalReferences, eval_references_));
  }
  const Packer::State begin = packer_->state();
  CHECK_OK(find_references(*packer_, steps_ - done_, recipe_.accumulate, references_));
  if (mismatched_) CHECK_OK(find_mismatched_references(*mismatched_, references_));
  CHECK_OK(packer_->restore(begin));
  if (!eval_data_) return {};
  Packer all = packed(*eval_data_, plan_.rows / recipe_.context, 0, false);
  CHECK_OK(find_references(all, eval_data_->size(), 1, eval_references_));
  return eval_mismatched_ ? find_mismatched_references(*eval_mismatched_, eval_references_) : Result<void>();
}

}  // namespace thimble
