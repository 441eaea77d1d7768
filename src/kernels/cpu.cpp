#include "kernels/cpu.h"

namespace thimble {

bool fetches_ahead() noexcept {
#if defined(__x86_64__)
  static const bool fetches = [] {
    __builtin_cpu_init();
    return __builtin_cpu_is("intel") != 0;
  }();
  return fetches;
#else
  return false;
#endif
}

}  // namespace thimble
