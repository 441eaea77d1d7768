// --logits: what the model says at every row of the data, for comparing engines.
#include <chrono>

#include "commands/eval.h"
#include "core/count.h"
#include "files/safetensors.h"
#include "run/all_logits.h"
#include "run/setup.h"

namespace thimble {
namespace {

constexpr int64_t kContext = 512;
constexpr int64_t kMostBytes = int64_t{4} << 30;  // 21,845 rows of 49,152 logits

}  // namespace

Result<void> write_logits(const EvalFlags& flags, Inference& inference, Events& events) {
  const int64_t context = TRY(eval_context(flags, inference, kContext));
  DatasetOptions options = flags.dataset(inference, context);
  options.all_tokens = true;
  auto data = TRY(Dataset::open(flags.data, inference.tokenizer(), options));
  report_data(events, flags.data, data->report());
  const int64_t count = flags.count(data->size()), vocab = inference.architecture().outputs();
  Example example;
  int64_t rows = 0, longest = 0;
  for (int64_t i = 0; i < count; ++i) {
    CHECK_OK(data->read(i, example));
    rows += static_cast<int64_t>(example.ids.size());
    longest = std::max(longest, static_cast<int64_t>(example.ids.size()));
  }
  if (rows == 0) return fail(ErrorCode::invalid_argument, "--data {}: there is nothing in it to evaluate", flags.data);
  if (rows * vocab * 4 > kMostBytes)
    return fail(ErrorCode::invalid_argument,
                "--logits: {} rows of {} logits are {}, more than {}; give a smaller --limit", rows, vocab,
                megabytes(rows * vocab * 4), megabytes(kMostBytes));
  auto logits = TRY(AllLogits::prepare(inference, longest));
  events.plan(inference.plan().ledger);
  if (flags.inference.plan_only()) return {};
  CHECK_OK(logits->load());
  const SafetensorsTensor tensor{"logits", "F32", {rows, vocab}};
  auto writer = TRY(SafetensorsWriter::create(flags.logits, {&tensor, 1}));
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < count; ++i) {
    CHECK_OK(data->read(i, example));
    CHECK_OK(writer.write(std::as_bytes(TRY(logits->run(example.ids)))));
    events.progress(fmt::format("{} of {}", i + 1, count));
  }
  CHECK_OK(writer.finish());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  events.event("eval", fmt::format("\"metric\":\"logits\",\"rows\":{},\"examples\":{}", rows, count),
               fmt::format("logits of {} written to {}", counted(rows, "row"), flags.logits));
  eval_done(events, inference, seconds, rows);
  return {};
}

}  // namespace thimble
