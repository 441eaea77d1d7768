// Examples of a JSONL file or a JSON array: 12 bytes of index for each, everything else is read again when asked for.
#include <algorithm>
#include <limits>

#include "text/datasets.h"
#include "text/example_reader.h"
#include "text/json_records.h"

namespace thimble {
namespace {

class JsonDataset final : public Dataset {
 public:
  JsonDataset(InputFile file, Tokenizer& tokenizer, const DatasetOptions& options)
      : file_(std::move(file)), options_(options), reader_(tokenizer, options) {}

  Result<void> scan(bool array) {
    const auto visit = [&](const JsonRecord& record) { return check(record); };
    CHECK_OK(array ? for_each_element(file_, visit) : for_each_line(file_, visit));
    offsets_.shrink_to_fit();
    lengths_.shrink_to_fit();
    report_.examples = size();
    return {};
  }

  int64_t size() const override { return static_cast<int64_t>(offsets_.size()); }
  bool windows() const override { return false; }

  Result<void> read(int64_t index, Example& example) override {
    CHECK_OK(load(index));
    const size_t reply = replies_.empty() ? 0 : replies_[static_cast<size_t>(index)];
    if (const auto done = reader_.encode(example, reply > 0 ? std::optional(reply - 1) : std::nullopt); !done)
      return changed(done.error());
    if (static_cast<int64_t>(example.ids.size()) > options_.context) {
      return changed({ErrorCode::io, "the example is longer than the context"});
    }
    return {};
  }

  Result<std::vector<Message>> messages(int64_t index) override {
    CHECK_OK(load(index));
    return reader_.messages();
  }

 private:
  Result<void> check(const JsonRecord& record) {
    if (record.length > options_.longest_line) {
      return bad(record, {ErrorCode::invalid_argument,
                          fmt::format("{} bytes, more than the {} that an example may have; split it", record.length,
                                      options_.longest_line)});
    }
    CHECK_OK(file_.read(record.offset, std::as_writable_bytes(reader_.buffer(record.length))));
    if (const auto done = reader_.encode(example_); !done) return bad(record, done.error());
    const size_t replies = reader_.replies();
    if (replies == 1) return take(record, 0);
    ++report_.by_reply;
    for (size_t reply = 0; reply < replies; ++reply) {
      if (const auto done = reader_.encode(example_, reply); !done) {
        CHECK_OK(bad(record, done.error()));
      } else {
        CHECK_OK(take(record, reply + 1));
      }
    }
    return {};
  }

  // example_, which is the record's, or where `reply` is not 0, of one reply of it.
  Result<void> take(const JsonRecord& record, size_t reply) {
    if (static_cast<int64_t>(example_.ids.size()) > options_.context) return ++report_.too_long, Result<void>();
    const auto first = example_.trained.begin() + (example_.trained.empty() ? 0 : 1);
    if (std::find(first, example_.trained.end(), 1) == example_.trained.end()) {
      return ++report_.untrained, Result<void>();
    }
    if (offsets_.size() == std::numeric_limits<uint32_t>::max()) {
      return fail(ErrorCode::unsupported, "reading {}: more than {} examples", file_.path(), offsets_.size());
    }
    if (offsets_.empty())
      report_.system = reader_.system();
    else if (report_.system != reader_.system())
      report_.system.clear();  // and so it stays
    offsets_.push_back(record.offset);
    lengths_.push_back(static_cast<uint32_t>(record.length));
    if (reply > 0 && replies_.empty()) replies_.resize(offsets_.size() - 1);
    if (reply > 0 || !replies_.empty()) replies_.push_back(static_cast<uint32_t>(reply));
    add_to_fingerprint(example_.ids.size());
    for (size_t i = 0; i < example_.ids.size(); ++i)
      add_to_fingerprint(static_cast<uint64_t>(example_.ids[i]) << 1 | (example_.trained[i] != 0));
    return {};
  }

  Result<void> bad(const JsonRecord& record, const Error& error) {
    const std::string message = fmt::format("{}:{}: {}", file_.path(), record.line, error.message);
    if (options_.strict) return fail(ErrorCode::corrupt, "{}", message);
    if (report_.first_errors.size() < 10) report_.first_errors.push_back(message);
    ++report_.bad_lines;
    return {};
  }

  Result<void> load(int64_t index) {
    if (index < 0 || index >= size()) {
      return fail(ErrorCode::invalid_argument, "reading example {} of {}: it has {}", index, file_.path(), size());
    }
    const auto at = static_cast<size_t>(index);
    return file_.read(offsets_[at], std::as_writable_bytes(reader_.buffer(lengths_[at])));
  }

  Failure changed(const Error& error) const {
    return fail(ErrorCode::io, "reading {}, which was changed since it was opened: {}", file_.path(), error.message);
  }

  InputFile file_;
  DatasetOptions options_;
  ExampleReader reader_;
  Example example_;  // while scanning
  std::vector<uint64_t> offsets_;
  std::vector<uint32_t> lengths_;
  std::vector<uint32_t> replies_;  // 0, or the number of the reply that the example is of; none where all are 0
};

}  // namespace

Result<std::unique_ptr<Dataset>> open_json_dataset(InputFile file, bool array, Tokenizer& tokenizer,
                                                   const DatasetOptions& options) {
  auto dataset = std::make_unique<JsonDataset>(std::move(file), tokenizer, options);
  CHECK_OK(dataset->scan(array));
  return dataset;
}

}  // namespace thimble
