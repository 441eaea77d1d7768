// Calls of functions in the words of LLaMA-Factory: a turn "function_call" whose value is JSON,
// {"name": ..., "arguments": {...}} or a list of them, and "observation" for what comes back.
#pragma once

#include <string_view>

#include "text/chat.h"

namespace thimble {

// Makes of it a message of the assistant with `tool_calls`, as templates know them.
Result<void> take_function_call(std::string_view value, Message& message);

}  // namespace thimble
