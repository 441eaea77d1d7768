// GCC compiles a function so marked once for each instruction set, and the loader chooses. Sanitizers come before the
// loader's choice is possible, so they get one version.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define CLONES
#else
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
