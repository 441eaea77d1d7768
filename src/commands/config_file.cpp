#include "commands/config_file.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>

#include "files/file.h"

namespace thimble {
namespace {

// Takes `--config FILE` or `--config=FILE` out; "" when there is none.
Result<std::string> take_path(std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--config") {
      if (i + 1 == arguments.size())
        return fail(ErrorCode::invalid_argument, "--config: the name of a YAML file is missing");
      std::string path = arguments[i + 1];
      arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i),
                      arguments.begin() + static_cast<std::ptrdiff_t>(i) + 2);
      return path;
    }
    if (arguments[i].starts_with("--config=")) {
      std::string path = arguments[i].substr(9);
      arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i));
      return path;
    }
  }
  return std::string();
}

Result<YAML::Node> load(const std::string& path) {
  const std::string text = TRY(read_text_file(path, 1 << 20));
  try {
    YAML::Node root = YAML::Load(text);
    if (root.IsMap()) return root;
    return fail(ErrorCode::invalid_argument, "--config {}: expected a map of flag names to values", path);
  } catch (const YAML::Exception& error) {
    return fail(ErrorCode::invalid_argument, "--config {}: it is not YAML: {}", path, error.what());
  }
}

// The arguments that one entry stands for.
Result<std::vector<std::string>> arguments_of(const std::string& path, const std::string& flag,
                                              const YAML::Node& value) {
  if (value.IsScalar()) {
    const std::string text = value.Scalar();
    if (text == "true") return std::vector{flag};
    if (text == "false") return std::vector<std::string>{};
    return std::vector{flag, text};
  }
  if (!value.IsSequence())
    return fail(ErrorCode::invalid_argument, "--config {}: {} should be a value or a list of values", path,
                flag.substr(2));
  std::vector<std::string> out;
  for (const YAML::Node& item : value) {
    if (!item.IsScalar())
      return fail(ErrorCode::invalid_argument, "--config {}: {} should be a list of plain values", path,
                  flag.substr(2));
    out.push_back(flag);
    out.push_back(item.Scalar());
  }
  return out;
}

}  // namespace

Result<std::vector<std::string>> expand_config(std::vector<std::string> arguments) {
  const std::string path = TRY(take_path(arguments));
  if (path.empty()) return arguments;
  const YAML::Node root = TRY(load(path));
  std::vector<std::string> added;
  for (const auto& entry : root) {
    if (!entry.first.IsScalar())
      return fail(ErrorCode::invalid_argument, "--config {}: a key should be the name of a flag", path);
    const std::string flag = "--" + entry.first.Scalar();
    const bool given = std::any_of(arguments.begin(), arguments.end(),
                                   [&](const std::string& a) { return a == flag || a.starts_with(flag + "="); });
    if (given && flag != "--set") continue;
    for (std::string& argument : TRY(arguments_of(path, flag, entry.second))) added.push_back(std::move(argument));
  }
  const auto after_command = arguments.begin() + (arguments.empty() ? 0 : 1);
  arguments.insert(after_command, added.begin(), added.end());
  return arguments;
}

}  // namespace thimble
