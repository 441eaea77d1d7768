// A conversation on a terminal or from a pipe: messages, and commands that begin with a slash.
#pragma once

#include "commands/line_editor.h"
#include "run/conversation.h"

namespace thimble {

class ChatSession {
 public:
  ChatSession(Conversation& conversation, LineEditor& lines, const Tokenizer& tokenizer, int64_t context)
      : conversation_(conversation), lines_(lines), tokenizer_(tokenizer), context_(context) {}

  // Until the input ends.
  Result<void> run();

  static const char* commands();  // their list, for the user

 private:
  std::optional<std::string> message();
  Result<void> reply(const std::string& text);
  // Whether the line was a command; its errors are told.
  bool command(const std::string& line);
  Result<void> save(const std::string& path) const;
  Result<void> load(const std::string& path);

  Conversation& conversation_;
  LineEditor& lines_;
  const Tokenizer& tokenizer_;
  int64_t context_;
  bool multiline_ = false;
};

}  // namespace thimble
