// Recipes: what --config names, and those of `thimble compare`.
#include <CLI/CLI.hpp>

#include "commands/comparison.h"
#include "commands/config_file.h"
#include "fuzz_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble;
  static const FuzzFolder folder;
  const std::string path = folder.write("recipe.yaml", text_of(data, size));
  (void)read_comparison(path, {{"steps", {"1"}}});
  CLI::App app;
  int64_t steps = 0;
  std::string method;
  std::vector<std::string> set;
  bool json = false;
  app.add_option("--steps", steps);
  app.add_option("--method", method);
  app.add_option("--set", set);
  app.add_flag("--json", json);
  (void)expand_config(app, {"--config", path, "--steps", "2"});
  return 0;
}
