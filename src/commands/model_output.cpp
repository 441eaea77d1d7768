#include "commands/model_output.h"

#include <sys/stat.h>

#include <filesystem>
#include <map>

#include "core/count.h"
#include "files/file.h"
#include "models/hf_writer.h"
#include "run/setup.h"
#include "text/keep_files.h"
#include "text/save.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;

// What the C library takes on its way, names and places of tensors, and pages that only writing touches.
constexpr int64_t kSmallThings = 256 << 10, kBytesPerTensor = 1 << 10;

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
void note_replacements(ModelOutput& o, std::span<const ModelTensor> tensors,
                       std::span<const GgufReplacement> replaced) {
  std::map<std::string_view, int64_t> columns;
  for (const ModelTensor& tensor : tensors) columns[tensor.name] = tensor.shape.columns();
  std::map<std::pair<std::string_view, std::string_view>, std::vector<std::string_view>> kinds;
  for (const GgufReplacement& r : replaced) kinds[{r.wanted, r.used}].push_back(r.tensor);
  for (const auto& [kind, names] : kinds)
    o.notes.push_back(fmt::format("{} needs rows of whole blocks of {}: {} written for {} instead ({}: {} columns{})",
                                  kind.first, find_codec(kind.first)->block, kind.second,
                                  counted(names.size(), "tensor"), names.front(), columns[names.front()],
                                  names.size() > 1 ? ", ..." : ""));
}

Result<void> write_gguf(ModelOutput& o, const Architecture& architecture, std::span<const ModelTensor> tensors,
                        const ReadRows& rows) {
  GgufWriteOptions options{.codec = o.codec, .embedding_codec = o.embedding_codec};
  options.name = fs::path(o.out).stem().string();
  if (o.gguf_tokenizer) options.name = TRY(o.gguf_tokenizer->get_or<std::string>("general.name", options.name));
  if (o.gguf_tokenizer) options.tokenizer_source = &*o.gguf_tokenizer, options.chat_template = o.chat_template;
  if (o.opened) options.tokenizer = &o.tables;
  const fs::path folder = fs::path(o.out).parent_path();
  if (!folder.empty()) CHECK_OK(make_directories(folder.string()));
  const GgufWriteReport report = TRY(write_gguf_model(o.out, architecture, tensors, rows, options));
  note_replacements(o, tensors, report.replaced);
  return {};
}

Result<void> write_safetensors(ModelOutput& o, const Architecture& architecture, std::span<const ModelTensor> tensors,
                               const ReadRows& rows) {
  const HfWriteOptions options{.codec = o.codec, .ids = TRY(special_ids(o.opened.get(), o.model))};
  CHECK_OK(write_hf_model(o.out, architecture, tensors, rows, options));
  if (o.opened) CHECK_OK(keep_tokenizer(*o.opened, o.tokenizer.empty() ? o.model : o.tokenizer, o.model, o.out));
  return {};
}

}  // namespace

Result<void> check_model_output(const ModelOutput& o, std::vector<std::string> inputs) {
  if (o.to != "gguf" && o.to != "safetensors") {
    return fail(ErrorCode::invalid_argument, "--to: expected gguf or safetensors, found '{}'", o.to);
  }
  inputs.insert(inputs.end(), {o.model, o.tokenizer});
  CHECK_OK(check_output("--out", o.out, inputs));
  if (o.is_gguf() && is_directory(o.out)) {
    return fail(ErrorCode::invalid_argument, "--out {}: it is a folder; --to gguf writes one file, {}/model.gguf say",
                o.out, o.out);
  }
  if (o.is_gguf() && is_file(o.out) && !GgufFile::recognises(o.out))
    return fail(ErrorCode::invalid_argument,
                "--out {}: there is a file of that name which is no GGUF model; name another", o.out);
  if (!o.is_gguf() && is_file(o.out)) {
    return fail(ErrorCode::invalid_argument, "--out {}: it is a file; --to safetensors writes a folder", o.out);
  }
  return {};
}

void choose_embedding_codec(ModelOutput& o, int64_t width) {
  if (o.embedding_codec || !o.is_gguf() || !o.codec || o.codec->block == 1 || o.codec == &kQ8_0) return;
  o.embedding_codec = kQ6K.fits_rows(width) ? &kQ6K : &kQ8_0;
  o.notes.push_back(
      fmt::format("embedding and head in {} (--embedding-codec says otherwise)", o.embedding_codec->name));
}

