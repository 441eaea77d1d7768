// What the model as a run begins says of preference pairs: the reference that some objectives compare with, computed
// once, by the program of evaluation, for the pairs that the run will see.
#include <algorithm>
#include <cmath>

#include "core/count.h"
#include "run/resume.h"
#include "run/trainer.h"

namespace thimble {
namespace {

// log pi(chosen) - log pi(rejected), as the objective weighs tokens. `nll`: of the rows from `first` on.
double margin(const Rows& rows, const Rows::Pair& pair, int64_t first, const float* nll, Likelihood likelihood) {
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
      rows.pairs, [&](const Rows::Pair& pair) { return std::isnan(references[static_cast<size_t>(pair.example)]); });
}

}  // namespace

Result<void> Trainer::find_references(Packer& packer, int64_t steps, int64_t micro_batches,
                                      std::vector<float>& references) {
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
      for (int64_t first = 0; first < static_cast<int64_t>(rows_.ids.size()); first += plan_.rows) {
        CHECK_OK(evaluate_rows(rows_, first, references));
        const float* const nll = input<float>("eval.nll");
        for (const Rows::Pair& pair : rows_.pairs) {
          if (pair.row < first || pair.row >= first + plan_.rows) continue;
          float& reference = references[static_cast<size_t>(pair.example)];
          left -= std::isnan(reference);
          reference = static_cast<float>(margin(rows_, pair, first, nll, spec_.objective->likelihood));
        }
      }
      events_.progress(fmt::format("reference: {} left", counted(left, "pair")));
    }
  }
  return {};
}

Result<void> Trainer::load_references(const std::string& name, std::vector<float>& references) {
  const SafetensorsEntry* const tensor = checkpoint_->find(name);
  if (!tensor) return {};
  if (tensor->bytes != references.size() * sizeof(float))
    return fail(ErrorCode::corrupt, "{}: '{}' is of another size than the data", checkpoint_->path(), name);
  return checkpoint_->file().read(tensor->offset, std::as_writable_bytes(std::span(references)));
}

Result<void> Trainer::find_references() {
  if (!spec_.objective->reference) return {};
  if (recipe_.resume) {
    CHECK_OK(load_references(kReferences, references_));
    if (metadata_text(*checkpoint_, "eval_data") == fingerprint_text(eval_data_.get()))
      CHECK_OK(load_references(kEvalReferences, eval_references_));
  }
  const Packer::State begin = packer_->state();
  CHECK_OK(find_references(*packer_, steps_ - done_, recipe_.accumulate, references_));
  CHECK_OK(packer_->restore(begin));
  if (!eval_data_) return {};
  Packer all = packed(*eval_data_, plan_.rows / recipe_.context, 0, false);
  return find_references(all, eval_data_->size(), 1, eval_references_);
}

}  // namespace thimble
