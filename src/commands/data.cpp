// data: what a data set becomes: how many examples of which lengths, what is left out and why, and some of them as
// tokens, with those that are learnt marked.
#include <unistd.h>

#include <algorithm>
#include <bit>

#include "commands/command.h"
#include "commands/command_line.h"
#include "core/count.h"
#include "files/file_kind.h"
#include "models/model_source.h"
#include "run/setup.h"
#include "text/datasets.h"
#include "text/json_output.h"
#include "text/utf8.h"

namespace thimble {
namespace {

constexpr int64_t kContext = 512;

struct Flags {
  std::string model, tokenizer, truncate;
  std::vector<std::string> files, columns;
  int64_t context = 0, show = 3;
  bool bos = false, strict = false, json = false;
};

struct Totals {
  int64_t tokens = 0, learnt = 0, longest = 0;
  std::vector<int64_t> lengths;  // of the examples
};

// A width of bins that makes at most ten: 1, 2 or 5 times a power of ten.
int64_t bin_width(int64_t longest) {
  for (int64_t unit = 1;; unit *= 10)
    for (const int64_t width : {unit, 2 * unit, 5 * unit})
      if (longest / width < 10) return width;
}

std::string histogram(const Totals& totals, int columns) {
  const int64_t width = bin_width(totals.longest);
  std::vector<int64_t> bins(static_cast<size_t>(totals.longest / width + 1));
  for (const int64_t length : totals.lengths) ++bins[static_cast<size_t>(length / width)];
  const int64_t most = std::ranges::max(bins);
  const int digits = static_cast<int>(fmt::formatted_size("{}", totals.longest + width));
  const int counts = static_cast<int>(fmt::formatted_size("{}", most));
  const int room = std::max(4, columns - (2 * digits + 3 + counts + 6));
  std::string text;
  for (size_t i = 0; i < bins.size(); ++i) {
    const int64_t from = static_cast<int64_t>(i) * width;
    const auto filled = (bins[i] * room + most - 1) / most;
    std::string bar;
    for (int64_t k = 0; k < filled; ++k) bar += "█";
    text +=
        fmt::format("  {:>{}} - {:>{}}  {:>{}}  {}\n", from, digits, from + width - 1, digits, bins[i], counts, bar);
  }
  return text;
}

// What a token shows: line feeds as "⏎", what is no text as its bytes.
std::string shown(std::string_view bytes) {
  std::string text;
  for (size_t at = 0; at < bytes.size();) {
    const Utf8Char c = decode_utf8(bytes, at);
    const bool control = c.code < 0x20 || (c.code >= 0x7f && c.code < 0xa0) || (c.code >= 0x202a && c.code <= 0x202e) ||
                         (c.code >= 0x2066 && c.code <= 0x2069);
    if (c.valid && c.code == '\n')
      text += "⏎";
    else if (!c.valid || control)
      for (size_t i = 0; i < std::max<size_t>(1, c.length); ++i)
        text += fmt::format("<{:02X}>", static_cast<unsigned char>(bytes[at + i]));
    else
      text += bytes.substr(at, c.length);
    at += std::max<size_t>(1, c.length);
  }
  return text;
}

int columns_of(std::string_view text) {
  int columns = 0;
  for (const char c : text) columns += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return columns;
}

// Tokens in lines of the terminal's width. In colours, neighbours differ in shade: what is learnt is green, the rest is
// grey, special tokens are underlined. Without colours what is learnt stands in brackets.
class TokenLines {
 public:
  TokenLines(int columns, bool colours) : columns_(columns), colours_(colours) {}

