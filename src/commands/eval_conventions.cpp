// Perplexity of a plain text by the other conventions that are in use.
//
//   strided    transformers' page on perplexity: windows of --context tokens, each --stride after the one before it; of
//              each those tokens count that no window before had. As there, the mean of a window weighs as many tokens
//              as it counts, less one.
//   word       lm-evaluation-harness's word_perplexity: windows one after another, each given the token before it and
//              the first the beginning-of-sequence (or end) token; the last goes back so as to be full. The sum is
//              divided by words (stretches between white space) and by bytes.
//   llama.cpp  llama-perplexity: chunks of --context tokens one after another, a rest is left out; the second half of
//              each counts, and its first token is the beginning-of-sequence token where the tokenizer adds one.
#include <array>
#include <chrono>
#include <cmath>

#include "commands/eval.h"
#include "core/count.h"
#include "files/file_kind.h"
#include "run/evaluator.h"
#include "run/setup.h"
#include "text/dataset.h"
#include "text/pipeline/unicode.h"
#include "text/utf8.h"

namespace thimble {
namespace {

constexpr int64_t kContext = 512;
constexpr uint64_t kLargestText = 256u << 20;

struct Window {
  int64_t begin, end;  // of the tokens
  int64_t counted;     // of the last ones
  double weight;       // of its mean
  int32_t first = -1;  // in the place of its first token, where not -1
};

std::vector<Window> strided(int64_t tokens, int64_t context, int64_t stride) {
  std::vector<Window> windows;
  for (int64_t begin = 0, before = 0; begin < tokens; begin += stride) {
    const int64_t end = std::min(begin + context, tokens), fresh = end - before;
    const int64_t counted = begin == 0 ? end - 1 : fresh;  // nothing is before the first token
    windows.push_back({begin, end, counted, static_cast<double>(fresh - 1)});
    before = end;
    if (end == tokens) break;
  }
  return windows;
}

// The tokens begin with the one that stands before all.
std::vector<Window> rolling(int64_t tokens, int64_t context) {
  std::vector<Window> windows;
  for (int64_t done = 1; done < tokens;) {
    const int64_t end = std::min(done + context, tokens);
    const int64_t begin = std::max<int64_t>(0, end - context - 1);
    windows.push_back({begin, end, end - done, static_cast<double>(end - done)});
    done = end;
  }
  return windows;
}

std::vector<Window> halves(int64_t tokens, int64_t context, int32_t first) {
  std::vector<Window> windows;
  const int64_t counted = context - context / 2 - 1;
  for (int64_t begin = 0; begin + context <= tokens; begin += context)
    windows.push_back({begin, begin + context, counted, static_cast<double>(counted), first});
  return windows;
}

// As Python's re.split(r"\s+", text) counts them.
int64_t words(std::string_view text) {
  int64_t count = 1;
  bool blank = false;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    const bool now = pipeline::is_white_space(c.code) || (c.code >= 0x1c && c.code <= 0x1f);
    count += now && !blank;
    blank = now;
    at += c.length;
  }
  return count;
}

// A text, and the windows of it that are scored.
struct Cut {
  std::vector<int32_t> ids;
  std::vector<Window> windows;
};

Result<Cut> cut_windows(const EvalFlags& flags, Tokenizer& tokenizer, const std::string& text, int64_t context) {
  Cut cut;
  const bool word = flags.convention == "word";
  const bool bos = tokenizer.begins_with_bos(flags.bos, flags.inference.no_bos());
  if (word) {
    const auto before = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
    if (!before)
      return fail(
          ErrorCode::invalid_argument,
          "--convention word: the tokenizer has neither a beginning-of-sequence nor an end-of-sequence token to "
          "stand before the text");
    cut.ids.push_back(*before);
  }
  CHECK_OK(tokenizer.encode(text, {.bos = bos && !word}, cut.ids));
  const auto tokens = static_cast<int64_t>(cut.ids.size());
  if (word) {
    cut.windows = rolling(tokens, context);
  } else if (flags.convention == "strided") {
    cut.windows = strided(tokens, context, flags.stride > 0 ? flags.stride : context / 2);
  } else {
    cut.windows = halves(tokens, context, bos ? *tokenizer.bos() : -1);
    if (cut.windows.size() < 2)
      return fail(ErrorCode::invalid_argument,
                  "--convention llama.cpp needs two contexts of {} tokens or more, the text has {}; give a smaller "
                  "--context",
                  context, tokens);
  }
  if (flags.limit > 0 && static_cast<size_t>(flags.limit) < cut.windows.size())
    cut.windows.resize(static_cast<size_t>(flags.limit));
  if (cut.windows.empty() || tokens < 2)
    return fail(ErrorCode::invalid_argument, "--data {}: there is nothing in it to evaluate", flags.data);
  return cut;
}

}  // namespace

