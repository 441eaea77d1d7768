// convert: a model into another file format or codec, with an adapter merged into it when one is given. Rows stream
// from file to file, so that a model larger than memory can be converted.
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "commands/command.h"
#include "commands/convert_adapter.h"
#include "commands/void_flags.h"
#include "core/count.h"
#include "files/json.h"
#include "models/gguf_writer.h"
#include "models/grown_model.h"
#include "models/hf_writer.h"
#include "plan/ledger.h"
#include "run/arena.h"
#include "run/merged.h"
#include "run/recipe.h"
#include "text/keep_files.h"
#include "text/save.h"
#include "text/tokenizer.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;

struct ConvertOptions {
  std::string model, adapter, adapter_scale, tokenizer, to, codec, embedding_codec, out, memory;
  bool adapter_only = false, add_rows = false, json = false;
};

// What the C library takes on its way, names and places of tensors, and pages that only writing touches.
constexpr int64_t kSmallThings = 256 << 10, kBytesPerTensor = 1 << 10;

struct Conversion {
  const ConvertOptions& options;
  int64_t budget_bytes = 0;
  std::unique_ptr<ModelSource> source;
  std::vector<Adapter> adapters;
  std::optional<MergedModel> merged;
  const Codec* codec = nullptr;            // nullptr: as stored
  const Codec* embedding_codec = nullptr;  // nullptr: as `codec`
  std::optional<GgufFile> gguf;            // the tokenizer's file, when it is GGUF
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<std::string> notes;

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

Result<void> check_options(const ConvertOptions& o) {
  if (o.to != "gguf" && o.to != "safetensors") {
    return fail(ErrorCode::invalid_argument, "--to: expected gguf or safetensors, found '{}'", o.to);
  }
  std::vector<std::string> inputs = adapter_paths(o.adapter);
  inputs.insert(inputs.end(), {o.model, o.tokenizer});
  if (o.adapter.empty() && !o.adapter_scale.empty())
    return fail(ErrorCode::invalid_argument, "--adapter-scale {}: there is no --adapter that it is for",
                o.adapter_scale);
  CHECK_OK(check_output("--out", o.out, inputs));
  if (o.to == "gguf" && is_directory(o.out)) {
    return fail(ErrorCode::invalid_argument, "--out {}: it is a folder; --to gguf writes one file, {}/model.gguf say",
                o.out, o.out);
  }
  if (o.to == "safetensors" && is_file(o.out)) {
    return fail(ErrorCode::invalid_argument, "--out {}: it is a file; --to safetensors writes a folder", o.out);
  }
  return {};
}

// What stands in for a codec that was not named: stored codecs where the format has them, else the nearest that loses
// little. Heads and embeddings are kept finer than other matrices, as llama.cpp's quantize does.
Result<void> choose_codecs(Conversion& c) {
  const ConvertOptions& o = c.options;
  const bool gguf = o.to == "gguf";
  if (!o.codec.empty()) {
    c.codec = TRY(codec_named(o.codec));
  } else if (gguf && c.merged) {
    c.codec = &kQ8_0;
  } else if (!gguf && std::any_of(c.source->tensors().begin(), c.source->tensors().end(),
                                  [](const ModelTensor& t) { return t.codec->safetensors.empty(); })) {
    c.codec = &kBf16;
  }
  if (o.codec.empty() && c.codec) c.notes.push_back(fmt::format("no --codec was given: {} is taken", c.codec->name));
  if (!o.embedding_codec.empty()) {
    c.embedding_codec = TRY(codec_named(o.embedding_codec));
  } else if (gguf && c.codec && c.codec->block > 1 && c.codec != &kQ8_0) {
    c.embedding_codec = kQ6K.fits_rows(c.architecture().width) ? &kQ6K : &kQ8_0;
    c.notes.push_back(
        fmt::format("embedding and head in {} (--embedding-codec says otherwise)", c.embedding_codec->name));
  }
  if (!gguf && c.embedding_codec) {
    return fail(ErrorCode::invalid_argument, "--embedding-codec: safetensors has one codec for all; leave it out");
  }
  return {};
}

// Rows for the tokens that have none.
Result<void> add_rows(Conversion& c) {
  const int64_t rows = c.architecture().vocab, tokens = c.tokenizer->vocab_size();
  if (c.merged)
    return fail(ErrorCode::invalid_argument,
                "--add-rows: an adapter is merged into the model's own {} rows; convert with --adapter first, and then "
                "the result with --add-rows",
                rows);
  c.source = TRY(with_rows(std::move(c.source), tokens));
  c.notes.push_back(
      fmt::format("{} appended, {} in all: each is the mean of the model's", counted(tokens - rows, "row"), tokens));
  return {};
}

Result<void> open_tokenizer(Conversion& c) {
  const ConvertOptions& o = c.options;
  const std::string path = o.tokenizer.empty() ? o.model : o.tokenizer;
  const bool brings_one = !o.tokenizer.empty() || GgufFile::recognises(path) || Tokenizer::is_in(path);
  if (!brings_one && o.add_rows)
    return fail(ErrorCode::invalid_argument, "--add-rows: the model brings no tokenizer; give one with --tokenizer");
  if (!brings_one) {
    c.notes.push_back("the model brings no tokenizer, so the result has none; give one with --tokenizer");
    return {};
  }
  if (o.to == "gguf" && GgufFile::recognises(path) && !o.add_rows) {
    c.gguf = TRY(GgufFile::open(path));
    if (TRY(c.gguf->get_or<std::string>("tokenizer.ggml.model", "no_vocab")) == "no_vocab") {
      c.gguf.reset();
      c.notes.push_back("the model brings no tokenizer, so the result has none; give one with --tokenizer");
    }
    return {};
  }
  c.tokenizer = TRY(Tokenizer::open(path));
  if (o.add_rows && c.tokenizer->vocab_size() <= c.architecture().vocab)
    return fail(ErrorCode::invalid_argument, "--add-rows: {} has {} tokens, and the model {} rows; leave the flag out",
                path, c.tokenizer->vocab_size(), c.architecture().vocab);
  const int64_t rows = c.architecture().vocab, tokens = c.tokenizer->vocab_size();
  if (tokens <= rows) return {};
  if (o.add_rows) return add_rows(c);
  const std::string_view first = c.tokenizer->bytes(static_cast<int32_t>(rows));
  c.notes.push_back(fmt::format("the tokenizer has {} tokens, the model {} rows: '{}' (id {}) has none{}", tokens, rows,
                                first, rows, o.to == "gguf" ? ", and is left out" : ""));
  if (o.to == "safetensors") return {};
  for (auto id = static_cast<int32_t>(rows); id < tokens; ++id)
    if (!c.tokenizer->is_special(id) && !c.tokenizer->bytes(id).empty())
      return fail(
          ErrorCode::invalid_argument,
          "{}: the tokenizer has {} tokens, the model {} rows: '{}' (id {}) has none and is no special token, so "
          "that it can not be left out; give the model's own tokenizer with --tokenizer",
          path, tokens, rows, c.tokenizer->bytes(id), id);
  return {};
}

// That of the adapter which is merged: it was trained with it.
std::string adapter_template(const Conversion& c) { return c.adapters.empty() ? "" : c.adapters.front().chat_template; }

Result<void> open_all(Conversion& c) {
  const ConvertOptions& o = c.options;
  c.budget_bytes = o.memory.empty() ? free_memory_bytes() / 5 * 4 : TRY(parse_bytes(o.memory));
  c.source = TRY(ModelSource::open(o.model));
  if (!o.adapter.empty()) {
    c.adapters = TRY(open_adapter_list(o.adapter, o.adapter_scale));
    c.merged = TRY(MergedModel::make(*c.source, c.adapters));
  }
  CHECK_OK(choose_codecs(c));
  CHECK_OK(open_tokenizer(c));
  if (c.tokenizer && !adapter_template(c).empty()) c.tokenizer->use_chat_template(adapter_template(c));
  return {};
}

// What the process will hold at most; it holds it from here on, before anything is written.
Result<int64_t> take_memory(const Conversion& c, int64_t tables_bytes) {
  const Architecture& a = c.architecture();
  const int64_t rows_bytes = c.options.to == "safetensors" ? hf_write_bytes(a) : stream_bytes(a, false);
  populate_runtime(rows_bytes + (c.merged ? c.merged->buffer_bytes() : 0) + tables_bytes);
  const size_t tensors = c.tensors().size() + (c.merged ? c.merged->changed().size() : 0);
  const int64_t small = kSmallThings + kBytesPerTensor * static_cast<int64_t>(tensors);
  const int64_t planned = std::max(peak_resident_bytes(), resident_bytes() + small);
  if (planned <= c.budget_bytes) return planned;
  return fail(
      ErrorCode::over_budget,
      "converting {} needs {} (the process, rows, the adapter and the vocabulary), --memory says {}; the smallest "
      "that does is --memory {}M",
      c.options.model, megabytes(planned), megabytes(c.budget_bytes), (planned + 1'999'999) / 1'000'000);
}

// A model may have more rows than its tokenizer has tokens: unused ones fill up, as llama.cpp's own converter does.
void pad_vocabulary(TokenizerTables& tables, int64_t vocab) {
  constexpr int32_t kUnused = 5;
  for (auto id = static_cast<int64_t>(tables.tokens.size()); id < vocab; ++id) {
    tables.tokens.push_back(fmt::format("[PAD{}]", id));
    if (!tables.types.empty()) tables.types.push_back(kUnused);
    if (!tables.scores.empty()) tables.scores.push_back(-10000.0f);
  }
}

// Special tokens that the model has no row for are left out: GGUF has as many tokens as rows.
void cut_vocabulary(TokenizerTables& tables, int64_t vocab) {
  const auto rows = static_cast<size_t>(vocab);
  if (tables.tokens.size() <= rows) return;
  StringList tokens;
  for (size_t id = 0; id < rows; ++id) tokens.push_back(tables.tokens[id]);
  tables.tokens = std::move(tokens);
  if (!tables.types.empty()) tables.types.resize(rows);
  if (!tables.scores.empty()) tables.scores.resize(rows);
  for (auto* id : {&tables.bos, &tables.eos, &tables.unknown, &tables.padding})
    if (*id && **id >= vocab) id->reset();
}

// One line for each kind of replacement.
void note_replacements(Conversion& c, std::span<const GgufReplacement> replaced) {
  std::map<std::pair<std::string_view, std::string_view>, std::vector<std::string_view>> kinds;
  for (const GgufReplacement& r : replaced) kinds[{r.wanted, r.used}].push_back(r.tensor);
  for (const auto& [kind, tensors] : kinds) {
    const ModelTensor* tensor = c.source->find(tensors.front());
    c.notes.push_back(fmt::format("{} needs rows of whole blocks of {}: {} written for {} instead ({}: {} columns{})",
                                  kind.first, find_codec(kind.first)->block, kind.second,
                                  counted(tensors.size(), "tensor"), tensors.front(),
                                  tensor ? tensor->shape.columns() : 0, tensors.size() > 1 ? ", ..." : ""));
  }
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
  if (!c.merged || !c.codec || c.codec->block == 1) return {};
  constexpr int64_t kRows = 4;
  double kept = 0, all = 0;
  for (const std::string& name : c.merged->changed()) {
    const ModelTensor* const found = c.source->find(name);
    if (!found || found->shape.rank() < 2) continue;
    const ModelTensor& stored = *found;
    const ModelTensor adapted{stored.name, &kF32, stored.shape};
    const Codec& codec = codec_for_rows(*c.codec, stored.shape.columns());
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
  c.notes.push_back(
      fmt::format("{} keeps {:.0f} % of what the adapter changes{}", c.codec->name, 100 * part,
                  part < 0.9 ? ": the rest is rounded away; a finer --codec keeps it, f16 all of it" : ""));
  return {};
}

Result<int64_t> write_gguf(Conversion& c) {
  const int64_t before = resident_bytes();
  TokenizerTables tables;
  if (c.tokenizer) tables = TRY(c.tokenizer->tables());
  if (c.tokenizer) cut_vocabulary(tables, c.architecture().vocab);
  if (c.tokenizer) pad_vocabulary(tables, c.architecture().vocab);
  const int64_t planned = TRY(take_memory(c, std::max<int64_t>(0, 2 * (resident_bytes() - before))));
  GgufWriteOptions options{.codec = c.codec, .embedding_codec = c.embedding_codec};
  options.name = fs::path(c.options.out).stem().string();
  if (c.gguf) options.name = TRY(c.gguf->get_or<std::string>("general.name", options.name));
  if (c.gguf) options.tokenizer_source = &*c.gguf, options.chat_template = adapter_template(c);
  if (c.tokenizer) options.tokenizer = &tables;
  const fs::path folder = fs::path(c.options.out).parent_path();
  if (!folder.empty()) CHECK_OK(make_directories(folder.string()));
  const GgufWriteReport report = TRY(write_gguf_model(c.options.out, c.architecture(), c.tensors(), c.rows(), options));
  note_replacements(c, report.replaced);
  CHECK_OK(note_rounding(c));
  return planned;
}

Result<int64_t> write_safetensors(Conversion& c) {
  const int64_t planned = TRY(take_memory(c, c.tokenizer ? kSaveBytesPerToken * c.tokenizer->vocab_size() : 0));
  HfWriteOptions options{.codec = c.codec};
  if (c.tokenizer) {
    if (c.tokenizer->bos()) options.bos = *c.tokenizer->bos();
    if (c.tokenizer->eos()) options.eos = *c.tokenizer->eos();
  }
  CHECK_OK(write_hf_model(c.options.out, c.architecture(), c.tensors(), c.rows(), options));
  const std::string& from = c.options.tokenizer.empty() ? c.options.model : c.options.tokenizer;
  if (c.tokenizer) CHECK_OK(keep_tokenizer(*c.tokenizer, from, c.options.model, c.options.out));
  return planned;
}

int64_t bytes_at(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return static_cast<int64_t>(fs::file_size(path, ignored));
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(path, ignored)) {
    if (entry.is_regular_file(ignored)) bytes += static_cast<int64_t>(entry.file_size(ignored));
  }
  return bytes;
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
  CHECK_OK(check_options(options));
  if (options.adapter_only) return write_adapter_alone(options);
  Conversion c{.options = options};
  CHECK_OK(open_all(c));
  const int64_t planned = TRY(options.to == "gguf" ? write_gguf(c) : write_safetensors(c));
  const int64_t peak = peak_resident_bytes(), bytes = bytes_at(options.out);
  if (options.json) {
    nlohmann::ordered_json json = {
        {"event", "done"},        {"output", options.out},         {"bytes", bytes},  {"tensors", c.tensors().size()},
        {"peak_rss_bytes", peak}, {"planned_peak_bytes", planned}, {"notes", c.notes}};
    fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace));
    return {};
  }
  for (const std::string& note : c.notes) fmt::print("{}\n", note);
  if (c.merged) fmt::print("adapter {} merged into {}\n", options.adapter, c.merged_text());
  fmt::print("{}, {} written to {}; peak memory {} of {} planned\n", counted(c.tensors().size(), "tensor"),
             megabytes(bytes), options.out, megabytes(peak), megabytes(planned));
  return {};
}

