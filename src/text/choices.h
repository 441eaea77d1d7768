// Multiple-choice questions, in the shapes that benchmarks are published in, put as lm-evaluation-harness puts them.
//
//   prompt, choices, answer               as given
//   question | goal, choices | sol1 sol2  "Question: ...\nAnswer:" (ARC, PIQA, CommonsenseQA with `stem`)
//   question_stem, choices                the stem as it is (OpenBookQA)
//   ctx, endings, label                   "activity: context" and its endings, cleaned of WikiHow's marks (HellaSwag)
//   sentence, option1, option2            what stands after "_", given what is before it, with each option (WinoGrande)
//   passage, question, no choices         "passage\nQuestion: ...?\nAnswer:", no or yes (BoolQ)
//   question, subject, choices            the choices after letters, of which one is the answer (MMLU)
//   question, distractor1..3, support     the support, then the question; and correct_answer (SciQ)
//
//   answer | label | answerKey            the index from 0, a choice's label ("A"), or its text
//
// `options` is another name of `choices`. A `context`, `passage` or `support` stands before the question; several of
// the fields that name the answer have to agree. PIQA keeps its labels in a file beside: valid.jsonl, valid-labels.lst.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"

namespace thimble {

struct Choice {
  std::string prompt;  // what it goes on from; the same for all but WinoGrande's
  std::string text;    // with the space that separates it from the prompt
  int64_t characters;  // of the choice itself, by which lm-evaluation-harness normalises
};

struct ChoiceQuestion {
  std::vector<Choice> choices;
  size_t answer = 0;
};

struct ChoiceQuestions {
  std::vector<ChoiceQuestion> questions;
  std::vector<std::string> notes;  // of what was made of them
};

// The first `limit` questions (0: all) of JSONL or a JSON array, compressed or not.
Result<ChoiceQuestions> read_choices(const std::string& path, int64_t limit);

}  // namespace thimble
