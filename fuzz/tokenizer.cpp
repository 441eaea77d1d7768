// Tokenizer files: the first byte says which kind, the rest is the file.
#include "text/tokenizer.h"

#include "fuzz_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble;
  if (size == 0) return 0;
  static const FuzzFolder folder;
  constexpr const char* kNames[] = {"tokenizer.json", "tokenizer.model", "tok512.bin"};
  const auto tokenizer = Tokenizer::open(folder.write(kNames[data[0] % 3], text_of(data + 1, size - 1)));
  if (!tokenizer) return 0;
  std::vector<int32_t> ids;
  for (const std::string_view text : {"Hello, w\xc3\xb6rld  123\n", "\xff\xfe", ""}) {
    ids.clear();
    if ((*tokenizer)->encode(text, {.bos = true}, ids)) (void)(*tokenizer)->decode(ids);
    ids.clear();
    (void)(*tokenizer)->encode_part(text, {}, ids);
  }
  (void)(*tokenizer)->tables();
  return 0;
}
