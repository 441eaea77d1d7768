// Numbers of an adapter between its file and values of the graph: rows of one tensor for several layers, transposed, or
// with the elements of heads in another order.
#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "adapters/adapter.h"
#include "kernels/rows.h"
#include "models/hf_labels.h"

namespace thimble {
namespace {

constexpr int64_t kPiece = 4096;  // elements on the stack

// Where row i of a value is among its rows in the file.
int64_t file_row(const AdapterTensor& tensor, bool file_interleaved, int64_t i) {
  if (tensor.head_dim == 0 || tensor.interleaved == file_interleaved) return i;
  return row_among_heads(i, tensor.head_dim, tensor.interleaved);
}

bool reorders(const AdapterTensor& tensor, bool file_interleaved) {
  return tensor.head_dim > 0 && tensor.interleaved != file_interleaved;
}

// What computes with a number that is none may hide it (a choice of experts) or blame the model.
Result<void> check_finite(const Adapter& adapter, const SafetensorsEntry& entry, int64_t at,
                          std::span<const float> numbers) {
  if (all_finite(numbers.data(), static_cast<int64_t>(numbers.size()))) return {};
  const auto bad = std::ranges::find_if(numbers, [](float x) { return !std::isfinite(x); });
  return fail(ErrorCode::corrupt,
              "reading {}: element {} of '{}' is {}, not finite: the adapter is damaged; save it again, from a "
              "checkpoint before it was",
              adapter.weights->path(), at + (bad - numbers.begin()), entry.name, *bad);
}

// Elements [at, at + count) of an entry to to[0], to[stride] ...
Result<void> decode_run(const Adapter& adapter, const SafetensorsEntry& entry, int64_t at, int64_t count, float* to,
                        int64_t stride) {
  std::array<std::byte, kPiece * 4> bytes;
  std::array<float, kPiece> numbers;
  const Codec& codec = *entry.codec;
  for (int64_t i = 0; i < count; i += kPiece) {
    const int64_t some = std::min(kPiece, count - i);
    const std::span part(bytes.data(), static_cast<size_t>(codec.bytes(some)));
    CHECK_OK(adapter.weights->read(entry.offset + static_cast<uint64_t>(codec.bytes(at + i)), part));
    codec.decode(part.data(), numbers.data(), some);
    CHECK_OK(check_finite(adapter, entry, at + i, std::span(numbers).first(static_cast<size_t>(some))));
    for (int64_t k = 0; k < some; ++k) to[(i + k) * stride] = numbers[static_cast<size_t>(k)];
  }
  return {};
}

struct Rows {
  int64_t columns, first, last;
};

}  // namespace

Result<void> read_elements(const Adapter& adapter, const SafetensorsEntry& entry, const AdapterTensor& tensor,
                           const Shape& shape, int64_t first, std::span<float> to) {
  const int64_t columns = shape.rank() == 2 ? shape[1] : 1;
  const auto count = static_cast<int64_t>(to.size());
  if (tensor.transposed && !adapter.gguf) {
    const int64_t stride = tensor.whole[1];
    for (int64_t j = 0; j < columns; ++j) {
      // Elements of column j among [first, first + count).
      const int64_t begin = first + ((j - first) % columns + columns) % columns;
      if (begin >= first + count) continue;
      const int64_t rows = (first + count - 1 - begin) / columns + 1;
      CHECK_OK(decode_run(adapter, entry, j * stride + tensor.rows.first + begin / columns, rows,
                          to.data() + (begin - first), columns));
    }
    return {};
  }
  if (!reorders(tensor, adapter.interleaved) && tensor.rows.run == 0)
    return decode_run(adapter, entry, tensor.rows.first * columns + first, count, to.data(), 1);
  for (int64_t at = first; at < first + count;) {
    const int64_t row = at / columns, column = at % columns;
    const int64_t some = std::min(columns - column, first + count - at);
    const int64_t from = tensor.rows.of(file_row(tensor, adapter.interleaved, row)) * columns + column;
    CHECK_OK(decode_run(adapter, entry, from, some, to.data() + (at - first), 1));
    at += some;
  }
  return {};
}

namespace {

// One tensor of the file, and the values that are in it.
struct Written {
  std::string name;
  Shape whole;
  std::vector<const std::pair<AdapterTensor, Shape>*> values;  // by their rows
};

Result<std::vector<Written>> written_tensors(const AdapterToWrite& adapter) {
  std::map<std::string, Written> by_name;
  for (const auto& value : adapter.tensors) {
    const AdapterTensor& tensor = value.first;
    std::string name = tensor.file_name();
    if (adapter.names) {
      const auto found = adapter.names->tensors.find(tensor_key(name));
      if (found != adapter.names->tensors.end() && !adapter.names->gguf) name = found->second.name;
    }
    Written& written = by_name.try_emplace(name, Written{name, tensor.whole, {}}).first->second;
    written.values.push_back(&value);
  }
  std::vector<Written> out;
  for (auto& [name, written] : by_name) {
    std::sort(written.values.begin(), written.values.end(),
              [](const auto* a, const auto* b) { return a->first.rows.first < b->first.rows.first; });
    int64_t elements = 0;
    for (const auto* value : written.values) elements += value->second.count();
    if (elements != written.whole.count())
      return fail(ErrorCode::invalid_argument, "writing an adapter: '{}' is {}, but {} elements of it are there", name,
                  written.whole.text(), elements);
    out.push_back(std::move(written));
  }
  return out;
}

class Pieces {
 public:
  Pieces(SafetensorsWriter& writer, const ReadValue& read) : writer_(writer), read_(read) {}

