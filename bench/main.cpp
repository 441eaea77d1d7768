// main() of every Google Benchmark program: on the widest instruction set level, as the program itself runs.
#include <benchmark/benchmark.h>

#include "core/isa.h"

int main(int argc, char** argv) {
  thimble::use_widest_isa();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
