#include "files/imatrix.h"

#include <algorithm>
#include <cmath>

#include "files/gguf.h"

namespace thimble {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";
constexpr int32_t kMostEntries = 1 << 20, kLongestName = 1 << 10;

// Little-endian numbers and strings, one after another.
class Cursor {
 public:
  explicit Cursor(const InputFile& file) : file_(file) {}
  uint64_t at() const { return at_; }
  bool at_end() const { return at_ == file_.size(); }

  Result<int32_t> number(const char* what, int32_t least, int32_t most) {
    int32_t value = 0;
    CHECK_OK(file_.read(at_, std::as_writable_bytes(std::span(&value, 1))));
    if (value < least || value > most)
      return fail(ErrorCode::corrupt, "reading {}: {} at offset {}: expected {} to {}, found {}", file_.path(), what,
                  at_, least, most, value);
    at_ += sizeof value;
    return value;
  }
  Result<std::string> string(const char* what) {
    std::string text(static_cast<size_t>(TRY(number(what, 0, kLongestName))), '\0');
    CHECK_OK(file_.read(at_, std::as_writable_bytes(std::span(text))));
    at_ += text.size();
    return text;
  }
  Result<void> skip(uint64_t bytes) {
    if (bytes > file_.size() - at_)
      return fail(ErrorCode::corrupt, "reading {}: {} bytes are missing at its end", file_.path(),
                  bytes - (file_.size() - at_));
    at_ += bytes;
    return {};
  }

 private:
  const InputFile& file_;
  uint64_t at_ = 0;
};

bool is_gguf_imatrix(const std::string& path) {
  if (!GgufFile::recognises(path)) return false;
  const auto file = GgufFile::open(path);
  const auto type = file ? file->get_or<std::string>("general.type", "") : Result<std::string>("");
  return type && *type == "imatrix";
}

}  // namespace

// A legacy file has no magic: its first entry must be one.
bool Imatrix::recognises(const std::string& path) {
  if (is_gguf_imatrix(path)) return true;
  if (!is_file(path)) return false;
  const auto file = InputFile::open(path);
  if (!file) return false;
  Cursor cursor(*file);
  const auto entries = cursor.number("entries", 1, kMostEntries);
  const auto name = entries ? cursor.string("a name") : Result<std::string>("");
  return name && name->ends_with(".weight");
}

Result<Imatrix> Imatrix::open(const std::string& path) {
  Imatrix imatrix(TRY(InputFile::open(path)));
  imatrix.legacy_ = !GgufFile::recognises(path);
  CHECK_OK(imatrix.legacy_ ? imatrix.index_legacy() : imatrix.index_gguf());
  if (!imatrix.entries_.empty()) return imatrix;
  return fail(ErrorCode::corrupt, "reading {}: it is an importance matrix without entries", path);
}

Result<void> Imatrix::index_gguf() {
  const GgufFile file = TRY(GgufFile::open(path()));
  const std::string type = TRY(file.get_or<std::string>("general.type", "model"));
  if (type != "imatrix")
    return fail(ErrorCode::unsupported, "reading {}: it is a GGUF file of type '{}', expected 'imatrix' (general.type)",
                path(), type);
  chunks_ = TRY(file.get_or<int64_t>("imatrix.chunk_count", 0));
  if (file.find_value("imatrix.datasets"))
    CHECK_OK(file.for_each_string("imatrix.datasets",
                                  [&](std::string_view set) { return datasets_.emplace_back(set), Result<void>(); }));
  constexpr int64_t kF32Type = 0;
  for (const GgufTensor& sums : file.tensors()) {
    if (!sums.name.ends_with(kSums)) continue;  // counts are found by it; in_sum, means that nothing here reads
    const std::string name = sums.name.substr(0, sums.name.size() - kSums.size());
    const GgufTensor* const counts = file.find_tensor(name + std::string(kCounts));
    const int64_t columns = sums.shape.columns(), matrices = sums.shape.rows();
    if (!counts || counts->type != kF32Type || sums.type != kF32Type || counts->shape.count() != matrices)
      return fail(ErrorCode::corrupt, "reading {}: '{}' is {} and needs a tensor '{}{}' of {} numbers, both in f32",
                  path(), sums.name, sums.shape.text(), name, kCounts, matrices);
    entries_[name] = {matrices, columns, sums.offset, counts->offset};
  }
  return {};
}

Result<void> Imatrix::index_legacy() {
  Cursor cursor(file_);
  const int32_t count = TRY(cursor.number("the number of entries", 1, kMostEntries));
  for (int32_t i = 0; i < count; ++i) {
    std::string name = TRY(cursor.string("the length of a name"));
    ImatrixEntry entry;
    entry.calls = TRY(cursor.number("the number of calls", 0, INT32_MAX));
    entry.columns = TRY(cursor.number("the number of values", 1, INT32_MAX));
    entry.offset = cursor.at();
    CHECK_OK(cursor.skip(static_cast<uint64_t>(entry.columns) * sizeof(float)));
    if (!entries_.try_emplace(name, entry).second)
      return fail(ErrorCode::corrupt, "reading {}: '{}' is there twice", path(), name);
  }
  if (cursor.at_end()) return {};
  chunks_ = TRY(cursor.number("the number of chunks", 0, INT32_MAX));
  if (!cursor.at_end()) datasets_.push_back(TRY(cursor.string("the length of the data's name")));
  return {};
}

Result<void> Imatrix::read(std::string_view name, int64_t which, int64_t among, std::span<float> to) const {
  const auto found = entries_.find(name);
  if (found == entries_.end())
    return fail(ErrorCode::invalid_argument, "{} has nothing of '{}': it is of another model", path(), name);
  const ImatrixEntry& entry = found->second;
  const auto columns = static_cast<int64_t>(to.size());
  // One statistic for all, or one for each.
  const bool shared = entry.matrices * entry.columns == columns;
  if (!shared && entry.matrices * entry.columns != columns * among)
    return fail(ErrorCode::invalid_argument,
                "{} has {} values of '{}', the model's matrix {} columns{}: it is of another model", path(),
                entry.matrices * entry.columns, name, columns, among > 1 ? fmt::format(" for {} matrices", among) : "");
  const auto place = static_cast<uint64_t>(shared ? 0 : which);
  CHECK_OK(file_.read(entry.offset + place * to.size_bytes(), std::as_writable_bytes(to)));
  float count = static_cast<float>(entry.calls);
  if (entry.counts > 0) {
    const uint64_t at = entry.counts + (entry.matrices > 1 ? place : 0) * sizeof count;
    CHECK_OK(file_.read(at, std::as_writable_bytes(std::span(&count, 1))));
  }
  if (!(count >= 0) || !std::isfinite(count))
    return fail(ErrorCode::corrupt, "reading {}: '{}' has the count {}, expected how often it was seen", path(), name,
                count);
  if ((legacy_ || count > 0) && std::ranges::all_of(to, [](float value) { return value == 0; }))
    return fail(ErrorCode::invalid_argument,
                "{} has zeros alone of '{}': nothing says which of its columns matter; make it anew", path(), name);
  for (float& value : to) {
    if (!legacy_ && !(count > 0)) value = 1;
    if (count > 0) value /= count;
    if (!(value >= 0) || !std::isfinite(value))
      return fail(ErrorCode::corrupt, "reading {}: '{}' has the number {}, expected mean squares", path(), name, value);
  }
  return {};
}

}  // namespace thimble
