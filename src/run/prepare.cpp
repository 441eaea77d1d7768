// Trainer::prepare: everything before the arena exists.
#include <algorithm>
#include <cmath>
#include <thread>

#include "core/nearest.h"
#include "models/presets.h"
#include "run/trainer.h"

namespace thimble {
namespace {

constexpr int64_t kHeapReserve = 2 << 20;  // heap that the run may use for small things

// Splits "a.b=c".
struct Setting {
  std::string owner, name, value;
};
Result<Setting> parse_setting(const std::string& text) {
  const size_t dot = text.find('.'), equals = text.find('=');
  if (dot == std::string::npos || equals == std::string::npos || dot > equals || dot == 0)
    return fail(ErrorCode::invalid_argument, "--set: expected socket.option=value, found '{}'", text);
  return Setting{text.substr(0, dot), text.substr(dot + 1, equals - dot - 1), text.substr(equals + 1)};
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    if (end > begin) out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

void report_data(Events& events, const std::string& path, const DatasetReport& report) {
  for (const std::string& error : report.first_errors) events.note("warning: " + error);
  std::string counts;
  const auto count = [&](int64_t n, const char* what) {
    if (n > 0) counts += fmt::format(", {} {}", n, what);
  };
  count(report.bad_lines, "bad lines left out");
  count(report.too_long, "longer than the context left out");
  count(report.untrained, "without anything to learn left out");
  count(report.dropped_tokens, "tokens of the last, shorter window dropped");
  events.note(fmt::format("{}: {} examples{}", path, report.examples, counts));
}

}  // namespace

Result<std::unique_ptr<Trainer>> Trainer::prepare(const Recipe& recipe, Events& events) {
  CHECK_OK(check(recipe));
  std::unique_ptr<Trainer> trainer(new Trainer(recipe, events));
  CHECK_OK(trainer->open());
  CHECK_OK(trainer->open_data());
  CHECK_OK(trainer->make_spec());
  CHECK_OK(trainer->make_plan());
  return trainer;
}

Result<void> Trainer::open() {
  const Recipe& r = recipe_;
  const int count = r.threads > 0 ? static_cast<int>(r.threads) : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  threads_ = std::make_unique<Threads>(count);
  spec_.threads = count;
  if (!r.model.empty()) source_ = TRY(ModelSource::open(r.model));
  const std::string tokenizer = r.tokenizer.empty() ? r.model : r.tokenizer;
  if (tokenizer.empty()) return fail(ErrorCode::invalid_argument, "training from scratch needs --tokenizer FILE");
  tokenizer_ = TRY(Tokenizer::open(tokenizer));
  if (source_) {
    spec_.architecture = source_->architecture();
    if (tokenizer_->vocab_size() > spec_.architecture.vocab)
      return fail(ErrorCode::invalid_argument, "{}: the tokenizer has {} tokens, the model {}", tokenizer, tokenizer_->vocab_size(), spec_.architecture.vocab);
  } else {
    spec_.architecture = TRY(preset(TRY(parse_size(r.size)), tokenizer_->vocab_size(), r.context));
  }
  return {};
}

Result<void> Trainer::open_data() {
  const Recipe& r = recipe_;
  const DatasetOptions options{.context = r.context, .bos = r.bos, .strict = r.strict};
  data_ = TRY(Dataset::open(r.data, *tokenizer_, options));
  report_data(events_, r.data, data_->report());
  if (data_->size() == 0) return fail(ErrorCode::invalid_argument, "--data {}: there is nothing in it to train on", r.data);
  if (!r.eval_data.empty()) {
    eval_data_ = TRY(Dataset::open(r.eval_data, *tokenizer_, options));
    report_data(events_, r.eval_data, eval_data_->report());
    if (eval_data_->size() == 0) return fail(ErrorCode::invalid_argument, "--eval-data {}: there is nothing in it to evaluate", r.eval_data);
  }
  packer_ = std::make_unique<Packer>(*data_, r.batch, r.context, static_cast<uint64_t>(r.seed), !r.no_shuffle);
  rows_.resize(static_cast<size_t>(r.accumulate));
  steps_ = TRY(count_steps());
  return {};
}

// Windows of one epoch are counted by packing it once.
Result<int64_t> Trainer::count_steps() {
  if (recipe_.steps > 0) return recipe_.steps;
  Packer dry(*data_, recipe_.batch, recipe_.context, static_cast<uint64_t>(recipe_.seed), !recipe_.no_shuffle);
  int64_t batches = 0;
  for (; dry.state().epoch == 0; ++batches) CHECK_OK(dry.next(rows_[0]));
  const double steps = recipe_.epochs * static_cast<double>(batches) / static_cast<double>(recipe_.accumulate);
  return std::max<int64_t>(1, static_cast<int64_t>(std::llround(steps)));
}

Result<void> Trainer::make_spec() {
  const Recipe& r = recipe_;
  spec_.method = TRY(method_named(r.method));
  spec_.optimizer = TRY(optimizer_named(r.optimizer));
  spec_.optimizer_options = OptionValues(spec_.optimizer->options);
  if (!source_ && !spec_.method->trains_weights) return fail(ErrorCode::invalid_argument, "--method {} needs a pretrained --model", r.method);
  for (const std::string& text : r.set) {
    const Setting setting = TRY(parse_setting(text));
    if (setting.owner != "optimizer" && setting.owner != r.optimizer)
      return fail(ErrorCode::invalid_argument, "--set {}: the sockets with options here are 'optimizer' and '{}'", text, r.optimizer);
    if (setting.name == "no_decay")
      spec_.no_decay = split(setting.value, '|');
    else
      CHECK_OK(spec_.optimizer_options.set(setting.owner, setting.name, setting.value));
  }
  spec_.method_options = {.rank = r.rank, .alpha = r.alpha, .dropout = r.dropout, .targets = r.target};
  if (!r.adapter.empty()) return fail(ErrorCode::unsupported, "--adapter: going on from an adapter is not supported in training; use --resume, or merge it with convert first");
  spec_.stored = [this](const std::string& name) -> const Codec* {
    if (!source_) return &kF32;
    const ModelTensor* tensor = source_->find(name);
    return tensor ? tensor->codec : nullptr;
  };
  spec_.weight_decay = r.weight_decay;
  spec_.clip = r.clip;
  spec_.batch = r.batch, spec_.accumulate = r.accumulate, spec_.context = r.context;
  spec_.activation = r.precision == "f32" ? &kF32 : &kBf16;
  spec_.evaluates = eval_data_ != nullptr;
  base_rate_ = r.lr > 0 ? r.lr : spec_.method->trains_weights ? spec_.optimizer->learning_rate / 4 : spec_.optimizer->learning_rate * 5;
  machine_ = probe_machine(*threads_);
  if (r.multiply == "bf16" && !multiplies(Multiply::bf16)) return fail(ErrorCode::unsupported, "--multiply bf16: this CPU has no bf16 products (AVX512-BF16); take auto or f32");
  spec_.multiply = r.multiply == "bf16" ? Multiply::bf16 : r.multiply == "f32" || r.precision == "f32" ? Multiply::f32 : faster_multiply(machine_);
  return {};
}

// The plan itself takes heap, and what the process occupies decides what the arena may take: planned once with a guess,
// then with the measured figure.
Result<void> Trainer::make_plan() {
  spec_.budget_bytes = recipe_.memory > 0 ? recipe_.memory : free_memory_bytes() / 5 * 4;
  for (Rows& rows : rows_)
    for (auto* column : {&rows.ids, &rows.targets, &rows.positions, &rows.starts}) column->assign(static_cast<size_t>(recipe_.batch * recipe_.context), 0);
  populate_runtime(kHeapReserve);
  spec_.runtime_bytes = resident_bytes() + (4 << 20);
  for (int round = 0; round < 3; ++round) {
    plan_ = {};
    plan_ = TRY(plan_training(spec_, machine_));
    populate_runtime(kHeapReserve);
    // The executors resolve every operand of every step.
    const auto steps = static_cast<int64_t>(plan_.pass.steps.size() + plan_.update.steps.size() + plan_.evaluation.steps.size());
    const int64_t measured = resident_bytes() + steps * 800 + (256 << 10);
    if (measured <= spec_.runtime_bytes && spec_.runtime_bytes - measured < (512 << 10)) break;
    spec_.runtime_bytes = measured;
  }
  return {};
}

}  // namespace thimble
