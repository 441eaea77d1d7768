// prune and quantize: one command over the table of transforms, with the flags that suit its kind.
#include "methods/transform.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <map>

#include "codecs/pattern.h"
#include "commands/command.h"
#include "commands/command_line.h"
#include "commands/model_output.h"
#include "commands/void_flags.h"
#include "core/count.h"
#include "files/imatrix.h"
#include "models/families.h"
#include "models/gguf_config.h"
#include "report/events.h"
#include "run/calibration.h"
#include "run/interrupt.h"
#include "run/one_of.h"
#include "run/recipe.h"
#include "run/setup.h"
#include "run/transformation.h"

namespace thimble {
namespace {

struct TransformFlags {
  ModelOutput output;
  TransformKind kind = TransformKind::prune;
  std::string method, codec, embedding_codec, pattern, imatrix, memory, precision = "bf16", multiply = "auto";
  std::vector<std::string> set, data;
  double sparsity = 0.5;
  int64_t samples = 128, context = 512, threads = 0;
  bool json = false, plan_only = false;
};

// Pruned weights must still be zeros once they are written.
bool holds_zero(const Codec& codec) {
  const std::vector<float> numbers = {0, 0.5f, 0, 0.8f, -0.3f, 0, 0.7f, 0};
  std::vector<float> block(static_cast<size_t>(std::max<int64_t>(codec.block, 8)), 0.4f), back(block.size());
  std::copy(numbers.begin(), numbers.end(), block.begin());
  const auto count = static_cast<int64_t>(block.size());
  std::vector<std::byte> bytes(static_cast<size_t>(codec.bytes(count)));
  codec.encode(block.data(), bytes.data(), count);
  codec.decode(bytes.data(), back.data(), count);
  for (size_t i = 0; i < numbers.size(); ++i)
    if (numbers[i] == 0 && back[i] != 0) return false;
  return true;
}

std::string rounded_to(const Transform& transform) {
  std::string names;
  for (const Codec* codec : codecs())
    if (codec->gguf_type >= 0 && transform.rounds_to(*codec))
      names += fmt::format("{}{}", names.empty() ? "" : ", ", codec->name);
  return names;
}

// Sums over the layers of one name, in all blocks.
struct LayerSum {
  int64_t layers = 0, weights = 0, zeros = 0;
  double change = 0, most = 0;
  void add(const ChangedLayer& layer) {
    ++layers, weights += layer.weights, zeros += layer.zeros;
    change += layer.change, most = std::max(most, layer.change);
  }
  double sparsity() const { return static_cast<double>(zeros) / static_cast<double>(std::max<int64_t>(1, weights)); }
  std::string text(TransformKind kind) const {
    const std::string zeros = kind == TransformKind::prune ? fmt::format("{:5.1f} % zeros, ", 100 * sparsity()) : "";
    return fmt::format("{}moved by {:.4f} (mean, at most {:.4f})", zeros,
                       change / static_cast<double>(std::max<int64_t>(1, layers)), most);
  }
};

class Job {
 public:
  Job(TransformFlags& flags, const Transform& transform, TransformSettings settings, Events& events)
      : flags_(flags), out_(flags.output), transform_(transform), events_(events) {
    spec_.transform = &transform;
    spec_.settings = std::move(settings);
  }

  Result<void> run() {
    CHECK_OK(open());
    const int64_t memory = flags_.memory.empty() ? 0 : TRY(parse_bytes(flags_.memory));
    Transformation transformation(*source_, *threads_, spec_);
    CHECK_OK(transformation.plan(memory));
    events_.plan(transformation.plan().ledger);
    if (flags_.plan_only) return {};
    watch_interrupts();
    watch_terminations();
    const auto start = std::chrono::steady_clock::now();
    CHECK_OK(transformation.run(data_.get(), [this](const ChangedLayer& layer) { tell(layer); }));
    CHECK_OK(write_model_output(out_, source_->architecture(), transformation.tensors(), transformation.rows()));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    done(transformation, seconds);
    return {};
  }

