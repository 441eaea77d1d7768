// tokenize: text to token ids, and back.
#include <charconv>
#include <cstdio>

#include "commands/command.h"
#include "commands/command_line.h"
#include "commands/void_flags.h"
#include "core/count.h"
#include "files/file.h"
#include "files/file_kind.h"
#include "run/setup.h"
#include "text/json_output.h"
#include "text/tokenizer.h"

namespace thimble {
namespace {

struct TokenizeOptions {
  std::string model, tokenizer, text, file, decode;
  bool has_text = false, has_decode = false, json = false, pieces = false, bos = false, no_bos = false, no_eos = false,
       no_special = false;
};

// Bytes of any kind may be tokenized, but not those of another kind of file in place of the text in it.
Result<void> check_text(const std::string& path) {
  const FileKind* const kind = TRY(file_kind(TRY(InputFile::open(path))));
  if (kind->form == FileKind::text || kind->form == FileKind::unknown) return {};
  return refuse_kind(path, *kind);
}

// The bytes to encode, a piece at a time.
class Input {
 public:
  static Result<Input> open(const TokenizeOptions& o) {
    Input input;
    input.text_ = o.text;
    if (o.has_text) return input;
    input.stream_ = o.file.empty() ? stdin : std::fopen(o.file.c_str(), "rb");
    if (!input.stream_) CHECK_OK(InputFile::open(o.file));  // says why
    if (is_file(o.file)) CHECK_OK(check_text(o.file));
    input.name_ = o.file.empty() ? "standard input" : o.file;
    return input;
  }
  // Appends more to `to`; false at the end.
  Result<bool> more(std::string& to) {
    if (!stream_) return to += std::exchange(text_, ""), false;
    char piece[1 << 16];
    const size_t count = std::fread(piece, 1, sizeof piece, stream_);
    to.append(piece, count);
    if (std::ferror(stream_)) return fail(ErrorCode::io, "reading {}: it cannot be read; is it a folder?", name_);
    return count > 0;
  }

 private:
  std::string text_, name_;
  std::FILE* stream_ = nullptr;  // closed by the end of the program
};

// Prints ids as they come.
class Printer {
 public:
  Printer(const Tokenizer& tokenizer, const TokenizeOptions& o) : tokenizer_(tokenizer), o_(o) {}

  void print(std::span<const int32_t> ids) {
    for (int32_t id : ids) {
      const std::string_view bytes = tokenizer_.bytes(id);
      if (!o_.json)
        fmt::print("{:>7}  {}\n", id, json_string(bytes));
      else if (o_.pieces)
        fmt::print("{}{{\"id\":{},\"piece\":{}}}", first_ ? "[" : ",", id, json_string(bytes));
      else
        fmt::print("{}{}", first_ ? "[" : ",", id);
      first_ = false;
      ++count_;
    }
  }
  void end() {
    if (o_.json)
      fmt::print("{}]\n", first_ ? "[" : "");
    else
      fmt::print(stderr, "{}\n", counted(count_, "token"));
  }

