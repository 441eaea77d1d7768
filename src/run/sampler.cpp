#include "run/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

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

Result<Sampler> Sampler::create(const SamplingOptions& options, int64_t vocab) {
  if (!(options.temperature >= 0 && options.temperature <= 100))
    return fail(ErrorCode::invalid_argument, "--temperature: expected 0 to 100, found {}", options.temperature);
  if (options.top_k < 0)
    return fail(ErrorCode::invalid_argument, "--top-k: expected 0 (all) or more, found {}", options.top_k);
  if (!(options.top_p > 0 && options.top_p <= 1))
    return fail(ErrorCode::invalid_argument, "--top-p: expected more than 0 and at most 1, found {}", options.top_p);
  Sampler sampler(options);
  if (options.temperature > 0) sampler.candidates_.reserve(static_cast<size_t>(vocab));
  return sampler;
}

// Cuts candidates_ to top_k and top_p, and puts what is left into an order that depends on the logits alone.
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
  if (options_.top_p < 1) {
    double total = 0;
    for (const Candidate& c : candidates_) total += double{c.weight};
    // All tokens this unlikely have less than 1 - p together: none of them is in the nucleus.
    const double least = (1 - options_.top_p) * total / static_cast<double>(candidates_.size());
    std::erase_if(candidates_, [&](const Candidate& c) { return double{c.weight} < least; });
    std::sort(candidates_.begin(), candidates_.end(), before);
    double sum = 0;
    size_t count = 0;
    while (count < candidates_.size() && sum < options_.top_p * total) sum += double{candidates_[count++].weight};
    candidates_.resize(count);
  } else {
    std::sort(candidates_.begin(), candidates_.end(),
              [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  }
}

int32_t Sampler::pick(std::span<const float> logits, uint64_t sequence, uint64_t token) {
  const int32_t best = likeliest(logits);
  if (static_cast<float>(options_.temperature) == 0) return best;  // or as small as to be nothing in f32
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
