// perplexity: exp of the mean negative log-likelihood of the predicted tokens.
#include <chrono>
#include <cmath>

#include "commands/eval.h"
#include "core/count.h"
#include "run/evaluator.h"
#include "run/setup.h"

namespace thimble {
namespace {

constexpr int64_t kContext = 512;

}  // namespace

Result<void> eval_perplexity(const EvalFlags& flags, Inference& inference, Events& events) {
  if (flags.convention != "windows") return eval_convention(flags, inference, events);
  const int64_t context = TRY(eval_context(flags, inference, kContext));
  auto data = TRY(Dataset::open(flags.data, inference.tokenizer(), flags.dataset(inference, context)));
  report_data(events, flags.data, data->report());
  const int64_t count = flags.count(data->size());
  if (count == 0) return fail(ErrorCode::invalid_argument, "--data {}: there is nothing in it to evaluate", flags.data);

  Score all;
  std::vector<double> windows;
  if (data->windows()) windows.reserve(static_cast<size_t>(count));
  auto evaluator =
      TRY(Evaluator::prepare(inference, context, flags.batch > 0 ? flags.batch : 1, [&](const Score& score) {
        all.nll += score.nll;
        all.tokens += score.tokens;
        if (data->windows()) windows.push_back(score.mean());
      }));
  events.plan(inference.plan().ledger);
  if (flags.inference.plan_only()) return {};
  CHECK_OK(evaluator->load());
  const auto start = std::chrono::steady_clock::now();
  CHECK_OK(evaluator->add_all(*data, count, [&](int64_t added) {
    events.progress(fmt::format("{} of {}  nll {:.4f}", added, count, all.mean()));
  }));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::string list;
  for (double nll : windows) list += fmt::format("{}{:.9g}", list.empty() ? "" : ",", nll);
  events.event("eval",
               fmt::format("\"metric\":\"perplexity\",\"nll\":{:.9g},\"perplexity\":{:.9g},\"tokens\":{},\"examples\":{"
                           "},\"windows\":[{}]",
                           all.mean(), std::exp(all.mean()), all.tokens, count, list),
               fmt::format("nll {:.5f}  perplexity {:.4f}  ({}, {})", all.mean(), std::exp(all.mean()),
                           counted(all.tokens, "token"), counted(count, data->windows() ? "window" : "example")));
  eval_done(events, inference, seconds, all.tokens);
  return {};
}

}  // namespace thimble
