#include "text/infilled.h"

#include <algorithm>
#include <array>
#include <bit>

#include "core/random.h"

namespace thimble {
namespace {

// Code Llama, StarCoder and its kin, Qwen and CodeGemma, DeepSeek.
constexpr std::array<std::array<std::string_view, 3>, 4> kNames = {
    {{"▁<PRE>", "▁<SUF>", "▁<MID>"},
     {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},
     {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},
     {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"}}};

class Infilled final : public Dataset {
 public:
  Infilled(std::unique_ptr<Dataset> data, const Infilling& how)
      : data_(std::move(data)), how_(how), random_(how.seed, "infill") {
    report_ = data_->report();
    add_to_fingerprint(data_->fingerprint());
    for (const double number : {how.rate, how.suffix_first}) add_to_fingerprint(std::bit_cast<uint64_t>(number));
    add_to_fingerprint(how.seed);
  }

  int64_t size() const override { return data_->size(); }
  bool windows() const override { return data_->windows(); }
  int64_t tokens(int64_t index) const override {
    return data_->tokens(index) + (is_cut(index) ? InfillTokens::kCount : 0);
  }
  Result<std::vector<Message>> messages(int64_t index) override { return data_->messages(index); }

  Result<void> read(int64_t index, Example& example) override {
    if (!is_cut(index)) return data_->read(index, example);
    CHECK_OK(data_->read(index, whole_));
    const std::span<const int32_t> ids = whole_.ids;
    const size_t first = !ids.empty() && how_.bos && ids.front() == *how_.bos ? 1 : 0;
    const size_t end = ids.size() > first && how_.eos && ids.back() == *how_.eos ? ids.size() - 1 : ids.size();
    const uint64_t places = end - first + 1;
    const auto [from, to] =
        std::minmax({first + random_.below(draw(index, 1), places), first + random_.below(draw(index, 2), places)});
    const auto prefix = ids.subspan(first, from - first), middle = ids.subspan(from, to - from),
               suffix = ids.subspan(to, end - to);
    example.clear();
    const auto add = [&](std::span<const int32_t> part) {
      example.ids.insert(example.ids.end(), part.begin(), part.end());
    };
    const InfillTokens& t = how_.tokens;
    const bool suffix_first = random_.uniform(draw(index, 3)) < static_cast<float>(how_.suffix_first);
    add(ids.first(first)), add({&t.prefix, 1});
    if (!suffix_first) add(prefix);
    add({&t.suffix, 1}), add(suffix), add({&t.middle, 1});
    if (suffix_first) add(prefix);
    add(middle), add(ids.subspan(end));
    example.trained.resize(example.ids.size(), 1);
    return {};
  }

 private:
  static uint64_t draw(int64_t index, uint64_t which) { return 4 * static_cast<uint64_t>(index) + which; }
  bool is_cut(int64_t index) const { return random_.uniform(draw(index, 0)) < static_cast<float>(how_.rate); }

  std::unique_ptr<Dataset> data_;
  Infilling how_;
  Random random_;
  Example whole_;
};

}  // namespace

Result<InfillTokens> infill_tokens(const Tokenizer& tokenizer, int64_t rows) {
  for (const auto& [prefix, suffix, middle] : kNames) {
    const auto p = tokenizer.find(prefix), s = tokenizer.find(suffix), m = tokenizer.find(middle);
    if (!p || !s || !m) continue;
    if (const int32_t last = std::max({*p, *s, *m}); last >= rows)
      return fail(ErrorCode::invalid_argument,
                  "filling in: the model has {} rows, and none for token {}, one of {}, {} and {}; train with --method "
                  "full, or convert --add-rows, to give them rows",
                  rows, last, prefix, suffix, middle);
    return InfillTokens{*p, *s, *m};
  }
  return fail(ErrorCode::unsupported,
              "filling in: the tokenizer has no tokens for it, {}, {} and {} or those of other families; give a "
              "--tokenizer that has them, with --method full or train, which make rows for them",
              kNames[1][0], kNames[1][1], kNames[1][2]);
}

std::unique_ptr<Dataset> infilled(std::unique_ptr<Dataset> data, const Infilling& how) {
  return std::make_unique<Infilled>(std::move(data), how);
}

}  // namespace thimble