std::function<Result<void>()> add(CLI::App& app) {
  auto o = std::make_shared<ConvertOptions>();
  app.add_option("--model", o->model, "model: a GGUF file, a Hugging Face folder or a llama2.c .bin")->required();
  app.add_option("--adapter", o->adapter,
                 "adapter to merge into it: a PEFT folder or a GGUF adapter; several with commas");
  app.add_option("--adapter-scale", o->adapter_scale, "what each adapter is multiplied with: 0.5, or 0.5,2");
  app.add_option("--tokenizer", o->tokenizer, "tokenizer, when the model brings none");
  app.add_option("--to", o->to, "gguf (one file, for llama.cpp) or safetensors (a folder, for transformers)")
      ->required();
  app.add_option("--codec", o->codec,
                 "of matrices: f32, bf16, f16; in GGUF also q8_0, q4_1, q4_K ...; as stored without it");
  app.add_option("--embedding-codec", o->embedding_codec, "of the embedding and the head, in GGUF");
  app.add_option("--out", o->out, "the file or folder to write")->required();
  app.add_option("--memory", o->memory, "most resident memory of the process: 300M, 1.5G");
  app.add_flag("--adapter-only", o->adapter_only,
               "write the adapter itself, for llama.cpp's --lora, and do not merge it");
  app.add_flag("--add-rows", o->add_rows, "append a row, the mean of all, for every token that the model has none for");
  app.add_flag("--json", o->json, "one JSON object");
  return [o, &app]() -> Result<void> {
    const char* const alone = "--adapter-only writes the adapter as it is";
    CHECK_OK(refuse_void(app, {{"--adapter-only", o->adapter.empty(), "there is no --adapter"},
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
