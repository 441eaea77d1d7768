#include "models/narrow_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/tensor_names.h"

namespace thimble {
namespace {

// The same places of every one of so many heads.
std::vector<int64_t> of_heads(const std::vector<int64_t>& places, int64_t heads, int64_t head_dim) {
  std::vector<int64_t> out;
  for (int64_t h = 0; h < heads; ++h)
    for (const int64_t place : places) out.push_back(h * head_dim + place);
  return out;
}

// Elements of a head, in the order of a narrow one: pairs that turn by halves, then those that do not turn.
std::vector<int64_t> turned_elements(const Attention& a, std::span<const Rope> ropes, int64_t by) {
  const Rope* const rope = a.rope >= 0 ? &ropes[static_cast<size_t>(a.rope)] : nullptr;
  const int64_t rotated = rope ? rope->rotated : 0, half = rotated / 2;
  const bool interleaved = rope && rope->layout == Rope::Layout::interleaved;
  std::vector<int64_t> out;
  for (int64_t second = 0; second < 2; ++second)
    for (int64_t pair = 0; pair < half; pair += by)
      out.push_back(interleaved ? 2 * pair + second : pair + second * half);
  for (int64_t e = rotated; e < a.head_dim; e += by) out.push_back(e);
  return out;
}

}  // namespace

std::vector<int64_t> places_of_largest(std::span<const double> sums, int64_t count) {
  std::vector<int64_t> order(sums.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::ranges::stable_sort(
      order, [&](int64_t a, int64_t b) { return sums[static_cast<size_t>(a)] > sums[static_cast<size_t>(b)]; });
  order.resize(static_cast<size_t>(count));
  std::ranges::sort(order);
  return order;
}

Result<void> add_magnitudes(const ModelSource& source, const std::string& name, std::vector<double>& rows,
                            std::vector<double>& columns) {
  const ModelTensor* const tensor = source.find(name);
  if (!tensor) return {};
  std::vector<float> row;
  for (int64_t r = 0; r < tensor->shape.rows(); ++r) {
    CHECK_OK(decode_row(source, *tensor, r, row));
    for (size_t c = 0; c < row.size(); ++c) {
      if (!rows.empty()) rows[static_cast<size_t>(r)] += std::abs(row[c]);
      if (!columns.empty()) columns[c] += std::abs(row[c]);
    }
  }
  return {};
}

Result<void> decode_row(const ModelSource& source, const ModelTensor& tensor, int64_t row, std::vector<float>& to) {
  const int64_t columns = tensor.shape.columns();
  std::vector<std::byte> bytes(static_cast<size_t>(tensor.codec->bytes(columns)));
  to.resize(static_cast<size_t>(columns));
  CHECK_OK(source.read(tensor, row, 1, bytes));
  tensor.codec->decode(bytes.data(), to.data(), columns);
  return {};
}

Result<NarrowWeights> NarrowWeights::choose(const ModelSource& source, int64_t by) {
  NarrowWeights weights(source, by);
  const int64_t width = source.architecture().width;
  std::vector<double> none, columns(static_cast<size_t>(width));
  // An embedding of another width says nothing of the stream: then its first columns are as good as others.
  const ModelTensor* const table = source.find("model.embed_tokens.weight");
  if (table && table->shape.columns() == width) CHECK_OK(weights.add_sums(table->name, none, columns));
  weights.stream_ = places_of_largest(columns, width / by);
  return weights;
}

bool NarrowWeights::has(const std::string& name) const {
  if (name == "model.norm.weight" || name == "model.norm.bias") return source_->find(name) != nullptr;
  if (!name.starts_with("model.layers.") || !source_->find(name)) return false;
  const Block& block = source_->architecture().blocks[block_of(name)];
  return !block.mixer && block.ffn.rank == 0;
}

Result<void> NarrowWeights::read(const std::string& name, int64_t row, std::span<float> to) {
  const ModelTensor& tensor = *source_->find(name);
  const Part part = TRY(part_of(name));
  std::vector<float> whole;
  CHECK_OK(decode_row(*source_, tensor, part.rows ? (*part.rows)[static_cast<size_t>(row)] : 0, whole));
  for (size_t i = 0; i < to.size(); ++i) to[i] = whole[static_cast<size_t>((*part.columns)[i])];
  return {};
}

Result<NarrowWeights::Part> NarrowWeights::part_of(const std::string& name) {
  const bool vector = source_->find(name)->shape.rank() < 2;
  const auto of = [&](const Places& rows, const Places& columns) {
    return vector ? Part{nullptr, &rows} : Part{&rows, &columns};
  };
  if (name.starts_with("model.norm.")) return Part{nullptr, &stream_};
  const Layer& l = *TRY(layer(static_cast<int64_t>(block_of(name))));
  const auto is = [&](std::string_view module) { return name.find(module) != std::string::npos; };
  if (is(".q_proj.")) return of(l.queries, stream_);
  if (is(".k_proj.")) return of(l.keys, stream_);
  if (is(".v_proj.")) return of(l.values, stream_);
  if (is(".o_proj.")) return of(stream_, l.outputs);
  if (is(".gate_proj.") || is(".up_proj.")) return of(l.units, stream_);
  if (is(".down_proj.")) return of(stream_, l.units);
  const Attention& a = source_->architecture().blocks[block_of(name)].attention;
  if (is(".q_norm.") || is(".k_norm.")) {
    if (a.qk_norm_over == Attention::NormOver::head) return Part{nullptr, &l.turned};
    return Part{nullptr, is(".q_norm.") ? &l.queries : &l.keys};
  }
  return Part{nullptr, &stream_};  // the other norms
}

Result<const NarrowWeights::Layer*> NarrowWeights::layer(int64_t index) {
  if (last_.first != index) last_ = {index, TRY(choose_layer(index))};
  return &last_.second;
}

Result<NarrowWeights::Layer> NarrowWeights::choose_layer(int64_t index) const {
  const Architecture& architecture = source_->architecture();
  const Block& block = architecture.blocks[static_cast<size_t>(index)];
  const Attention& a = block.attention;
  const std::string name = fmt::format("model.layers.{}.", index);
  std::vector<double> none, units(static_cast<size_t>(block.ffn.width)), values(static_cast<size_t>(a.kv_width())),
      outputs(static_cast<size_t>(a.q_width()));
  for (const char* matrix : {"gate_proj", "up_proj"})
    CHECK_OK(add_sums(name + "mlp." + matrix + ".weight", units, none));
  CHECK_OK(add_sums(name + "mlp.down_proj.weight", none, units));
  CHECK_OK(add_sums(name + "self_attn.v_proj.weight", values, none));
  CHECK_OK(add_sums(name + "self_attn.o_proj.weight", none, outputs));
  Layer out;
  out.units = places_of_largest(units, block.ffn.width / by_);
  out.turned = turned_elements(a, architecture.ropes, by_);
  out.queries = of_heads(out.turned, a.heads, a.head_dim), out.keys = of_heads(out.turned, a.kv_heads, a.head_dim);
  const int64_t group = a.heads / a.kv_heads;
  for (int64_t kv = 0; kv < a.kv_heads; ++kv) {
    std::vector<double> sums(values.begin() + kv * a.head_dim, values.begin() + (kv + 1) * a.head_dim);
    for (int64_t q = kv * group; q < (kv + 1) * group; ++q)
      for (int64_t e = 0; e < a.head_dim; ++e)
        sums[static_cast<size_t>(e)] += outputs[static_cast<size_t>(q * a.head_dim + e)];
    const Places kept = places_of_largest(sums, a.head_dim / by_);
    for (const int64_t e : kept) out.values.push_back(kv * a.head_dim + e);
    for (int64_t q = kv * group; q < (kv + 1) * group; ++q)
      for (const int64_t e : kept) out.outputs.push_back(q * a.head_dim + e);
  }
  return out;
}

}  // namespace thimble
