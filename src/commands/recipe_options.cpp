#include "commands/recipe_options.h"

#include <cmath>

#include "commands/command_line.h"
#include "commands/table_names.h"
#include "commands/template_flags.h"
#include "commands/void_flags.h"
#include "core/split.h"
#include "methods/keeper.h"
#include "methods/objective.h"
#include "methods/optimizer.h"
#include "methods/rewrite.h"
#include "methods/selector.h"
#include "run/rate_schedule.h"

namespace thimble {
namespace {

// What is wrong with a number that is to be above 0; "" when nothing is. 0 stands for "not given" where a flag has no
// default: nobody may give it.
std::string not_positive(const std::string& text) {
  double value = 1;
  const bool number = read_number(text, value);
  return number && !(value > 0) ? "expected more than 0, found " + text : std::string();
}

constexpr const char* kAutoRate = "auto";

// What is wrong with a rate, which is a number above 0 or "auto".
std::string not_rate(const std::string& text) {
  double value = 0;
  if (text == kAutoRate) return "";
  if (!read_number(text, value) || !std::isfinite(value))
    return fmt::format("expected a number or {}, found '{}'", kAutoRate, text);
  return value > 0 ? "" : "expected more than 0, found " + text;
}

}  // namespace

void RecipeOptions::add(FlagSet& command, bool pretrained) {
  command_ = &command;
  Recipe& r = recipe_;
  command.add("--model", r.model, "model: a GGUF file, a Hugging Face folder or a llama2.c .bin");
  command.add("--size", r.size, "parameters of a model to train from scratch: 5M, 60M, 1B");
  command.add("--architecture", r.architecture,
              "config.json of a Hugging Face model, or its folder: one like it is trained from scratch");
  command.add("--tokenizer", r.tokenizer, "tokenizer, when the model brings none");
  command.add("--adapter", r.adapter, "adapter to begin with: a PEFT folder or a GGUF adapter");
  command.add("--data", data_,
              "training data, files, patterns or folders: JSONL, JSON, CSV or TSV (messages, sharegpt, alpaca, "
              "prompt/completion, question/answer, text), plain text or token ids in safetensors");
  command.add("--eval-data", eval_data_, "data to evaluate on");
  command.add("--split", r.split, "part of the data that is held out to evaluate on: 0.05");
  command.add_settings("--columns", r.columns, "names in the data for fields: prompt=frage,completion=antwort")
      .delimiter(',');
  command.add("--truncate", r.truncate,
              "examples longer than the context: left or right is cut off, or they are split; left out without it");
  command.add("--eval-every", r.eval_every, "steps between evaluations; 0: before and after only");
  command.add("--memory", memory_, "most resident memory of the process: 300M, 1.5G");
  command.add("--scratch", recipe_.scratch,
              "existing folder where values wait on disk (default: --out); none: keep off the disk");
  command.add("--method", r.method,
              fmt::format("what trains, several with commas between: {} (default: {})", names_of(rewrites()),
                          pretrained ? lightest_method() : kFull.name));
  command.add("--rank", r.rank, "rank of the method, where it has one (default: its own, see thimble methods)");
  command.add("--alpha", r.alpha, "its scale is alpha / rank");
  command.add("--dropout", r.dropout, "dropout of its input, in training");
  command
      .add("--target", r.target,
           "layers to adapt, q_proj,v_proj; without it as the method says, mostly all of each block")
      .delimiter(',');
  command
      .add("--optimizer", r.optimizer,
           fmt::format("{}; around it, behind commas: {}", names_of(optimizers()), names_of(wrappers())))
      .shows_default();
  command.add("--objective", r.objective, fmt::format("what is learnt: {}", names_of(objectives()))).shows_default();
  command.add("--teacher", r.teacher, "the model whose predictions --objective distillation learns, as --model");
  command.add("--estimator", r.estimator, fmt::format("where gradients come from: {}", names_of(estimators())))
      .shows_default();
  command.add("--keep", r.keep,
              fmt::format("how activations wait for their gradients, several with commas between: {} (default: as "
                          "the method says, else {})",
                          names_of(keepers()), kExactKeeper.name));
  command.add("--select", r.select, fmt::format("which parameters of the method train: {}", names_of(selectors())))
      .shows_default();
  command.add("--states", r.states, "how the optimizer's states are stored: f32, bf16, int8_block, fp8")
      .shows_default();
  command.add("--lr", lr_, "learning rate, or auto; the method's and optimizer's own without it").check(not_rate);
  std::string schedules;
  for (const RateSchedule& schedule : rate_schedules())
    schedules += fmt::format("{}{}", schedules.empty() ? "" : ", ", schedule.name);
  command.add("--schedule", r.schedule, schedules).shows_default();
  command.add("--min-lr", r.min_lr, "part of the peak rate to which linear, cosine and warmup_stable_decay fall")
      .shows_default();
  command
      .add("--decay", r.decay,
           "steps at the end in which warmup_stable_decay falls, or a part of all steps when below 1")
      .shows_default();
  command.add("--warmup", r.warmup, "steps of warm-up, or a part of all steps when below 1").shows_default();
  command.add("--weight-decay", r.weight_decay, "decay of every trained parameter").shows_default();
  command.add("--clip", r.clip, "largest global norm of the gradient; 0: no clipping").shows_default();
  command.add("--no-shuffle", r.no_shuffle, "keep the order of the data");
  command.add("--batch", r.batch, "windows of a micro-batch").shows_default();
  command.add("--accumulate", r.accumulate, "micro-batches a step").shows_default();
  command.add("--context", r.context, "tokens of a window").shows_default();
  command.add("--steps", r.steps, "optimizer steps; without it --epochs decides").check(not_positive);
  command.add("--epochs", r.epochs, "passes over the data").shows_default();
  command.add("--precision", r.precision, "rounding of activations: bf16, f32").shows_default();
  command.add("--multiply", r.multiply, "how operands are multiplied: auto, f32, bf16").shows_default();
  command.add("--seed", r.seed, "of shuffling, initial values and dropout").shows_default();
  command.add("--threads", r.threads, "0: one a CPU").shows_default();
  command.add("--save-every", r.save_every, "steps between checkpoints; 0: at the end");
  command.add(
      "--wait-for-saves", r.wait_for_saves,
      "no step begins before the checkpoint of the one before is on disk; without it the next ones run meanwhile");
  command
      .add("--keep-checkpoints", r.keep_checkpoints,
           "checkpoints that stay: where the last is damaged, the one before it is resumed")
      .shows_default();
  command
      .add("--on-divergence", r.on_divergence,
           "a loss or gradient that is not finite, or a thousand times what it was: stop, skip (the batch), "
           "rollback (to the last checkpoint, on with the next batch)")
      .shows_default();
  command.add("--resume", r.resume, "go on from the checkpoint in --out");
  command.add("--out", r.out, "folder for the result");
  command.add("--allow", r.allow, "near: moves with a documented error bound");
  command.add("--strict", r.strict, "stop at the first bad line of the data");
  command.add("--bos", r.bos, "begin every sequence with the beginning-of-sequence token, whatever the tokenizer says");
  command.add("--no-bos", r.no_bos, "leave out the beginning-of-sequence token that the tokenizer would add");
  command.add("--train-on", r.train_on, "of a chat: assistant (each reply), last (the last reply), all")
      .shows_default();
  add_template_flags(command, r.chat_template, r.template_variables, r.date);
  command.add_settings("--set", r.set, "an option of a technique: optimizer.beta2=0.95");
  command.add("--json", r.json, "one JSON object an event");
  command.footer("--config recipe.yaml takes the same keys from a file; flags on the command line win.");
}

Result<void> RecipeOptions::check_void() const {
  const std::vector<const Rewrite*> stack =
      recipe_.method.empty() ? std::vector<const Rewrite*>() : TRY(rewrites_named(recipe_.method));
  // Whether none of the methods has what the flag says.
  const auto none = [&](auto has) { return !stack.empty() && std::none_of(stack.begin(), stack.end(), has); };
  const auto without = [&](const char* option) {
    return none([&](const Rewrite* rewrite) { return OptionValues(rewrite->options).has(option); });
  };
  const std::string method = "--method " + recipe_.method;
  const bool nothing_to_evaluate = recipe_.eval_data.empty() && recipe_.split == 0;
  const Objective& objective = *TRY(objective_named(recipe_.objective));
  const bool probes = !TRY(estimator_named(recipe_.estimator))->differentiates();
  return refuse_void(
      *command_,
      {{"--rank", without("rank"), method + " has no rank"},
       {"--alpha", without("alpha"), method + " has no alpha"},
       {"--dropout", without("dropout"), method + " has no dropout"},
       {"--target", none([](const Rewrite* r) { return r->of_layers() && (r->adapts() || r->trains); }),
        method + " adapts no layers"},
       {"--eval-every", nothing_to_evaluate, "there is no --eval-data to evaluate on"},
       {"--decay", recipe_.schedule != "warmup_stable_decay", "it goes with --schedule warmup_stable_decay"},
       {"--teacher", !objective.teacher, "--objective " + recipe_.objective + " has none"},
       {"--train-on", objective.of_examples(),
        "--objective " + recipe_.objective + " looks at the last reply, or the text as a whole"},
       {"--clip", probes, "the estimator has no gradient whose norm is known before it is used"},
       {"--epochs", is_given(*command_, "--steps"), "--steps decides how long the run is; leave one of the two out"},
       {"--memory", is_given(*command_, "--sweep") || is_given(*command_, "--svg"), "--sweep plans at every budget"}});
}

Result<Recipe> RecipeOptions::finish(bool pretrained, bool plan_only) {
  Recipe& r = recipe_;
  r.data = fmt::format("{}", fmt::join(data_, "\n"));
  r.eval_data = fmt::format("{}", fmt::join(eval_data_, "\n"));
  if (!r.eval_data.empty() && r.split > 0)
    return fail(ErrorCode::invalid_argument, "--split: --eval-data says what to evaluate on; leave one of the two out");
  for (std::string& column : r.columns) column = std::string(trimmed(column));
  r.lr_auto = lr_ == kAutoRate;
  if (!r.lr_auto && !lr_.empty()) read_number(lr_, r.lr);  // not_rate() has checked it
  if (!memory_.empty()) r.memory = TRY(parse_bytes(memory_));
  const bool from_scratch = !r.size.empty() || !r.architecture.empty();
  if (pretrained && r.model.empty() && !from_scratch)
    return fail(ErrorCode::invalid_argument,
                "--model is missing: a GGUF file, a Hugging Face folder or a llama2.c .bin");
  if (!pretrained && !r.model.empty())
    return fail(ErrorCode::invalid_argument, "--model: train begins from scratch; use finetune to adapt {}", r.model);
  if (!pretrained && !from_scratch)
    return fail(ErrorCode::invalid_argument, "--size is missing: 5M, 60M, 1B; or --architecture, a config.json");
  if (r.data.empty()) return fail(ErrorCode::invalid_argument, "--data is missing: a JSONL or text file to train on");
  if (r.out.empty() && (!plan_only || r.resume))
    return fail(ErrorCode::invalid_argument, "--out is missing: a folder for the result");
  for (std::string& target : r.target) target = std::string(trimmed(target));
  std::erase_if(r.target, [](const std::string& target) { return target.empty(); });
  CHECK_OK(check_void());
  const Estimator& estimator = *TRY(estimator_named(r.estimator));
  if (!estimator.optimizer.empty() && !is_given(*command_, "--optimizer")) r.optimizer = estimator.optimizer;
  return r;
}

}  // namespace thimble
