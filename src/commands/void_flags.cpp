#include "commands/void_flags.h"

#include "commands/command_line.h"

namespace thimble {

bool is_given(const FlagSet& command, const std::string& flag) {
  const std::optional<Flag> found = command.find(flag);
  return found && found->given();
}

Result<void> refuse_void(const FlagSet& command, std::initializer_list<VoidFlag> flags) {
  for (const VoidFlag& one : flags)
    if (one.applies && is_given(command, one.flag))
      return fail(ErrorCode::invalid_argument, "{}: it would have no effect: {}", one.flag, one.why);
  return {};
}

}  // namespace thimble
