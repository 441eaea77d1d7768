#include "commands/template_flags.h"

#include "text/jinja/from_json.h"

namespace thimble {

void TemplateFlags::add(CLI::App& app) {
  app.add_option("--chat-template", chosen,
                 "a template's name (chatml, llama3, ...) or a file, instead of the model's");
  app.add_option("--template-var", variables, "a variable of the template: NAME=JSON; may be given again")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--date", date, "the day that a template may ask for, 2026-01-02; today without it");
}

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
    const simdjson::padded_string value(std::string_view(text).substr(sign + 1));
    if (const auto error = parser.parse(value).get(json); error != simdjson::SUCCESS) {
      return fail(ErrorCode::invalid_argument,
                  "--template-var {}: '{}' is not JSON ({}); a text stands in quotes: '{}=\"...\"'", name,
                  text.substr(sign + 1), simdjson::error_message(error), name);
    }
    auto made = jinja::from_json(json, false);
    if (!made) return fail(ErrorCode::invalid_argument, "--template-var {}: {}", name, made.error().message);
    std::erase_if(variables, [&](const jinja::Variable& one) { return one.first == name; });
    variables.emplace_back(name, *std::move(made));
  }
  return variables;
}

}  // namespace thimble
