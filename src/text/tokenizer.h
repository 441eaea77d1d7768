// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "files/tokenizer_tables.h"
#include "text/text_span.h"

namespace thimble {

struct EncodeOptions {
  bool special = true;         // "<|im_end|>" in the text becomes its one token; false: it is ordinary text
  bool bos = false;            // the beginning-of-sequence token first, unless the text begins with it
  bool continued = false;      // the text goes on from earlier text: no dummy prefix before it
  bool after_special = false;  // a token that is_apart() stands before the text
  // Of a text that is in part written by others: what looks like a special token and lies within one of these stretches
  // is ordinary text. In order, apart from each other.
  std::span<const TextSpan> ordinary = {};
};

// What a pattern or a merge may have to look at as a whole; it takes forty times as much memory. Longer words, and
// texts without a place to be cut in so many bytes, are refused.
inline constexpr size_t kLongestWord = 16u << 20;

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // tokenizer.json, tokenizer.model, a .gguf file, llama2.c's tok512.bin, a folder that holds one of these or
  // vocab.json/encoder.json + merges.txt/vocab.bpe.
  static Result<std::unique_ptr<Tokenizer>> open(const std::string& path);
  // Whether a folder holds one.
  static bool is_in(const std::string& folder);

  // An error where there is no tokenizer and nothing but ids can be used.
  virtual Result<void> usable() const { return {}; }

  // Appends to `ids`. A byte that the vocabulary cannot express is an error (invalid_argument) that names it and its
  // offset; nothing is dropped silently. Allocates nothing once its buffers and `ids` have grown to the text's size.
  virtual Result<void> encode(std::string_view text, const EncodeOptions& options, std::vector<int32_t>& ids) = 0;

  // As encode, for a beginning of a longer text: encodes only as far as nothing that may follow can change the ids, and
  // gives the number of bytes encoded. The rest is to be given again, `continued`, with more text after it; 0 means
  // that nothing is certain yet.
  virtual Result<size_t> encode_part(std::string_view text, const EncodeOptions& options,
                                     std::vector<int32_t>& ids) = 0;

  // The bytes of one token, as they stand in running text (may be part of a UTF-8 character). Special tokens give
  // their text. An id out of range gives "".
  virtual std::string_view bytes(int32_t id) const = 0;
  // The whole text: bytes joined, less SentencePiece's dummy prefix.
  virtual std::string decode(std::span<const int32_t> ids) const = 0;

  // A text of n bytes has at least n / most tokens; 0: not known, where a normaliser takes text away.
  virtual size_t most_bytes_per_token() const = 0;

  virtual int32_t vocab_size() const = 0;
  virtual bool is_special(int32_t id) const = 0;
  // A special token or one of the user's, which is found before a text is cut: what follows it begins anew.
  virtual bool is_apart(int32_t id) const { return is_special(id); }
  // Whether the tokens of a text end with one that is apart. The unknown token may also stand for the text's last
  // characters, which do not begin anything anew.
  bool ends_apart(std::string_view text, std::span<const int32_t> ids) const;
  virtual std::optional<int32_t> find(std::string_view token) const = 0;          // of a token's text, "<|im_end|>"
  virtual std::optional<int32_t> first_special(std::string_view text) const = 0;  // in a text

  std::optional<int32_t> bos() const { return bos_; }
  std::optional<int32_t> eos() const { return eos_; }
  bool adds_bos() const { return adds_bos_; }  // what the model was trained with
  // Whether sequences begin with bos: every command decides by this. `asked`, `refused`: --bos, --no-bos.
  bool begins_with_bos(bool asked, bool refused) const { return bos_ && (asked || (adds_bos_ && !refused)); }
  // What --bos puts before a text, and what the tokenizer's post-processor puts after one.
  const std::vector<int32_t>& beginning() const { return beginning_; }
  const std::vector<int32_t>& ending() const { return ending_; }
  // Tokens after which a text of the model is over, eos and others: of every file that names some. Without repetition.
  const std::vector<int32_t>& ends() const { return ends_; }
  // Special tokens by the names that chat templates have for them: {"bos_token", "<s>"}.
  const std::vector<std::pair<std::string, std::string>>& token_names() const { return token_names_; }
  const std::string& chat_template() const { return chat_template_; }  // Jinja source, or empty
  // Another than that of the tokenizer's files, which is then written with it.
  void use_chat_template(std::string source) { chat_template_ = std::move(source), other_template_ = true; }
  bool has_other_template() const { return other_template_; }

  // What a Hugging Face folder needs to hold the same tokenizer: writes tokenizer.json (and
  // tokenizer_config.json with the chat template) into `folder`.
  virtual Result<void> save(const std::string& folder) const = 0;
  // The same for a GGUF file; `unsupported` when GGUF has no words for it (a pattern of its own).
  virtual Result<TokenizerTables> tables() const = 0;

 protected:
  std::optional<int32_t> bos_, eos_;
  bool adds_bos_ = false;
  std::vector<int32_t> beginning_, ending_, ends_;
  std::string chat_template_;
  bool other_template_ = false;
  std::vector<std::pair<std::string, std::string>> token_names_;
};

// In the place of a tokenizer that is not there: usable() and all that needs one fail with `why`.
std::unique_ptr<Tokenizer> missing_tokenizer(Error why);

// invalid_argument when an id has no row among the model's `rows`; names the token.
Result<void> check_rows(const Tokenizer& tokenizer, std::span<const int32_t> ids, int64_t rows);

}  // namespace thimble
