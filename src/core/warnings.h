// What a reader of files found that the user should know and that does not stop it: a guess, a choice between two
// sources, a part without effect. Readers are far from whoever prints, and a warning must not get lost on the way.
#pragma once

#include <functional>
#include <string>

namespace thimble {

// Each text is handed on once in a process. Without a listener it goes to standard error as "warning: ...".
// Thread-safe.
void warn(const std::string& text);

// Who gets warnings from here on; an empty function: standard error.
void listen_for_warnings(std::function<void(const std::string& text)> listener);

}  // namespace thimble
