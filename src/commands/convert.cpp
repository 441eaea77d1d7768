// convert: a model into another file format or codec, with an adapter merged into it when one is given. Rows stream
// from file to file, so that a model larger than memory can be converted.
#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "codecs/pattern.h"
#include "commands/command.h"
#include "commands/command_line.h"
#include "commands/convert_adapter.h"
#include "commands/model_output.h"
#include "commands/void_flags.h"
#include "core/count.h"
#include "files/json.h"
#include "models/gguf_writer.h"
#include "models/grown_model.h"
#include "plan/ledger.h"
#include "run/arena.h"
#include "run/merged.h"
#include "run/recipe.h"
#include "run/setup.h"
#include "text/tokenizer.h"

namespace thimble {
namespace {

struct ConvertOptions {
  std::string model, adapter, adapter_scale, tokenizer, to, codec, embedding_codec, out, memory;
  bool adapter_only = false, add_rows = false, json = false;
};

struct Conversion {
  const ConvertOptions& options;
  int64_t budget_bytes = 0;
  std::unique_ptr<ModelSource> source;
  std::vector<Adapter> adapters;
  std::optional<MergedModel> merged;
  ModelOutput output;

  std::span<const ModelTensor> tensors() const { return merged ? merged->tensors() : source->tensors(); }
  const Architecture& architecture() const { return merged ? merged->architecture() : source->architecture(); }
  // "14 matrices", "2 matrices and 3 vectors"
  std::string merged_text() const {
    size_t vectors = 0;
    for (const ModelTensor& tensor : merged->tensors())
      vectors += merged->changed().contains(tensor.name) && tensor.shape.rank() < 2;
    const std::string matrices = counted(merged->changed().size() - vectors, "matrix", "matrices");
    return vectors == 0 ? matrices : matrices + " and " + counted(vectors, "vector");
  }
  ReadRows rows() { return merged ? merged->rows() : rows_of(*source); }
};

Result<void> check_options(const ConvertOptions& o, const ModelOutput& output) {
  if (o.adapter.empty() && !o.adapter_scale.empty())
    return fail(ErrorCode::invalid_argument, "--adapter-scale {}: there is no --adapter that it is for",
                o.adapter_scale);
  return check_model_output(output, adapter_paths(o.adapter));
}

// What stands in for a codec that was not named: stored codecs where the format has them, else the nearest that loses
// little.
Result<void> choose_codecs(Conversion& c) {
  const ConvertOptions& o = c.options;
  ModelOutput& out = c.output;
  const auto& tensors = c.source->tensors();
  const auto packed = std::ranges::find_if(tensors, [](const ModelTensor& t) { return pattern_of(*t.codec); });
  if (!o.codec.empty()) {
    out.codec = TRY(codec_named(o.codec));
  } else if (out.is_gguf() && c.merged) {
    out.codec = &kQ8_0;
  } else if (out.is_gguf() && packed != tensors.end()) {
    out.codec = pattern_of(*packed->codec)->dense;
  } else if (!out.is_gguf() && std::ranges::any_of(tensors, [](const ModelTensor& t) {
               return t.codec->safetensors.empty() && !pattern_of(*t.codec);
             })) {
    out.codec = &kBf16;
  }
  if (o.codec.empty() && out.codec)
    out.notes.push_back(fmt::format("no --codec was given: {} is taken", out.codec->name));
  if (!o.embedding_codec.empty()) out.embedding_codec = TRY(codec_named(o.embedding_codec));
  if (!out.is_gguf() && out.embedding_codec) {
    return fail(ErrorCode::invalid_argument, "--embedding-codec: safetensors has one codec for all; leave it out");
  }
  choose_embedding_codec(out, c.architecture().width);
  return {};
}

// Rows for the tokens that have none.
Result<void> add_rows(Conversion& c) {
  const int64_t rows = c.architecture().vocab, tokens = c.output.opened->vocab_size();
  if (c.merged)
    return fail(ErrorCode::invalid_argument,
                "--add-rows: an adapter is merged into the model's own {} rows; convert with --adapter first, and then "
                "the result with --add-rows",
                rows);
  c.source = TRY(with_rows(std::move(c.source), tokens));
  c.output.notes.push_back(
      fmt::format("{} appended, {} in all: each is the mean of the model's", counted(tokens - rows, "row"), tokens));
  return {};
}

Result<void> open_tokenizer(Conversion& c) {
  const ConvertOptions& o = c.options;
  CHECK_OK(open_output_tokenizer(c.output, o.add_rows));
  if (!o.add_rows) return check_output_tokens(c.output, c.architecture().vocab);
  if (c.output.opened->vocab_size() <= c.architecture().vocab)
    return fail(ErrorCode::invalid_argument, "--add-rows: {} has {} tokens, and the model {} rows; leave the flag out",
                o.tokenizer.empty() ? o.model : o.tokenizer, c.output.opened->vocab_size(), c.architecture().vocab);
  return add_rows(c);
}

// That of the adapter which is merged: it was trained with it.
std::string adapter_template(const Conversion& c) { return c.adapters.empty() ? "" : c.adapters.front().chat_template; }

Result<void> open_all(Conversion& c) {
  const ConvertOptions& o = c.options;
  const int64_t asked = o.memory.empty() ? 0 : TRY(parse_bytes(o.memory));
  CHECK_OK(check_budget(asked));
  c.budget_bytes = budget_or_free(asked);
  c.source = TRY(ModelSource::open(o.model));
  if (!o.adapter.empty()) {
    c.adapters = TRY(open_adapter_list(o.adapter, o.adapter_scale));
    c.source = TRY(model_for(std::move(c.source), c.adapters));
    c.merged = TRY(MergedModel::make(*c.source, c.adapters));
  }
  CHECK_OK(choose_codecs(c));
  CHECK_OK(open_tokenizer(c));
  c.output.chat_template = adapter_template(c);
  if (c.output.opened && !c.output.chat_template.empty()) c.output.opened->use_chat_template(c.output.chat_template);
  return {};
}

// What the process will hold at most; it holds it from here on, before anything is written.
Result<int64_t> take_memory(Conversion& c) {
  const int64_t before = resident_bytes();
  CHECK_OK(make_tokenizer_tables(c.output, c.architecture().vocab));
  const int64_t tables_bytes = std::max<int64_t>(0, 2 * (resident_bytes() - before));
  const size_t tensors = c.tensors().size() + (c.merged ? c.merged->changed().size() : 0);
  populate_runtime(output_bytes(c.output, c.architecture()) + (c.merged ? c.merged->buffer_bytes() : 0) + tables_bytes);
  const int64_t planned = std::max(peak_resident_bytes(), resident_bytes() + output_small_bytes(tensors));
  if (planned <= c.budget_bytes) return planned;
  return fail(
      ErrorCode::over_budget,
      "converting {} needs {} (the process, rows, the adapter and the vocabulary), --memory says {}; the smallest "
      "that does is --memory {}M",
      c.options.model, megabytes(planned), megabytes(c.budget_bytes), (planned + 1'999'999) / 1'000'000);
}

// Decoded rows of a tensor, as `read` gives them.
Result<std::vector<float>> sample(const ModelTensor& tensor, int64_t row, const ReadRows& read) {
  const int64_t columns = tensor.shape.columns();
  std::vector<std::byte> bytes(static_cast<size_t>(tensor.codec->bytes(columns)));
  std::vector<float> numbers(static_cast<size_t>(columns));
  CHECK_OK(read(tensor, row, 1, bytes));
  tensor.codec->decode(bytes.data(), numbers.data(), columns);
  return numbers;
}

// A coarse codec may round away what the adapter changed: the part of the change that is still there once written is
// measured, on some rows of every adapted matrix. (Rounding noise beside it is the codec's own, with or without
// adapter.)
Result<void> note_rounding(Conversion& c) {
  if (!c.merged || !c.output.codec || c.output.codec->block == 1) return {};
  constexpr int64_t kRows = 4;
  double kept = 0, all = 0;
  for (const std::string& name : c.merged->changed()) {
    const ModelTensor* const found = c.source->find(name);
    if (!found || found->shape.rank() < 2) continue;
    const ModelTensor& stored = *found;
    const ModelTensor adapted{stored.name, &kF32, stored.shape};
    const Codec& codec = codec_for_rows(*c.output.codec, stored.shape.columns());
    for (int64_t i = 0; i < kRows; ++i) {
      const int64_t row = i * stored.shape.rows() / kRows;
      const std::vector<float> before = TRY(sample(stored, row, rows_of(*c.source)));
      const std::vector<float> after = TRY(sample(adapted, row, c.rows()));
      std::vector<std::byte> bytes(static_cast<size_t>(codec.bytes(stored.shape.columns())));
      std::vector<float> written(after.size());
      codec.encode(after.data(), bytes.data(), stored.shape.columns());
      codec.decode(bytes.data(), written.data(), stored.shape.columns());
      for (size_t j = 0; j < after.size(); ++j) {
        const double change = double{after[j]} - before[j];
        kept += (double{written[j]} - before[j]) * change;
        all += change * change;
      }
    }
  }
  const double part = kept / std::max(all, 1e-300);
  c.output.notes.push_back(
      fmt::format("{} keeps {:.0f} % of what the adapter changes{}", c.output.codec->name, 100 * part,
                  part < 0.9 ? ": the rest is rounded away; a finer --codec keeps it, f16 all of it" : ""));
  return {};
}

Result<void> write_adapter_alone(const ConvertOptions& o) {
  const size_t tensors = TRY(convert_adapter(o.model, o.adapter, o.out));
  const int64_t bytes = bytes_at(o.out);
  if (o.json)
    fmt::print(
        "{}\n",
        nlohmann::ordered_json{{"event", "done"}, {"output", o.out}, {"bytes", bytes}, {"tensors", tensors}}.dump(
            -1, ' ', false, Json::error_handler_t::replace));
  else
    fmt::print("{} of the adapter, {} written to {}\n", counted(tensors, "tensor"), megabytes(bytes), o.out);
  return {};
}

Result<void> convert(const ConvertOptions& options) {
  Conversion c{.options = options};
  c.output = {.model = options.model, .tokenizer = options.tokenizer, .to = options.to, .out = options.out};
  CHECK_OK(check_options(options, c.output));
  if (options.adapter_only) return write_adapter_alone(options);
  CHECK_OK(open_all(c));
  const int64_t planned = TRY(take_memory(c));
  CHECK_OK(write_model_output(c.output, c.architecture(), c.tensors(), c.rows()));
  if (c.output.is_gguf()) CHECK_OK(note_rounding(c));
  const int64_t peak = peak_resident_bytes(), bytes = bytes_at(options.out);
  if (options.json) {
    nlohmann::ordered_json json = {{"event", "done"},        {"output", options.out},
                                   {"bytes", bytes},         {"tensors", c.tensors().size()},
                                   {"peak_rss_bytes", peak}, {"planned_peak_bytes", planned},
                                   {"notes", c.output.notes}};
    fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace));
    return {};
  }
  for (const std::string& note : c.output.notes) fmt::print("{}\n", note);
  if (c.merged) fmt::print("adapter {} merged into {}\n", options.adapter, c.merged_text());
  fmt::print("{}, {} written to {}; peak memory {} of {} planned\n", counted(c.tensors().size(), "tensor"),
             megabytes(bytes), options.out, megabytes(peak), megabytes(planned));
  return {};
}

