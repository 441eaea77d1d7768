#include "commands/line_editor.h"

#include <fmt/format.h>
#include <histedit.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "run/interrupt.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLongestLine = 1 << 20;
constexpr int kHistoryLines = 1000;

// "" where there is no home to keep it in.
std::string history_path() {
  const char* const state = std::getenv("XDG_STATE_HOME");
  const char* const home = std::getenv("HOME");
  const bool has_state = state && *state == '/';
  if (!has_state && !(home && *home == '/')) return "";
  const fs::path folder = has_state ? fs::path(state) / "thimble" : fs::path(home) / ".local" / "state" / "thimble";
  std::error_code error;
  fs::create_directories(folder, error);
  return error ? "" : (folder / "chat_history").string();
}

}  // namespace

struct LineEditor::Terminal {
  EditLine* edit = nullptr;
  History* history = nullptr;
  HistEvent event{};
  std::string prompt, path;

  static char* prompt_of(EditLine* edit) {
    Terminal* self = nullptr;
    el_get(edit, EL_CLIENTDATA, &self);
    return self->prompt.data();
  }

  bool open() {
    std::setlocale(LC_CTYPE, "");
    edit = el_init("thimble", stdin, stderr, stderr);
    history = history_init();
    if (!edit || !history) return false;
    ::history(history, &event, H_SETSIZE, kHistoryLines);
    ::history(history, &event, H_SETUNIQUE, 1);
    el_set(edit, EL_CLIENTDATA, this);
    el_set(edit, EL_PROMPT, prompt_of);
    el_set(edit, EL_EDITOR, "emacs");
    el_set(edit, EL_SIGNAL, 0);
    el_set(edit, EL_HIST, ::history, history);
    el_source(edit, nullptr);
    path = history_path();
    if (!path.empty()) ::history(history, &event, H_LOAD, path.c_str());
    return true;
  }

  void keep(const char* line) {
    ::history(history, &event, H_ENTER, line);
    if (path.empty()) return;
    const mode_t before = umask(077);  // what was said to a model is nobody else's to read
    ::history(history, &event, H_SAVE, path.c_str());
    umask(before);
  }

  ~Terminal() {
    if (history) history_end(history);
    if (edit) el_end(edit);
  }
};

LineEditor::LineEditor() {
  if (isatty(STDIN_FILENO) == 0) return;
  terminal_ = std::make_unique<Terminal>();
  if (!terminal_->open()) terminal_.reset();
}

LineEditor::~LineEditor() = default;

std::optional<std::string> LineEditor::next(const std::string& prompt) {
  told_ = false;
  clear_interrupts();
  auto line = terminal_ ? from_terminal(prompt) : from_pipe();
  if (line) clear_interrupts();
  return line;
}

void LineEditor::say_how_to_leave() {
  if (!std::exchange(told_, true))
    fmt::print(stderr, "\n(no reply is being made; Ctrl-D ends the chat, and so does Ctrl-C once more)\n");
}

std::optional<std::string> LineEditor::from_terminal(const std::string& prompt) {
  terminal_->prompt = prompt;
  for (;;) {
    int count = 0;
    const char* const line = el_gets(terminal_->edit, &count);
    if (!line || count <= 0) {
      if (!interrupted()) return std::nullopt;
      say_how_to_leave();
      el_reset(terminal_->edit);
      continue;
    }
    std::string text(line, static_cast<size_t>(count));
    while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
    if (text.find_first_not_of(" \t") != std::string::npos) terminal_->keep(text.c_str());
    return text;
  }
}

std::optional<std::string> LineEditor::from_pipe() {
  for (;;) {
    const size_t end = buffer_.find('\n');
    if (end != std::string::npos || (over_ && !buffer_.empty())) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end == std::string::npos ? buffer_.size() : end + 1);
      if (line.ends_with('\r')) line.pop_back();
      return line;
    }
    if (over_) return std::nullopt;
    if (interrupted()) say_how_to_leave();
    char bytes[4096];
    const ssize_t count = read(STDIN_FILENO, bytes, sizeof bytes);
    over_ = count == 0 || (count < 0 && errno != EINTR) || buffer_.size() > kLongestLine;
    if (count > 0) buffer_.append(bytes, static_cast<size_t>(count));
  }
}

}  // namespace thimble
