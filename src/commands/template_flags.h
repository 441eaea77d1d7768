// Flags for the chat template, the same for every command that renders one.
#pragma once

#include "text/model_template.h"

namespace thimble {

class FlagSet;

struct TemplateFlags {
  std::string chosen;                  // --chat-template: a name or a file
  std::vector<std::string> variables;  // --template-var: NAME=JSON
  std::string date;                    // --date: 2026-01-02

  void add(FlagSet& command);
  Result<ModelTemplateOptions> finish() const;
};

// The same flags into other places.
void add_template_flags(FlagSet& command, std::string& chosen, std::vector<std::string>& variables, std::string& date);

}  // namespace thimble