  void add(std::string_view bytes, bool learnt, bool special) {
    if (!colours_ && learnt != open_) put(learnt ? "[" : "]", "");
    open_ = learnt;
    odd_ = !odd_;
    const char* const colour = learnt ? (odd_ ? "\x1b[32m" : "\x1b[92m") : (odd_ ? "\x1b[37m" : "\x1b[90m");
    put(shown(bytes), colours_ ? std::string(special ? "\x1b[4m" : "") + colour : "");
    if (bytes.ends_with('\n')) end_line();
  }
  std::string finish() {
    if (!colours_ && open_) put("]", "");
    if (used_ > 0) end_line();
    return std::move(text_);
  }

 private:
  void end_line() {
    text_ += '\n';
    used_ = 0;
  }
  // A token that does not fit the rest of a line starts the next; a longer one is broken.
  void put(std::string token, const std::string& colour) {
    const int room = columns_ - 4;
    if (used_ > 0 && used_ + columns_of(token) > room) end_line();
    while (!token.empty()) {
      size_t end = 0;
      int taken = 0;
      while (end < token.size() && used_ + taken < room) {
        ++end, ++taken;
        while (end < token.size() && (static_cast<unsigned char>(token[end]) & 0xc0) == 0x80) ++end;
      }
      if (used_ == 0) text_ += "    ";
      text_ += colour + token.substr(0, end) + (colour.empty() ? "" : "\x1b[0m");
      used_ += taken;
      token.erase(0, end);
      if (!token.empty()) end_line();
    }
  }

