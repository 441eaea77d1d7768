// GGUF: metadata, model and tokenizer, up to a row of each tensor.
#include "files/gguf.h"

#include "fuzz_file.h"
#include "models/model_source.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble;
  static const FuzzFolder folder;
  const std::string path = folder.write("a.gguf", text_of(data, size));
  if (!GgufFile::open(path)) return 0;
  if (const auto source = ModelSource::open(path)) (void)(*source)->fingerprint();
  if (const auto tokenizer = Tokenizer::open(path)) {
    std::vector<int32_t> ids;
    if ((*tokenizer)->encode("a text, with 12 words\n", {}, ids)) (void)(*tokenizer)->decode(ids);
  }
  return 0;
}
