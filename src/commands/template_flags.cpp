#include "commands/template_flags.h"

#include <CLI/CLI.hpp>

namespace thimble {

void TemplateFlags::add(CLI::App& app) { add_template_flags(app, chosen, variables, date); }

void add_template_flags(CLI::App& app, std::string& chosen, std::vector<std::string>& variables, std::string& date) {
  app.add_option("--chat-template", chosen,
                 "a template's name (chatml, llama3, ...) or a file, instead of the model's");
  app.add_option("--template-var", variables, "a variable of the template: NAME=JSON; may be given again")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--date", date, "the day that a template may ask for, 2026-01-02; today without it");
}

Result<ModelTemplateOptions> TemplateFlags::finish() const { return template_options(chosen, variables, date); }

}  // namespace thimble
