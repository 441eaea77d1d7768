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
  BuildOptions options{.rows = 4, .positions = 4};
  options.codec = [](const std::string&, const Shape&) -> const Codec* { return &kF32; };
  if (build_model(graph, *architecture, options)) (void)graph.verify();
  return 0;
}
