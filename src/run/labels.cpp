// Trainer: labels of texts, from the data or the model to the inputs and results of programs.
#include <fmt/ranges.h>

#include <algorithm>

#include "core/count.h"
#include "core/printable.h"
#include "models/labelled_model.h"
#include "run/setup.h"
#include "run/trainer.h"

namespace thimble {
namespace {

// The first of them.
std::string shown_labels(const Labels& labels) {
  constexpr size_t kShown = 8;
  const auto& names = labels.names;
  const auto end = names.begin() + static_cast<std::ptrdiff_t>(std::min(kShown, names.size()));
  return printable(fmt::format("{}{}", fmt::join(names.begin(), end, ", "), names.size() > kShown ? ", ..." : ""));
}

}  // namespace

Result<Labels> Trainer::labels_of_data(Labels::Kind kind) const {
  if (kind == Labels::Kind::number) return Labels{kind, {plain_label(0)}};
  DatasetOptions options;
  CHECK_OK(set_data_options(recipe_.columns, recipe_.truncate, options));
  return labels_in(recipe_.data, options);
}

// The labels that the model has, or the adapter to begin with; else those of the data, with a fresh head.
Result<void> Trainer::open_labels() {
  const Recipe& r = recipe_;
  const Objective& objective = *TRY(objective_named(r.objective));
  const auto& there = source_->architecture().labels;
  if (there && objective.labels != there->kind)
    return fail(ErrorCode::invalid_argument, "--objective {}: the model says {} of texts; give --objective {}",
                objective.name, there->kind == Labels::Kind::number ? "numbers" : "classes",
                there->kind == Labels::Kind::number ? kRegression.name : kClassification.name);
  if (there || !objective.labels) return {};
  Labels labels = TRY(labels_of_data(*objective.labels));
  if (labels.kind == Labels::Kind::classes)
    events_.note(fmt::format("a head for {} is put in place of the model's: {}",
                             counted(labels.count(), "class", "classes"), shown_labels(labels)));
  source_ = TRY(with_labels(std::move(source_), std::move(labels), static_cast<uint64_t>(r.seed)));
  return {};
}

// In the last rows of texts: of classes the targets are their ids, of numbers they say that there is one.
void Trainer::write_labels(const std::string& prefix, const Rows& rows, int64_t first) {
  if (spec_.objective->term != LossTerm::text) return;
  const auto mark = [&](std::string_view name, auto of_term) {
    const std::string whole = prefix + std::string(name);
    if (!plan_.layout.find(whole)) return;
    auto* const to = input<decltype(of_term(rows.terms.front()))>(whole);
    if (name != "targets") std::fill_n(to, plan_.rows, 0);
    for (const Rows::Term& term : rows.terms)
      if (term.last >= first && term.last < first + plan_.rows) to[term.last - first] = of_term(term);
  };
  mark(kTextLabel, [](const Rows::Term& term) { return term.label; });
  mark(kTextLast, [](const Rows::Term&) { return 1.0f; });
  const bool classes = !spec_.objective->loss;
  mark("targets", [&](const Rows::Term& term) { return classes ? static_cast<int32_t>(term.label) : 0; });
}

std::span<const float> Trainer::scores_at(int64_t row) {
  const int64_t outputs = spec_.architecture.outputs();
  return {input<float>(kEvalScores) + row * outputs, static_cast<size_t>(outputs)};
}

}  // namespace thimble
