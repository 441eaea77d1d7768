#include "run/inference.h"

#include <algorithm>

#include "core/count.h"
#include "core/warnings.h"
#include "disk/scratch_file.h"
#include "files/file.h"
#include "kernels/dot/int8_dot.h"
#include "kernels/narrow.h"
#include "kernels/rows.h"
#include "models/mixer.h"
#include "run/calibration.h"
#include "run/derived.h"
#include "run/one_of.h"
#include "run/setup.h"
#include "run/weights.h"

namespace thimble {
namespace {

bool has_int8_weights(const InferenceSpec& spec) {
  const std::vector<TensorSpec> weights = tensor_specs(spec.architecture);
  return std::any_of(weights.begin(), weights.end(), [&](const TensorSpec& weight) {
    const Codec* const codec = spec.stored(weight.name);
    return codec && weight.shape.rank() == 2 && int8_format(*codec, weight.shape[1]);
  });
}

}  // namespace

Result<std::unique_ptr<Inference>> Inference::open(const InferenceOptions& options) {
  if (options.model.empty())
    return fail(ErrorCode::invalid_argument,
                "--model is missing: a GGUF file, a Hugging Face folder or a llama2.c .bin");
  CHECK_OK(one_of("--precision", options.precision, {"bf16", "f32"}));
  CHECK_OK(one_of("--multiply", options.multiply, {"auto", "f32", "bf16", "int8"}));
  CHECK_OK(one_of("--cache-type", options.cache_type, {"auto", "f32", "bf16", "q8_0"}));
  if (options.multiply == "int8" && options.precision == "f32")
    return fail(ErrorCode::invalid_argument,
                "--multiply int8 rounds activations to 8 bits, which --precision f32 forbids; leave one of them out");
  std::unique_ptr<Inference> inference(new Inference(options));
  inference->source_ = TRY(ModelSource::open(options.model));
  inference->tokenizer_ = TRY(open_tokenizer(options.tokenizer, *inference->source_));
  CHECK_OK(inference->open_adapter_stack());
  if (!inference->adapters_.empty() && !inference->adapters_.front().chat_template.empty())
    inference->tokenizer_->use_chat_template(inference->adapters_.front().chat_template);
  inference->template_ =
      TRY(thimble::template_options(options.chat_template, options.template_variables, options.date));
  inference->template_.no_bos = options.no_bos;
  inference->chat_ = ChatFormat::open(*inference->tokenizer_, inference->template_);
  if (!inference->chat_ && !options.chat_template.empty()) return Failure(inference->chat_.error());
  CHECK_OK(inference->open_decoder());
  InferenceSpec& spec = inference->spec_;
  spec.threads = thread_count(options.threads);
  inference->threads_ = std::make_unique<Threads>(spec.threads);
  spec.architecture = inference->source_->architecture();
  spec.stored = [source = inference->source_.get()](const std::string& name) -> const Codec* {
    const ModelTensor* const tensor = source->find(name);
    return tensor ? tensor->codec : nullptr;
  };
  spec.activation = options.precision == "f32" ? &kF32 : &kBf16;
  spec.cache = options.cache_type == "auto" ? spec.activation : find_codec(options.cache_type);
  for (const Block& block : spec.architecture.blocks)
    if (block.attention.head_dim % spec.cache->block != 0)
      return fail(ErrorCode::invalid_argument,
                  "--cache-type {}: its blocks of {} do not divide this model's heads, {} wide", options.cache_type,
                  spec.cache->block, block.attention.head_dim);
  const bool asks_machine = options.multiply == "auto" && options.precision == "bf16" && multiplies(Multiply::bf16);
  spec.multiply = TRY(choose_multiply(options.multiply, options.precision,
                                      asks_machine ? calibrated_machine(*inference->threads_, "") : Machine{}));
  spec.prompts = spec.step = spec.multiply;
  if (options.multiply == "auto" && options.precision == "bf16" && int8_is_fast() && has_int8_weights(spec)) {
    spec.step = Multiply::int8;
    // Products of bf16, where the CPU has them, are as fast as those of int8 where there are many rows.
    if (options.int8_prompts && spec.multiply == Multiply::f32) spec.prompts = Multiply::int8;
  }
  return inference;
}

Result<void> Inference::open_adapter_stack() {
  if (options_.adapter.empty() && !options_.adapter_scale.empty())
    return fail(ErrorCode::invalid_argument, "--adapter-scale {}: there is no --adapter that it is for",
                options_.adapter_scale);
  if (options_.adapter.empty()) return {};
  adapters_ = TRY(open_adapter_list(options_.adapter, options_.adapter_scale));
  source_ = TRY(model_for(std::move(source_), adapters_));
  for (Adapter& adapter : adapters_) spec_.rewrites.push_back(TRY(rewrite_of(adapter, source_->architecture())));
  spec_.begin_bytes = TRY(begin_bytes(spec_.rewrites, *source_));
  return {};
}

Result<void> Inference::open_decoder() {
  decoder_ = TRY(decoder_named(options_.decoder));
  decoder_values_ = OptionValues(decoder_->options);
  spec_.policy = TRY(cache_policy_named(options_.cache));
  cache_values_ = OptionValues(spec_.policy->options);
  if (spec_.policy->keep && decoder_->guesses())
    return fail(ErrorCode::unsupported,
                "--cache {} forgets tokens, so that guesses cannot be taken back; leave --decoder {} out",
                spec_.policy->name, decoder_->name);
  for (const std::string& text : options_.set) {
    const Setting setting = TRY(parse_setting(text));
    if (setting.owner == "cache" || setting.owner == spec_.policy->name) {
      CHECK_OK(cache_values_.set(setting.owner, setting.name, setting.value));
      continue;
    }
    if (setting.owner != "decoder" && setting.owner != decoder_->name)
      return fail(ErrorCode::invalid_argument, "--set {}: the sockets with options here are 'decoder' and 'cache'",
                  text);
    CHECK_OK(decoder_values_.set(setting.owner, setting.name, setting.value));
  }
  const auto blocks = static_cast<int64_t>(source_->architecture().blocks.size());
  if (decoder_values_.has("layers") && decoder_values_["layers"] > static_cast<double>(blocks))
    return fail(ErrorCode::invalid_argument, "--set decoder.layers={}: the model has {}", decoder_values_["layers"],
                counted(blocks, "block"));
  if (decoder_->guesses() && recurrent(source_->architecture()))
    return fail(
        ErrorCode::unsupported,
        "--decoder {}: the model has recurrent blocks, whose state cannot take guesses back; leave the flag out",
        decoder_->name);
  if (decoder_->layers && !adapters_.empty())
    return fail(ErrorCode::invalid_argument, "--decoder {}: the first blocks guess without --adapter; {}",
                decoder_->name,
                std::ranges::all_of(adapters_, [](const Adapter& a) { return a.rewrite->merges(); })
                    ? "merge it first with convert --adapter"
                    : "leave the flag out");
  return {};
}

// Rows that go through narrow kernels have other bits than more of them: a program has either those or the others,
// whether it guesses or not.
void Inference::plan_guesses(Task task, int64_t slots) {
  spec_.guesses = spec_.guess_layers = 0;
  if (task != Task::generate || !decoder_->guesses()) return;
  spec_.guesses = static_cast<int64_t>(decoder_values_["tokens"]);
  if (slots <= kNarrowRows) spec_.guesses = std::min(spec_.guesses, kNarrowRows / slots - 1);
  if (spec_.guesses > 0 && decoder_->layers)
    spec_.guess_layers = decoder_->layers(static_cast<int64_t>(spec_.architecture.blocks.size()), decoder_values_);
}

Result<int64_t> Inference::context(int64_t asked) const {
  const Architecture& a = spec_.architecture;
  const int64_t most = a.context - lead().rows;
  if (asked != 0 && (asked < 2 || asked > (1 << 20)))
    return fail(ErrorCode::invalid_argument, "--context: expected 2 to {}, found {}", 1 << 20, asked);
  if (most < 2)
    return fail(ErrorCode::unsupported, "--adapter {}: its {} virtual tokens leave no room in the model's {} positions",
                options_.adapter, lead().rows, a.context);
  if (a.learned_positions > 0 && asked > most)
    return fail(ErrorCode::invalid_argument, "--context {}: this model has learned {} positions{}", asked, a.context,
                lead().rows > 0 ? fmt::format(", of which virtual tokens take {}", lead().rows) : "");
  if (asked > most)
    warn(fmt::format("--context {}: the model was made for sequences of {} tokens at most", asked, most));
  const int64_t context = asked > 0 ? asked : most;
  CHECK_OK(check_cache(*spec_.policy, cache_values_, context));
  return context;
}

std::string Inference::scratch_folder() const { return options_.scratch.empty() ? cache_folder() : options_.scratch; }

Result<void> Inference::plan(Task task, int64_t context, int64_t batch) {
  if (spec_.architecture.labels && task != Task::logits)
    return fail(ErrorCode::unsupported,
                "{}: it says labels of texts, and no next tokens; measure it with eval --metric label", options_.model);
  spec_.task = task;
  spec_.context = context + lead().rows;
  spec_.slots = spec_.batch = batch;
  plan_guesses(task, batch);
  if (options_.scratch != "none" && !scratch_folder().empty())
    spec_.machine = [this]() -> const Machine& {
      if (!machine_) machine_ = calibrated_machine(*threads_, scratch_folder());
      return *machine_;
    };
  if (!options_.scratch.empty() && options_.scratch != "none") CHECK_OK(ScratchFile::check(options_.scratch, 0));
  const PlanBudget budget{options_.memory, spec_.budget_bytes, spec_.runtime_bytes,
                          plan_.ledger,    kInferenceTouches,  holes_};
  CHECK_OK(plan_with_runtime(budget, [this]() -> Result<int64_t> {
    plan_ = {};
    plan_ = TRY(plan_inference(spec_));
    int64_t heap = 0;
    for (const Program& program : plan_.programs) heap += Executor::memory_bytes(program.schedule);
    return heap;
  }));
  return check_files(adapters_, plan_.adapter);
}

Result<void> Inference::load() {
  arena_ = std::make_unique<Arena>(TRY(Arena::create(plan_.arena_bytes, *threads_)));
  executors_.reserve(plan_.programs.size());
  if (plan_.scratch_bytes > 0 && options_.scratch.empty()) CHECK_OK(make_directories(scratch_folder()));
  if (plan_.scratch_bytes > 0)
    scratch_ = TRY(Scratch::create({.folder = scratch_folder(), .bytes = plan_.scratch_bytes}, *threads_));
  for (const Program& program : plan_.programs)
    executors_.emplace_back(program.graph, program.schedule, plan_.layout,
                            Places(plan_.layout, arena_->data(), scratch_.get()));
  Values values = this->values();
  Loaded loaded;
  CHECK_OK(load_weights(*source_, values, loaded));
  if (!adapters_.empty()) CHECK_OK(load_adapters(adapters_, plan_.adapter, values, loaded));
  CHECK_OK(initialise(values, loaded, 0));
  CHECK_OK(begin_from_weights(spec_.rewrites, plan_.adapter, *source_, *threads_, values, loaded));
  populate_heap(plan_.ledger.planned_bytes - kInferenceTouches);
  return {};
}

Values Inference::values() { return {plan_, arena_->data(), scratch_.get()}; }

Result<void> Inference::run(size_t program, int64_t tokens, int64_t selected) {
  RunContext context{*threads_, plan_.programs[program].multiply, 0, 0, 0};
  return executors_[program].run(context, tokens, selected);
}

Result<std::span<const float>> Inference::logits(int64_t rows) {
  const std::span logits(value<const float>(kLogits), static_cast<size_t>(rows * spec_.architecture.outputs()));
  if (all_finite(logits.data(), static_cast<int64_t>(logits.size()))) return logits;
  return fail(
      ErrorCode::diverged,
      "running {}{}: the logits are not finite: the weights, or scales in the model's configuration, are damaged",
      options_.model, options_.adapter.empty() ? "" : " with " + options_.adapter);
}

}  // namespace thimble
