// Multiple-choice questions from JSONL, in the shapes that common benchmarks have.
//
//   prompt | question | goal     the question: a string, or (CommonsenseQA) an object with `stem` and `choices`
//   choices | sol1, sol2         a list of strings, or of objects with `label` and `text`
//   answer | label | answerKey   the index from 0, a choice's label ("A"), or its text
//
// PIQA keeps its labels in a file beside: valid.jsonl, valid-labels.lst.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"

namespace thimble {

struct ChoiceQuestion {
  std::string prompt;                // up to where the choice is appended
  std::vector<std::string> choices;  // with the space that separates them from the prompt
  size_t answer = 0;
};

// The first `limit` questions (0: all). A question that is not `prompt` is put as "Question: ...\nAnswer:".
Result<std::vector<ChoiceQuestion>> read_choices(const std::string& path, int64_t limit);

}  // namespace thimble
