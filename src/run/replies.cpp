#include "run/replies.h"

#include <algorithm>

#include "run/sampler.h"

namespace thimble {
namespace {

class Batch {
 public:
  Batch(Generator& generator, std::span<Exchange> exchanges, std::span<const int32_t> stops)
      : generator_(generator),
        exchanges_(exchanges),
        stops_(stops),
        at_(static_cast<size_t>(generator.slots()), nullptr) {
    prompts_.reserve(at_.size());
    tokens_.reserve(at_.size());
  }

  bool waiting() const { return next_ < exchanges_.size(); }
  int64_t active() const { return static_cast<int64_t>(tokens_.size()); }
  int64_t done() const { return done_; }

  // Prompts into every free slot; takes their first tokens.
  Result<void> fill() {
    prompts_.clear();
    for (size_t slot = 0; slot < at_.size() && waiting(); ++slot) {
      if (at_[slot]) continue;
      at_[slot] = &exchanges_[next_++];
      generator_.truncate(static_cast<int64_t>(slot), 0);
      prompts_.push_back({static_cast<int64_t>(slot), at_[slot]->prompt});
    }
    CHECK_OK(generator_.prefill(prompts_));
    for (size_t i = 0; i < prompts_.size(); ++i) take(prompts_[i].slot, static_cast<int64_t>(i));
    return {};
  }

  Result<void> step() {
    CHECK_OK(generator_.step(tokens_));
    const std::vector<Generator::Token> fed = tokens_;
    tokens_.clear();
    for (size_t i = 0; i < fed.size(); ++i) take(fed[i].slot, static_cast<int64_t>(i));
    return {};
  }

 private:
  void take(int64_t slot, int64_t row) {
    Exchange& exchange = *at_[static_cast<size_t>(slot)];
    const int32_t id = likeliest(generator_.logits(row));
    exchange.ended = std::find(stops_.begin(), stops_.end(), id) != stops_.end();
    if (!exchange.ended) exchange.reply.push_back(id);
    const bool full =
        static_cast<int64_t>(exchange.reply.size()) >= exchange.most || generator_.length(slot) == generator_.context();
    if (!exchange.ended && !full) return tokens_.push_back({slot, id});
    at_[static_cast<size_t>(slot)] = nullptr;
    ++done_;
  }

  Generator& generator_;
  std::span<Exchange> exchanges_;
  std::span<const int32_t> stops_;
  std::vector<Exchange*> at_;  // by slot; nullptr: free
  std::vector<Generator::Prompt> prompts_;
  std::vector<Generator::Token> tokens_;  // to be fed next
  size_t next_ = 0;
  int64_t done_ = 0;
};

}  // namespace

Result<void> reply_to_all(Generator& generator, std::span<Exchange> exchanges, std::span<const int32_t> stops,
                          const std::function<void(int64_t done)>& progress) {
  Batch batch(generator, exchanges, stops);
  while (batch.waiting() || batch.active() > 0) {
    if (batch.waiting() && 2 * batch.active() <= generator.slots()) {
      CHECK_OK(batch.fill());
      progress(batch.done());
    }
    if (batch.active() > 0) {
      CHECK_OK(batch.step());
      progress(batch.done());
    }
  }
  return {};
}

}  // namespace thimble
