#include "commands/config_file.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>

#include "commands/command_line.h"
#include "core/nearest.h"
#include "files/file.h"

namespace thimble {
namespace {

constexpr uint64_t kLargestRecipe = 64 << 10;  // a byte of YAML may take 350 of memory

// Takes `--config FILE` or `--config=FILE` out; "" when there is none.
Result<std::string> take_path(std::vector<std::string>& arguments) {
  constexpr std::string_view kFlag = "--config", kJoined = "--config=";
  std::string path;
  std::vector<std::string> others;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] != kFlag && !arguments[i].starts_with(kJoined)) {
      others.push_back(std::move(arguments[i]));
      continue;
    }
    std::string named;
    if (arguments[i] != kFlag)
      named = arguments[i].substr(kJoined.size());
    else if (++i < arguments.size())
      named = arguments[i];
    if (named.empty()) return fail(ErrorCode::invalid_argument, "--config: the name of a YAML file is missing");
    if (!path.empty())
      return fail(ErrorCode::invalid_argument, "--config: given twice, as '{}' and as '{}'; give it once", path, named);
    path = std::move(named);
  }
  arguments = std::move(others);
  return path;
}

Result<YAML::Node> load(const std::string& path) {
  const std::string text = TRY(read_text_file(path, kLargestRecipe));
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1)
      return fail(ErrorCode::invalid_argument,
                  "--config {}: it holds {} YAML documents (parted by ---), a recipe is one; take the others out", path,
                  documents.size());
    YAML::Node root = documents.empty() ? YAML::Node() : documents.front();
    if (root.IsMap()) return root;
    return fail(ErrorCode::invalid_argument, "--config {}: expected a map of flag names to values", path);
  } catch (const YAML::Exception& error) {
    return fail(ErrorCode::invalid_argument, "--config {}: it is not YAML: {}", path, error.what());
  }
}

// One key of the file and what stands there.
struct Entry {
  std::string origin;  // "recipe.yaml:3"
  std::string key;
  YAML::Node value;
};

Failure unexpected(const Entry& entry, const char* expected) {
  return fail(ErrorCode::invalid_argument, "{}: {}: expected {}{}", entry.origin, entry.key, expected,
              entry.value.IsScalar() ? fmt::format(", found '{}'", entry.value.Scalar()) : "");
}

Result<void> add_switch(const Entry& entry, const std::string& flag, std::vector<Argument>& arguments) {
  const std::string text = entry.value.IsScalar() ? entry.value.Scalar() : "";
  if (text != "true" && text != "false") return unexpected(entry, "true or false");
  if (text == "true") arguments.push_back({flag, entry.origin});
  return {};
}

// A list for a flag of one value is written as on the command line, with commas between: `method: [lora, ia3]`.
Result<void> add_values(const Entry& entry, const std::string& flag, bool takes_list,
                        std::vector<Argument>& arguments) {
  std::vector<std::string> values;
  const auto add = [&](const YAML::Node& value) -> Result<void> {
    if (!value.IsScalar()) return unexpected(entry, "a value or a list of values");
    values.push_back(value.Scalar());
    return {};
  };
  if (!entry.value.IsSequence()) CHECK_OK(add(entry.value));
  if (entry.value.IsSequence())
    for (const YAML::Node& item : entry.value) CHECK_OK(add(item));
  if (!takes_list && !values.empty()) values = {fmt::format("{}", fmt::join(values, ","))};
  for (std::string& value : values) {
    arguments.push_back({flag, entry.origin});
    arguments.push_back({std::move(value), entry.origin});
  }
  return {};
}

Result<Flag> flag_of(const FlagSet& command, const Entry& entry) {
  if (const std::optional<Flag> flag = command.find("--" + entry.key); flag && entry.key != "help") return *flag;
  std::vector<std::string> keys;
  for (const std::string& flag : flag_names(command))
    if (flag != "--config" && flag != "--help") keys.push_back(flag.substr(2));
  return fail(ErrorCode::invalid_argument, "{}: there is no key '{}'; the nearest are {}", entry.origin, entry.key,
              nearest_names(entry.key, keys));
}

}  // namespace

Result<std::vector<Argument>> expand_config(const FlagSet& command, std::vector<std::string> given) {
  const std::string path = TRY(take_path(given));
  std::vector<Argument> arguments;
  const YAML::Node root = path.empty() ? YAML::Node(YAML::NodeType::Map) : TRY(load(path));
  for (const auto& item : root) {
    if (!item.first.IsScalar())
      return fail(ErrorCode::invalid_argument, "{}:{}: expected the name of a flag as a key", path,
                  item.first.Mark().line + 1);
    const Entry entry{fmt::format("{}:{}", path, item.first.Mark().line + 1), item.first.Scalar(), item.second};
    const Flag known = TRY(flag_of(command, entry));
    const int most_values = known.most_values();
    const std::string flag = "--" + entry.key;
    const bool overruled = std::any_of(given.begin(), given.end(), [&](const std::string& argument) {
      return argument == flag || argument.starts_with(flag + "=");
    });
    if (overruled && !command.has_settings(known)) continue;  // settings are overruled one by one, by their names
    CHECK_OK(most_values == 0 ? add_switch(entry, flag, arguments)
                              : add_values(entry, flag, most_values > 1, arguments));
  }
  for (std::string& argument : given) arguments.push_back({std::move(argument), ""});
  return arguments;
}

}  // namespace thimble