  Result<void> write(const Written& tensor) {
    if (tensor.values.front()->first.transposed) return write_transposed(tensor);
    // Runs of the values' rows alternate.
    const auto run_of = [](const auto* value) {
      const RowsInFile& rows = value->first.rows;
      return rows.run == 0 ? value->second[0] : rows.run;
    };
    const int64_t turns = tensor.values.front()->second[0] / run_of(tensor.values.front());
    for (int64_t turn = 0; turn < turns; ++turn)
      for (const auto* value : tensor.values) {
        const int64_t columns = value->second.rank() == 2 ? value->second[1] : 1, run = run_of(value) * columns;
        CHECK_OK(write_elements(*value, columns, turn * run, (turn + 1) * run));
      }
    return {};
  }

 private:
  static constexpr int64_t kLarge = 1 << 16;

  // Elements [begin, end) in the order of the file.
  Result<void> write_elements(const std::pair<AdapterTensor, Shape>& value, int64_t columns, int64_t begin,
                              int64_t end) {
    const bool by_rows = reorders(value.first, false);
    const int64_t step = by_rows ? columns : kLarge;
    for (int64_t at = begin; at < end; at += step) {
      const int64_t row = by_rows ? model_row(value.first, at / columns) * columns : at;
      piece_.resize(static_cast<size_t>(std::min(step, end - at)));
      CHECK_OK(read_(value.first, row, piece_));
      CHECK_OK(writer_.write(std::as_bytes(std::span(piece_))));
    }
    return {};
  }

  // Of the row of the file that it is.
  static int64_t model_row(const AdapterTensor& tensor, int64_t row) {
    AdapterTensor turned = tensor;
    turned.interleaved = !tensor.interleaved;
    return file_row(turned, !turned.interleaved, row);
  }

  Result<void> write_transposed(const Written& tensor) {
    const int64_t columns = tensor.values.front()->second[1];
    for (int64_t j = 0; j < columns; ++j)
      for (const auto* value : tensor.values) {
        const int64_t rows = value->second[0], step = std::max<int64_t>(1, kLarge / columns);
        for (int64_t row = 0; row < rows; row += step) {
          const int64_t some = std::min(step, rows - row);
          piece_.resize(static_cast<size_t>(some * columns));
          CHECK_OK(read_(value->first, row * columns, piece_));
          for (int64_t i = 0; i < some; ++i)
            piece_[static_cast<size_t>(i)] = piece_[static_cast<size_t>(i * columns + j)];
          CHECK_OK(writer_.write(std::as_bytes(std::span(piece_).first(static_cast<size_t>(some)))));
        }
      }
    return {};
  }

  SafetensorsWriter& writer_;
  const ReadValue& read_;
  std::vector<float> piece_;
};

}  // namespace

Result<void> write_adapter(const std::string& folder, const AdapterToWrite& adapter, const ReadValue& read) {
  CHECK_OK(make_directories(folder));
  const std::vector<Written> written = TRY(written_tensors(adapter));
  std::vector<SafetensorsTensor> tensors;
  for (const Written& tensor : written) tensors.push_back({tensor.name, "F32", tensor.whole});
  SafetensorsWriter writer = TRY(SafetensorsWriter::create(folder + kAdapterWeights, tensors));
  Pieces pieces(writer, read);
  for (const Written& tensor : written) CHECK_OK(pieces.write(tensor));
  CHECK_OK(writer.finish());
  CHECK_OK(remove_file(folder + kSystemPrompt));
  if (!adapter.system_prompt.empty()) CHECK_OK(write_text_file(folder + kSystemPrompt, adapter.system_prompt));
  CHECK_OK(remove_file(folder + kAdapterLabels));
  if (adapter.labels) {
    nlohmann::ordered_json json;
    labels_to_config(*adapter.labels, json);
    CHECK_OK(write_text_file(folder + kAdapterLabels, json_text(json)));
  }
  CHECK_OK(remove_file(folder + kAdapterTemplate));
  if (!adapter.chat_template.empty()) CHECK_OK(write_text_file(folder + kAdapterTemplate, adapter.chat_template));
  return write_text_file(folder + kAdapterConfig, json_text(*adapter.config));
}

Result<void> write_stack(const std::string& folder, std::span<const std::string> names) {
  nlohmann::ordered_json json;
  json["stack"] = std::vector<std::string>(names.begin(), names.end());
  return write_text_file(folder + kAdapterStack, json_text(json));
}

}  // namespace thimble
