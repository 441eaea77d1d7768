#include "methods/method.h"

#include <array>

#include "core/nearest.h"

namespace thimble {
namespace {

constexpr std::array kMethods = {&kFull, &kLora};

}  // namespace

std::span<const Method* const> methods() { return kMethods; }

Result<const Method*> method_named(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Method* method : kMethods) {
    if (method->name == name) return method;
    names.push_back(method->name);
  }
  return fail(ErrorCode::invalid_argument, "--method: there is no method '{}'; the nearest are {}", name,
              nearest_names(name, names));
}

}  // namespace thimble
