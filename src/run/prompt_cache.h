// What a model has made of a prompt, in a file: the keys and values, or the recurrent states, of its tokens. A later
// prompt that begins with the same tokens goes on from there, to the same bits as without the file.
//
// The file (sealed_file.h) holds "ids" i32 [tokens] and, of every cache of the model, the rows of these tokens, those
// of virtual tokens before them (U8 [rows, bytes of a row]); of a recurrent state all of it. Its metadata tell what the
// numbers hang on: the weights as they lie in memory, an adapter's among them, the operations, the level of the kernels
// and the version of the program.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "run/generator.h"
#include "run/sealed_file.h"

namespace thimble {

inline constexpr const char* kPromptCacheKind = "thimble prompt cache";  // metadata "kind" of such a file

struct PromptCacheOptions {
  std::string file;        // "": none
  bool all = false;        // the reply's tokens are kept, too
  bool read_only = false;  // the file is never written
};

class PromptCache {
 public:
  // Opens the file, where there is one, and checks that it may be one; call before memory is planned, so that its index
  // is counted. Refuses a cache that forgets tokens. Without a file in the options: nullptr. `inference` must outlive
  // it.
  static Result<std::unique_ptr<PromptCache>> open(const PromptCacheOptions& options, Inference& inference);

  // Brings the generator's only slot to hold all tokens of the prompt but the last, and writes the file where it had
  // less. How many of them were read from it. A file of another model or a damaged one is warned of and not read.
  Result<int64_t> begin(Generator& generator, std::span<const int32_t> prompt);
  // With `all`: writes what belongs to `ids`, prompt and reply, the first `prompt` of which begin() has seen.
  Result<void> end(Generator& generator, std::span<const int32_t> ids, int64_t prompt);

 private:
  PromptCache(PromptCacheOptions options, Inference& inference, std::string numerics)
      : options_(std::move(options)), inference_(inference), numerics_(std::move(numerics)) {}
  using Metadata = std::map<std::string, std::string>;
  // A state of the model: `rows` of `row_bytes` for so many tokens, virtual ones included.
  struct State {
    std::string name;
    std::byte* memory = nullptr;
    int64_t rows = 0, row_bytes = 0;
  };
  std::vector<State> states(int64_t tokens);
  Result<Metadata> identity();
  Result<int64_t> restore(Generator& generator, std::span<const int32_t> wanted);
  Result<int64_t> common(std::span<const int32_t> wanted) const;
  Result<void> check_sizes();
  Result<void> save(std::span<const int32_t> ids);

  PromptCacheOptions options_;
  Inference& inference_;
  std::string numerics_;
  std::optional<SafetensorsFile> file_;
};

}  // namespace thimble
