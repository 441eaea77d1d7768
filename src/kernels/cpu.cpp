#include "kernels/cpu.h"

namespace thimble {

const Cpu& cpu() {
  static const Cpu found = [] {
    __builtin_cpu_init();
    Cpu c;
    c.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    c.avx512 = c.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    c.avx512_bf16 = c.avx512 && __builtin_cpu_supports("avx512bf16");
    c.avx512_vnni = c.avx512 && __builtin_cpu_supports("avx512vnni");
    c.fetches = __builtin_cpu_is("intel");
    return c;
  }();
  return found;
}

}  // namespace thimble
