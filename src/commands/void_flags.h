// Flags that others make void. Whoever gives a flag expects something of it, so one without effect is refused by name.
#pragma once

#include <initializer_list>
#include <string>

#include "core/result.h"

namespace thimble {

class FlagSet;

struct VoidFlag {
  const char* flag;
  bool applies;     // as the other flags are
  std::string why;  // "only --convention strided has a stride"
};

bool is_given(const FlagSet& command, const std::string& flag);
// The first flag that was given and has no effect.
Result<void> refuse_void(const FlagSet& command, std::initializer_list<VoidFlag> flags);

}  // namespace thimble
