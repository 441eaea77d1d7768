// Training data: the first byte says the form, the rest is the file.
#include "fuzz_file.h"
#include "text/dataset.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble;
  if (size == 0) return 0;
  static const FuzzFolder folder;
  static const auto tokenizer = missing_tokenizer({ErrorCode::invalid_argument, "none"});
  constexpr const char* kNames[] = {"a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "a.safetensors", "a.jsonl.gz"};
  const std::string path = folder.write(kNames[data[0] % std::size(kNames)], text_of(data + 1, size - 1));
  if (const auto set = Dataset::open(path, *tokenizer, {.context = 16})) {
    Example example;
    for (int64_t i = 0; i < std::min<int64_t>(4, (*set)->size()); ++i) (void)(*set)->read(i, example);
  }
  std::filesystem::remove(path);
  return 0;
}