 private:
  const Architecture& architecture() const { return source_->architecture(); }

  Result<void> open() {
    CHECK_OK(check_model_output(out_, flags_.data));
    source_ = TRY(ModelSource::open(out_.model));
    CHECK_OK(choose_codecs());
    CHECK_OK(open_output_tokenizer(out_));
    CHECK_OK(check_output_tokens(out_, architecture().vocab));
    const int64_t before = resident_bytes();
    CHECK_OK(make_tokenizer_tables(out_, architecture().vocab));
    // What writing takes is there from the start, so that it is planned.
    const int64_t tables = std::max<int64_t>(0, 2 * (resident_bytes() - before));
    spec_.threads = thread_count(flags_.threads);
    threads_ = std::make_unique<Threads>(spec_.threads);
    spec_.architecture = architecture();
    spec_.stored = [this](const std::string& name) -> const Codec* {
      const ModelTensor* const tensor = source_->find(name);
      return tensor ? tensor->codec : nullptr;
    };
    if (!flags_.imatrix.empty()) CHECK_OK(open_imatrix());
    if (spec_.observes()) CHECK_OK(open_data());
    populate_runtime(output_bytes(out_, architecture()) + tables + output_small_bytes(source_->tensors().size()));
    return {};
  }

  // Statistics that llama.cpp gathered, under its names of tensors.
  Result<void> open_imatrix() {
    imatrix_ = TRY(Imatrix::open(flags_.imatrix));
    const Family* const family = find_family(architecture().family);
    if (!family)
      return fail(ErrorCode::unsupported, "--imatrix: GGUF has no names for the tensors of '{}'",
                  architecture().family);
    events_.note(
        fmt::format("--imatrix {}: {}{}", flags_.imatrix, counted(imatrix_->entries().size(), "matrix", "matrices"),
                    imatrix_->chunks() > 0 ? ", of " + counted(imatrix_->chunks(), "chunk") + " of text" : ""));
    spec_.statistic = [this, family](const TensorSpec& layer, std::span<float> to) {
      const FilePlace place = place_in_gguf(*family, architecture(), layer);
      return imatrix_->read(place.name, place.first / layer.shape[0], place.rows / layer.shape[0], to);
    };
    return {};
  }

  // Calibration text, and how it is run through the model.
  Result<void> open_data() {
    if (flags_.data.empty())
      return fail(ErrorCode::invalid_argument,
                  "--data is missing: --method {} runs text through the model, to see what its layers read",
                  transform_.name);
    const int64_t longest = architecture().context;
    if (flags_.context > longest)
      return fail(ErrorCode::invalid_argument, "--context {}: the model was made for sequences of {} tokens at most",
                  flags_.context, longest);
    const bool asks_machine = flags_.multiply == "auto" && flags_.precision == "bf16" && multiplies(Multiply::bf16);
    spec_.activation = flags_.precision == "f32" ? &kF32 : &kBf16;
    spec_.multiply = TRY(choose_multiply(flags_.multiply, flags_.precision,
                                         asks_machine ? calibrated_machine(*threads_, "") : Machine{}));
    tokenizer_ = TRY(open_tokenizer(out_.tokenizer, *source_));
    const std::string files = fmt::format("{}", fmt::join(flags_.data, "\n"));
    DatasetOptions options{.context = flags_.context, .rows = architecture().vocab};
    options.truncate = Truncate::right;
    data_ = TRY(Dataset::open(files, *tokenizer_, options));
    report_data(events_, files, data_->report());
    if (data_->size() == 0)
      return fail(ErrorCode::invalid_argument, "--data {}: there is nothing in it to run through the model", files);
    spec_.samples = std::min(flags_.samples, data_->size());
    spec_.context = flags_.context;
    if (spec_.samples < flags_.samples)
      events_.note(
          fmt::format("warning: --samples {}: the data has {}", flags_.samples, counted(spec_.samples, "example")));
    return {};
  }

