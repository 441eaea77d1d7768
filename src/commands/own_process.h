// This program once more, as a process of its own.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"

namespace thimble {

struct OwnProcess {
  int status = 0;   // exit status; -1: it was ended by a signal
  std::string out;  // the first kilobytes of its standard output, where that goes to no file
};

// Runs `thimble WORDS...` and waits. Its standard output goes to the file `out`, from its beginning; "": it is read.
// Messages go where those of this process go, or with `errors` to the file `out` too. Errors only where it could not be
// started.
Result<OwnProcess> run_thimble(std::vector<std::string> words, const std::string& out = "", bool errors = false);

}  // namespace thimble
