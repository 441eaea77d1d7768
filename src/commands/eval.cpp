#include "commands/eval.h"

#include <algorithm>
#include <array>

#include "commands/command.h"
#include "commands/command_line.h"
#include "commands/void_flags.h"
#include "core/nearest.h"
#include "run/setup.h"
#include "text/datasets.h"

namespace thimble {
namespace {

struct Metric {
  std::string_view name;
  Result<void> (*run)(const EvalFlags& flags, Inference& inference, Events& events);
};
constexpr Metric kMetrics[] = {
    {"perplexity", eval_perplexity}, {"choice", eval_choice}, {"exact", eval_exact}, {"label", eval_label}};

Result<void> measure(EvalFlags& flags, const Metric& metric, Events& events) {
  InferenceOptions options = TRY(flags.inference.finish());
  options.int8_prompts = false;  // a measurement does not hang on what is the faster product here
  auto inference = TRY(Inference::open(options));
  CHECK_OK(check_bos(flags.bos, inference->tokenizer()));
  return flags.logits.empty() ? metric.run(flags, *inference, events) : write_logits(flags, *inference, events);
}

Result<void> evaluate(EvalFlags& flags) {
  std::vector<std::string_view> names;
  for (const Metric& metric : kMetrics) names.push_back(metric.name);
  const auto found = std::find(names.begin(), names.end(), flags.metric);
  if (found == names.end())
    return fail(ErrorCode::invalid_argument, "--metric: expected one of {}, found '{}'",
                nearest_names(flags.metric, names), flags.metric);
  if (flags.data.empty())
    return fail(ErrorCode::invalid_argument, "--data is missing: a JSONL or text file to evaluate on");
  const std::string inputs[] = {flags.data, flags.inference.model(), flags.inference.adapter(),
                                flags.inference.tokenizer()};
  CHECK_OK(check_output("--out", flags.out, inputs));
  CHECK_OK(check_output("--logits", flags.logits, inputs));
  Events events(flags.json);
  return events.end(measure(flags, kMetrics[found - names.begin()], events));
}

// Flags that the metric does not look at, and values that it does not have.
Result<void> check_flags(const FlagSet& command, const EvalFlags& flags) {
  const bool logits = !flags.logits.empty(), exact = !logits && flags.metric == "exact",
             choice = !logits && flags.metric == "choice", label = !logits && flags.metric == "label";
  CHECK_OK(refuse_void(
      command, {{"--metric", logits, "--logits writes logits instead of a metric"},
                {"--out", !exact && !choice && !label,
                 "only the metrics exact, choice and label have something to write for each example"},
                {"--max-tokens", !exact, "only the metric exact makes replies"},
                {"--strict", choice, "the metric choice stops at the first bad line in any case"},
                {"--bos", exact, "the metric exact begins as the chat template says"},
                {"--convention", logits || flags.metric != "perplexity", "only the metric perplexity has conventions"},
                {"--stride", logits || flags.convention != "strided", "only --convention strided has a stride"},
                {"--strict", flags.convention != "windows", "the text is read as a whole"},
                {"--batch", logits, "logits are written one sequence after another"}}));
  constexpr std::array<std::string_view, 4> kConventions = {"windows", "strided", "word", "llama.cpp"};
  if (std::ranges::find(kConventions, flags.convention) == kConventions.end())
    return fail(ErrorCode::invalid_argument, "--convention: expected one of {}, found '{}'",
                nearest_names(flags.convention, kConventions), flags.convention);
  if (flags.limit < 0)
    return fail(ErrorCode::invalid_argument, "--limit: expected 0 (all) or more, found {}", flags.limit);
  if (flags.max_tokens < 0)
    return fail(ErrorCode::invalid_argument, "--max-tokens: expected 0 (as many as the reference) or more, found {}",
                flags.max_tokens);
  return {};
}

std::function<Result<void>()> add(FlagSet& command) {
  auto flags = std::make_shared<EvalFlags>();
  flags->inference.add(command);
  command.add("--metric", flags->metric, "perplexity, choice, exact, label").shows_default();
  command
      .add("--convention", flags->convention,
           "of perplexity: windows (as in training), strided (transformers), word (lm-evaluation-harness), "
           "llama.cpp (second halves of chunks)")
      .shows_default();
  command.add("--stride", flags->stride, "strided: tokens from one window to the next; half the context without it")
      .in_range(1, 1 << 20);
  command.add("--data", flags->files,
              "what to evaluate on: as in training; choice: one file, JSONL or a JSON array of questions");
  command.add("--context", flags->context, "tokens of a window; 512, or as many as needed, without it");
  command.add("--batch", flags->batch, "windows, or replies, at once; 1, or 16, without it");
  command.add("--limit", flags->limit, "examples or windows, from the first; 0: all");
  command.add("--max-tokens", flags->max_tokens, "exact: tokens of a reply; 32 more than the reference without it");
  command.add("--logits", flags->logits, "instead of a metric: a safetensors file for the logits of all rows");
  command.add(
      "--out", flags->out,
      "exact: a JSONL file for the replies; choice: one for the log-likelihoods of every question's choices; label: "
      "one for what was said of every text");
  command.add("--bos", flags->bos,
              "begin every sequence with the beginning-of-sequence token, whatever the tokenizer says");
  command.add("--strict", flags->strict, "stop at the first bad line of the data");
  command.add("--json", flags->json, "one JSON object an event");
  return [flags, &command]() -> Result<void> {
    flags->data = fmt::format("{}", fmt::join(flags->files, "\n"));
    CHECK_OK(check_flags(command, *flags));
    return evaluate(*flags);
  };
}

}  // namespace

Result<int64_t> eval_context(const EvalFlags& flags, const Inference& inference, int64_t otherwise) {
  if (flags.context != 0) return inference.context(flags.context);
  if (const auto length = TRY(token_window_length(flags.data))) return inference.context(*length);
  return inference.context(std::min(otherwise, inference.architecture().context));
}

void eval_done(Events& events, const Inference& inference, double seconds, int64_t tokens) {
  const int64_t peak = peak_resident_bytes(), planned = inference.plan().ledger.planned_bytes;
  const double speed = static_cast<double>(tokens) / std::max(1e-9, seconds);
  events.done(
      fmt::format("\"seconds\":{:.6g},\"tokens_per_second\":{:.6g},\"peak_rss_bytes\":{},\"planned_peak_bytes\":{}",
                  seconds, speed, peak, planned),
      fmt::format("{:.1f} s, {:.0f} tok/s; peak memory {} = {:.1f} % of the plan", seconds, speed, megabytes(peak),
                  100.0 * static_cast<double>(peak) / static_cast<double>(planned)));
}

const Command kEval = {"eval", "measure a model on data", add, true};

}  // namespace thimble
