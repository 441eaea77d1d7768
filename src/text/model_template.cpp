#include "text/model_template.h"

#include <algorithm>

#include "core/nearest.h"
#include "core/warnings.h"
#include "files/file.h"
#include "text/jinja/from_json.h"
#include "text/parse_json.h"

namespace thimble {
namespace {

constexpr uint64_t kLongestTemplate = 4u << 20;

void set(std::vector<jinja::Variable>& variables, const jinja::Variable& one) {
  const auto at = std::ranges::find(variables, one.first, &jinja::Variable::first);
  if (at != variables.end()) {
    at->second = one.second;
  } else {
    variables.push_back(one);
  }
}

struct Source {
  std::string text, name;
};

// A template for which the vocabulary has the tokens: one that marks turns by a token of its own, if there is such.
std::string_view suitable(const Tokenizer* tokenizer) {
  std::string_view found;
  for (const NamedTemplate& one : named_templates()) {
    if (one.token.empty() ? found.empty() : tokenizer && tokenizer->find(one.token)) found = one.name;
  }
  return found;
}

Result<Source> source_of(const Tokenizer* tokenizer, const std::string& chosen) {
  if (!chosen.empty()) return Source{TRY(chosen_template(chosen)), fmt::format("the chat template {}", chosen)};
  if (tokenizer && !tokenizer->chat_template().empty())
    return Source{tokenizer->chat_template(), "the model's chat template"};
  return fail(ErrorCode::unsupported,
              "formatting a chat: the model has no chat template, so it was not trained to chat, or not in a form "
              "that is known; give --chat-template NAME|FILE, {} for one that its vocabulary has the tokens of",
              suitable(tokenizer));
}

// The day, at midnight.
Result<std::tm> template_date(const std::string& text) {
  if (text.empty()) return jinja::today();
  std::tm date{};
  const char* const end = strptime(text.c_str(), "%Y-%m-%d", &date);
  std::tm normal = date;
  normal.tm_isdst = -1;
  const bool real = end && *end == '\0' && std::mktime(&normal) != -1 && normal.tm_mday == date.tm_mday;
  if (!real) return fail(ErrorCode::invalid_argument, "--date: expected a day as 2026-01-02, found '{}'", text);
  return normal;
}

Result<std::vector<jinja::Variable>> template_variables(const std::vector<std::string>& texts) {
  std::vector<jinja::Variable> variables;
  simdjson::dom::parser parser;
  for (const std::string& text : texts) {
    const size_t sign = text.find('=');
    if (sign == std::string::npos || sign == 0)
      return fail(ErrorCode::invalid_argument, "--template-var: expected NAME=JSON, found '{}'", text);
    const std::string name = text.substr(0, sign);
    simdjson::dom::element json;
    const std::string_view value = std::string_view(text).substr(sign + 1);
    if (const auto error = parse_json(parser, value).get(json); error != simdjson::SUCCESS) {
      return fail(ErrorCode::invalid_argument,
                  "--template-var {}: '{}' is not JSON ({}); a text stands in quotes: '{}=\"...\"'", name, value,
                  simdjson::error_message(error), name);
    }
    auto made = jinja::from_json(json, false);
    if (!made) return fail(ErrorCode::invalid_argument, "--template-var {}: {}", name, made.error().message);
    std::erase_if(variables, [&](const jinja::Variable& one) { return one.first == name; });
    variables.emplace_back(name, *std::move(made));
  }
  return variables;
}

}  // namespace

Result<std::string> chosen_template(const std::string& chosen) {
  const auto named = named_templates();
  const auto known = std::ranges::find(named, chosen, &NamedTemplate::name);
  if (known != named.end()) return std::string(known->source);
  auto text = read_text_file(chosen, kLongestTemplate);
  if (text) return text;
  std::vector<std::string_view> names;
  for (const NamedTemplate& one : named) names.push_back(one.name);
  return fail(text.error().code, "--chat-template {}: it is none of the names ({}), and as a file: {}", chosen,
              fmt::join(names, ", "), text.error().message);
}

Result<ModelTemplateOptions> template_options(std::string chosen, const std::vector<std::string>& variables,
                                              const std::string& date) {
  ModelTemplateOptions options{.chosen = std::move(chosen)};
  options.variables = TRY(template_variables(variables));
  options.date = TRY(template_date(date));
  return options;
}

Result<ChatTemplate> model_template(const Tokenizer* tokenizer, const ModelTemplateOptions& options) {
  const Source source = TRY(source_of(tokenizer, options.chosen));
  ChatTemplate::Settings settings{.date = options.date};
  if (tokenizer) {
    for (const auto& [name, text] : tokenizer->token_names()) set(settings.variables, {name, jinja::Value::text(text)});
  }
  for (const jinja::Variable& one : options.special) set(settings.variables, one);
  for (const jinja::Variable& one : options.variables) {
    if (source.text.find(one.first) == std::string::npos)
      warn(fmt::format("--template-var {}: {} never mentions it, so it has no effect", one.first, source.name));
    set(settings.variables, one);
  }
  return ChatTemplate::compile(source.text, source.name, std::move(settings));
}

}  // namespace thimble
