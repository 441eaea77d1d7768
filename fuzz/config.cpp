// config.json: to an architecture, and to the graph of a model where that is small.
#include "fuzz_file.h"
#include "models/build.h"
#include "models/hf_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble;
  const auto architecture = parse_config(text_of(data, size), "config.json");
  if (!architecture || architecture->blocks.size() > 8) return 0;
  (void)config_text(*architecture, {});
  Graph graph;
  if (const auto built = build_model(graph, *architecture, {.rows = 4, .positions = 4}); built) (void)graph.verify();
  return 0;
}
