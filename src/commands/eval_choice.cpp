// choice: the choice that the model finds likeliest must be the right one.
//
//   accuracy       by the log-likelihood of the choice's tokens
//   accuracy_norm  by the same for each character of the choice, so that long choices are not at a disadvantage
//
// Both as lm-evaluation-harness has them: prompt and choice are tokenized as one text, and the tokens beyond those of
// the prompt alone are the choice's.
#include <algorithm>
#include <chrono>

#include "commands/eval.h"
#include "core/count.h"
#include "run/evaluator.h"
#include "text/choices.h"

namespace thimble {
namespace {

struct Candidate {
  std::vector<int32_t> ids;
  std::vector<uint8_t> predicted;
};

Result<std::vector<Candidate>> encode(bool bos, Tokenizer& tokenizer, const std::vector<ChoiceQuestion>& questions,
                                      int64_t& longest) {
  std::vector<Candidate> out;
  for (const ChoiceQuestion& question : questions)
    for (const Choice& choice : question.choices) {
      Candidate candidate;
      std::vector<int32_t> prompt;
      const EncodeOptions options{.special = false, .bos = bos};
      CHECK_OK(tokenizer.encode(choice.prompt, options, prompt));
      CHECK_OK(tokenizer.encode(choice.prompt + choice.text, options, candidate.ids));
      candidate.predicted.assign(std::min(prompt.size(), candidate.ids.size()), 0);
      candidate.predicted.resize(candidate.ids.size(), 1);
      longest = std::max(longest, static_cast<int64_t>(candidate.ids.size()));
      out.push_back(std::move(candidate));
    }
  return out;
}

// What is taken of each question's choices.
struct Taken {
  size_t best = 0, best_by_character = 0;
};

// scores: of the question's choices, in their order.
Taken take(const ChoiceQuestion& question, std::span<const Score> scores) {
  Taken taken;
  const auto by_character = [&](size_t i) {
    return scores[i].nll / static_cast<double>(std::max<int64_t>(1, question.choices[i].characters));
  };
  for (size_t i = 1; i < question.choices.size(); ++i) {
    if (scores[i].nll < scores[taken.best].nll) taken.best = i;
    if (by_character(i) < by_character(taken.best_by_character)) taken.best_by_character = i;
  }
  return taken;
}

struct Counts {
  int64_t right = 0, right_by_character = 0;
};

// Counts the right ones; every question is a line of `samples`.
Counts count_right(const std::vector<ChoiceQuestion>& questions, std::span<const Score> scores, std::string& samples) {
  Counts counts;
  for (const ChoiceQuestion& question : questions) {
    const auto own = scores.first(question.choices.size());
    const Taken taken = take(question, own);
    counts.right += taken.best == question.answer;
    counts.right_by_character += taken.best_by_character == question.answer;
    std::string likelihoods;
    for (const Score& score : own) likelihoods += fmt::format("{}{:.9g}", likelihoods.empty() ? "" : ",", -score.nll);
    samples += fmt::format("{{\"answer\":{},\"taken\":{},\"taken_norm\":{},\"log_likelihoods\":[{}]}}\n",
                           question.answer, taken.best, taken.best_by_character, likelihoods);
    scores = scores.subspan(own.size());
  }
  return counts;
}

}  // namespace

Result<void> eval_choice(const EvalFlags& flags, Inference& inference, Events& events) {
  CHECK_OK(inference.tokenizer().usable());
  const ChoiceQuestions read = TRY(read_choices(flags.data, flags.limit));
  for (const std::string& note : read.notes) events.note("note: " + note);
  const auto& questions = read.questions;
  int64_t longest = 0;
  const auto candidates = TRY(encode(inference.tokenizer().begins_with_bos(flags.bos, inference.no_bos()),
                                     inference.tokenizer(), questions, longest));
  const int64_t most = TRY(inference.context(flags.context));
  if (longest > most)
    return fail(ErrorCode::invalid_argument,
                "--data {}: a question with its choice has {} tokens, the context is {}; give a larger --context",
                flags.data, longest, most);
  // Short questions share a pass.
  const int64_t context = std::max(longest, std::min<int64_t>(most, 512));
  std::vector<Score> scores;
  scores.reserve(candidates.size());
  auto evaluator = TRY(Evaluator::prepare(inference, context, flags.batch > 0 ? flags.batch : 1,
                                          [&](const Score& score) { scores.push_back(score); }));
  events.plan(inference.plan().ledger);
  if (flags.inference.plan_only()) return {};
  CHECK_OK(evaluator->load());
  const auto start = std::chrono::steady_clock::now();
  int64_t tokens = 0;
  for (const Candidate& candidate : candidates) {
    CHECK_OK(evaluator->add(candidate.ids, candidate.predicted));
    tokens += static_cast<int64_t>(candidate.ids.size());
    events.progress(fmt::format("{} of {}", scores.size(), candidates.size()));
  }
  CHECK_OK(evaluator->flush());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::string samples;
  const Counts counts = count_right(questions, scores, samples);
  if (!flags.out.empty()) CHECK_OK(write_text_file(flags.out, samples));
  const auto of_all = [&](int64_t n) { return static_cast<double>(n) / static_cast<double>(questions.size()); };
  events.event("eval",
               fmt::format("\"metric\":\"choice\",\"accuracy\":{:.9g},\"accuracy_norm\":{:.9g},\"examples\":{}",
                           of_all(counts.right), of_all(counts.right_by_character), questions.size()),
               fmt::format("accuracy {:.4f}  by character {:.4f}  ({})", of_all(counts.right),
                           of_all(counts.right_by_character), counted(questions.size(), "question")));
  eval_done(events, inference, seconds, tokens);
  return {};
}

}  // namespace thimble
