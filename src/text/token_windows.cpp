// Windows that are tokenized already: the tensor `ids` [n, t] of a safetensors file, read row by row.
#include <limits>

#include "files/file_kind.h"
#include "files/safetensors.h"
#include "text/datasets.h"

namespace thimble {
namespace {

struct Ids {
  InputFile file;
  uint64_t offset = 0;
  int64_t count = 0, length = 0;
  bool wide = false;  // int64
};

Result<Ids> open_ids(const std::string& path) {
  SafetensorsFile file = TRY(SafetensorsFile::open(path));
  const SafetensorsEntry* const entry = file.find("ids");
  if (!entry)
    return fail(
        ErrorCode::invalid_argument,
        "reading {}: a safetensors file is data when it has a tensor 'ids' [n, t] of token ids; this one has none",
        path);
  for (const SafetensorsEntry& other : file.entries())
    if (other.name != entry->name)
      return fail(
          ErrorCode::unsupported,
          "reading {}: beside 'ids' it has a tensor '{}', with which nothing would be done: every token of ids is "
          "learnt; take it out, or give the data as records",
          path, other.name);
  if ((entry->dtype != "I32" && entry->dtype != "I64") || entry->shape.rank() != 2 || entry->shape[1] < 2)
    return fail(ErrorCode::invalid_argument,
                "reading {}: 'ids' should be int32 or int64 of shape [n, t], t at least 2; found {} {}", path,
                entry->dtype, entry->shape.text());
  Ids ids{.file = TRY(InputFile::open(path)), .offset = entry->offset};
  ids.count = entry->shape[0], ids.length = entry->shape[1], ids.wide = entry->dtype == "I64";
  return ids;
}

class TokenWindows final : public Dataset {
 public:
  TokenWindows(Ids ids, int64_t context) : ids_(std::move(ids)), fills_(ids_.length == context) {
    row_.resize(static_cast<size_t>(ids_.length * (ids_.wide ? 8 : 4)));
  }

  // What is in the file is checked once: later reads find the same.
  Result<void> scan() {
    Example example;
    for (int64_t i = 0; i < ids_.count; ++i) {
      CHECK_OK(read(i, example));
      for (const int32_t id : example.ids) add_to_fingerprint(static_cast<uint64_t>(id));
    }
    report_.examples = ids_.count;
    report_.largest_id = largest_;
    return {};
  }

  int64_t size() const override { return ids_.count; }
  int64_t tokens(int64_t) const override { return ids_.length; }
  bool windows() const override { return fills_; }

  Result<void> read(int64_t index, Example& example) override {
    if (index < 0 || index >= ids_.count)
      return fail(ErrorCode::invalid_argument, "reading window {} of {}: it has {}", index, ids_.file.path(),
                  ids_.count);
    CHECK_OK(ids_.file.read(ids_.offset + static_cast<uint64_t>(index) * row_.size(), row_));
    example.ids.resize(static_cast<size_t>(ids_.length));
    example.trained.assign(example.ids.size(), 1);
    for (size_t i = 0; i < example.ids.size(); ++i) {
      int64_t id = 0;
      int32_t narrow = 0;
      if (ids_.wide)
        std::memcpy(&id, row_.data() + 8 * i, 8);
      else
        std::memcpy(&narrow, row_.data() + 4 * i, 4), id = narrow;
      if (id < 0 || id > std::numeric_limits<int32_t>::max())
        return fail(ErrorCode::corrupt, "reading {}: ids[{}, {}] is {}, which is no token id", ids_.file.path(), index,
                    i, id);
      example.ids[i] = static_cast<int32_t>(id);
      largest_ = std::max(largest_, id);
    }
    return {};
  }

  Result<std::vector<Message>> messages(int64_t) override {
    return fail(ErrorCode::unsupported, "showing the messages of {}: it holds token ids, not chats", ids_.file.path());
  }

 private:
  Ids ids_;
  bool fills_;  // a window fills a window of the run by itself
  int64_t largest_ = 0;
  std::vector<std::byte> row_;
};

}  // namespace

Result<std::unique_ptr<Dataset>> open_token_windows(const std::string& path, const DatasetOptions& options) {
  Ids ids = TRY(open_ids(path));
  if (ids.length > options.context)
    return fail(ErrorCode::invalid_argument,
                "reading {}: its windows have {} tokens, the context is {}; give --context {}", path, ids.length,
                options.context, ids.length);
  auto dataset = std::make_unique<TokenWindows>(std::move(ids), options.context);
  CHECK_OK(dataset->scan());
  if (options.rows > 0 && dataset->report().largest_id >= options.rows)
    return fail(ErrorCode::invalid_argument, "reading {}: the largest id is {}, the model has {} rows", path,
                dataset->report().largest_id, options.rows);
  return dataset;
}

Result<std::optional<int64_t>> token_window_length(const std::string& files) {
  if (!is_file(files)) return std::nullopt;
  const FileKind* const kind = TRY(file_kind(TRY(InputFile::open(files))));
  if (kind->form != FileKind::safetensors) return std::nullopt;
  return TRY(open_ids(files)).length;
}

}  // namespace thimble
