// A tokenizer as GGUF writes it: what src/text hands to the GGUF writer. Strings lie in one blob, so that a vocabulary
// does not cost an allocation per token.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thimble {

class StringList {
 public:
  void push_back(std::string_view text) {
    blob_.append(text);
    ends_.push_back(blob_.size());
  }
  size_t size() const { return ends_.size(); }
  std::string_view operator[](size_t i) const {
    const size_t start = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(blob_).substr(start, ends_[i] - start);
  }

 private:
  std::string blob_;
  std::vector<uint64_t> ends_;
};

struct TokenizerTables {
  std::string model;                                  // tokenizer.ggml.model: gpt2, llama, t5
  std::string pre;                                    // tokenizer.ggml.pre; empty: leave the key out
  StringList tokens;                                  // tokenizer.ggml.tokens
  std::vector<float> scores;                          // tokenizer.ggml.scores; empty: leave the key out
  std::vector<int32_t> types;                         // tokenizer.ggml.token_type, one a token
  StringList merges;                                  // tokenizer.ggml.merges, "left right"; empty: leave the key out
  std::optional<int32_t> bos, eos, unknown, padding;  // tokenizer.ggml.{bos,eos,unknown,padding}_token_id
  std::vector<int32_t> ends;      // beside eos; tokenizer.ggml.{eot,eom}_token_id, and all of them eos_token_ids
  bool add_bos = false;           // tokenizer.ggml.add_bos_token
  bool add_eos = false;           // tokenizer.ggml.add_eos_token
  bool add_space_prefix = false;  // tokenizer.ggml.add_space_prefix
  bool remove_extra_whitespaces = false;  // tokenizer.ggml.remove_extra_whitespaces
  std::string chat_template;              // tokenizer.chat_template; empty: leave the key out
};

}  // namespace thimble
