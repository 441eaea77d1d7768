// label: what a model with a head for labels says of texts: the part of them whose class is right, or how far numbers
// are off.
#include <chrono>

#include "commands/eval.h"
#include "core/count.h"
#include "run/evaluator.h"
#include "run/label_scores.h"
#include "run/setup.h"
#include "text/json_output.h"

namespace thimble {
namespace {

constexpr int64_t kContext = 512;

// A line of --out.
std::string sample(const Labels& labels, std::span<const float> scores, float label) {
  std::string list;
  for (const float score : scores) list += fmt::format("{}{:.9g}", list.empty() ? "" : ",", score);
  if (labels.kind == Labels::Kind::number) return fmt::format("{{\"label\":{:.9g},\"said\":{}}}\n", label, list);
  const auto name = [&](size_t id) { return json_string(labels.names[id]); };
  return fmt::format("{{\"label\":{},\"said\":{},\"scores\":[{}]}}\n", name(static_cast<size_t>(label)),
                     name(LabelScores::best(scores)), list);
}

}  // namespace

Result<void> eval_label(const EvalFlags& flags, Inference& inference, Events& events) {
  const auto& labels = inference.architecture().labels;
  if (!labels)
    return fail(ErrorCode::invalid_argument,
                "--metric label: the model has no head for labels; finetune --objective classification makes one");
  const int64_t context = TRY(eval_context(flags, inference, kContext));
  DatasetOptions options = flags.dataset(inference, context);
  options.term = LossTerm::text, options.labels = *labels;
  auto data = TRY(Dataset::open(flags.data, inference.tokenizer(), options));
  report_data(events, flags.data, data->report());
  const int64_t count = flags.count(data->size());

  LabelScores all(labels->kind);
  std::vector<float> expected;  // of the texts that were added
  expected.reserve(static_cast<size_t>(count));
  size_t scored = 0;
  std::string samples;
  auto evaluator = TRY(Evaluator::prepare_labels(inference, context, flags.batch > 0 ? flags.batch : 1,
                                                 [&](std::span<const float> scores) {
                                                   const float label = expected[scored++];
                                                   all.add(scores, label);
                                                   if (!flags.out.empty()) samples += sample(*labels, scores, label);
                                                 }));
  events.plan(inference.plan().ledger);
  if (flags.inference.plan_only()) return {};
  CHECK_OK(evaluator->load());
  const auto start = std::chrono::steady_clock::now();
  Example example;
  int64_t tokens = 0;
  for (int64_t i = 0; i < count; ++i) {
    CHECK_OK(data->read(i, example));
    expected.push_back(example.label);
    tokens += std::ssize(example.ids);
    CHECK_OK(evaluator->add(example.ids, example.trained));
    events.progress(fmt::format("{} of {}", i + 1, count));
  }
  CHECK_OK(evaluator->flush());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!flags.out.empty()) CHECK_OK(write_text_file(flags.out, samples));
  const LabelledTexts result = all.result();
  const std::string loss = result.numbers ? "" : fmt::format("\"nll\":{:.9g},", result.nll);
  events.event("eval", fmt::format("\"metric\":\"label\",{}{}", loss, labels_json(result)),
               result.numbers ? labels_text(result) : fmt::format("nll {:.5f}  {}", result.nll, labels_text(result)));
  eval_done(events, inference, seconds, tokens);
  return {};
}

}  // namespace thimble
