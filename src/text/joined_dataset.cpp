// Data sets made of others: several one after another, and a part of one.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/random.h"
#include "text/datasets.h"

namespace thimble {
namespace {

class Joined final : public Dataset {
 public:
  explicit Joined(std::vector<std::unique_ptr<Dataset>> parts) : parts_(std::move(parts)) {
    std::string system = parts_.front()->report().system;
    for (const auto& part : parts_) {
      const DatasetReport& r = part->report();
      report_.examples += r.examples, report_.bad_lines += r.bad_lines, report_.too_long += r.too_long;
      report_.untrained += r.untrained, report_.dropped_tokens += r.dropped_tokens;
      report_.truncated += r.truncated, report_.pairs += r.pairs;
      report_.unpaired += r.unpaired, report_.wanted += r.wanted;
      report_.chats += r.chats, report_.by_reply += r.by_reply;
      report_.largest_id = std::max(report_.largest_id, r.largest_id);
      for (const auto& [field, count] : r.unused) report_.unused[field] += count;
      report_.columns.insert(r.columns.begin(), r.columns.end());
      for (const std::string& error : r.first_errors)
        if (report_.first_errors.size() < 10) report_.first_errors.push_back(error);
      report_.notes.insert(report_.notes.end(), r.notes.begin(), r.notes.end());
      if (r.system != system) system.clear();
      ends_.push_back(report_.examples);
      add_to_fingerprint(part->fingerprint());
    }
    report_.system = system;
  }

  int64_t size() const override { return ends_.back(); }
  bool windows() const override {
    return std::ranges::all_of(parts_, [](const auto& part) { return part->windows(); });
  }
  LossTerm term() const override { return parts_.front()->term(); }
  int64_t tokens(int64_t index) const override {
    const auto [part, at] = place(index);
    return parts_[part]->tokens(at);
  }
  Result<void> read(int64_t index, Example& example) override {
    CHECK_OK(check(index));
    const auto [part, at] = place(index);
    return parts_[part]->read(at, example);
  }
  Result<void> read_rejected(int64_t index, Example& example) override {
    CHECK_OK(check(index));
    const auto [part, at] = place(index);
    return parts_[part]->read_rejected(at, example);
  }
  Result<std::vector<Message>> messages(int64_t index) override {
    CHECK_OK(check(index));
    const auto [part, at] = place(index);
    return parts_[part]->messages(at);
  }

 private:
  Result<void> check(int64_t index) const {
    if (index >= 0 && index < size()) return {};
    return fail(ErrorCode::invalid_argument, "reading example {}: there are {}", index, size());
  }
  std::pair<size_t, int64_t> place(int64_t index) const {
    const auto part = static_cast<size_t>(std::ranges::upper_bound(ends_, index) - ends_.begin());
    return {part, index - (part > 0 ? ends_[part - 1] : 0)};
  }

  std::vector<std::unique_ptr<Dataset>> parts_;
  std::vector<int64_t> ends_;  // examples of this part and those before it
};

class Part final : public Dataset {
 public:
  Part(std::shared_ptr<Dataset> all, std::vector<uint32_t> indices)
      : all_(std::move(all)), indices_(std::move(indices)) {
    report_ = all_->report();
    report_.examples = size();
    add_to_fingerprint(all_->fingerprint());
    for (const uint32_t index : indices_) add_to_fingerprint(index);
  }

  int64_t size() const override { return static_cast<int64_t>(indices_.size()); }
  bool windows() const override { return all_->windows(); }
  LossTerm term() const override { return all_->term(); }
  int64_t tokens(int64_t index) const override { return all_->tokens(indices_[static_cast<size_t>(index)]); }
  Result<void> read(int64_t index, Example& example) override { return all_->read(TRY(of_all(index)), example); }
  Result<void> read_rejected(int64_t index, Example& example) override {
    return all_->read_rejected(TRY(of_all(index)), example);
  }
  Result<std::vector<Message>> messages(int64_t index) override { return all_->messages(TRY(of_all(index))); }

 private:
  Result<int64_t> of_all(int64_t index) const {
    if (index >= 0 && index < size()) return indices_[static_cast<size_t>(index)];
    return fail(ErrorCode::invalid_argument, "reading example {}: there are {}", index, size());
  }

  std::shared_ptr<Dataset> all_;
  std::vector<uint32_t> indices_;
};

}  // namespace

std::unique_ptr<Dataset> join_datasets(std::vector<std::unique_ptr<Dataset>> parts) {
  return std::make_unique<Joined>(std::move(parts));
}

Result<SplitDataset> split_dataset(const std::shared_ptr<Dataset>& all, double part, uint64_t seed) {
  const int64_t size = all->size();
  if (size < 2)
    return fail(ErrorCode::invalid_argument, "--split {}: there is one example only, which cannot be parted", part);
  const auto held = std::clamp<int64_t>(std::llround(part * static_cast<double>(size)), 1, size - 1);
  std::vector<uint32_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0u);
  if (!all->windows()) {
    const Random random(seed, "held out");
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i, i)]);
  }
  std::vector<uint32_t> held_out(order.end() - held, order.end());
  order.resize(static_cast<size_t>(size - held));
  std::ranges::sort(order);
  std::ranges::sort(held_out);
  return SplitDataset{std::make_unique<Part>(all, std::move(order)), std::make_unique<Part>(all, std::move(held_out))};
}

}  // namespace thimble
