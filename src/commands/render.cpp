// render: what a chat template makes of conversations.
#include <simdjson.h>

#include <cstdio>

#include "commands/command.h"
#include "commands/command_line.h"
#include "commands/template_flags.h"
#include "commands/void_flags.h"
#include "core/count.h"
#include "core/printable.h"
#include "files/file.h"
#include "text/jinja/from_json.h"
#include "text/json_output.h"
#include "text/json_records.h"
#include "text/model_template.h"
#include "text/parse_json.h"

namespace thimble {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kLongestRecord = 64u << 20;

struct RenderFlags {
  std::string model, bos, eos, data;
  TemplateFlags chat_template;
  bool has_bos = false, has_eos = false, json = false;
};

Result<ChatTemplate> open_template(const RenderFlags& flags) {
  ModelTemplateOptions options = TRY(flags.chat_template.finish());
  if (flags.has_bos) options.special.emplace_back("bos_token", jinja::Value::text(flags.bos));
  if (flags.has_eos) options.special.emplace_back("eos_token", jinja::Value::text(flags.eos));
  if (flags.model.empty()) {
    if (flags.chat_template.chosen.empty())
      return fail(ErrorCode::invalid_argument, "give --model M, whose template it is, or --chat-template NAME|FILE");
    return model_template(nullptr, options);
  }
  const auto tokenizer = TRY(Tokenizer::open(flags.model));
  return model_template(tokenizer.get(), options);
}

Result<bool> flag_of(dom::element value, std::string_view key) {
  if (value.is_null()) return false;
  bool flag = false;
  if (value.get(flag) != simdjson::SUCCESS)
    return fail(ErrorCode::invalid_argument, "'{}' should be true or false", key);
  return flag;
}

Result<void> take_field(std::string_view key, dom::element value, ChatInput& input) {
  if (key == "messages") input.messages = TRY(jinja::from_json(value, true));
  if (key == "tools") input.tools = TRY(jinja::from_json(value, true));
  if (key == "documents") input.documents = TRY(jinja::from_json(value, true));
  if (key == "add_generation_prompt") input.generation_prompt = TRY(flag_of(value, key));
  if (key == "raw") input.raw = TRY(flag_of(value, key));
  if (key == "continue_final_message") {
    std::string_view field;
    if (value.get(field) == simdjson::SUCCESS) {
      input.continue_field = field;
    } else if (TRY(flag_of(value, key))) {
      input.continue_field = "content";
    }
  }
  if (key == "kwargs" || key == "chat_template_kwargs") {
    dom::object variables;
    if (value.is_null()) return {};
    if (value.get(variables) != simdjson::SUCCESS)
      return fail(ErrorCode::invalid_argument, "'{}' should be an object", key);
    for (const auto field : variables)
      input.variables.emplace_back(std::string(field.key), TRY(jinja::from_json(field.value, true)));
  }
  return {};
}

Result<ChatInput> input_of(const dom::object& record) {
  ChatInput input;
  dom::element messages;
  if (record.at_key("messages").get(messages) != simdjson::SUCCESS)
    return fail(ErrorCode::invalid_argument, "the field 'messages' is missing");
  for (const auto field : record) CHECK_OK(take_field(field.key, field.value, input));
  return input;
}

class Renderer {
 public:
  Renderer(const RenderFlags& flags, const ChatTemplate& chat_template, const InputFile& file)
      : json_(flags.json), template_(chat_template), file_(file) {}

  Result<void> record(const JsonRecord& where) {
    if (where.length > kLongestRecord)
      return fail(ErrorCode::invalid_argument, "{}:{}: a record of more than {} bytes", file_.path(), where.line,
                  kLongestRecord);
    std::string text(where.length, '\0');
    CHECK_OK(file_.read(where.offset, std::as_writable_bytes(std::span(text))));
    dom::object record;
    if (const auto error = parse_json(parser_, text).get(record); error != simdjson::SUCCESS)
      return fail(ErrorCode::corrupt, "{}:{}: expected a JSON object: {}", file_.path(), where.line,
                  simdjson::error_message(error));
    std::string id = fmt::format("{}", count_++);
    if (dom::element given; record.at_key("id").get(given) == simdjson::SUCCESS) id = simdjson::minify(given);
    const auto chat = render(record);
    if (!chat && !json_) {
      ++failed_;
      fmt::print(stderr, "thimble render: {}:{}: conversation {}: {}\n", file_.path(), where.line, id,
                 printable(chat.error().message));
    } else if (!chat) {
      fmt::print("{{\"id\":{},\"ok\":false,\"error\":{}}}\n", id, json_string(chat.error().message));
    } else {
      print(id, *chat);
    }
    return {};
  }

  Result<void> finish() const {
    if (count_ == 0) return fail(ErrorCode::invalid_argument, "{} holds no conversation", file_.path());
    if (failed_ == 0) return {};
    return fail(ErrorCode::invalid_argument, "{} of {} could not be rendered", counted(failed_, "conversation"),
                count_);
  }

 private:
  Result<RenderedChat> render(const dom::object& record) const {
    return template_.render_trained(TRY(input_of(record)));
  }

  void print(const std::string& id, const RenderedChat& chat) {
    if (!json_) {
      if (std::exchange(printed_, true)) fmt::print("\n");
      print_text(chat.text.bytes);
      return;
    }
    std::string spans;
    const std::string_view text = chat.text.bytes;
    for (const jinja::Span& span : chat.trained) {
      spans += fmt::format("{}[{},{}]", spans.empty() ? "" : ",", jinja::count_code_points(text.substr(0, span.begin)),
                           jinja::count_code_points(text.substr(0, span.end)));
    }
    fmt::print("{{\"id\":{},\"ok\":true,\"text\":{},\"trained\":[{}]}}\n", id, json_string(text), spans);
  }

  const bool json_;
  const ChatTemplate& template_;
  const InputFile& file_;
  dom::parser parser_;
  int64_t count_ = 0, failed_ = 0;
  bool printed_ = false;
};

// Whether the file is one array.
Result<bool> is_array(const InputFile& file) {
  std::string head(std::min<uint64_t>(file.size(), 4096), '\0');
  CHECK_OK(file.read(0, std::as_writable_bytes(std::span(head))));
  const size_t first = head.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  return first != std::string::npos && head[first] == '[';
}

Result<void> render(const RenderFlags& flags) {
  const ChatTemplate chat_template = TRY(open_template(flags));
  const InputFile file = TRY(InputFile::open(flags.data));
  Renderer renderer(flags, chat_template, file);
  const auto visit = [&](const JsonRecord& record) { return renderer.record(record); };
  CHECK_OK(TRY(is_array(file)) ? for_each_element(file, visit) : for_each_line(file, visit));
  return renderer.finish();
}

std::function<Result<void>()> add(FlagSet& command) {
  auto flags = std::make_shared<RenderFlags>();
  command.add("--model", flags->model, "a model or its tokenizer, whose chat template and tokens are taken");
  flags->chat_template.add(command);
  command.add_text("--bos-token", flags->bos, "the template's bos_token, where no model gives it");
  command.add_text("--eos-token", flags->eos, "the template's eos_token, where no model gives it");
  command.add("--data", flags->data, "conversations, JSONL or a JSON array: messages, tools, documents, ...")
      .required();
  command.add("--json", flags->json, "one object a conversation, with what is trained on");
  return [flags, &command] {
    flags->has_bos = is_given(command, "--bos-token");
    flags->has_eos = is_given(command, "--eos-token");
    return render(*flags);
  };
}

}  // namespace

const Command kRender = {"render", "show the text that a chat template makes of conversations", add};

}  // namespace thimble
