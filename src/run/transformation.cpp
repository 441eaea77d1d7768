#include "run/transformation.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/rows.h"
#include "run/interrupt.h"
#include "run/setup.h"
#include "run/weights.h"

namespace thimble {
namespace {

constexpr const char* kEmbeddingTensor = "model.embed_tokens.weight";

// Some tensors of a model under other names: name(tensor), "" for those that are left out.
class Renamed : public ModelSource {
 public:
  Renamed(const ModelSource& source, const std::function<std::string(const std::string&)>& name) : source_(source) {
    path_ = source.path();
    architecture_ = source.architecture();
    std::vector<ModelTensor> tensors;
    for (const ModelTensor& tensor : source.tensors())
      if (std::string renamed = name(tensor.name); !renamed.empty()) {
        originals_[renamed] = &tensor;
        tensors.push_back({std::move(renamed), tensor.codec, tensor.shape});
      }
    set_tensors(std::move(tensors));
  }

  Result<void> read(const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to) const override {
    return source_.read(*originals_.at(tensor.name), row, rows, to);
  }

 private:
  const ModelSource& source_;
  std::map<std::string, const ModelTensor*> originals_;
};

}  // namespace

Result<void> Transformation::plan(int64_t memory) {
  const PlanBudget budget{memory, spec_.budget_bytes, spec_.runtime_bytes, plan_.ledger, kInferenceTouches, holes_};
  CHECK_OK(plan_with_runtime(budget, [this]() -> Result<int64_t> {
    plan_ = {};
    plan_ = TRY(plan_transform(spec_));
    int64_t heap = 0;
    for (const Program& program : plan_.programs) heap += Executor::memory_bytes(program.schedule);
    return heap + 4 * plan_.pass_rows + static_cast<int64_t>(sizeof(Pass)) * (spec_.samples + 1);
  }));
  return check_statistics();
}

// Those that are known already, before anything is done with one.
Result<void> Transformation::check_statistics() const {
  if (!spec_.statistic) return {};
  std::vector<float> numbers;
  for (const TensorSpec& layer : layer_weights(spec_.architecture)) {
    if (!plan_.layers.contains(layer.shape.text())) continue;
    numbers.resize(static_cast<size_t>(layer.shape[1]));
    CHECK_OK(spec_.statistic(layer, numbers));
  }
  return {};
}

Values Transformation::values() { return {plan_, arena_->data()}; }

Result<void> Transformation::begin() {
  writing_ = TRY(TemporaryFile::create(source_.path()));
  arena_ = TRY(Arena::create(plan_.arena_bytes, threads_));
  executors_.reserve(plan_.programs.size());
  for (const Program& program : plan_.programs)
    executors_.emplace_back(program.graph, program.schedule, plan_.layout, Places(plan_.layout, arena_->data()));
  ids_.reserve(static_cast<size_t>(plan_.pass_rows));
  passes_.reserve(static_cast<size_t>(spec_.samples) + 1);
  Loaded loaded;  // weights are read when they are needed
  for (const auto& [name, entry] : plan_.layout.entries())
    if (entry.role == Role::weight) loaded.insert(name);
  Values all = values();
  CHECK_OK(initialise(all, loaded, 0));
  if (spec_.observes()) {
    // What the embedding reads beside the table, which is filled pass by pass.
    const Renamed rest(source_, [](const std::string& name) {
      return name == kEmbeddingTensor || !in_first_block(name).empty() ? "" : name;
    });
    CHECK_OK(load_weights(rest, all, loaded));
  }
  populate_heap(plan_.ledger.planned_bytes - kInferenceTouches);
  return {};
}

Result<void> Transformation::load_block(int64_t block) {
  const std::string mine = fmt::format("model.layers.{}.", block);
  const Renamed renamed(
      source_, [&](const std::string& name) { return name.starts_with(mine) ? in_first_block(name) : std::string(); });
  Values all = values();
  Loaded loaded;
  return load_weights(renamed, all, loaded);
}

Result<void> Transformation::load_layer(const ModelTensor& tensor, const std::string& value) {
  const Renamed renamed(source_, [&](const std::string& name) { return name == tensor.name ? value : std::string(); });
  Values all = values();
  Loaded loaded;
  return load_weights(renamed, all, loaded);
}

Result<void> Transformation::run_program(size_t program, int64_t rows) {
  if (interrupted()) return fail(ErrorCode::cancelled, "interrupted; nothing was written");
  RunContext context{threads_, plan_.programs[program].multiply, 0, 0, 0};
  return executors_[program].run(context, rows, -1);
}

// The calibration text up to the first block.
Result<void> Transformation::embed(Dataset& data) {
  Example example;
  example.ids.reserve(static_cast<size_t>(spec_.context));
  example.trained.reserve(static_cast<size_t>(spec_.context));
  const int64_t samples = std::min(spec_.samples, data.size());
  for (int64_t i = 0; i < samples; ++i) {
    CHECK_OK(data.read(i * data.size() / samples, example));
    CHECK_OK(add_sample(example));
  }
  return embed_pass();
}

Result<void> Transformation::add_sample(const Example& example) {
  const auto count = static_cast<int64_t>(example.ids.size());
  if (static_cast<int64_t>(ids_.size()) + count > plan_.pass_rows) CHECK_OK(embed_pass());
  const auto start = static_cast<int32_t>(ids_.size());
  for (int32_t position = 0; position < count; ++position) {
    value<int32_t>(kPositions)[rows_ + start + position] = position;
    value<int32_t>(kStarts)[rows_ + start + position] = start;
  }
  ids_.insert(ids_.end(), example.ids.begin(), example.ids.end());
  return {};
}

Result<void> Transformation::embed_pass() {
  const auto count = static_cast<int64_t>(ids_.size());
  if (count == 0) return {};
  const ModelTensor& table = *source_.find(kEmbeddingTensor);
  const int64_t columns = table.shape.columns();
  std::byte* const row = arena_->data() + plan_.layout.bytes();  // in the workspace, which is not in use
  const auto row_bytes = static_cast<size_t>(table.codec->bytes(columns));
  for (int64_t i = 0; i < count; ++i) {
    if (ids_[static_cast<size_t>(i)] < 0 || ids_[static_cast<size_t>(i)] >= spec_.architecture.vocab)
      return fail(ErrorCode::invalid_argument, "--data: token {} has no row in the model, which has {}",
                  ids_[static_cast<size_t>(i)], spec_.architecture.vocab);
    CHECK_OK(source_.read(table, ids_[static_cast<size_t>(i)], 1, {row, row_bytes}));
    table.codec->decode(row, value<float>(kEmbeddingTensor) + i * columns, columns);
    reinterpret_cast<int32_t*>(input(plan_.embed, "ids"))[i] = static_cast<int32_t>(i);
  }
  std::memcpy(input(plan_.embed, "positions"), value<int32_t>(kPositions) + rows_, static_cast<size_t>(4 * count));
  CHECK_OK(run_program(plan_.embed, count));
  const int64_t bytes = spec_.activation->bytes(spec_.architecture.width);
  std::memcpy(value<std::byte>(kStream) + rows_ * bytes, value<std::byte>("embed.hidden"),
              static_cast<size_t>(count * bytes));
  passes_.push_back({rows_, count});
  rows_ += count;
  ids_.clear();
  return {};
}

// The stream through a program of the current block; `replaces`: what comes out is the stream of the next one.
Result<void> Transformation::pass_through(size_t program, bool replaces) {
  const int64_t bytes = spec_.activation->bytes(spec_.architecture.width);
  for (const Pass& pass : passes_) {
    std::byte* const stream = value<std::byte>(kStream) + pass.first * bytes;
    const auto stream_bytes = static_cast<size_t>(pass.rows * bytes), index_bytes = static_cast<size_t>(4 * pass.rows);
    std::memcpy(input(program, "stream"), stream, stream_bytes);
    std::memcpy(input(program, "positions"), value<int32_t>(kPositions) + pass.first, index_bytes);
    std::memcpy(input(program, "starts"), value<int32_t>(kStarts) + pass.first, index_bytes);
    CHECK_OK(run_program(program, pass.rows));
    if (replaces) std::memcpy(stream, value<std::byte>("replay.hidden"), stream_bytes);
  }
  return {};
}

// layers: of the block.
Result<void> Transformation::change_block(int64_t block, std::span<const TensorSpec> layers, const OnLayer& on_layer) {
  const TransformPlan::Kind& kind = plan_.kinds[plan_.kind_of[static_cast<size_t>(block)]];
  CHECK_OK(load_block(block));
  for (const auto& [name, entry] : plan_.layout.entries())
    if (entry.role == Role::state)
      std::memset(arena_->data() + entry.offset, 0, static_cast<size_t>(entry.type.bytes()));
  CHECK_OK(pass_through(kind.observe, false));
  for (const TensorSpec& spec : layers)
    if (const auto layer = plan_.layers.find(in_first_block(spec.name)); layer != plan_.layers.end())
      CHECK_OK(change(*source_.find(spec.name), layer->second, on_layer));
  return block + 1 < spec_.architecture.layers() ? pass_through(kind.replay, true) : Result<void>();
}

Result<void> Transformation::change(const ModelTensor& tensor, const LayerProgram& layer, const OnLayer& on_layer) {
  CHECK_OK(run_program(layer.program, -1));
  return store(tensor, layer, on_layer);
}

// The new weight to the file, and in place of the old one.
Result<void> Transformation::store(const ModelTensor& tensor, const LayerProgram& layer, const OnLayer& on_layer) {
  const int64_t columns = tensor.shape.columns(), rows = tensor.shape.rows(), row_bytes = layer.codec->bytes(columns);
  const std::byte* const result = value<std::byte>(layer.result);
  float* const w = value<float>(layer.weight);
  float* const row = reinterpret_cast<float*>(arena_->data() + plan_.layout.bytes());
  ChangedLayer changed{tensor.name, rows * columns};
  if (const Layout::Entry* const s = plan_.layout.find(layer.statistic))
    changed.statistic = {value<float>(layer.statistic), static_cast<size_t>(s->type.shape.count())};
  double moved = 0, all = 0;
  for (int64_t r = 0; r < rows; ++r) {
    layer.codec->decode(result + r * row_bytes, row, columns);
    if (!all_finite(row, columns))
      return fail(ErrorCode::diverged,
                  "--method {}: the new weights of '{}' are not finite: the inputs that were observed do not determine "
                  "them; give more --samples, or more damping where the method has some",
                  spec_.transform->name, tensor.name);
    for (int64_t i = 0; i < columns; ++i) {
      const double old = w[r * columns + i], now = row[i];
      changed.zeros += now == 0;
      moved += (now - old) * (now - old), all += old * old;
    }
    std::copy_n(row, columns, w + r * columns);
  }
  changed.change = all > 0 ? std::sqrt(moved / all) : 0;
  offsets_[tensor.name] = writing_->size();
  CHECK_OK(writing_->write({result, static_cast<size_t>(rows * row_bytes)}));
  tensors_.push_back({tensor.name, layer.codec, tensor.shape});
  if (on_layer) on_layer(changed);
  return {};
}

Result<void> Transformation::run(Dataset* data, const OnLayer& on_layer) {
  CHECK_OK(begin());
  const std::vector<TensorSpec> layers = layer_weights(spec_.architecture);
  if (data) {
    CHECK_OK(embed(*data));
    const size_t blocks = spec_.architecture.blocks.size(), each = layers.size() / blocks;  // the plan has seen to that
    for (size_t block = 0; block < blocks; ++block)
      CHECK_OK(change_block(static_cast<int64_t>(block), std::span(layers).subspan(block * each, each), on_layer));
  } else {
    for (const TensorSpec& spec : layers) {
      const auto layer = plan_.layers.find(spec.shape.text());
      if (layer == plan_.layers.end()) continue;
      const ModelTensor& tensor = *source_.find(spec.name);
      CHECK_OK(load_layer(tensor, layer->second.weight));
      if (spec_.statistic)
        CHECK_OK(spec_.statistic(spec, {value<float>(layer->second.statistic), static_cast<size_t>(spec.shape[1])}));
      CHECK_OK(change(tensor, layer->second, on_layer));
    }
  }
  executors_.clear();
  arena_.reset();
  written_ = TRY(std::move(*writing_).finish());
  std::map<std::string_view, const Codec*> changed;
  for (const ModelTensor& tensor : tensors_) changed[tensor.name] = tensor.codec;
  std::vector<ModelTensor> all(source_.tensors().begin(), source_.tensors().end());
  for (ModelTensor& tensor : all)
    if (const auto found = changed.find(tensor.name); found != changed.end()) tensor.codec = found->second;
  tensors_ = std::move(all);
  return {};
}

ReadRows Transformation::rows() const {
  return [this](const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to) -> Result<void> {
    const auto found = offsets_.find(tensor.name);
    if (found == offsets_.end()) return source_.read(tensor, row, rows, to);
    return written_->read(found->second + static_cast<uint64_t>(row * tensor.codec->bytes(tensor.shape.columns())), to);
  };
}

}  // namespace thimble