  Result<void> choose_codecs() {
    const Codec* codec = flags_.codec.empty() ? stored_codec() : TRY(codec_named(flags_.codec));
    if (!flags_.embedding_codec.empty()) out_.embedding_codec = TRY(codec_named(flags_.embedding_codec));
    if (out_.is_gguf() && codec->gguf_type < 0)
      return fail(ErrorCode::unsupported, "--{} {}: GGUF has no such format",
                  transform_.kind == TransformKind::prune ? "codec" : "to", codec->name);
    if (!out_.is_gguf() && codec->safetensors.empty() && !pattern_of(*codec))
      return fail(ErrorCode::unsupported, "--codec {}: safetensors has no such format; take f32, bf16, f16 or bf16_2_4",
                  codec->name);
    CHECK_OK(check_pattern(*codec));
    if (transform_.kind == TransformKind::prune && !holds_zero(*codec))
      return fail(ErrorCode::unsupported,
                  "--codec {}: it has no exact zero, so that what is pruned would not be; take f16, bf16, q8_0 or q4_0",
                  codec->name);
    if (transform_.rounds_to && !transform_.rounds_to(*codec))
      return fail(ErrorCode::unsupported, "--to {}: --method {} cannot round to it; take {}", codec->name,
                  transform_.name, rounded_to(transform_));
    if (transform_.kind == TransformKind::quantize || !flags_.codec.empty() || !out_.is_gguf()) out_.codec = codec;
    choose_embedding_codec(out_, architecture().width);
    // Layers whose rows are no whole blocks are left to the writer, which says so.
    spec_.written = [this, codec](const Shape& shape) -> const Codec* {
      return !out_.is_gguf() || codec->fits_rows(shape.columns()) ? codec : nullptr;
    };
    return {};
  }

  // A codec with room for few numbers gets no more than these.
  Result<void> check_pattern(const Codec& codec) const {
    const Pattern* const pattern = pattern_of(codec);
    const int64_t keep = spec_.settings.keep, of = spec_.settings.of;
    if (!pattern || (of == pattern->of && keep <= pattern->keep)) return {};
    return fail(ErrorCode::invalid_argument, "--codec {}: it holds {} of every {} weights; prune with --pattern {}:{}",
                codec.name, pattern->keep, pattern->of, pattern->keep, pattern->of);
  }

  // Without --codec: that of the layers where it has single elements, else the nearest of 16 bits.
  const Codec* stored_codec() const {
    const Codec* const first = source_->find(layer_weights(architecture()).front().name)->codec;
    for (const TensorSpec& layer : layer_weights(architecture()))
      if (source_->find(layer.name)->codec != first || first->block > 1 || !first->writes())
        return out_.is_gguf() ? &kF16 : &kBf16;
    return first;
  }

  void tell(const ChangedLayer& layer) {
    const size_t block = layer.tensor.find('.', std::string_view("model.layers.").size());
    sums_[layer.tensor.substr(block + 1)].add(layer);
    all_.add(layer);
    const std::string text = fmt::format("{} moved by {:.4f}", layer.tensor, layer.change);
    if (flags_.json)
      events_.event("layer",
                    fmt::format("\"tensor\":\"{}\",\"weights\":{},\"zeros\":{},\"change\":{:.9g}", layer.tensor,
                                layer.weights, layer.zeros, layer.change),
                    text);
    else
      events_.progress(text);
  }

  void done(const Transformation& transformation, double seconds) {
    for (const std::string& note : out_.notes) events_.note(note);
    if (!flags_.json)
      for (const auto& [name, sum] : sums_)
        fmt::print("{:<32} {:>4} layers  {}\n", name, sum.layers, sum.text(transform_.kind));
    const int64_t peak = peak_resident_bytes(), planned = transformation.plan().ledger.planned_bytes;
    events_.done(fmt::format("\"layers\":{},\"weights\":{},\"zeros\":{},\"sparsity\":{:.9g},\"rows\":{},\"bytes\":{},"
                             "\"seconds\":{:.6g},\"peak_rss_bytes\":{},\"planned_peak_bytes\":{}",
                             all_.layers, all_.weights, all_.zeros, all_.sparsity(), transformation.observed_rows(),
                             bytes_at(out_.out), seconds, peak, planned),
                 fmt::format("{} of {} by {}: {}; {} written to {} in {:.1f} s; peak memory {} = {:.1f} % of the plan",
                             counted(all_.layers, "layer"), out_.model, transform_.name, all_.text(transform_.kind),
                             megabytes(bytes_at(out_.out)), out_.out, seconds, megabytes(peak),
                             100.0 * static_cast<double>(peak) / static_cast<double>(planned)));
  }

