// For every home the fewest values on disk that fit, then the fewest blocks that need the lesser of two homes. What a
// choice needs is nearly a straight line over both, so the next guess is where the line through what is known meets the
// limit; a choice that cannot be faster than the best is not looked at.
#include "plan/search.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace thimble {
namespace {

constexpr int kLines = 3;  // guesses by a straight line, before halves

class Search {
 public:
  // What was estimated for other budgets counts too: in a series of them a larger one never takes longer.
  Search(Candidates& candidates, const Limits& limits, double beat)
      : candidates_(candidates), limits_(limits), beat_(beat), best_(candidates.fastest_known(limits, beat)) {
    if (best_) beat_ = best_->estimate.seconds;
  }

  // Whether a plan that gives nothing up fits: no other is faster.
  bool everything_kept() { return consider({}); }

  void without_disk() {
    for (size_t deep = 0; deep < kHomes.size(); ++deep)
      for (size_t shallow = deep; shallow-- > 0;)
        if (!kHomes[deep].on_disk() && !kHomes[shallow].on_disk())
          fewest_blocks({.blocks = {.deep = deep, .shallow = shallow}});
  }

  // With the largest transfers that fit, and with the next smaller ones: they leave more memory to values.
  void with_disk() {
    for (size_t level = 0, fitting = 0; level < std::size(kEagerness) && fitting < 2; ++level)
      fitting += with_eagerness(level);
  }

  std::optional<Found> best() const { return best_; }

 private:
  // Whether any plan of this eagerness fits.
  bool with_eagerness(size_t level) {
    bool fits = false;
    std::optional<Choice> fastest;
    double seconds = HUGE_VAL;
    for (size_t home = 0; home < kHomes.size(); ++home) {
      const auto found = fewest_on_disk({.blocks = BlockHomes::all(home), .eagerness = level});
      fits |= found.has_value();
      if (found && found->estimate.seconds < seconds) fastest = found->choice, seconds = found->estimate.seconds;
    }
    if (!fastest) return fits;
    // Some blocks may have a faster home, with as much on disk or with all that can be.
    const size_t deep = fastest->blocks.deep;
    for (size_t home = 0; home < kHomes.size(); ++home)
      for (size_t on_disk : {fastest->on_disk, candidates_.list_size()})
        if (home != deep)
          fewest_blocks({.blocks = {.deep = deep, .shallow = home}, .on_disk = on_disk, .eagerness = level});
    return fits;
  }

  int64_t limit(const Choice& choice) const { return limits_[choice.eagerness]; }

  // Scheduled only where it may fit.
  PlanEstimate estimate(const Choice& choice) {
    const int64_t least = candidates_.least_bytes(choice);
    return least > limit(choice) ? PlanEstimate{least} : candidates_.estimate(choice, limit(choice));
  }

  // Whether it fits; it becomes the best where it is the fastest.
  bool consider(const Choice& choice) {
    const PlanEstimate estimate = this->estimate(choice);
    if (estimate.bytes > limit(choice)) return false;
    if (estimate.seconds < beat_) best_ = {choice, estimate}, beat_ = estimate.seconds;
    return true;
  }

  // Whether one fits.
  bool fewest_blocks(Choice choice) {
    const auto with = [&](int blocks) {
      choice.blocks.deep_blocks = blocks;
      return choice;
    };
    int low = 0, high = candidates_.blocks();  // the least that fits is in (low, high]
    if (candidates_.least_seconds(with(1)) >= beat_) return false;
    if (consider(with(0))) return true;
    if (!consider(with(high))) return false;
    for (int guesses = 0; high - low > 1; ++guesses) {
      if (candidates_.least_seconds(with(low + 1)) >= beat_) return true;
      const double over = static_cast<double>(estimate(with(low)).bytes - limit(choice)),
                   under = static_cast<double>(limit(choice) - estimate(with(high)).bytes);
      const double part = over / std::max(1.0, over + under) * (high - low);
      const int guess = guesses < kLines ? low + static_cast<int>(std::ceil(part)) : (low + high) / 2;
      const int middle = std::clamp(guess, low + 1, high - 1);
      (consider(with(middle)) ? high : low) = middle;
    }
    return true;
  }

  // Least number on disk with which persistent values and `beside` fit into `limit`.
  size_t least_on_disk(int64_t limit, int64_t beside) const {
    size_t low = 0, high = candidates_.list_size();
    while (low < high) {
      const size_t middle = (low + high) / 2;
      if (candidates_.resident_bytes(middle) + beside <= limit)
        high = middle;
      else
        low = middle + 1;
    }
    return high;
  }

  std::optional<Found> fewest_on_disk(Choice choice) {
    std::optional<Found> found;
    size_t low = least_on_disk(limit(choice), 0), high = candidates_.list_size();
    choice.on_disk = low;
    if (candidates_.least_seconds(choice) >= beat_) return found;
    int64_t beside = 0;
    for (int guesses = 0; !found || low < high; ++guesses) {
      const size_t guess = guesses < kLines ? least_on_disk(limit(choice), beside) : (low + high) / 2;
      choice.on_disk = std::clamp(guess, low, found ? high - 1 : high);
      if (candidates_.least_seconds(choice) >= beat_ && found) return found;
      const PlanEstimate needs = estimate(choice);
      beside = needs.bytes - candidates_.resident_bytes(choice.on_disk);
      if (consider(choice)) {
        found = {choice, needs};
        high = choice.on_disk;
      } else if (choice.on_disk == candidates_.list_size()) {
        return {};
      } else {
        low = choice.on_disk + 1;
      }
    }
    return found;
  }

  Candidates& candidates_;
  const Limits& limits_;
  double beat_;
  std::optional<Found> best_;
};

}  // namespace

std::optional<Found> fastest_choice(Candidates& candidates, const Limits& limits, bool disk, double beat_seconds) {
  if (candidates.least_seconds({}) >= beat_seconds) return {};
  Search search(candidates, limits, beat_seconds);
  if (!search.everything_kept()) {
    search.without_disk();
    if (disk) search.with_disk();
  }
  return search.best();
}

}  // namespace thimble
