#include "commands/void_flags.h"

#include <CLI/CLI.hpp>

namespace thimble {

bool is_given(const CLI::App& command, const std::string& flag) {
  const CLI::Option* const option = command.get_option_no_throw(flag);
  return option && option->count() > 0;
}

Result<void> refuse_void(const CLI::App& command, std::initializer_list<VoidFlag> flags) {
  for (const VoidFlag& one : flags)
    if (one.applies && is_given(command, one.flag))
      return fail(ErrorCode::invalid_argument, "{}: it would have no effect: {}", one.flag, one.why);
  return {};
}

}  // namespace thimble
