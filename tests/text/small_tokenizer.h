// Small tokenizers made on the spot.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "files/file.h"
#include "temporary_folder.h"
#include "text/tokenizer.h"

namespace thimble {

std::string characters(std::string_view bytes);

// Byte-level BPE: ids 0..255 are the bytes, then the merges' results, then the special tokens.
struct SmallByteBpe {
  std::vector<std::pair<std::string, std::string>> merges = {{"h", "e"},   {"l", "l"}, {"he", "ll"},    {"hell", "o"},
                                                             {" ", "w"},   {"a", "a"}, {"aa", "aa"},    {" ", " "},
                                                             {"\n", "\n"}, {"1", "2"}, {"\xc3", "\xa9"}};
  std::vector<std::string> specials = {"<|im_start|>", "<|im_end|>", "<|im_end|>>", "<s>", "</s>"};
  nlohmann::json pre_tokenizer = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};

  nlohmann::json json() const;
};

std::unique_ptr<Tokenizer> must_open(const std::string& path);

std::unique_ptr<Tokenizer> small_byte_bpe(const TemporaryFolder& folder, const std::string& chat_template = "",
                                          const SmallByteBpe& small = {});

std::vector<int32_t> must_encode(Tokenizer& tokenizer, std::string_view text, EncodeOptions options = {});

// The ids by encode_part over pieces of `chunk` bytes.
std::vector<int32_t> encode_in_parts(Tokenizer& tokenizer, std::string_view text, size_t chunk);

inline const std::string kChatMl =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe good.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

}  // namespace thimble
