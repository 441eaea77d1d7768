// GGUF models through their plan to the first forward pass, where they are small. Apart from gguf, which runs a hundred
// times as often.
#include "fuzz_file.h"
#include "run/all_logits.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble;
  static const FuzzFolder folder;
  const std::string path = folder.write("a.gguf", text_of(data, size));
  const auto inference = Inference::open({.model = path, .precision = "f32", .scratch = "none", .threads = 1});
  if (!inference) return 0;
  const auto logits = AllLogits::prepare(**inference, 4);
  if (!logits || (*inference)->plan().arena_bytes > 8 << 20 || !(*logits)->load()) return 0;
  const std::vector<int32_t> ids = {0, 1, 0};
  (void)(*logits)->run(ids);
  return 0;
}
