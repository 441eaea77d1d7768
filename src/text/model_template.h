// Which chat template a run uses: the model's own, one of ours by name, or a file's.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace thimble {

struct ModelTemplateOptions {
  std::string chosen;                      // a name of named_templates(), or a file; "": the model's own
  std::vector<jinja::Variable> variables;  // of the template; these win
  std::vector<jinja::Variable> special;    // tokens, which win over the tokenizer's
  std::tm date = jinja::today();
  bool bos = false, no_bos = false;  // as Tokenizer::begins_with_bos takes them
};

// Of what flags say: variables as NAME=JSON, a date as 2026-01-02; "" is today.
Result<ModelTemplateOptions> template_options(std::string chosen, const std::vector<std::string>& variables,
                                              const std::string& date);

struct NamedTemplate {
  std::string_view name;
  std::string_view source;
  std::string_view token = {};  // that marks its turns; empty: it needs none of its own
};
std::span<const NamedTemplate> named_templates();

// The source that --chat-template names: of one of those, or of a file.
Result<std::string> chosen_template(const std::string& chosen);

// Compiled and checked. `tokenizer` may be nullptr where a template is chosen.
Result<ChatTemplate> model_template(const Tokenizer* tokenizer, const ModelTemplateOptions& options);

}  // namespace thimble
