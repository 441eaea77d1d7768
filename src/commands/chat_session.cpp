#include "commands/chat_session.h"

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/count.h"
#include "core/printable.h"
#include "files/file.h"
#include "files/json.h"
#include "run/interrupt.h"

namespace thimble {
namespace {

constexpr uint64_t kLargestChat = 16u << 20;

// A line whose tokens cannot fit is not cut into tokens first, which takes memory that no plan has.
Result<void> check_length(std::string_view line, size_t most_per_token, int64_t context) {
  if (most_per_token == 0 || line.size() / most_per_token <= static_cast<size_t>(context)) return {};
  return fail(ErrorCode::invalid_argument, "the message has {} bytes, more than the context of {} tokens holds",
              line.size(), context);
}

Result<std::string> text_of(const Json& message, const char* key) {
  const auto found = message.is_object() ? message.find(key) : message.end();
  if (!message.is_object() || found == message.end() || !found->is_string())
    return fail(ErrorCode::invalid_argument, "a message has no text '{}'", key);
  return found->get<std::string>();
}

}  // namespace

const char* ChatSession::commands() {
  return "/system TEXT    another system message; without TEXT none\n"
         "/clear          forget what was said\n"
         "/save FILE      write the conversation, as a record of messages\n"
         "/load FILE      go on from such a record\n"
         "/multiline      messages of several lines, ended by an empty one; once more: of one line\n"
         "/help           this list\n";
}

Result<void> ChatSession::run() {
  for (;;) {
    const auto text = message();
    if (!text) break;
    if (text->find_first_not_of(" \t\n") == std::string::npos || command(*text)) continue;
    CHECK_OK(reply(*text));
  }
  if (lines_.terminal()) fmt::print(stderr, "\n");
  return {};
}

std::optional<std::string> ChatSession::message() {
  auto text = lines_.next("> ");
  while (text && multiline_ && !text->empty() && !text->starts_with('/')) {
    const auto more = lines_.next(". ");
    if (!more || more->empty()) break;
    *text += "\n" + *more;
  }
  return text;
}

Result<void> ChatSession::reply(const std::string& text) {
  const Conversation::Listener listener{
      .say =
          [](std::string_view piece) {
            print_text(piece);
            std::fflush(stdout);
          },
      .note = [](std::string_view note) { fmt::print(stderr, "\n({})\n", printable(note)); },
      .stop = interrupted,
  };
  auto result = check_length(text, tokenizer_.most_bytes_per_token(), context_);
  if (result) result = conversation_.reply(text, listener);
  if (!result && result.error().code != ErrorCode::invalid_argument) return Failure(result.error());
  if (!result) fmt::print(stderr, "({})", printable(result.error().message));
  std::fputs("\n", stdout);
  std::fflush(stdout);
  return {};
}

bool ChatSession::command(const std::string& line) {
  const size_t space = line.find_first_of(" \t");
  const std::string_view name = std::string_view(line).substr(0, space);
  const size_t begin = space == std::string::npos ? space : line.find_first_not_of(" \t", space);
  const std::string rest = begin == std::string::npos ? "" : line.substr(begin);
  Result<void> done;
  std::string said;
  if (name == "/system") {
    conversation_.set_system(rest);
    said = rest.empty() ? "no system message" : "another system message";
  } else if (name == "/clear") {
    conversation_.clear();
    said = "forgot what was said";
  } else if (name == "/save") {
    done = save(rest);
    said = fmt::format("wrote {} to {}", counted(conversation_.messages().size(), "message"), rest);
  } else if (name == "/load") {
    done = load(rest);
    said = fmt::format("read {} from {}", counted(conversation_.messages().size(), "message"), rest);
  } else if (name == "/multiline") {
    multiline_ = !multiline_;
    said = multiline_ ? "messages end with an empty line" : "messages are one line";
  } else if (name == "/help") {
    fmt::print(stderr, "{}", commands());
    return true;
  } else {
    return false;  // a message that begins with a slash
  }
  fmt::print(stderr, "({})\n", printable(done ? said : done.error().message));
  return true;
}

Result<void> ChatSession::save(const std::string& path) const {
  if (path.empty()) return fail(ErrorCode::invalid_argument, "/save: expected a file's name, found none");
  if (is_file(path) || is_directory(path))
    return fail(ErrorCode::invalid_argument, "/save: {} is there already; give another name", path);
  Json messages = Json::array();
  for (const Message& message : conversation_.messages())
    messages.push_back({{"role", message.role}, {"content", message.content}});
  const Json record = {{"messages", std::move(messages)}};
  return write_text_file(path, record.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

Result<void> ChatSession::load(const std::string& path) {
  if (path.empty()) return fail(ErrorCode::invalid_argument, "/load: expected a file's name, found none");
  const Json record = TRY(read_json_file(path, kLargestChat));
  const auto list = record.is_object() ? record.find("messages") : record.end();
  if (!record.is_object() || list == record.end() || !list->is_array())
    return fail(ErrorCode::invalid_argument, "/load: {} is no record with a list 'messages'", path);
  std::vector<Message> messages;
  if (record.contains("system")) messages.push_back({.role = "system", .content = TRY(text_of(record, "system"))});
  for (const Json& one : *list) {
    Message& message = messages.emplace_back();
    message.role = usual_role(TRY(text_of(one, "role")));
    message.content = TRY(text_of(one, "content"));
  }
  const auto done = conversation_.restore(std::move(messages));
  return done ? done : fail(done.error().code, "/load: {}: {}", path, done.error().message);
}

}  // namespace thimble