std::function<Result<void>()> add(FlagSet& command) {
  auto o = std::make_shared<ConvertOptions>();
  command.add("--model", o->model, "model: a GGUF file, a Hugging Face folder or a llama2.c .bin").required();
  command.add("--adapter", o->adapter,
              "adapter to merge into it: a PEFT folder or a GGUF adapter; several with commas");
  command.add("--adapter-scale", o->adapter_scale, "what each adapter is multiplied with: 0.5, or 0.5,2");
  command.add("--tokenizer", o->tokenizer, "tokenizer, when the model brings none");
  command.add("--to", o->to, "gguf (one file, for llama.cpp) or safetensors (a folder, for transformers)").required();
  command.add("--codec", o->codec,
              "of matrices: f32, bf16, f16; in a folder also bf16_2_4, f16_2_4 (of 2:4 sparse ones), in GGUF q8_0, "
              "q4_1, q4_K ...; as stored without it");
  command.add("--embedding-codec", o->embedding_codec, "of the embedding and the head, in GGUF");
  command.add("--out", o->out, "the file or folder to write").required();
  command.add("--memory", o->memory, "most resident memory of the process: 300M, 1.5G");
  command.add("--adapter-only", o->adapter_only,
              "write the adapter itself, for llama.cpp's --lora, and do not merge it");
  command.add("--add-rows", o->add_rows, "append a row, the mean of all, for every token that the model has none for");
  command.add("--json", o->json, "one JSON object");
  return [o, &command]() -> Result<void> {
    const char* const alone = "--adapter-only writes the adapter as it is";
    CHECK_OK(refuse_void(command, {{"--adapter-only", o->adapter.empty(), "there is no --adapter"},
                                   {"--adapter-only", o->to == "safetensors", "a PEFT folder is what it is read from"},
                                   {"--adapter-scale", o->adapter_only, "llama.cpp's --lora-scaled takes it"},
                                   {"--codec", o->adapter_only, alone},
                                   {"--embedding-codec", o->adapter_only, alone},
                                   {"--tokenizer", o->adapter_only, alone},
                                   {"--memory", o->adapter_only, "an adapter streams from file to file"},
                                   {"--add-rows", o->adapter_only, alone}}));
    return convert(*o);
  };
}

}  // namespace

const Command kConvert = {"convert", "change a model's format or codec, and merge an adapter", add, true};

}  // namespace thimble
