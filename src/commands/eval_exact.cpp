// exact: the model's own reply to each chat must be the assistant's last message, word for word.
#include <chrono>

#include "commands/eval.h"
#include "core/split.h"
#include "run/completion.h"
#include "run/replies.h"
#include "run/setup.h"
#include "text/chat.h"
#include "text/json_output.h"

namespace thimble {
namespace {

constexpr int64_t kSlots = 16;
constexpr int64_t kMoreTokens = 32;  // than the reference has: enough to see what went wrong
constexpr int kShown = 3;

struct Question {
  std::string asked;  // the last message before the reply
  std::string reference;
};

struct Questions {
  std::vector<Question> texts;
  std::vector<Exchange> exchanges;
  int64_t context = 0;  // of the longest
};

// Adds the chat up to its last assistant's message; a chat without one is no question.
Result<void> add_question(const EvalFlags& flags, Tokenizer& tokenizer, const ChatFormat& format,
                          std::span<const Message> messages, Questions& to) {
  size_t last = messages.size();
  while (last > 0 && messages[last - 1].role != "assistant") --last;
  if (last < 2) return {};
  const std::string& reference = messages[last - 1].content;
  Exchange exchange;
  std::vector<uint8_t> trained;
  CHECK_OK(
      encode_chat(format, tokenizer, messages.first(last - 1), {.generation_prompt = true}, exchange.prompt, trained));
  std::vector<int32_t> ids;
  CHECK_OK(tokenizer.encode(reference, {.special = false, .continued = true}, ids));
  exchange.most = flags.max_tokens > 0 ? flags.max_tokens : static_cast<int64_t>(ids.size()) + kMoreTokens;
  exchange.reply.reserve(static_cast<size_t>(exchange.most));
  to.context = std::max(to.context, static_cast<int64_t>(exchange.prompt.size()) + exchange.most);
  to.texts.push_back({messages[last - 2].content, std::string(trimmed(reference))});
  to.exchanges.push_back(std::move(exchange));
  return {};
}

Result<Questions> read_questions(const EvalFlags& flags, Inference& inference, Events& events) {
  Tokenizer& tokenizer = inference.tokenizer();
  const std::shared_ptr<const ChatFormat> format = TRY(inference.chat_format());
  auto data =
      TRY(Dataset::open(flags.data, tokenizer, flags.dataset(inference, TRY(inference.context(flags.context)))));
  report_data(events, flags.data, data->report());
  Questions questions;
  for (int64_t i = 0; i < flags.count(data->size()); ++i)
    CHECK_OK(add_question(flags, tokenizer, *format, TRY(data->messages(i)), questions));
  if (questions.texts.empty())
    return fail(ErrorCode::invalid_argument, "--data {}: there is no chat in it with a reply of the assistant",
                flags.data);
  return questions;
}

Result<void> write_samples(const std::string& path, const Questions& questions,
                           const std::vector<std::string>& replies) {
  auto file = TRY(OutputFile::create(path));
  for (size_t i = 0; i < replies.size(); ++i)
    CHECK_OK(file.write(fmt::format("{{\"prompt\":{},\"reference\":{},\"reply\":{},\"exact\":{}}}\n",
                                    json_string(questions.texts[i].asked), json_string(questions.texts[i].reference),
                                    json_string(replies[i]), replies[i] == questions.texts[i].reference)));
  return file.commit();
}

std::string sample_text(const Question& question, const std::string& reply) {
  return fmt::format("  prompt    {}\n  expected  {}\n  reply     {}\n", question.asked, question.reference, reply);
}

}  // namespace

Result<void> eval_exact(const EvalFlags& flags, Inference& inference, Events& events) {
  Questions questions = TRY(read_questions(flags, inference, events));
  const int64_t context = flags.context > 0 ? flags.context : std::min(TRY(inference.context(0)), questions.context);
  const std::vector<int32_t> stops = inference.ends();
  const auto count = static_cast<int64_t>(questions.texts.size());
  auto generator = TRY(Generator::prepare(inference, std::min(count, flags.batch > 0 ? flags.batch : kSlots), context));
  events.plan(inference.plan().ledger);
  if (flags.inference.plan_only()) return {};
  CHECK_OK(generator->load());
  const auto start = std::chrono::steady_clock::now();
  CHECK_OK(reply_to_all(*generator, questions.exchanges, stops,
                        [&](int64_t done) { events.progress(fmt::format("{} of {}", done, count)); }));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  std::vector<std::string> replies;
  std::string samples;
  int64_t correct = 0, tokens = 0;
  for (size_t i = 0; i < questions.texts.size(); ++i) {
    replies.emplace_back(trimmed(inference.tokenizer().decode(questions.exchanges[i].reply)));
    correct += replies[i] == questions.texts[i].reference;
    tokens += static_cast<int64_t>(questions.exchanges[i].reply.size());
    if (i < kShown) samples += sample_text(questions.texts[i], replies[i]);
  }
  if (!flags.out.empty()) CHECK_OK(write_samples(flags.out, questions, replies));
  const double accuracy = static_cast<double>(correct) / static_cast<double>(count);
  events.event(
      "eval",
      fmt::format("\"metric\":\"exact\",\"accuracy\":{:.9g},\"correct\":{},\"examples\":{}", accuracy, correct, count),
      fmt::format("{}exact match: {} of {}, accuracy {:.4f}", samples, correct, count, accuracy));
  eval_done(events, inference, seconds, tokens);
  return {};
}

}  // namespace thimble
