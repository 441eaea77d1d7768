#include "commands/yaml_config.h"

#include <yaml-cpp/yaml.h>

namespace thimble {
namespace {

// Lets CLI11 read YAML: a map of scalars and lists of scalars.
class YamlConfig : public CLI::Config {
 public:
  std::string to_config(const CLI::App*, bool, bool, std::string) const override { return ""; }

  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    std::vector<CLI::ConfigItem> items;
    YAML::Node root;
    try {
      root = YAML::Load(input);
    } catch (const YAML::Exception& error) {
      throw CLI::ConversionError(std::string("--config: not YAML: ") + error.what());
    }
    if (root.IsNull()) return items;
    if (!root.IsMap()) throw CLI::ConversionError("--config: expected a map of flag names to values");
    for (const auto& entry : root) {
      CLI::ConfigItem item;
      item.name = entry.first.as<std::string>();
      if (entry.second.IsScalar())
        item.inputs = {entry.second.as<std::string>()};
      else if (entry.second.IsSequence())
        for (const auto& value : entry.second) item.inputs.push_back(value.as<std::string>());
      else
        throw CLI::ConversionError("--config: '" + item.name + "' should be a value or a list of values");
      items.push_back(item);
    }
    return items;
  }
};

}  // namespace

void add_yaml_config(CLI::App& app) {
  app.config_formatter(std::make_shared<YamlConfig>());
  app.set_config("--config", "", "a YAML file with the same keys as the flags")->check(CLI::ExistingFile);
  app.allow_config_extras(CLI::config_extras_mode::error);
}

}  // namespace thimble