  TransformFlags& flags_;
  ModelOutput& out_;
  const Transform& transform_;
  Events& events_;
  TransformSpec spec_;
  std::unique_ptr<ModelSource> source_;
  std::unique_ptr<Threads> threads_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Dataset> data_;
  std::optional<Imatrix> imatrix_;
  std::map<std::string, LayerSum> sums_;
  LayerSum all_;
};

// "2:4"
Result<void> parse_pattern(const std::string& text, TransformSettings& settings) {
  const size_t colon = text.find(':');
  int64_t keep = 0, of = 0;
  const auto number = [](std::string_view part, int64_t& to) {
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), to);
    return error == std::errc{} && end == part.data() + part.size();
  };
  constexpr int64_t kLongest = 256;
  if (colon == std::string::npos || !number(std::string_view(text).substr(0, colon), keep) ||
      !number(std::string_view(text).substr(colon + 1), of) || of < 2 || of > kLongest || keep < 0 || keep > of)
    return fail(ErrorCode::invalid_argument,
                "--pattern: expected N:M, of M (2 to {}) consecutive weights N that stay, 2:4 say; found '{}'",
                kLongest, text);
  settings.keep = keep, settings.of = of;
  return {};
}

Result<TransformSettings> settings_of(const TransformFlags& flags, const Transform& transform) {
  TransformSettings settings;
  settings.options = OptionValues(transform.options);
  for (const std::string& text : flags.set) {
    const Setting setting = TRY(parse_setting(text));
    if (setting.owner != transform.name)
      return fail(ErrorCode::invalid_argument, "--set {}: here '{}' is set", text, transform.name);
    CHECK_OK(settings.options.set(setting.owner, setting.name, setting.value));
  }
  if (!(flags.sparsity >= 0 && flags.sparsity <= 1))
    return fail(ErrorCode::invalid_argument, "--sparsity: expected 0 to 1, found {}", flags.sparsity);
  settings.sparsity = flags.sparsity;
  if (!flags.pattern.empty()) CHECK_OK(parse_pattern(flags.pattern, settings));
  return settings;
}

Result<void> check_flags(const FlagSet& command, const TransformFlags& flags, const Transform& transform) {
  const bool squares = transform.observer == &kColumnSquares, known = !flags.imatrix.empty();
  CHECK_OK(refuse_void(
      command,
      {{"--imatrix", !squares, fmt::format("--method {} does not go by the mean squares of inputs", transform.name)}}));
  const bool blind = !transform.observer || known;
  const std::string why =
      known ? "--imatrix says what layers read" : fmt::format("--method {} looks at weights alone", transform.name);
  CHECK_OK(refuse_void(command, {{"--data", blind, why},
                                 {"--samples", blind, why},
                                 {"--context", blind, why},
                                 {"--precision", blind, why},
                                 {"--multiply", blind, why}}));
  if (!flags.pattern.empty() && is_given(command, "--sparsity"))
    return fail(ErrorCode::invalid_argument, "--sparsity: --pattern {} says how many weights stay", flags.pattern);
  CHECK_OK(one_of("--precision", flags.precision, {"bf16", "f32"}));
  CHECK_OK(one_of("--multiply", flags.multiply, {"auto", "f32", "bf16"}));
  if (flags.samples < 1 || flags.samples > 1 << 20)
    return fail(ErrorCode::invalid_argument, "--samples: expected 1 to {}, found {}", 1 << 20, flags.samples);
  if (flags.context < 2 || flags.context > 1 << 20)
    return fail(ErrorCode::invalid_argument, "--context: expected 2 to {}, found {}", 1 << 20, flags.context);
  return {};
}

