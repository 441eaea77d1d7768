// main() of every test program: GoogleTest's, and `--isa LEVEL`, which runs all tests on that instruction set level.
// 77: this CPU lacks the level, which CTest reports as skipped.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>

#include "core/isa.h"
#include "isa_flag.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc == 3 && std::strcmp(argv[1], "--isa") == 0) {
    if (const auto used = thimble::use_isa(argv[2]); !used) {
      std::fprintf(stderr, "%s\n", used.error().message.c_str());
      return 77;
    }
    thimble::isa_flag() = argv[2];
  } else if (argc == 1) {
    thimble::use_widest_isa();
  } else {
    std::fprintf(stderr, "expected GoogleTest's flags, and perhaps --isa LEVEL\n");
    return 2;
  }
  return RUN_ALL_TESTS();
}
