#include "run/recipe.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "files/json.h"
#include "run/one_of.h"
#include "run/rate_schedule.h"

namespace thimble {
namespace {

template <class Number>
Result<void> within(const char* flag, Number value, Number least, Number most) {
  if (value >= least && value <= most) return {};
  return fail(ErrorCode::invalid_argument, "{}: expected {} to {}, found {}", flag, least, most, value);
}

}  // namespace

Result<int64_t> parse_bytes(const std::string& text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string unit(end, text.data() + text.size());
  const double factor = unit.empty() || unit == "B"   ? 1
                        : unit == "K" || unit == "KB" ? 1e3
                        : unit == "M" || unit == "MB" ? 1e6
                        : unit == "G" || unit == "GB" ? 1e9
                                                      : 0;
  if (error != std::errc{} || factor == 0 || !(number * factor >= 1) || number * factor > 1e15)
    return fail(ErrorCode::invalid_argument, "--memory: expected a size such as 300M or 1.5G, found '{}'", text);
  if (number * factor < 1e6)
    return fail(ErrorCode::invalid_argument,
                "--memory: {} are {} bytes, less than any process takes; did you mean {}M?", text,
                static_cast<int64_t>(number * factor), number);
  return static_cast<int64_t>(number * factor);
}

std::string recipe_json(const Recipe& r) {
  nlohmann::ordered_json j;
  j["model"] = r.model, j["size"] = r.size, j["tokenizer"] = r.tokenizer;
  if (!r.architecture.empty()) j["architecture"] = r.architecture;
  j["data"] = r.data, j["eval-data"] = r.eval_data, j["split"] = r.split, j["out"] = r.out;
  if (!r.columns.empty()) j["columns"] = r.columns;
  if (!r.truncate.empty()) j["truncate"] = r.truncate;
  j["method"] = r.method;
  if (r.rank) j["rank"] = *r.rank;
  if (r.alpha) j["alpha"] = *r.alpha;
  if (r.dropout) j["dropout"] = *r.dropout;
  if (r.method != "full") j["target"] = r.target;
  if (r.objective != "next_token") j["objective"] = r.objective;
  if (!r.teacher.empty()) j["teacher"] = r.teacher;
  if (r.estimator != "backprop") j["estimator"] = r.estimator;
  if (!r.keep.empty() && r.keep != "exact") j["keep"] = r.keep;
  if (r.select != "all") j["select"] = r.select;
  j["optimizer"] = r.optimizer, j["states"] = r.states, j["set"] = r.set, j["lr"] = r.lr, j["schedule"] = r.schedule,
  j["warmup"] = r.warmup;
  if (r.lr_auto) j["lr-auto"] = true;
  if (r.min_lr > 0) j["min-lr"] = r.min_lr;
  if (r.schedule == "warmup_stable_decay") j["decay"] = r.decay;
  j["weight-decay"] = r.weight_decay, j["clip"] = r.clip, j["no-shuffle"] = r.no_shuffle;
  j["batch"] = r.batch, j["accumulate"] = r.accumulate, j["context"] = r.context, j["steps"] = r.steps;
  j["epochs"] = r.epochs, j["eval-every"] = r.eval_every, j["save-every"] = r.save_every;
  j["keep-checkpoints"] = r.keep_checkpoints, j["on-divergence"] = r.on_divergence;
  j["memory"] = r.memory, j["scratch"] = r.scratch, j["allow"] = r.allow, j["precision"] = r.precision,
  j["multiply"] = r.multiply;
  j["seed"] = r.seed, j["threads"] = r.threads, j["bos"] = r.bos, j["strict"] = r.strict;
  j["no-bos"] = r.no_bos, j["chat-template"] = r.chat_template, j["template-var"] = r.template_variables;
  j["date"] = r.date, j["train-on"] = r.train_on;
  return j.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Result<void> check(const Recipe& r) {
  if (!r.model.empty() && !r.size.empty())
    return fail(ErrorCode::invalid_argument,
                "--size {}: that of --model {} is given by its files; leave one of them out", r.size, r.model);
  if (!r.architecture.empty() && !(r.model.empty() && r.size.empty()))
    return fail(ErrorCode::invalid_argument, "--architecture {}: {} says what the model is like; leave one of them out",
                r.architecture, r.model.empty() ? "--size" : "--model");
  CHECK_OK(one_of("--train-on", r.train_on, {"assistant", "last", "all"}));
  if (r.bos && r.no_bos)
    return fail(ErrorCode::invalid_argument, "--bos and --no-bos say different things; leave one of them out");
  const RateSchedule& schedule = *TRY(rate_schedule_named(r.schedule));
  CHECK_OK(within<double>("--min-lr", r.min_lr, 0, 1));
  CHECK_OK(within<double>("--decay", r.decay, 0, 1e9));
  if (r.min_lr > 0 && !schedule.falls_to_floor)
    return fail(ErrorCode::invalid_argument, "--min-lr: --schedule {} does not fall to a least rate", r.schedule);
  CHECK_OK(one_of("--on-divergence", r.on_divergence, {"stop", "skip", "rollback"}));
  CHECK_OK(one_of("--states", r.states, {"f32", "bf16", "int8_block", "fp8"}));
  CHECK_OK(one_of("--precision", r.precision, {"f32", "bf16"}));
  CHECK_OK(one_of("--multiply", r.multiply, {"auto", "f32", "bf16", "int8"}));
  if (r.multiply == "int8")
    return fail(ErrorCode::invalid_argument, "--multiply int8 is for inference; training takes auto, f32 or bf16");
  if (!r.allow.empty()) CHECK_OK(one_of("--allow", r.allow, {"near"}));
  if (r.rank) CHECK_OK(within<int64_t>("--rank", *r.rank, 1, 4096));
  CHECK_OK(within<int64_t>("--batch", r.batch, 1, 4096));
  CHECK_OK(within<int64_t>("--accumulate", r.accumulate, 1, 65536));
  CHECK_OK(within<int64_t>("--context", r.context, 2, 1 << 20));
  CHECK_OK(within<int64_t>("--steps", r.steps, 0, 1'000'000'000));
  CHECK_OK(within<int64_t>("--seed", r.seed, 0, std::numeric_limits<int64_t>::max()));
  CHECK_OK(within<int64_t>("--threads", r.threads, 0, 1024));
  CHECK_OK(within<int64_t>("--save-every", r.save_every, 0, 1'000'000'000));
  CHECK_OK(within<int64_t>("--keep-checkpoints", r.keep_checkpoints, 1, 1'000'000));
  CHECK_OK(within<int64_t>("--eval-every", r.eval_every, 0, 1'000'000'000));
  if (r.alpha) CHECK_OK(within<double>("--alpha", *r.alpha, 1e-6, 1e6));
  if (r.dropout) CHECK_OK(within<double>("--dropout", *r.dropout, 0, 0.99));
  CHECK_OK(within<double>("--lr", r.lr, 0, 1e3));
  CHECK_OK(within<double>("--warmup", r.warmup, 0, 1e9));
  if (r.warmup > 1 && r.warmup != std::floor(r.warmup))
    return fail(ErrorCode::invalid_argument,
                "--warmup {}: above 1 it is a number of steps, and whole; below 1 it is a part of all steps", r.warmup);
  CHECK_OK(within<double>("--weight-decay", r.weight_decay, 0, 1e3));
  CHECK_OK(within<double>("--clip", r.clip, 0, 1e9));
  CHECK_OK(within<double>("--split", r.split, 0, 0.9));
  if (!r.truncate.empty()) CHECK_OK(one_of("--truncate", r.truncate, {"left", "right", "split"}));
  CHECK_OK(within<double>("--epochs", r.epochs, 1e-6, 1e6));
  return {};
}

double learning_rate(const Recipe& r, double base, int64_t step, int64_t steps) {
  const RateSchedule& schedule = **rate_schedule_named(r.schedule);  // checked before
  return base * rate_factor(schedule, {r.warmup, r.decay, r.min_lr}, step, steps);
}

}  // namespace thimble