void add_shared(FlagSet& command, TransformFlags& f) {
  ModelOutput& o = f.output;
  command.add("--model", o.model, "model: a GGUF file, a Hugging Face folder or a llama2.c .bin").required();
  command.add("--tokenizer", o.tokenizer, "tokenizer, when the model brings none");
  std::string methods;
  for (const Transform* transform : transforms())
    if (transform->kind == f.kind) methods += fmt::format("{}{}", methods.empty() ? "" : ", ", transform->name);
  command.add("--method", f.method, methods);
  command.add("--out", o.out, "the file or folder to write").required();
  command.add("--embedding-codec", f.embedding_codec, "of the embedding and the head, in GGUF");
  command.add("--data", f.data, "text that is run through the model, to see what its layers read: as in training");
  command.add("--imatrix", f.imatrix,
              "instead of --data: an importance matrix of llama.cpp; quantize takes method importance with it");
  command.add("--samples", f.samples, "examples or windows of it, spread over all").shows_default();
  command.add("--context", f.context, "tokens of each, at most").shows_default();
  command.add_settings("--set", f.set, "an option of the method: gptq.damp=0.05");
  command.add("--memory", f.memory, "most resident memory of the process: 300M, 1.5G");
  command.add("--plan", f.plan_only, "show where every byte would go, and stop");
  command.add("--precision", f.precision, "rounding of activations: bf16, f32").shows_default();
  command.add("--multiply", f.multiply, "how operands are multiplied: auto, f32, bf16").shows_default();
  command.add("--threads", f.threads, "0: one a CPU").shows_default().in_range(0, 1024);
  command.add("--json", f.json, "one JSON object an event");
}

std::function<Result<void>()> action(FlagSet& command, std::shared_ptr<TransformFlags> flags) {
  return [flags, &command]() -> Result<void> {
    const bool quantizes = flags->kind == TransformKind::quantize;
    if (flags->method.empty() && quantizes && !flags->imatrix.empty()) flags->method = kImportance.name;
    if (flags->method.empty())
      return fail(ErrorCode::invalid_argument, "--method is missing; 'thimble {} --help' lists them", command.name());
    const Transform* const transform = TRY(transform_named(flags->kind, flags->method));
    CHECK_OK(check_flags(command, *flags, *transform));
    Events events(flags->json);
    return events.end(Job(*flags, *transform, TRY(settings_of(*flags, *transform)), events).run());
  };
}

std::function<Result<void>()> add_prune(FlagSet& command) {
  auto flags = std::make_shared<TransformFlags>();
  add_shared(command, *flags);
  command.add("--sparsity", flags->sparsity, "part of every layer's weights that becomes zero").shows_default();
  command.add("--pattern", flags->pattern, "instead of --sparsity: N of every M consecutive weights stay, 2:4");
  command.add("--to", flags->output.to, "gguf (one file, for llama.cpp) or safetensors (a folder, for transformers)")
      .required();
  command.add("--codec", flags->codec,
              "of the pruned layers and, where given, of all: f32, bf16, f16, q8_0, q4_0, or bf16_2_4 and f16_2_4, "
              "which pack --pattern 2:4 in a folder; as stored without it, or 16 bits");
  return action(command, flags);
}

std::function<Result<void>()> add_quantize(FlagSet& command) {
  auto flags = std::make_shared<TransformFlags>();
  flags->kind = TransformKind::quantize;
  flags->output.to = "gguf";
  add_shared(command, *flags);
  command
      .add("--to", flags->codec,
           "codec of the layers, in a GGUF file: q4_0, q4_1, q5_0, q5_1; by importance also q4_K, q5_K, q6_K; by "
           "round any")
      .required();
  return action(command, flags);
}

}  // namespace

const Command kPrune = {"prune", "set weights to zero: by magnitude, or by what layers read", add_prune, true};
const Command kQuantize = {"quantize", "round a model's layers, plainly or with error feedback", add_quantize, true};

}  // namespace thimble
