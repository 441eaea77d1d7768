// Reading the recipe of a comparison.
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <set>

#include "commands/comparison.h"
#include "core/nearest.h"
#include "files/file.h"

namespace thimble {
namespace {

class RecipeReader {
 public:
  explicit RecipeReader(std::string path) : path_(std::move(path)) {}

  Result<Comparison> read(const Flags& overrides) {
    const std::string text = TRY(read_text_file(path_, 1 << 20));
    try {
      const YAML::Node root = YAML::Load(text);
      if (!root.IsMap()) return fail(ErrorCode::invalid_argument, "{}: expected a map with variants", path_);
      CHECK_OK(read(root, overrides));
    } catch (const YAML::Exception& error) {
      return fail(ErrorCode::invalid_argument, "{}: it is not YAML: {}", path_, error.what());
    }
    return std::move(comparison_);
  }

 private:
  Failure unexpected(const YAML::Node& at, const std::string& message) const {
    return fail(ErrorCode::invalid_argument, "{}:{}: {}", path_, at.Mark().line + 1, message);
  }

  Result<void> read(const YAML::Node& root, const Flags& overrides) {
    static constexpr std::string_view kKeys[] = {"name", "command", "flags", "rates", "part", "seeds", "variants"};
    for (const auto& item : root)
      if (std::ranges::find(kKeys, item.first.Scalar()) == std::end(kKeys))
        return unexpected(item.first, fmt::format("there is no key '{}'; the nearest are {}", item.first.Scalar(),
                                                  nearest_names(item.first.Scalar(), kKeys)));
    comparison_.path = path_;
    comparison_.name = root["name"] ? root["name"].Scalar() : path_;
    comparison_.command = root["command"] ? root["command"].Scalar() : "";
    if (comparison_.command != "train" && comparison_.command != "finetune")
      return unexpected(root, "expected command: train or finetune");
    if (root["rates"]) comparison_.rates = TRY(numbers<double>(root["rates"], 1e-6, 1e6));
    if (root["seeds"]) comparison_.seeds = TRY(numbers<int64_t>(root["seeds"], 0, int64_t{1} << 53));
    if (root["part"]) comparison_.part = TRY(numbers<double>(root["part"], 0.01, 1)).front();
    const Flags all = root["flags"] ? TRY(flags(root["flags"])) : Flags();
    const YAML::Node variants = root["variants"];
    if (!variants || !variants.IsMap() || variants.size() == 0)
      return unexpected(root, "expected variants: a map of names to flags");
    for (const auto& item : variants) CHECK_OK(add_variant(item.first, item.second, all, overrides));
    return {};
  }

  Result<void> add_variant(const YAML::Node& key, const YAML::Node& value, const Flags& all, const Flags& overrides) {
    Variant variant{key.Scalar(), all};
    const bool plain = std::ranges::all_of(variant.name, [](unsigned char c) {
      return std::isalnum(c) || std::string_view("_-+.").find(static_cast<char>(c)) != std::string_view::npos;
    });
    if (variant.name.empty() || !plain || variant.name.front() == '.')
      return unexpected(key, "a variant is called by letters, digits and _ - + .");
    const bool known =
        std::ranges::any_of(comparison_.variants, [&](const Variant& v) { return v.name == variant.name; });
    if (known) return unexpected(key, fmt::format("there are two variants '{}'", variant.name));
    const Flags own = value.IsNull() ? Flags() : TRY(flags(value));
    for (const auto& [name, values] : own) {
      auto& to = variant.flags[name];
      if (name != "set") to.clear();
      to.insert(to.end(), values.begin(), values.end());
    }
    for (const auto& [name, values] : overrides) variant.flags[name] = values;
    if (overrides.contains("steps")) variant.flags.erase("epochs");  // which would say as many again
    comparison_.variants.push_back(std::move(variant));
    return {};
  }

  Result<Flags> flags(const YAML::Node& node) const {
    static const std::set<std::string> kOurs = {"out", "resume", "json", "seed", "config"};
    if (!node.IsMap()) return unexpected(node, "expected a map of flag names to values");
    Flags out;
    for (const auto& item : node) {
      const std::string name = item.first.Scalar();
      if (kOurs.contains(name)) return unexpected(item.first, fmt::format("'{}' is set by compare itself", name));
      std::vector<std::string>& values = out[name];
      if (item.second.IsScalar())
        values.push_back(item.second.Scalar());
      else if (item.second.IsSequence())
        for (const YAML::Node& one : item.second) values.push_back(one.as<std::string>());
      else
        return unexpected(item.first, fmt::format("{}: expected a value or a list of values", name));
    }
    return out;
  }

  template <class Number>
  Result<std::vector<Number>> numbers(const YAML::Node& node, Number least, Number most) const {
    std::vector<Number> out;
    if (node.IsScalar()) out.push_back(node.as<Number>());
    if (node.IsSequence())
      for (const YAML::Node& one : node) out.push_back(one.as<Number>());
    const bool fit = std::ranges::all_of(out, [&](Number n) { return n >= least && n <= most; });
    if (out.empty() || !fit) return unexpected(node, fmt::format("expected numbers from {} to {}", least, most));
    return out;
  }

  std::string path_;
  Comparison comparison_;
};

}  // namespace

Result<Comparison> read_comparison(const std::string& path, const Flags& overrides) {
  return RecipeReader(path).read(overrides);
}

}  // namespace thimble
