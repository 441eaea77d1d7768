// Stands where a model brings no tokenizer: data that is token ids already needs none, and whatever needs one is told
// why there is none.
#include "text/tokenizer.h"

namespace thimble {
namespace {

class MissingTokenizer final : public Tokenizer {
 public:
  explicit MissingTokenizer(Error why) : why_(std::move(why)) {}

  Result<void> usable() const override { return Failure(why_); }
  Result<void> encode(std::string_view, const EncodeOptions&, std::vector<int32_t>&) override { return Failure(why_); }
  Result<size_t> encode_part(std::string_view, const EncodeOptions&, std::vector<int32_t>&) override {
    return Failure(why_);
  }
  size_t most_bytes_per_token() const override { return 0; }
  std::string_view bytes(int32_t) const override { return {}; }
  std::string decode(std::span<const int32_t>) const override { return {}; }
  int32_t vocab_size() const override { return 0; }
  bool is_special(int32_t) const override { return false; }
  std::optional<int32_t> find(std::string_view) const override { return std::nullopt; }
  std::optional<int32_t> first_special(std::string_view) const override { return std::nullopt; }
  Result<void> save(const std::string&) const override { return {}; }  // there is nothing to keep
  Result<TokenizerTables> tables() const override { return Failure(why_); }

 private:
  Error why_;
};

}  // namespace

std::unique_ptr<Tokenizer> missing_tokenizer(Error why) { return std::make_unique<MissingTokenizer>(std::move(why)); }

}  // namespace thimble
