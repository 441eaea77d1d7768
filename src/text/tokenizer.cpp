#include "text/tokenizer.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "files/file.h"
#include "text/readers.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;

struct Format {
  std::string_view name;
  bool (*recognises)(const fs::path& path, std::string_view head);  // `head`: the file's first bytes
  Result<std::unique_ptr<Tokenizer>> (*read)(const std::string& path);
};

constexpr std::array kFormats{
    Format{"GGUF", [](const fs::path&, std::string_view head) { return head.starts_with("GGUF"); },
           read_gguf_tokenizer},
    Format{"tokenizer.json",
           [](const fs::path& path, std::string_view head) {
             return path.extension() == ".json" && head.find('{') != std::string_view::npos;
           },
           read_tokenizer_json},
    Format{"BERT's vocab.txt", [](const fs::path& path, std::string_view) { return path.filename() == "vocab.txt"; },
           read_vocab_txt},
    Format{"SentencePiece's tokenizer.model",  // starts with field 1, a piece
           [](const fs::path& path, std::string_view head) {
             return path.extension() == ".model" && head.starts_with('\x0a');
           },
           read_tokenizer_model},
    Format{"llama2.c's tokenizer .bin",
           [](const fs::path& path, std::string_view) { return path.extension() == ".bin"; }, read_tok512},
};

// The files that a folder's tokenizer is in: one, or a vocabulary with its merges; empty where there is none.
std::vector<fs::path> files_in(const fs::path& folder) {
  const auto there = [&](const char* name) { return fs::exists(folder / name); };
  for (const char* name : {"tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"})
    if (there(name)) return {folder / name};
  for (const auto& [vocab, merges] : {std::pair{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}})
    if (there(vocab) && there(merges)) return {folder / vocab, folder / merges};
  if (there("vocab.txt")) return {folder / "vocab.txt"};
  return {};
}

Result<std::unique_ptr<Tokenizer>> open_folder(const fs::path& folder) {
  const std::vector<fs::path> files = files_in(folder);
  if (files.size() == 2) return read_vocab_and_merges(files[0].string(), files[1].string());
  if (files.size() == 1) return Tokenizer::open(files[0].string());
  return fail(ErrorCode::invalid_argument,
              "opening a tokenizer: {} holds none of tokenizer.json, tokenizer.model, spiece.model, "
              "sentencepiece.bpe.model, vocab.json with merges.txt, encoder.json with vocab.bpe, vocab.txt; name the "
              "file itself",
              folder.string());
}

}  // namespace

Failure in_file(const std::string& path, const Error& error) {
  if (error.message.find(path) != std::string::npos) return Failure(error);
  return fail(error.code, "{}: {}", path, error.message);
}

Result<void> check_rows(const Tokenizer& tokenizer, std::span<const int32_t> ids, int64_t rows) {
  for (const int32_t id : ids)
    if (id >= rows)
      return fail(ErrorCode::invalid_argument,
                  "the token '{}' (id {}) has no row in the model, which has {}; convert --add-rows appends some",
                  tokenizer.bytes(id), id, rows);
  return {};
}

bool Tokenizer::is_in(const std::string& folder) { return !files_in(folder).empty(); }

bool Tokenizer::ends_apart(std::string_view text, std::span<const int32_t> ids) const {
  if (ids.empty() || !is_apart(ids.back())) return false;
  const std::string_view last = bytes(ids.back());
  const auto unknown = std::ranges::find(token_names_, "unk_token", [](const auto& named) { return named.first; });
  if (unknown == token_names_.end() || unknown->second != last) return true;
  const size_t end = text.find_last_not_of(" \t\r\n");  // which it may take with it
  return end != std::string_view::npos && text.substr(0, end + 1).ends_with(last);
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::open(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return open_folder(path);
  std::string head;
  {
    const InputFile file = TRY(InputFile::open(path));
    head.resize(std::min<uint64_t>(file.size(), 64));
    CHECK_OK(file.read(0, std::as_writable_bytes(std::span(head))));
  }
  std::string known;
  for (const Format& format : kFormats) {
    if (format.recognises(path, head)) {
      auto tokenizer = format.read(path);
      return tokenizer ? std::move(tokenizer) : in_file(path, tokenizer.error());
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", format.name);
  }
  return fail(ErrorCode::unsupported, "opening a tokenizer: {} is none of the known formats ({})", path, known);
}

}  // namespace thimble
