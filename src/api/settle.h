// What a process that uses the library is asked for, once, before anything is planned.
#pragma once

#include "core/isa.h"
#include "run/arena.h"

namespace thimble {

inline void settle_process() {
  settle_allocator();
  [[maybe_unused]] static const bool asked = [] {
    use_widest_isa();
    return true;
  }();
}

}  // namespace thimble
