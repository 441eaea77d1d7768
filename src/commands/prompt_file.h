// Several prompts in a file: a line of text each, or a JSON object each.
#pragma once

#include <string>
#include <vector>

#include "run/inference.h"
#include "text/chat.h"

namespace thimble {

struct FilePrompt {
  Prompt prompt;
  std::vector<Message> messages;  // in place of the prompt, where there are some
  std::string id;                 // as JSON
};

// JSONL where the first character is a brace: `prompt` with `system`, or `messages` of text, whose roles are as the
// file calls them; `id`. Another field is refused by name. `base` is what flags say of every prompt.
Result<std::vector<FilePrompt>> read_prompts(const std::string& path, const Prompt& base);

}  // namespace thimble
