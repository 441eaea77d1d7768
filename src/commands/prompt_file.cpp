#include "commands/prompt_file.h"

#include <simdjson.h>

#include "files/file_kind.h"
#include "text/chat.h"
#include "text/delimited.h"
#include "text/parse_json.h"
#include "text/record_fields.h"

namespace thimble {
namespace {

constexpr uint64_t kLargest = 64u << 20;

Result<std::vector<Message>> messages_of(RecordFields& fields) {
  std::vector<Message> messages;
  for (const RecordFields::Element item : TRY(fields.list("messages"))) {
    simdjson::dom::object object;
    if (item.get(object) != simdjson::SUCCESS)
      return fail(ErrorCode::invalid_argument, "{}a message is no object", fields.where());
    RecordFields message(object, fmt::format("{}message {}: ", fields.where(), messages.size()));
    messages.emplace_back().role = TRY(message.text("role"));
    messages.back().content = TRY(message.text("content"));
    if (const auto unused = message.unused(); !unused.empty())
      return fail(ErrorCode::invalid_argument, "{}the field '{}' is not supported here", message.where(), unused[0]);
  }
  return messages;
}

Result<FilePrompt> prompt_of(std::string_view line, const std::string& where, const Prompt& base, size_t number) {
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  if (const auto error = parse_json(parser, line).get(object); error != simdjson::SUCCESS)
    return fail(ErrorCode::corrupt, "{}expected a JSON object: {}", where, simdjson::error_message(error));
  RecordFields fields(object, where);
  FilePrompt made{base, {}, fmt::format("{}", number)};
  if (const auto id = fields.find("id")) made.id = simdjson::minify(*id);
  if (fields.has("messages") && fields.has("prompt"))
    return fail(ErrorCode::invalid_argument, "{}it has 'prompt' and 'messages'; give one of them", where);
  if (fields.has("messages")) {
    made.messages = TRY(messages_of(fields));
  } else {
    made.prompt.text = TRY(fields.text("prompt"));
    made.prompt.system = TRY(fields.text_or("system", base.system));
  }
  if (const auto unused = fields.unused(); !unused.empty())
    return fail(ErrorCode::invalid_argument,
                "{}the field '{}' is not supported here; supported are prompt, system, "
                "messages and id",
                where, unused[0]);
  return made;
}

}  // namespace

Result<std::vector<FilePrompt>> read_prompts(const std::string& path, const Prompt& base) {
  const std::string text = TRY(read_utf8_file(path, kLargest));
  const size_t first = text.find_first_not_of(" \t\r\n");
  const bool json = first != std::string::npos && text[first] == '{';
  const bool list = first != std::string::npos && text[first] == '[';
  const size_t item = list ? text.find_first_not_of(" \t\r\n", first + 1) : std::string::npos;
  if (item != std::string::npos && text[item] == '{')
    return fail(ErrorCode::unsupported,
                "--prompts {}: it holds a JSON array; give JSONL, an object a line: jq -c '.[]' FILE > NEW", path);
  if (!json && delimiter_of(path, text))
    return fail(ErrorCode::unsupported, "--prompts {}: it is a table (CSV or TSV); give JSONL, or a line of text each",
                path);
  std::vector<FilePrompt> prompts;
  int64_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line(text.data() + at, end - at);
    at = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    if (json) {
      prompts.push_back(TRY(prompt_of(line, fmt::format("{}:{}: ", path, number), base, prompts.size())));
      continue;
    }
    prompts.push_back({base, {}, fmt::format("{}", prompts.size())});
    prompts.back().prompt.text = line;
  }
  if (prompts.empty()) return fail(ErrorCode::invalid_argument, "--prompts {}: there is no prompt in it", path);
  return prompts;
}

}  // namespace thimble
