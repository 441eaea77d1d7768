#include "commands/template_flags.h"

#include "commands/command_line.h"

namespace thimble {

void TemplateFlags::add(FlagSet& command) { add_template_flags(command, chosen, variables, date); }

void add_template_flags(FlagSet& command, std::string& chosen, std::vector<std::string>& variables, std::string& date) {
  command.add("--chat-template", chosen, "a template's name (chatml, llama3, ...) or a file, instead of the model's");
  command.add_settings("--template-var", variables, "a variable of the template: NAME=JSON; may be given again")
      .one_value_each();
  command.add("--date", date, "the day that a template may ask for, 2026-01-02; today without it");
}

Result<ModelTemplateOptions> TemplateFlags::finish() const { return template_options(chosen, variables, date); }

}  // namespace thimble