Result<void> open_output_tokenizer(ModelOutput& o, bool apart) {
  const std::string& path = o.tokenizer.empty() ? o.model : o.tokenizer;
  const char* const kNone = "the model brings no tokenizer, so the result has none; give one with --tokenizer";
  const bool gguf = GgufFile::recognises(path);
  if (gguf) o.gguf_tokenizer = TRY(GgufFile::open(path));
  if (gguf && TRY(o.gguf_tokenizer->get_or<std::string>("tokenizer.ggml.model", "no_vocab")) == "no_vocab")
    o.gguf_tokenizer.reset();
  const bool brings_one = gguf ? o.gguf_tokenizer.has_value() : !o.tokenizer.empty() || Tokenizer::is_in(path);
  if (!brings_one && apart)
    return fail(ErrorCode::invalid_argument, "--add-rows: the model brings no tokenizer; give one with --tokenizer");
  if (!brings_one) {
    o.notes.emplace_back(kNone);
    return {};
  }
  if (o.is_gguf() && gguf && !apart) return {};
  o.gguf_tokenizer.reset();
  o.opened = TRY(Tokenizer::open(path));
  return {};
}

Result<void> check_output_tokens(ModelOutput& o, int64_t rows) {
  if (!o.opened || o.opened->vocab_size() <= rows) return {};
  const int64_t tokens = o.opened->vocab_size();
  const std::string_view first = o.opened->bytes(static_cast<int32_t>(rows));
  o.notes.push_back(fmt::format("the tokenizer has {} tokens, the model {} rows: '{}' (id {}) has none{}", tokens, rows,
                                first, rows, o.is_gguf() ? ", and is left out" : ""));
  if (!o.is_gguf()) return {};
  for (auto id = static_cast<int32_t>(rows); id < tokens; ++id)
    if (!o.opened->is_special(id) && !o.opened->bytes(id).empty())
      return fail(
          ErrorCode::invalid_argument,
          "{}: the tokenizer has {} tokens, the model {} rows: '{}' (id {}) has none and is no special token, so "
          "that it cannot be left out; give the model's own tokenizer with --tokenizer",
          o.tokenizer.empty() ? o.model : o.tokenizer, tokens, rows, o.opened->bytes(id), id);
  return {};
}

Result<void> make_tokenizer_tables(ModelOutput& o, int64_t rows) {
  if (!o.opened || !o.is_gguf()) return {};
  o.tables = TRY(o.opened->tables());
  cut_vocabulary(o.tables, rows);
  pad_vocabulary(o.tables, rows);
  return {};
}

int64_t output_bytes(const ModelOutput& o, const Architecture& architecture) {
  if (o.is_gguf()) return stream_bytes(architecture, false);
  return hf_write_bytes(architecture) + (o.opened ? kSaveBytesPerToken * o.opened->vocab_size() : 0);
}

int64_t output_small_bytes(size_t tensors) { return kSmallThings + kBytesPerTensor * static_cast<int64_t>(tensors); }

namespace {

// By their names, which file each is: one that is written anew is another.
std::map<std::string, ino_t> files_in(const std::string& folder) {
  std::map<std::string, ino_t> files;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    struct stat state {};
    if (::stat(at->path().c_str(), &state) == 0 && S_ISREG(state.st_mode))
      files[at->path().filename().string()] = state.st_ino;
  }
  return files;
}

}  // namespace

Result<void> write_model_output(ModelOutput& o, const Architecture& architecture, std::span<const ModelTensor> tensors,
                                const ReadRows& rows) {
  if (o.is_gguf()) return write_gguf(o, architecture, tensors, rows);
  const std::map<std::string, ino_t> before = files_in(o.out);
  CHECK_OK(write_safetensors(o, architecture, tensors, rows));
  std::string left;
  for (const auto& [name, number] : files_in(o.out))
    if (const auto old = before.find(name); old != before.end() && old->second == number)
      left += fmt::format("{}{}", left.empty() ? "" : ", ", name);
  if (!left.empty())
    o.notes.push_back(
        fmt::format("{} was not empty, and holds still what was not written now: {}; remove what is not of this model",
                    o.out, left));
  return {};
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

}  // namespace thimble
