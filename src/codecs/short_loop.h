// A short loop of constant length in a kernel body of dispatch.h.
#pragma once

#include "codecs/dispatch.h"

namespace thimble {

// f(0) .. f(n - 1). GCC 12 unrolls it, and of what comes makes vectors as wide as AVX-512's, or scalars: where vectors
// are narrower it has to stay a loop, so that a body is dispatched<body<true>, body<false>>.
template <bool unrolled, int n, class F>
THIMBLE_BODY void short_loop(const F& f) noexcept {
  if constexpr (unrolled) {
    for (int i = 0; i < n; ++i) f(i);
  } else {
#pragma GCC unroll 1
    for (int i = 0; i < n; ++i) f(i);
  }
}

}  // namespace thimble