Result<void> eval_convention(const EvalFlags& flags, Inference& inference, Events& events) {
  CHECK_OK(inference.tokenizer().usable());
  if (TRY(holds_records(flags.data)))
    return fail(ErrorCode::invalid_argument,
                "--convention {}: {} holds records, and the convention is of one plain text; give that, or leave the "
                "flag out",
                flags.convention, flags.data);
  const std::string text = TRY(read_utf8_file(flags.data, kLargestText));
  const int64_t context = TRY(eval_context(flags, inference, kContext));
  const bool word = flags.convention == "word";
  if (flags.stride > context)
    return fail(ErrorCode::invalid_argument, "--stride {}: more than the context of {} tokens", flags.stride, context);
  const Cut cut = TRY(cut_windows(flags, inference.tokenizer(), text, context));
  std::vector<Score> scores;
  scores.reserve(cut.windows.size());
  auto evaluator = TRY(Evaluator::prepare(inference, context + (word ? 1 : 0), flags.batch > 0 ? flags.batch : 1,
                                          [&](const Score& score) { scores.push_back(score); }));
  events.plan(inference.plan().ledger);
  if (flags.inference.plan_only()) return {};
  CHECK_OK(evaluator->load());
  const auto start = std::chrono::steady_clock::now();
  std::vector<int32_t> ids;
  std::vector<uint8_t> predicted;
  for (const Window& window : cut.windows) {
    ids.assign(cut.ids.begin() + window.begin, cut.ids.begin() + window.end);
    if (window.first >= 0) ids[0] = window.first;
    predicted.assign(ids.size(), 0);
    std::fill(predicted.end() - window.counted, predicted.end(), uint8_t{1});
    CHECK_OK(evaluator->add(ids, predicted));
    events.progress(fmt::format("{} of {}", scores.size(), cut.windows.size()));
  }
  CHECK_OK(evaluator->flush());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  double sum = 0, weight = 0, nll = 0;
  int64_t tokens = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    sum += scores[i].mean() * cut.windows[i].weight;
    weight += cut.windows[i].weight;
    nll += scores[i].nll;
    tokens += scores[i].tokens;
  }
  const double mean = sum / weight;
  std::string json = fmt::format(
      "\"metric\":\"perplexity\",\"convention\":\"{}\",\"nll\":{:.9g},\"perplexity\":{:.9g},\"tokens\":{},\"windows\":{"
      "}",
      flags.convention, mean, std::exp(mean), tokens, cut.windows.size());
  std::string shown = fmt::format("nll {:.5f}  perplexity {:.4f} ({}, {}, {})", mean, std::exp(mean), flags.convention,
                                  counted(tokens, "token"), counted(cut.windows.size(), "window"));
  if (word && flags.limit == 0) {
    const double by_word = std::exp(nll / static_cast<double>(words(text)));
    const double bits = nll / static_cast<double>(text.size()) / std::log(2.0);
    json += fmt::format(",\"word_perplexity\":{:.9g},\"byte_perplexity\":{:.9g},\"bits_per_byte\":{:.9g}", by_word,
                        std::exp2(bits), bits);
    shown += fmt::format("  a word {:.4f}  bits a byte {:.4f}", by_word, bits);
  }
  events.event("eval", json, shown);
  eval_done(events, inference, seconds, tokens);
  return {};
}

}  // namespace thimble
