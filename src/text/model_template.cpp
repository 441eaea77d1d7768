#include "text/model_template.h"

#include <algorithm>

#include "core/nearest.h"
#include "files/file.h"

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

Result<Source> source_of(const Tokenizer* tokenizer, const std::string& chosen) {
  const auto named = named_templates();
  if (!chosen.empty()) {
    const auto known = std::ranges::find(named, chosen, &NamedTemplate::name);
    if (known != named.end()) return Source{std::string(known->source), fmt::format("the chat template {}", chosen)};
    auto text = read_text_file(chosen, kLongestTemplate);
    if (text) return Source{*std::move(text), fmt::format("the chat template {}", chosen)};
    std::vector<std::string_view> names;
    for (const NamedTemplate& one : named) names.push_back(one.name);
    return fail(text.error().code, "--chat-template {}: it is none of the names ({}), and as a file: {}", chosen,
                fmt::join(names, ", "), text.error().message);
  }
  if (tokenizer && !tokenizer->chat_template().empty())
    return Source{tokenizer->chat_template(), "the model's chat template"};
  return fail(ErrorCode::unsupported,
              "formatting a chat: the model has no chat template, so it was not trained to chat, or not in a form "
              "that is known; give --chat-template NAME|FILE, e.g. chatml");
}

}  // namespace

Result<ChatTemplate> model_template(const Tokenizer* tokenizer, const ModelTemplateOptions& options) {
  const Source source = TRY(source_of(tokenizer, options.chosen));
  ChatTemplate::Settings settings{.date = options.date};
  if (tokenizer) {
    for (const auto& [name, text] : tokenizer->token_names()) set(settings.variables, {name, jinja::Value::text(text)});
  }
  for (const jinja::Variable& one : options.special) set(settings.variables, one);
  for (const jinja::Variable& one : options.variables) set(settings.variables, one);
  return ChatTemplate::compile(source.text, source.name, std::move(settings));
}

}  // namespace thimble
