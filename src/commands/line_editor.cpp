#include "commands/line_editor.h"

#include <dlfcn.h>
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

// libedit, loaded when a terminal is talked to: the memory that it takes is no other command's to pay.
struct EditLibrary {
  decltype(&el_init) init = nullptr;
  decltype(&el_end) end = nullptr;
  decltype(&el_get) get = nullptr;
  decltype(&el_set) set = nullptr;
  decltype(&el_gets) gets = nullptr;
  decltype(&el_reset) reset = nullptr;
  decltype(&el_source) source = nullptr;
  decltype(&::history) history = nullptr;
  decltype(&::history_init) history_init = nullptr;
  decltype(&::history_end) history_end = nullptr;

  // False where it is not installed.
  bool load() {
    void* const handle = ::dlopen("libedit.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!handle) return false;
    const auto find = [&](const char* name, auto& to) {
      to = reinterpret_cast<std::decay_t<decltype(to)>>(::dlsym(handle, name));
      return to != nullptr;
    };
    return find("el_init", init) && find("el_end", end) && find("el_get", get) && find("el_set", set) &&
           find("el_gets", gets) && find("el_reset", reset) && find("el_source", source) && find("history", history) &&
           find("history_init", history_init) && find("history_end", history_end);
  }
};

}  // namespace

struct LineEditor::Terminal {
  EditLibrary library;
  EditLine* edit = nullptr;
  History* past = nullptr;
  HistEvent event{};
  std::string prompt, path;

  static inline Terminal* instance = nullptr;  // libedit asks for the prompt without saying whose
  static char* prompt_of(EditLine*) { return instance->prompt.data(); }

  bool open() {
    if (!library.load()) return false;
    std::setlocale(LC_CTYPE, "");
    edit = library.init("thimble", stdin, stderr, stderr);
    past = library.history_init();
    if (!edit || !past) return false;
    instance = this;
    library.history(past, &event, H_SETSIZE, kHistoryLines);
    library.history(past, &event, H_SETUNIQUE, 1);
    library.set(edit, EL_PROMPT, prompt_of);
    library.set(edit, EL_EDITOR, "emacs");
    library.set(edit, EL_SIGNAL, 0);
    library.set(edit, EL_HIST, library.history, past);
    library.source(edit, nullptr);
    path = history_path();
    if (!path.empty()) library.history(past, &event, H_LOAD, path.c_str());
    return true;
  }

  void keep(const char* line) {
    library.history(past, &event, H_ENTER, line);
    if (path.empty()) return;
    const mode_t before = umask(077);  // what was said to a model is nobody else's to read
    library.history(past, &event, H_SAVE, path.c_str());
    umask(before);
  }

  ~Terminal() {
    if (past) library.history_end(past);
    if (edit) library.end(edit);
  }
};

LineEditor::LineEditor() {
  if (isatty(STDIN_FILENO) == 0) return;
  terminal_ = std::make_unique<Terminal>();
  if (terminal_->open()) return;
  terminal_.reset();
  fmt::print(stderr, "(lines are not edited: libedit is not installed)\n");
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
    const char* const line = terminal_->library.gets(terminal_->edit, &count);
    if (!line || count <= 0) {
      if (!interrupted()) return std::nullopt;
      say_how_to_leave();
      terminal_->library.reset(terminal_->edit);
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
