// Recipes: what --config names, and those of `thimble compare`.
#include "commands/command_line.h"
#include "commands/comparison.h"
#include "commands/config_file.h"
#include "fuzz_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble;
  static const FuzzFolder folder;
  const std::string path = folder.write("recipe.yaml", text_of(data, size));
  (void)read_comparison(path, {{"steps", {"1"}}});
  CommandLine line("fuzz", "");
  FlagSet& command = line.add_command("recipe", "");
  int64_t steps = 0;
  std::string method;
  std::vector<std::string> set;
  bool json = false;
  command.add("--steps", steps, "");
  command.add("--method", method, "");
  command.add("--set", set, "");
  command.add("--json", json, "");
  (void)expand_config(command, {"--config", path, "--steps", "2"});
  return 0;
}