  int columns_, used_ = 0;
  bool colours_, open_ = false, odd_ = false;
  std::string text_;
};

Result<std::unique_ptr<Tokenizer>> open_tokenizer_of(const Flags& flags, int64_t& rows) {
  if (flags.model.empty() && !flags.tokenizer.empty()) return Tokenizer::open(flags.tokenizer);
  if (flags.model.empty())
    return missing_tokenizer(
        {ErrorCode::invalid_argument, "--model or --tokenizer is missing: it says how text becomes tokens"});
  const auto source = TRY(ModelSource::open(flags.model));
  rows = source->architecture().vocab;
  return open_tokenizer(flags.tokenizer, *source);
}

Result<Totals> total(Dataset& data) {
  Totals totals;
  Example example;
  for (int64_t i = 0; i < data.size(); ++i) {
    CHECK_OK(data.read(i, example));
    const auto length = static_cast<int64_t>(example.ids.size());
    totals.tokens += length;
    totals.longest = std::max(totals.longest, length);
    totals.lengths.push_back(length);
    for (size_t k = 1; k < example.trained.size(); ++k) totals.learnt += example.trained[k] != 0;
  }
  return totals;
}

void show_json(const Flags&, const Dataset& data, const Totals& totals) {
  const DatasetReport& r = data.report();
  const int64_t width = bin_width(totals.longest);
  std::vector<int64_t> bins(static_cast<size_t>(totals.longest / width + 1));
  for (const int64_t length : totals.lengths) ++bins[static_cast<size_t>(length / width)];
  fmt::print(
      "{{\"event\":\"data\",\"examples\":{},\"tokens\":{},\"learnt_tokens\":{},\"longest\":{},\"bin_width\":{},"
      "\"bins\":[{}],\"left_out\":{{\"bad\":{},\"too_long\":{},\"nothing_to_learn\":{},\"dropped_tokens\":{}}},"
      "\"truncated\":{},\"preference_pairs\":{},\"unused_fields\":{}}}\n",
      data.size(), totals.tokens, totals.learnt, totals.longest, width, fmt::join(bins, ","), r.bad_lines, r.too_long,
      r.untrained, r.dropped_tokens, r.truncated, r.pairs, unused_json(r));
}

Result<void> show_examples(const Flags& flags, Dataset& data, const Tokenizer& tokenizer) {
  const bool colours = draws_on(STDOUT_FILENO);
  Example example;
  for (int64_t i = 0; i < std::min(flags.show, data.size()); ++i) {
    CHECK_OK(data.read(i, example));
    if (flags.json) {
      std::string pieces;
      for (const int32_t id : example.ids) pieces += (pieces.empty() ? "" : ",") + json_string(tokenizer.bytes(id));
      fmt::print("{{\"event\":\"example\",\"index\":{},\"ids\":[{}],\"learnt\":[{}],\"pieces\":[{}]}}\n", i,
                 fmt::join(example.ids, ","), fmt::join(example.trained, ","), pieces);
      continue;
    }
    const auto learnt = std::ranges::count(example.trained, 1);
    fmt::print("  example {}: {}, {} of them learnt\n", i, counted(example.ids.size(), "token"), learnt);
    TokenLines lines(terminal_columns(STDOUT_FILENO), colours);
    for (size_t k = 0; k < example.ids.size(); ++k) {
      const std::string_view bytes = tokenizer.bytes(example.ids[k]);
      const std::string number = fmt::format("{} ", example.ids[k]);  // where there is no tokenizer
      lines.add(bytes.empty() ? std::string_view(number) : bytes, example.trained[k] != 0,
                tokenizer.is_special(example.ids[k]));
    }
    fmt::print("{}", lines.finish());
  }
  return {};
}

Result<void> show(const Flags& flags) {
  const std::string files = fmt::format("{}", fmt::join(flags.files, "\n"));
  if (files.empty()) return fail(ErrorCode::invalid_argument, "--data is missing: files of data");
  DatasetOptions options{.bos = flags.bos, .strict = flags.strict};
  CHECK_OK(set_data_options(flags.columns, flags.truncate, options));
  const auto tokenizer = TRY(open_tokenizer_of(flags, options.rows));
  options.context = flags.context > 0 ? flags.context : TRY(token_window_length(files)).value_or(kContext);
  auto data = TRY(Dataset::open(files, *tokenizer, options));
  Events events(flags.json);
  report_data(events, flags.files.size() == 1 ? files : counted(flags.files.size(), "path"), data->report());
  const Totals totals = TRY(total(*data));
  if (flags.json) {
    show_json(flags, *data, totals);
    return show_examples(flags, *data, *tokenizer);
  }
  fmt::print("{}: {}, {} learnt ({:.0f} %)\n", counted(data->size(), data->windows() ? "window" : "example"),
             counted(totals.tokens, "token"), totals.learnt,
             100.0 * static_cast<double>(totals.learnt) / static_cast<double>(std::max<int64_t>(1, totals.tokens)));
  fmt::print("tokens of an example, and how many have so many (context {}):\n{}", options.context,
             histogram(totals, terminal_columns(STDOUT_FILENO)));
  if (flags.show > 0)
    fmt::print("{}\n", draws_on(STDOUT_FILENO) ? "green is learnt, underlined are special tokens:"
                                               : "what is learnt stands in brackets:");
  return show_examples(flags, *data, *tokenizer);
}

std::function<Result<void>()> add(FlagSet& command) {
  auto flags = std::make_shared<Flags>();
  command.add("--data", flags->files, "files, patterns or folders, as in training");
  command.add("--model", flags->model, "the model whose tokenizer and chat template are taken");
  command.add("--tokenizer", flags->tokenizer, "tokenizer, when the model brings none");
  command.add("--context", flags->context, "tokens of a window; 512 without it").in_range(2, 1 << 20);
  command.add_settings("--columns", flags->columns, "names in the data for fields: prompt=frage,completion=antwort")
      .delimiter(',');
  command
      .add("--truncate", flags->truncate, "examples longer than the context: left, right, split; left out without it")
      .one_of({"left", "right", "split"});
  command.add("--show", flags->show, "examples to show as tokens").shows_default().in_range(0, 1 << 20);
  command.add("--bos", flags->bos, "begin every window of plain text with the beginning-of-sequence token");
  command.add("--strict", flags->strict, "stop at the first bad line of the data");
  command.add("--json", flags->json, "one JSON object an event");
  return [flags] { return show(*flags); };
}

}  // namespace

const Command kData = {"data", "show what a data set becomes", add};

}  // namespace thimble
