// Trainer::prepare: everything before the arena exists.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/count.h"
#include "core/nearest.h"
#include "core/printable.h"
#include "disk/scratch_file.h"
#include "files/safetensors.h"
#include "models/grown_model.h"
#include "models/presets.h"
#include "run/auto_rate.h"
#include "run/blocks.h"
#include "run/calibration.h"
#include "run/derived.h"
#include "run/resume.h"
#include "run/setup.h"
#include "run/trainer.h"
#include "text/data_files.h"
#include "text/datasets.h"
#include "text/infilled.h"

namespace thimble {
Result<std::unique_ptr<Trainer>> Trainer::prepare(const Recipe& recipe, Events& events) {
  CHECK_OK(check(recipe));
  std::unique_ptr<Trainer> trainer(new Trainer(recipe, events));
  CHECK_OK(trainer->open());
  CHECK_OK(trainer->make_rewrites());
  CHECK_OK(trainer->open_data());
  CHECK_OK(trainer->check_teacher());
  CHECK_OK(trainer->make_spec());
  CHECK_OK(trainer->settle_layers());
  CHECK_OK(trainer->score_parameters());
  CHECK_OK(trainer->make_plan());
  CHECK_OK(trainer->check_scratch());
  return trainer;
}

// The folder, as the run will find it (--out is made by then): a plan is refused where the run would be.
Result<void> Trainer::check_scratch() const {
  if (recipe_.scratch == "none" || (recipe_.scratch.empty() && plan_.scratch_bytes == 0)) return {};
  return ScratchFile::check(recipe_.scratch.empty() ? nearest_folder(scratch_folder()) : recipe_.scratch,
                            plan_.scratch_bytes);
}

Result<void> Trainer::open() {
  const Recipe& r = recipe_;
  if (r.resume) {
    auto last = TRY(last_good_checkpoint(r.out, [&](const std::string& text) { events_.note(text); }));
    checkpoint_ = std::move(last.file), damaged_ = std::move(last.damaged);
  }
  spec_.threads = thread_count(r.threads);
  threads_ = std::make_unique<Threads>(spec_.threads);
  if (!r.model.empty()) source_ = TRY(ModelSource::open(r.model));
  CHECK_OK(open_teacher());
  model_fingerprint_ = TRY(fingerprint_text(source_.get()));
  if (teacher_) model_fingerprint_ += " teacher " + TRY(fingerprint_text(teacher_.get()));
  if (source_) {
    CHECK_OK(open_model_tokenizer());
    CHECK_OK(open_adapted());
    CHECK_OK(open_labels());
    spec_.architecture = source_->architecture();
    return {};
  }
  const Error none{ErrorCode::invalid_argument, "training from scratch needs --tokenizer FILE"};
  tokenizer_ = r.tokenizer.empty() ? missing_tokenizer(none) : TRY(Tokenizer::open(r.tokenizer));
  if (r.tokenizer.empty() && is_directory(r.architecture))
    if (auto beside = Tokenizer::open(r.architecture)) tokenizer_ = std::move(*beside);
  int64_t vocab = tokenizer_->vocab_size();
  if (!tokenizer_->usable()) {
    // Token ids need no tokenizer; the largest says how many there are.
    const auto length = TRY(token_window_length(r.data));
    if (!length) {
      const DataFiles files = TRY(data_files(r.data, DataPart::train));
      for (const std::string& path : files.paths) CHECK_OK(InputFile::open(path));
      return Failure(none);
    }
    vocab = TRY(open_token_windows(r.data, {.context = *length}))->report().largest_id + 1;
    if (r.architecture.empty())
      events_.note(
          fmt::format("no --tokenizer: the vocabulary has {} tokens, as the largest id in {} says", vocab, r.data));
  }
  if (r.architecture.empty()) {
    spec_.architecture = TRY(preset(TRY(parse_size(r.size)), vocab, r.context));
    CHECK_OK(set_blocks(r.set, spec_.architecture));
  } else {
    spec_.architecture = TRY(architecture_like(r.architecture, vocab));
  }
  const Objective& objective = *TRY(objective_named(r.objective));
  if (objective.labels) spec_.architecture = labelled(spec_.architecture, TRY(labels_of_data(*objective.labels)));
  return {};
}

Result<void> Trainer::open_teacher() {
  const Objective& objective = *TRY(objective_named(recipe_.objective));
  if (!objective.teacher) return {};
  if (recipe_.teacher.empty())
    return fail(ErrorCode::invalid_argument,
                "--objective {}: --teacher is missing: the model whose predictions it learns", objective.name);
  teacher_ = TRY(ModelSource::open(recipe_.teacher));
  spec_.teacher = FrozenModel{teacher_->architecture(), [this](const std::string& name) -> const Codec* {
                                const ModelTensor* const tensor = teacher_->find(name);
                                return tensor ? tensor->codec : nullptr;
                              }};
  return {};
}

// Ids have to mean to both models the same.
Result<void> Trainer::check_teacher() const {
  if (!teacher_) return {};
  const int64_t own = spec_.architecture.vocab, other = teacher_->architecture().vocab;
  if (own != other)
    return fail(ErrorCode::invalid_argument,
                "--teacher {}: expected a model of the same vocabulary, {} tokens, found one of {}", recipe_.teacher,
                own, other);
  if (recipe_.context > teacher_->architecture().context)
    events_.note(fmt::format("warning: --context {}: the teacher was made for sequences of {} tokens at most",
                             recipe_.context, teacher_->architecture().context));
  const auto tokenizer = tokenizer_of("", *teacher_);
  if (!tokenizer || !(*tokenizer)->usable()) return {};  // a file without one
  for (int32_t id = 0; id < std::min(tokenizer_->vocab_size(), (*tokenizer)->vocab_size()); ++id)
    if (tokenizer_->bytes(id) != (*tokenizer)->bytes(id))
      return fail(ErrorCode::invalid_argument,
                  "--teacher {}: expected a model of the same tokenizer; token {} is '{}' here and '{}' there",
                  recipe_.teacher, id, printable(tokenizer_->bytes(id)), printable((*tokenizer)->bytes(id)));
  return {};
}

// Where the model's own rows train, tokens that have none get theirs.
Result<void> Trainer::open_model_tokenizer() {
  const std::string_view named = recipe_.method.empty() ? lightest_method() : std::string_view(recipe_.method);
  const std::vector<const Rewrite*> methods = TRY(rewrites_named(named));
  const bool trains_rows = std::ranges::any_of(methods, [](const Rewrite* m) { return m->trains_weights; });
  if (!trains_rows) {
    tokenizer_ = TRY(open_tokenizer(recipe_.tokenizer, *source_));
    return {};
  }
  tokenizer_ = TRY(tokenizer_of(recipe_.tokenizer, *source_));
  const int64_t rows = source_->architecture().vocab, tokens = tokenizer_->vocab_size();
  if (tokens <= rows) return {};
  source_ = TRY(with_rows(std::move(source_), tokens));
  events_.note(
      fmt::format("the tokenizer has {} tokens, the model {} rows: {} appended, each the mean of the rows there are",
                  tokens, rows, counted(tokens - rows, "row is", "rows are")));
  return {};
}

// Tokens of text in a window: virtual ones stand before every document, of which a preference pair has two.
Result<int64_t> Trainer::text_context() const {
  const int64_t lead = lead_of(spec_.rewrites).rows * (spec_.objective->term == LossTerm::pair ? 2 : 1);
  if (recipe_.context - lead >= 2) return recipe_.context - lead;
  return fail(ErrorCode::invalid_argument,
              "--context {}: the virtual tokens of --method {} take {} of it; give a larger one", recipe_.context,
              recipe_.method, lead);
}

Packer Trainer::packed(Dataset& data, int64_t batch, int64_t seed, bool shuffle) const {
  Lead lead = lead_of(spec_.rewrites);
  if (spec_.objective->teacher) lead.predicts = false;  // a teacher does not read what would predict the first token
  return Packer(data, batch, recipe_.context, static_cast<uint64_t>(seed), shuffle, lead);
}

Result<void> Trainer::open_data() {
  const Recipe& r = recipe_;
  spec_.objective = TRY(objective_named(r.objective));
  const OptionValues how = TRY(objective_options());
  const int64_t sentinels = spec_.objective->infills ? InfillTokens::kCount : 0;
  DatasetOptions options{
      .context = TRY(text_context()) - sentinels, .rows = spec_.architecture.vocab, .bos = r.bos, .strict = r.strict};
  CHECK_OK(set_data_options(r.columns, r.truncate, options));
  if (spec_.objective->of_examples() && options.truncate == Truncate::split)
    return fail(ErrorCode::invalid_argument,
                "--truncate split: --objective {} looks at an example as a whole; give left or right",
                spec_.objective->name);
  CHECK_OK(check_bos(r.bos, *tokenizer_));
  options.no_bos = r.no_bos;
  options.chat = TRY(template_options(r.chat_template, r.template_variables, r.date));
  options.term = spec_.objective->term, options.texts = spec_.objective->infills;
  if (spec_.architecture.labels) options.labels = *spec_.architecture.labels;
  options.train_on = spec_.objective->of_examples() ? TrainOn::last
                     : r.train_on == "last"         ? TrainOn::last
                     : r.train_on == "all"          ? TrainOn::all
                                                    : TrainOn::assistant;
  if (r.chat_template.empty() && !r.adapter.empty()) {
    const auto before = TRY(open_adapters(r.adapter));
    if (!before.front().chat_template.empty()) tokenizer_->use_chat_template(before.front().chat_template);
  }
  if (!r.chat_template.empty()) {
    TRY(chat_format(*tokenizer_, options.chat));  // what was asked for has to be usable
    tokenizer_->use_chat_template(TRY(chosen_template(r.chat_template)));
  }
  if (const int64_t lead = r.context - TRY(text_context()); lead > 0)
    events_.note(
        fmt::format("note: of --context {} the virtual tokens of --method {} take {}", r.context, r.method, lead));
  data_ = TRY(Dataset::open(r.data, *tokenizer_, options));
  report_data(events_, r.data, data_->report());
  events_.fact("data", data_json(r.data, data_->report()));
  if (data_->size() == 0)
    return fail(ErrorCode::invalid_argument, "--data {}: there is nothing in it to train on", r.data);
  if (r.split > 0) {
    SplitDataset parts = TRY(split_dataset(std::move(data_), r.split, static_cast<uint64_t>(r.seed)));
    data_ = std::move(parts.train), eval_data_ = std::move(parts.held_out);
    events_.note(
        fmt::format("--split {}: {} trained, {} held out for evaluation", r.split, data_->size(), eval_data_->size()));
  }
  if (!r.eval_data.empty()) {
    options.part = DataPart::evaluate;
    eval_data_ = TRY(Dataset::open(r.eval_data, *tokenizer_, options));
    report_data(events_, r.eval_data, eval_data_->report());
    events_.fact("data", data_json(r.eval_data, eval_data_->report()));
    if (eval_data_->size() == 0)
      return fail(ErrorCode::invalid_argument, "--eval-data {}: there is nothing in it to evaluate", r.eval_data);
  }
  if (spec_.objective->infills)
    data_ = infilled(std::move(data_), {.tokens = TRY(infill_tokens(*tokenizer_, spec_.architecture.vocab)),
                                        .rate = how["rate"],
                                        .suffix_first = how["suffix_first"],
                                        .seed = static_cast<uint64_t>(r.seed),
                                        .bos = tokenizer_->bos(),
                                        .eos = tokenizer_->eos()});
  CHECK_OK(prepare_references(data_.get(), references_, mismatched_));
  CHECK_OK(prepare_references(eval_data_.get(), eval_references_, eval_mismatched_));
  packer_ = std::make_unique<Packer>(packed(*data_, r.batch, r.seed, !r.no_shuffle));
  steps_ = TRY(count_steps());
  return {};
}

Result<void> Trainer::prepare_references(Dataset* data, References& references, std::optional<Mismatched>& mismatched) {
  if (!data || !spec_.objective->reference) return {};
  references.margins.assign(static_cast<size_t>(data->size()), std::nanf(""));
  if (!spec_.objective->drift) return {};
  mismatched = TRY(Mismatched::open(*data, TRY(text_context())));
  references.mismatched = references.margins;
  return {};
}

// An epoch ends with a step of its own, so that it trains every example exactly once: the steps of each are counted by
// packing the lengths of its examples. Of a part of an epoch, that part of its steps.
Result<int64_t> Trainer::count_steps() {
  if (recipe_.steps > 0) return recipe_.steps;
  const int64_t whole = static_cast<int64_t>(recipe_.epochs), at_once = recipe_.batch * recipe_.accumulate;
  const bool alike = recipe_.no_shuffle || data_->windows();
  Packer dry = packed(*data_, recipe_.batch, recipe_.seed, !alike);
  const auto steps_of = [&](int64_t epoch) { return (dry.windows(epoch) + at_once - 1) / at_once; };
  const double part = recipe_.epochs - static_cast<double>(whole);
  int64_t steps = alike ? whole * steps_of(0) : 0;
  for (int64_t epoch = 0; epoch < whole && !alike; ++epoch) steps += steps_of(epoch);
  if (part > 0) steps += std::llround(part * static_cast<double>(steps_of(whole)));
  return std::max<int64_t>(1, steps);
}

// Of the methods, or of a model whose streams can be recovered, where there is a backward pass.
std::string Trainer::own_keepers() const {
  if (!spec_.estimator->differentiates()) return std::string(kExactKeeper.name);
  if (spec_.architecture.coupled) return std::string(kReversible.name);
  std::vector<const Rewrite*> stack;
  for (const RewriteSpec& spec : spec_.rewrites) stack.push_back(spec.rewrite);
  return keepers_of(stack);
}

// Of a new model with --set block.tuned_layers: before the factors that the user gives, which win.
void Trainer::scale_rates_by_depth() {
  if (source_ || spec_.architecture.blocks.empty() || spec_.optimizer->proportional) return;
  const double factor = spec_.architecture.blocks.front().residual_scale;
  if (factor == 1) return;
  spec_.rate_of.insert(spec_.rate_of.begin(), {"model.layers.", factor});
  events_.note(fmt::format("Depth-muP (arXiv:2310.02244): what the {} add, and their learning rate, times {:.4g}",
                           counted(spec_.architecture.layers(), "block"), factor));
}

Result<void> Trainer::make_spec() {
  const Recipe& r = recipe_;
  spec_.set_optimizer(TRY(optimizer_stack_named(r.optimizer)));
  spec_.selector = TRY(selector_named(r.select));
  spec_.seed = static_cast<uint64_t>(r.seed);
  spec_.estimator = TRY(estimator_named(r.estimator));
  if (r.keep.empty()) recipe_.keep = own_keepers();
  spec_.keepers = TRY(keepers_named(r.keep));
  if (spec_.optimizer->evaluated && r.schedule != "constant")
    events_.note(fmt::format(
        "--optimizer {}: its average of steps takes the place of a rate that falls; give --schedule constant",
        spec_.optimizer->name));
  if (source_) spec_.begin_bytes = TRY(begin_bytes(spec_.rewrites, *source_));
  CHECK_OK(set_options());
  scale_rates_by_depth();
  settle_options();
  spec_.steps = steps_;
  spec_.scheduled_steps = checkpoint_ ? TRY(metadata_number(*checkpoint_, "scheduled_steps")) : steps_;
  CHECK_OK(add_wrappers(spec_));
  if ((source_ || !r.architecture.empty()) && r.context > spec_.architecture.context)
    events_.note(fmt::format("warning: --context {}: the model was made for sequences of {} tokens at most", r.context,
                             spec_.architecture.context));
  if (r.warmup > static_cast<double>(steps_))
    events_.note(fmt::format("warning: --warmup {} is longer than the run of {}: the rate never reaches --lr", r.warmup,
                             counted(steps_, "step")));
  for (const auto& [flag, every] : {std::pair{"--eval-every", r.eval_every}, {"--save-every", r.save_every}})
    if (every > steps_)
      events_.note(fmt::format("warning: {} {} is not reached within the run of {}: it happens at the end only", flag,
                               every, counted(steps_, "step")));
  if (spec_.architecture.learned_positions > 0 && r.context > spec_.architecture.context)
    return fail(ErrorCode::invalid_argument, "--context {}: the model has positions for {} tokens only", r.context,
                spec_.architecture.context);
  spec_.stored = [this](const std::string& name) -> const Codec* {
    if (!source_) return &kF32;
    const ModelTensor* tensor = source_->find(name);
    return tensor ? tensor->codec : nullptr;
  };
  spec_.states = find_codec(r.states);
  spec_.weight_decay = r.weight_decay;
  spec_.clip = spec_.estimator->differentiates() ? r.clip : 0;
  spec_.judges_gradients = r.on_divergence != "stop";
  if (r.on_divergence == "skip" && spec_.optimizer->accumulator)
    return fail(ErrorCode::invalid_argument,
                "--on-divergence skip: {} computes states from a gradient as it comes; give rollback or stop",
                r.optimizer);
  spec_.batch = r.batch, spec_.accumulate = r.accumulate, spec_.context = r.context;
  spec_.activation = r.precision == "f32" ? &kF32 : &kBf16;
  spec_.from_scratch = !source_;
  spec_.evaluates = eval_data_ != nullptr || spec_.objective->reference || spec_.selector->probing;
  spec_.disk = r.scratch != "none";
  spec_.near = r.allow == "near" ? Near::where_faster : Near::never;
  const double suits = spec_.optimizer->finds_rate ? 1 : rate_of(spec_.rewrites);
  if (r.lr_auto) {
    CHECK_OK(check_auto_rate(*spec_.optimizer,
                             !source_ && spec_.estimator->differentiates() && spec_.objective == &kNextToken));
    const int64_t batch = r.batch * r.accumulate * r.context;
    const AutoRate found = step_law(spec_.architecture, spec_.scheduled_steps * batch, batch);
    recipe_.lr = found.rate;
    events_.note(found.source);
  }
  base_rate_ = r.lr > 0 ? r.lr : spec_.optimizer->learning_rate * spec_.estimator->rate * spec_.objective->rate * suits;
  spec_.rates = fmt::format("{} {} warm-up {}", base_rate_, r.schedule, r.warmup);
  if (r.min_lr > 0) spec_.rates += fmt::format(" floor {}", r.min_lr);
  if (r.schedule == "warmup_stable_decay") spec_.rates += fmt::format(" decay {}", r.decay);
  CHECK_OK(check_scratch());
  // A plan that names no folder leaves nothing in the current one.
  const bool named = !r.out.empty() || !r.scratch.empty();
  machine_ =
      calibrated_machine(*threads_, spec_.disk ? scratch_folder() : "", named ? Measure::missing : Measure::no_disk);
  if (r.resume) return resume_numerics();
  spec_.multiply = TRY(choose_multiply(r.multiply, r.precision, machine_));
  return {};
}

Recipe Trainer::settled() const {
  Recipe recipe = recipe_;
  recipe.lr = base_rate_;
  return recipe;
}

// What `auto` was settled to, and which near moves were taken, is part of the run: a resumed one goes on with it,
// whatever a new probe or budget says.
Result<void> Trainer::resume_numerics() {
  const SafetensorsFile& file = *checkpoint_;
  CHECK_OK(check_same_run(file, settled(), {*data_, model_fingerprint_}));
  spec_.moves = near_moves(metadata_text(file, "near"));
  spec_.near = spec_.moves == NearMoves{} ? Near::never : Near::always;
  const auto found = file.metadata().find("multiply");
  if (found == file.metadata().end() || (found->second != "0" && found->second != "1"))
    return fail(ErrorCode::corrupt, "{}: the checkpoint does not say how operands are multiplied", file.path());
  spec_.multiply = found->second == "1" ? Multiply::bf16 : Multiply::f32;
  if (!multiplies(spec_.multiply))
    return fail(ErrorCode::unsupported,
                "{}: the run multiplies in bf16, which this CPU does not; go on where it was begun", file.path());
  if ((recipe_.multiply == "f32" && spec_.multiply != Multiply::f32) ||
      (recipe_.multiply == "bf16" && spec_.multiply != Multiply::bf16))
    return fail(ErrorCode::invalid_argument, "--multiply {}: the run was begun otherwise; leave the flag out to go on",
                recipe_.multiply);
  return {};
}

Result<void> Trainer::make_plan() {
  CHECK_OK(plan_within_budget());
  if (!adapters_.empty()) CHECK_OK(check_files(adapters_, plan_.train.adapter));
  CHECK_OK(check_names());
  if (spec_.selector->scored) report_chosen();
  if (const auto& idle = plan_.train.idle_keepers; !spec_.keepers.empty() && !idle.empty())
    events_.note(
        fmt::format("warning: --keep {}: nothing in this run waits for a gradient that it is for, or another "
                    "keeper has it: it changes nothing",
                    fmt::join(idle, ",")));
  return {};
}

// Names in --set optimizer.no_decay that no parameter has are misspelt.
Result<void> Trainer::check_names() const {
  const auto& parameters = plan_.train.parameters;
  const auto some = [&](auto matches) {
    return std::ranges::any_of(parameters, [&](const auto& p) { return matches(p.name); });
  };
  int64_t matched = 0;
  for (const std::string& part : spec_.no_decay) {
    const bool found = some([&](const std::string& name) { return name.find(part) != std::string::npos; });
    matched += found;
    if (!found)
      events_.note(fmt::format("warning: optimizer.no_decay: no trained parameter has '{}' in its name", part));
  }
  if (!spec_.no_decay.empty() && matched == 0)
    return fail(ErrorCode::invalid_argument,
                "--set optimizer.no_decay={}: no trained parameter has that in its name; '{}' is one",
                fmt::join(spec_.no_decay, "|"), parameters.empty() ? "" : parameters.front().name);
  for (const auto& [option, factors] : {std::pair{"rate_of", &spec_.rate_of}, {"decay_of", &spec_.decay_of}})
    for (const auto& one : *factors)
      if (!some([&](const std::string& name) { return name.find(one.first) != std::string::npos; }))
        return fail(ErrorCode::invalid_argument,
                    "--set optimizer.{}={}:{}: no trained parameter has that in its name; '{}' is one", option,
                    one.first, one.second, parameters.empty() ? "" : parameters.front().name);
  if (spec_.weight_decay == 0 && (!spec_.no_decay.empty() || !spec_.decay_of.empty()))
    events_.note("warning: optimizer.no_decay and optimizer.decay_of have no effect: --weight-decay is 0");
  const bool coded = std::ranges::any_of(parameters, [&](const TrainedParameter& parameter) {
    return std::ranges::any_of(parameter.states, [&](const auto& state) { return state.second.codec == spec_.states; });
  });
  if (spec_.states != &kF32 && !coded)
    events_.note(
        fmt::format("warning: --states {} has no effect: {} has no state of this run in another codec than f32",
                    recipe_.states, recipe_.optimizer));
  return {};
}

}  // namespace thimble
