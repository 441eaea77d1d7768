// Examples of a file of JSON records: 16 bytes of index for each, everything else is read again when asked for.
#include <algorithm>
#include <bit>
#include <limits>

#include "files/file_kind.h"
#include "text/datasets.h"
#include "text/example_reader.h"
#include "text/json_records.h"

namespace thimble {
namespace {

bool learns(std::span<const uint8_t> trained) {
  return trained.size() > 1 && std::ranges::find(trained.subspan(1), 1) != trained.end();
}

class JsonDataset final : public Dataset {
 public:
  JsonDataset(InputFile file, Tokenizer& tokenizer, const DatasetOptions& options)
      : file_(std::move(file)), tokenizer_(tokenizer), options_(options), reader_(tokenizer, options) {}

  Result<void> scan(RecordForm form) {
    const auto visit = [&](const JsonRecord& record) { return check(record); };
    CHECK_OK(for_each_record(file_, form, visit));
    offsets_.shrink_to_fit();
    lengths_.shrink_to_fit();
    tokens_.shrink_to_fit();
    firsts_.shrink_to_fit();
    replies_.shrink_to_fit();
    labels_.shrink_to_fit();
    report_.examples = size();
    report_.unused = reader_.unused();
    report_.columns = reader_.columns();
    if (reader_.takes_system())
      report_.notes.push_back(
          fmt::format("{}: the field 'system' is taken as the first message of its chat", file_.path()));
    return {};
  }

  int64_t size() const override { return static_cast<int64_t>(offsets_.size()); }
  int64_t tokens(int64_t index) const override { return tokens_[static_cast<size_t>(index)]; }
  bool windows() const override { return false; }
  LossTerm term() const override { return options_.term; }

  Result<void> read(int64_t index, Example& example) override {
    if (options_.term == LossTerm::pair) return read_pair(index, example);
    const float label = labels_.empty() ? 0 : labels_[static_cast<size_t>(index)];
    CHECK_OK(read(index, example, {.rejected = label < 0}));
    example.label = label;
    return {};
  }
  Result<void> read_rejected(int64_t index, Example& example) override {
    return read(index, example, {.rejected = true, .indexed = false});
  }

  Result<std::vector<Message>> messages(int64_t index) override {
    CHECK_OK(load(index));
    return reader_.messages();
  }

 private:
  // A stretch of an example's tokens that is an example itself.
  struct Cut {
    size_t first, count;
  };

  // Of a preference pair which reply, and whether the index is of that.
  struct Side {
    bool rejected = false, indexed = true;
  };
  Result<void> read(int64_t index, Example& example, Side side) {
    CHECK_OK(load(index));
    const size_t reply = replies_.empty() ? 0 : replies_[static_cast<size_t>(index)];
    if (const auto done = reader_.encode(whole_, side.rejected, reply > 0 ? std::optional(reply - 1) : std::nullopt);
        !done) {
      return side.indexed ? changed(done.error()) : Failure(done.error());
    }
    const size_t first = firsts_.empty() ? 0 : firsts_[static_cast<size_t>(index)];
    const Cut cut = side.indexed ? Cut{first, tokens_[static_cast<size_t>(index)]} : cut_of(whole_);
    if (cut.first + cut.count > whole_.ids.size()) return changed({ErrorCode::io, "the example is shorter"});
    if (options_.truncate == Truncate::leave_out && whole_.ids.size() != cut.count && side.indexed)
      return changed({ErrorCode::io, "the example has another length"});
    const auto take = [&](const auto& from, auto& to) {
      to.assign(from.begin() + static_cast<std::ptrdiff_t>(cut.first),
                from.begin() + static_cast<std::ptrdiff_t>(cut.first + cut.count));
    };
    take(whole_.ids, example.ids);
    take(whole_.trained, example.trained);
    return {};
  }

  Result<void> read_pair(int64_t index, Example& example) {
    CHECK_OK(load(index));
    if (const auto done = encode_pair(example); !done) return changed(done.error());
    if (example.ids.size() != tokens_[static_cast<size_t>(index)])
      return changed({ErrorCode::io, "the pair has another length"});
    return {};
  }