 private:
  const Tokenizer& tokenizer_;
  const TokenizeOptions& o_;
  bool first_ = true;
  int64_t count_ = 0;
};

Result<void> encode(Tokenizer& tokenizer, const TokenizeOptions& o) {
  Input input = TRY(Input::open(o));
  Printer printer(tokenizer, o);
  EncodeOptions options{.special = !o.no_special, .bos = tokenizer.begins_with_bos(o.bos, o.no_bos)};
  CHECK_OK(check_bos(o.bos, tokenizer));
  std::string text;
  std::vector<int32_t> ids;
  size_t uncertain = 0;  // bytes of which nothing was certain: looked at again when there are twice as many
  for (bool more = true; more;) {
    more = TRY(input.more(text));
    if (more && text.size() < 2 * uncertain) continue;
    ids.clear();
    size_t done = text.size();
    if (more)
      done = TRY(tokenizer.encode_part(text, options, ids));
    else
      CHECK_OK(tokenizer.encode(text, options, ids));
    uncertain = more && done == 0 ? text.size() : 0;
    if (uncertain > kLongestWord)
      return fail(ErrorCode::unsupported, "there is no place to cut the text in {} bytes; break it into lines",
                  uncertain);
    if (uncertain > 0) continue;
    printer.print(ids);
    options.bos = false;
    options.continued = true;
    options.after_special = tokenizer.ends_apart(std::string_view(text).substr(0, done), ids);
    text.erase(0, done);
  }
  if (!o.no_eos) printer.print(tokenizer.ending());
  printer.end();
  return {};
}

// "1 2 3", "1,2,3" or "[1, 2, 3]".
Result<std::vector<int32_t>> parse_ids(const std::string& text, int32_t vocab) {
  std::vector<int32_t> ids;
  const char *at = text.data(), *const end = at + text.size();
  while (true) {
    while (at < end && std::string_view(" ,[]\t\n").find(*at) != std::string_view::npos) ++at;
    if (at == end) return ids;
    int32_t id = 0;
    const auto [after, error] = std::from_chars(at, end, id);
    if (error != std::errc{} || id < 0 || id >= vocab) {
      return fail(ErrorCode::invalid_argument, "--decode: expected ids from 0 to {}, found '{}'", vocab - 1,
                  std::string_view(at, std::min<size_t>(20, static_cast<size_t>(end - at))));
    }
    ids.push_back(id);
    at = after;
  }
}

Result<void> tokenize(const TokenizeOptions& o) {
  const std::string& path = o.tokenizer.empty() ? o.model : o.tokenizer;
  if (path.empty()) return fail(ErrorCode::invalid_argument, "--tokenizer is missing: a model or a tokenizer file");
  const auto tokenizer = TRY(Tokenizer::open(path));
  if (!o.has_decode) return encode(*tokenizer, o);
  const std::string text = tokenizer->decode(TRY(parse_ids(o.decode, tokenizer->vocab_size())));
  if (o.json)
    fmt::print("{}\n", json_string(text));
  else
    fmt::print("{}\n", text);
  return {};
}

std::function<Result<void>()> add(FlagSet& command) {
  auto o = std::make_shared<TokenizeOptions>();
  command.add("--model", o->model, "a model, whose tokenizer is taken");
  command.add("--tokenizer", o->tokenizer, "tokenizer.json, tokenizer.model, a .gguf, tok512.bin or a folder");
  command.add_text("--text", o->text, "the text; standard input without it");
  command.add("--file", o->file, "a file of text").excludes("--text");
  command.add("--decode", o->decode, "ids to turn into text: 1,2,3").excludes("--text").excludes("--file");
  command.add("--pieces", o->pieces, "with --json: what each id stands for too");
  command.add("--bos", o->bos, "begin with the beginning-of-sequence token, whatever the tokenizer says");
  command.add("--no-bos", o->no_bos, "leave out the beginning-of-sequence token that the tokenizer would add");
  command.add("--no-eos", o->no_eos, "leave out the end-of-sequence token that the tokenizer would add");
  command.add("--no-special", o->no_special, "special tokens in the text are ordinary text");
  command.add("--json", o->json, "one JSON array");
  return [o, &command]() -> Result<void> {
    o->has_text = is_given(command, "--text");
    o->has_decode = is_given(command, "--decode");
    const bool decodes = o->has_decode;
    CHECK_OK(refuse_void(
        command, {{"--model", is_given(command, "--tokenizer"), "--tokenizer is taken; leave one of the two out"},
                  {"--pieces", decodes, "--decode makes text of ids"},
                  {"--pieces", !o->json, "pieces are told with --json"},
                  {"--bos", decodes, "--decode makes text of ids"},
                  {"--bos", is_given(command, "--no-bos"), "--no-bos says the opposite"},
                  {"--no-bos", decodes, "--decode makes text of ids"},
                  {"--no-eos", decodes, "--decode makes text of ids"},
                  {"--no-special", decodes, "--decode makes text of ids"}}));
    return tokenize(*o);
  };
}

}  // namespace

const Command kTokenize = {"tokenize", "turn text into token ids, or ids into text", add};

}  // namespace thimble
