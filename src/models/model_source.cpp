#include "models/model_source.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "models/stored_model.h"

namespace thimble {
namespace {

// In the order in which they are asked; GGUF is known by its magic number, so it comes before the guess by name.
constexpr std::array kFormats = {&kHfFolder, &kGgufModel, &kLlama2c};

class StoredModelSource : public ModelSource {
 public:
  StoredModelSource(const std::string& path, StoredModel model) : model_(std::move(model)) {
    path_ = path;
    architecture_ = model_.architecture;
    set_tensors(model_.tensors);
  }

  Result<void> read(const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to) const override {
    const ModelTensor* own = find(tensor.name);
    if (!own) return fail(ErrorCode::invalid_argument, "reading {}: there is no tensor '{}'", path_, tensor.name);
    if (row < 0 || rows < 0 || row > own->shape.rows() || rows > own->shape.rows() - row) {
      return fail(ErrorCode::invalid_argument, "reading {}: rows {}+{} of tensor '{}' of shape {} do not exist", path_,
                  row, rows, tensor.name, own->shape.text());
    }
    const int64_t bytes = rows * own->codec->bytes(own->shape.columns());
    if (static_cast<int64_t>(to.size()) != bytes) {
      return fail(ErrorCode::invalid_argument, "reading {}: {} rows of tensor '{}' take {} bytes, room is for {}",
                  path_, rows, tensor.name, bytes, to.size());
    }
    return read_stored(model_, static_cast<size_t>(own - tensors().data()), row, rows, to);
  }

 private:
  StoredModel model_;
};

}  // namespace

Result<std::unique_ptr<ModelSource>> ModelSource::open(const std::string& path) {
  for (const ModelFormat* format : kFormats) {
    if (!format->recognises(path)) continue;
    StoredModel model = TRY(format->open(path));
    return std::make_unique<StoredModelSource>(path, std::move(model));
  }
  if (!is_directory(path)) CHECK_OK(InputFile::open(path));  // absent or unreadable says so
  std::string known;
  for (const ModelFormat* format : kFormats)
    known += fmt::format("{}{}", known.empty() ? "" : ", ", format->description);
  return fail(ErrorCode::unsupported, "opening {}: it is no model that thimble knows; expected {}", path, known);
}

Result<uint64_t> ModelSource::fingerprint() const {
  uint64_t hash = 0;
  const auto add = [&](const auto& bytes) { hash = XXH3_64bits_withSeed(bytes.data(), bytes.size(), hash); };
  std::vector<std::byte> row;
  for (const ModelTensor& tensor : tensors_) {
    add(fmt::format("{} {} {}", tensor.name, tensor.codec->name, tensor.shape.text()));
    row.resize(static_cast<size_t>(tensor.codec->bytes(tensor.shape.columns())));
    CHECK_OK(read(tensor, tensor.shape.rows() / 2, 1, row));
    add(row);
  }
  return hash;
}

const ModelTensor* ModelSource::find(std::string_view name) const {
  const auto name_of = [&](size_t i) -> std::string_view { return tensors_[i].name; };
  const auto found = std::ranges::lower_bound(by_name_, name, {}, name_of);
  return found == by_name_.end() || name_of(*found) != name ? nullptr : &tensors_[*found];
}

void ModelSource::set_tensors(std::vector<ModelTensor> tensors) {
  tensors_ = std::move(tensors);
  by_name_.resize(tensors_.size());
  std::iota(by_name_.begin(), by_name_.end(), size_t{0});
  std::ranges::stable_sort(by_name_, {}, [&](size_t i) -> std::string_view { return tensors_[i].name; });
}

}  // namespace thimble
