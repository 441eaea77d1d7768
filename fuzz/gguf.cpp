// GGUF: metadata, model and tokenizer, up to a row of each tensor and the first forward pass of a small model.
#include "files/gguf.h"

#include "fuzz_file.h"
#include "models/model_source.h"
#include "run/all_logits.h"
#include "text/tokenizer.h"

namespace {
using namespace thimble;

void run_forward(const std::string& path) {
  const auto inference = Inference::open({.model = path, .precision = "f32", .scratch = "none", .threads = 1});
  if (!inference) return;
  const auto logits = AllLogits::prepare(**inference, 4);
  if (!logits || (*inference)->plan().arena_bytes > 8 << 20 || !(*logits)->load()) return;
  const std::vector<int32_t> ids = {0, 1, 0};
  (void)(*logits)->run(ids);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const FuzzFolder folder;
  const std::string path = folder.write("a.gguf", text_of(data, size));
  if (!GgufFile::open(path)) return 0;
  if (const auto source = ModelSource::open(path)) (void)(*source)->fingerprint();
  if (const auto tokenizer = Tokenizer::open(path)) {
    std::vector<int32_t> ids;
    if ((*tokenizer)->encode("a text, with 12 words\n", {}, ids)) (void)(*tokenizer)->decode(ids);
  }
  run_forward(path);
  return 0;
}
