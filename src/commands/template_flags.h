// Flags for the chat template, the same for every command that renders one.
#pragma once

#include <CLI/CLI.hpp>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace thimble {

struct TemplateFlags {
  std::string chosen;                  // --chat-template: a name or a file
  std::vector<std::string> variables;  // --template-var: NAME=JSON
  std::string date;                    // --date: 2026-01-02

  void add(CLI::App& app);
};

// The date of a flag, at midnight; today without one.
Result<std::tm> template_date(const std::string& text);
// NAME=JSON, one each.
Result<std::vector<jinja::Variable>> template_variables(const std::vector<std::string>& texts);

}  // namespace thimble
