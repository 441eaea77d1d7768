#include "run/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/random.h"
#include "kernels/rows.h"

namespace thimble {

int32_t likeliest(std::span<const float> logits) {
  constexpr size_t kPiece = 1024;  // whole pieces are compared in vectors, one is looked through
  std::span<const float> best;
  float largest = -std::numeric_limits<float>::infinity();
  for (size_t at = 0; at < logits.size(); at += kPiece) {
    const auto piece = logits.subspan(at, std::min(kPiece, logits.size() - at));
    const float of_piece = max(piece.data(), static_cast<int64_t>(piece.size()));
    if (best.empty() || of_piece > largest) best = piece, largest = of_piece;
  }
  return static_cast<int32_t>(&*std::find(best.begin(), best.end(), largest) - logits.data());
}

Result<Sampler> Sampler::create(const SamplingOptions& o, int64_t vocab) {
  const auto refused = [](const char* flag, const char* expected, auto found) {
    return fail(ErrorCode::invalid_argument, "{}: expected {}, found {}", flag, expected, found);
  };
  if (!(o.temperature >= 0 && o.temperature <= 100)) return refused("--temperature", "0 to 100", o.temperature);
  if (o.top_k < 0) return refused("--top-k", "0 (all) or more", o.top_k);
  if (!(o.top_p > 0 && o.top_p <= 1)) return refused("--top-p", "more than 0 and at most 1", o.top_p);
  if (!(o.min_p >= 0 && o.min_p <= 1)) return refused("--min-p", "0 to 1", o.min_p);
  if (!(o.typical_p > 0 && o.typical_p <= 1)) return refused("--typical-p", "more than 0 and at most 1", o.typical_p);
  if (!(o.repetition_penalty > 0 && o.repetition_penalty <= 100))
    return refused("--repetition-penalty", "more than 0 and at most 100", o.repetition_penalty);
  if (!(std::abs(o.presence_penalty) <= 100)) return refused("--presence-penalty", "-100 to 100", o.presence_penalty);
  if (!(std::abs(o.frequency_penalty) <= 100))
    return refused("--frequency-penalty", "-100 to 100", o.frequency_penalty);
  if (o.repeat_last < -1) return refused("--repeat-last", "-1 (all) or more", o.repeat_last);
  Sampler sampler(o);
  // Written once: memory that is only reserved is not there yet when the process is measured.
  const auto entries = static_cast<size_t>(vocab);
  if (o.temperature > 0) sampler.candidates_.resize(entries);
  sampler.candidates_.clear();
  if (sampler.penalises()) {
    sampler.logits_.resize(entries);
    sampler.counts_.resize(entries);
  }
  return sampler;
}

std::span<const float> Sampler::penalised(std::span<const float> logits, std::span<const int32_t> earlier) {
  if (!penalises()) return logits;
  if (options_.repeat_last >= 0 && static_cast<size_t>(options_.repeat_last) < earlier.size())
    earlier = earlier.last(static_cast<size_t>(options_.repeat_last));
  logits_.assign(logits.begin(), logits.end());
  const auto known = [&](int32_t id) { return id >= 0 && static_cast<size_t>(id) < logits_.size(); };
  for (const int32_t id : earlier)
    if (known(id)) ++counts_[static_cast<size_t>(id)];
  const auto repetition = static_cast<float>(options_.repetition_penalty);
  for (const int32_t id : earlier) {
    if (!known(id)) continue;
    const uint32_t count = std::exchange(counts_[static_cast<size_t>(id)], 0);
    if (count == 0) continue;  // done
    float& logit = logits_[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / repetition : logit * repetition;
    logit -= static_cast<float>(options_.presence_penalty + options_.frequency_penalty * count);
  }
  return logits_;
}

// Cuts candidates_ down, and puts what is left into an order that depends on the logits alone.
void Sampler::keep_likeliest() {
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
  };
  const auto k = static_cast<size_t>(options_.top_k);
  if (k > 0 && k < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(k - 1), candidates_.end(),
                     before);
    candidates_.resize(k);
  }
  if (options_.top_p < 1)
    keep_top_p();
  else
    std::sort(candidates_.begin(), candidates_.end(),
              [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  if (options_.min_p > 0)  // the likeliest has a weight of 1
    std::erase_if(candidates_, [&](const Candidate& c) { return double{c.weight} < options_.min_p; });
  if (options_.typical_p < 1) keep_typical();
}

void Sampler::keep_top_p() {
  double total = 0;
  for (const Candidate& c : candidates_) total += double{c.weight};
  // All tokens this unlikely have less than 1 - p together: none of them is in the nucleus.
  const double least = (1 - options_.top_p) * total / static_cast<double>(candidates_.size());
  std::erase_if(candidates_, [&](const Candidate& c) { return double{c.weight} < least; });
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
  });
  double sum = 0;
  size_t count = 0;
  while (count < candidates_.size() && sum < options_.top_p * total) sum += double{candidates_[count++].weight};
  candidates_.resize(count);
}

void Sampler::keep_typical() {
  double total = 0, entropy = 0;
  for (const Candidate& c : candidates_) total += double{c.weight};
  const auto surprise = [&](const Candidate& c) { return -std::log(double{c.weight} / total); };
  for (const Candidate& c : candidates_)
    if (c.weight > 0) entropy += double{c.weight} / total * surprise(c);
  const auto distance = [&](const Candidate& c) { return std::abs(surprise(c) - entropy); };
  std::sort(candidates_.begin(), candidates_.end(), [&](const Candidate& a, const Candidate& b) {
    const double left = distance(a), right = distance(b);
    return left != right ? left < right : a.id < b.id;
  });
  double sum = 0;
  size_t count = 0;
  while (count < candidates_.size() && sum < options_.typical_p * total) sum += double{candidates_[count++].weight};
  candidates_.resize(count);
}

int32_t Sampler::pick(std::span<const float> logits, uint64_t sequence, uint64_t token,
                      std::span<const int32_t> earlier) {
  logits = penalised(logits, earlier);
  const int32_t best = likeliest(logits);
  if (greedy()) return best;  // or a temperature as small as to be nothing in f32
  candidates_.clear();
  const float largest = logits[static_cast<size_t>(best)];
  for (size_t i = 0; i < logits.size(); ++i)
    candidates_.push_back(
        {std::exp((logits[i] - largest) / static_cast<float>(options_.temperature)), static_cast<int32_t>(i)});
  keep_likeliest();
  double total = 0;
  for (const Candidate& c : candidates_) total += double{c.weight};
  double left = total * double{Random(options_.seed, "sampling", sequence).uniform(token)};
  for (const Candidate& c : candidates_) {
    left -= double{c.weight};
    if (left < 0) return c.id;
  }
  return candidates_.back().id;
}

}  // namespace thimble
