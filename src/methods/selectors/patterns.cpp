// patterns: the parameters with one of these texts in their names train.
//
//   Trains  a parameter whose name holds one of `train`, or any where that is empty, and none of `freeze`
//   Choice  a text that no parameter has is an error: it is misspelt
#include <algorithm>

#include "core/nearest.h"
#include "core/split.h"
#include "methods/selector.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {{.name = "train",
                                .initial = 0,
                                .least = 0,
                                .most = 0,
                                .help = "parts of names: q_proj|norm",
                                .kind = Option::Kind::words},
                               {.name = "freeze",
                                .initial = 0,
                                .least = 0,
                                .most = 0,
                                .help = "parts of names that do not train",
                                .kind = Option::Kind::words}};

bool has_any(std::string_view name, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    if (name.find(part) != std::string_view::npos) return true;
  return false;
}

Result<void> check_found(const SelectorInput& input, std::string_view option) {
  std::vector<std::string> parts;  // that names are made of
  for (const Selectable& parameter : input.parameters)
    for (std::string& part : split(parameter.name, '.'))
      if (std::ranges::find(parts, part) == parts.end()) parts.push_back(std::move(part));
  for (const std::string& part : input.options.words(option))
    if (std::ranges::none_of(input.parameters, [&](const auto& parameter) { return has_any(parameter.name, {part}); }))
      return fail(ErrorCode::invalid_argument,
                  "--set patterns.{}: no parameter of the method has '{}' in its name; the nearest parts are {}",
                  option, part, nearest_names(part, parts));
  return {};
}

Result<std::vector<Trains>> select(const SelectorInput& input) {
  const auto& train = input.options.words("train");
  const auto& freeze = input.options.words("freeze");
  if (train.empty() && freeze.empty())
    return fail(ErrorCode::invalid_argument,
                "--select patterns: say which parameters train, --set \"patterns.train=q_proj|norm\", or which do not, "
                "--set patterns.freeze=embed");
  CHECK_OK(check_found(input, "train"));
  CHECK_OK(check_found(input, "freeze"));
  return trained_where(input.parameters, [&](const Selectable& parameter) {
    return (train.empty() || has_any(parameter.name, train)) && !has_any(parameter.name, freeze);
  });
}

}  // namespace

const Selector kPatterns = {.name = "patterns",
                            .summary = "parameters train by parts of their names",
                            .paper = "",
                            .options = kOptions,
                            .select = select};

}  // namespace thimble