  // Both replies of the record that was read, the chosen one first. Each may fill half of the context.
  Result<void> encode_pair(Example& example) {
    example.clear();
    for (const bool rejected : {false, true}) {
      CHECK_OK(reader_.encode(whole_, rejected));
      if (reader_.too_long()) return Result<void>();
      const Cut cut = options_.truncate == Truncate::leave_out ? Cut{0, whole_.ids.size()} : half_of(whole_);
      if (rejected) example.second = example.ids.size();
      const auto add = [&](const auto& from, auto& to) {
        const auto first = from.begin() + static_cast<std::ptrdiff_t>(cut.first);
        to.insert(to.end(), first, first + static_cast<std::ptrdiff_t>(cut.count));
      };
      add(whole_.ids, example.ids);
      add(whole_.trained, example.trained);
    }
    return {};
  }

  // Of an example that is longer than the context, what --truncate left and right leave.
  Cut cut_of(const Example& example) const { return cut_to(static_cast<size_t>(options_.context), example); }
  Cut half_of(const Example& example) const { return cut_to(static_cast<size_t>(options_.context) / 2, example); }
  Cut cut_to(size_t context, const Example& example) const {
    const size_t count = std::min(context, example.ids.size());
    return {options_.truncate == Truncate::left ? example.ids.size() - count : 0, count};
  }

  Result<void> check(const JsonRecord& record) {
    if (record.length > options_.longest_line) {
      return bad(record, {ErrorCode::invalid_argument,
                          fmt::format("{} bytes, more than the {} that an example may have; split it", record.length,
                                      options_.longest_line)});
    }
    const std::span<char> text = reader_.buffer(record.length);
    CHECK_OK(file_.read(record.offset, std::as_writable_bytes(text)));
    if (const size_t valid = valid_utf8({text.data(), text.size()}, false); valid < text.size())
      return bad(record,
                 {ErrorCode::corrupt, fmt::format("the byte 0x{:02X} at its offset {} is not UTF-8; convert the "
                                                  "file: iconv -f LATIN1 -t UTF-8 FILE > NEW",
                                                  static_cast<unsigned char>(text[valid]), valid)});
    if (options_.term == LossTerm::pair) return check_pair(record);
    if (options_.term == LossTerm::reply) return check_judged(record);
    if (const auto done = reader_.encode(whole_, false); !done) return bad(record, done.error());
    if (reader_.too_long()) return ++report_.too_long, Result<void>();
    const size_t replies = reader_.replies();
    if (replies == 1) return take(record, 0);
    ++report_.by_reply;
    for (size_t reply = 0; reply < replies; ++reply) {
      if (const auto done = reader_.encode(whole_, false, reply); !done) {
        CHECK_OK(bad(record, done.error()));
      } else {
        CHECK_OK(take(record, reply + 1));
      }
    }
    return {};
  }

  Result<void> check_pair(const JsonRecord& record) {
    if (const auto done = encode_pair(pair_); !done) return bad(record, done.error());
    const size_t length = pair_.ids.size();
    if (reader_.too_long() || static_cast<int64_t>(length) > options_.context)
      return ++report_.too_long, Result<void>();
    if (options_.rows > 0)
      if (const auto known = check_rows(tokenizer_, pair_.ids, options_.rows); !known)
        return bad(record, known.error());
    const auto trained = std::span(std::as_const(pair_.trained));
    if (!learns(trained.first(pair_.second)) || !learns(trained.subspan(pair_.second)))
      return ++report_.untrained, Result<void>();
    return add(record, pair_, {0, length}, 0);
  }

  // One judged reply, or both of a preference pair.
  Result<void> check_judged(const JsonRecord& record) {
    const size_t before = offsets_.size();
    for (const bool rejected : {false, true}) {
      if (const auto done = reader_.encode(whole_, rejected); !done) return bad(record, done.error());
      if (reader_.too_long())
        ++report_.too_long;
      else
        CHECK_OK(take(record, 0));
      if (!reader_.has_rejected()) return {};
    }
    report_.unpaired += offsets_.size() == before + 2;
    return {};
  }

