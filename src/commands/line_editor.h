// Lines from a terminal, with editing and a history that is kept (libedit), or from a pipe as they come.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace thimble {

class LineEditor {
 public:
  // On a terminal the history is read from $XDG_STATE_HOME/thimble/chat_history, else ~/.local/state/thimble, and is
  // written there as lines come.
  LineEditor();
  ~LineEditor();

  // The next line without its end; nothing at the end of the input. A first interrupt while waiting says how to leave;
  // a second one leaves (run/interrupt.h).
  std::optional<std::string> next(const std::string& prompt);
  bool terminal() const { return terminal_ != nullptr; }

 private:
  struct Terminal;
  std::optional<std::string> from_terminal(const std::string& prompt);
  std::optional<std::string> from_pipe();
  void say_how_to_leave();

  std::unique_ptr<Terminal> terminal_;  // nullptr: standard input is none
  std::string buffer_;
  bool over_ = false;
  bool told_ = false;  // how to leave
};

}  // namespace thimble