  // whole_, which is the record's, or where `reply` is not 0, of one reply of it.
  Result<void> take(const JsonRecord& record, size_t reply) {
    if (options_.rows > 0)
      if (const auto known = check_rows(tokenizer_, whole_.ids, options_.rows); !known)
        return bad(record, known.error());
    const bool longer = static_cast<int64_t>(whole_.ids.size()) > options_.context;
    if (longer && options_.truncate == Truncate::leave_out) return ++report_.too_long, Result<void>();
    if (!longer || options_.truncate != Truncate::split) {
      const Cut cut = cut_of(whole_);
      if (options_.term != LossTerm::text && !learns(std::span(whole_.trained).subspan(cut.first, cut.count)))
        return ++report_.untrained, Result<void>();
      report_.truncated += longer;
      return add(record, whole_, cut, reply);
    }
    report_.truncated += 1;
    const auto context = static_cast<size_t>(options_.context);
    bool any = false;
    for (size_t first = 0; first + 1 < whole_.ids.size(); first += context - 1) {
      const Cut cut{first, std::min(context, whole_.ids.size() - first)};
      if (!learns(std::span(whole_.trained).subspan(cut.first, cut.count))) continue;
      any = true;
      CHECK_OK(add(record, whole_, cut, reply));
    }
    report_.untrained += !any;
    return {};
  }

  Result<void> add(const JsonRecord& record, const Example& example, const Cut& cut, size_t reply) {
    if (offsets_.size() == std::numeric_limits<uint32_t>::max()) {
      return fail(ErrorCode::unsupported, "reading {}: more than {} examples", file_.path(), offsets_.size());
    }
    if (offsets_.empty())
      report_.system = reader_.system();
    else if (report_.system != reader_.system())
      report_.system.clear();  // and so it stays
    report_.chats += reader_.is_chat();
    report_.pairs += reader_.has_rejected() && options_.term == LossTerm::token;
    if (options_.term == LossTerm::reply || options_.term == LossTerm::text) labels_.push_back(reader_.label());
    report_.wanted += options_.term == LossTerm::reply && reader_.label() > 0;
    offsets_.push_back(record.offset);
    lengths_.push_back(static_cast<uint32_t>(record.length));
    tokens_.push_back(static_cast<uint32_t>(cut.count));
    if (cut.first > 0 && firsts_.empty()) firsts_.resize(offsets_.size() - 1);
    if (cut.first > 0 || !firsts_.empty()) firsts_.push_back(static_cast<uint32_t>(cut.first));
    if (reply > 0 && replies_.empty()) replies_.resize(offsets_.size() - 1);
    if (reply > 0 || !replies_.empty()) replies_.push_back(static_cast<uint32_t>(reply));
    add_to_fingerprint(cut.count);
    if (!labels_.empty()) add_to_fingerprint(std::bit_cast<uint32_t>(labels_.back()));
    for (size_t i = cut.first; i < cut.first + cut.count; ++i)
      add_to_fingerprint(static_cast<uint64_t>(example.ids[i]) << 1 | (example.trained[i] != 0));
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
  Tokenizer& tokenizer_;
  DatasetOptions options_;
  ExampleReader reader_;
  Example whole_;  // the example of a record, before it is cut
  Example pair_;
  std::vector<uint64_t> offsets_;
  std::vector<uint32_t> lengths_;
  std::vector<uint32_t> tokens_;
  std::vector<uint32_t> firsts_;   // tokens of the record before the example; none where no record is cut so
  std::vector<float> labels_;      // of judged replies and labelled texts
  std::vector<uint32_t> replies_;  // 0, or the number of the reply that the example is of; none where all are 0
};

}  // namespace

Result<std::unique_ptr<Dataset>> open_json_dataset(InputFile file, RecordForm form, Tokenizer& tokenizer,
                                                   const DatasetOptions& options) {
  auto dataset = std::make_unique<JsonDataset>(std::move(file), tokenizer, options);
  CHECK_OK(dataset->scan(form));
  return dataset;
}

}  // namespace thimble
