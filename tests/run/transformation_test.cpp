// Whole models changed layer by layer: what observers gather on the way is what the whole model's layers read, whatever
// the family, the budget and the number of threads; and what comes out is each method's equation.
#include "run/transformation.h"

#include <gmock/gmock.h>

#include <cmath>

#include "core/random.h"
#include "models/hf_writer.h"
#include "models/memory_model.h"
#include "ops/table.h"
#include "plan/machine.h"
#include "run/weights.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

// Sequences of random tokens, of several lengths.
class RandomText : public Dataset {
 public:
  RandomText(int64_t size, int64_t context, int64_t vocab) : size_(size), context_(context), vocab_(vocab) {}
  int64_t size() const override { return size_; }
  int64_t tokens(int64_t index) const override { return 2 + (7 * index) % (context_ - 1); }
  Result<void> read(int64_t index, Example& example) override {
    example.clear();
    for (int64_t i = 0; i < tokens(index); ++i) {
      const uint64_t drawn = Random(5, static_cast<uint64_t>(index), 0).bits(static_cast<uint64_t>(i));
      example.ids.push_back(static_cast<int32_t>(drawn % static_cast<uint64_t>(vocab_)));
      example.trained.push_back(1);
    }
    return {};
  }
  bool windows() const override { return false; }
  Result<std::vector<Message>> messages(int64_t) override { return std::vector<Message>(); }

 private:
  int64_t size_, context_, vocab_;
};

struct TinyModel {
  TemporaryFolder folder;
  std::unique_ptr<ModelSource> source;

  explicit TinyModel(const Architecture& architecture) {
    const MemoryModel model{architecture};
    const std::string path = folder.file("model");
    EXPECT_TRUE(write_hf_model(path, model.architecture, model.tensors, model.rows()));
    auto opened = ModelSource::open(path);
    EXPECT_TRUE(opened) << opened.error().message;
    source = *std::move(opened);
  }
};

TransformSpec spec_of(const ModelSource& source, const Transform& transform, const Codec& codec) {
  TransformSpec spec;
  spec.architecture = source.architecture();
  spec.stored = [&source](const std::string& name) -> const Codec* {
    const ModelTensor* const tensor = source.find(name);
    return tensor ? tensor->codec : nullptr;
  };
  spec.transform = &transform;
  spec.settings.options = OptionValues(transform.options);
  spec.written = [&codec](const Shape& shape) { return codec.fits_rows(shape[1]) ? &codec : nullptr; };
  spec.activation = &kF32;
  spec.samples = 40, spec.context = 16;
  return spec;
}

struct Outcome {
  std::map<std::string, std::vector<float>> weights, statistics;
  std::vector<std::string> order;
};

std::vector<float> read_weight(const ModelTensor& tensor, const ReadRows& read) {
  const int64_t rows = tensor.shape.rows(), columns = tensor.shape.columns(), bytes = tensor.codec->bytes(columns);
  std::vector<std::byte> stored(static_cast<size_t>(rows * bytes));
  std::vector<float> out(static_cast<size_t>(rows * columns));
  EXPECT_TRUE(read(tensor, 0, rows, stored));
  for (int64_t r = 0; r < rows; ++r) tensor.codec->decode(stored.data() + r * bytes, out.data() + r * columns, columns);
  return out;
}

Outcome transformed(const ModelSource& source, TransformSpec spec, int threads = 2, int64_t memory = 0) {
  Outcome out;
  Threads team(threads);
  spec.threads = threads;
  RandomText text(50, spec.context, source.architecture().vocab);
  Transformation job(source, team, spec);
  const auto planned = job.plan(memory);
  EXPECT_TRUE(planned) << planned.error().message;
  if (!planned) return out;
  const auto ran = job.run(spec.transform->observer ? &text : nullptr, [&](const ChangedLayer& layer) {
    out.order.push_back(layer.tensor);
    out.statistics[layer.tensor].assign(layer.statistic.begin(), layer.statistic.end());
  });
  EXPECT_TRUE(ran) << ran.error().message;
  if (!ran) return out;
  for (const ModelTensor& tensor : job.tensors())
    if (tensor.shape.rank() == 2) out.weights[tensor.name] = read_weight(tensor, job.rows());
  return out;
}

// The whole model at once, with observers at every layer.
std::map<std::string, std::vector<float>> whole_statistics(const ModelSource& source, const Observer& observer,
                                                           const TransformSpec& spec) {
  Graph graph;
  const int64_t rows = spec.samples * spec.context;
  BuildOptions options{.prefix = "whole.", .rows = rows, .positions = spec.context, .activation = &kF32};
  options.codec = [](const std::string&, const Shape&) { return &kF32; };
  EXPECT_TRUE(build_model(graph, source.architecture(), options));
  std::map<std::string, std::string> names;
  const size_t count = graph.nodes().size();
  for (size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes()[i];
    if (node.op != &kLinear) continue;
    const std::string weight = graph.value(node.in[1]).name;
    if (in_first_block(weight).empty()) continue;
    names[weight] = "statistic." + weight;
    const ValueId x = node.in[0];
    const ValueId s = graph.add_value(names[weight], {observer.shape(graph.value(x).type.shape[1])}, Role::state);
    observer.add(graph, s, x, names[weight]);
  }
  Plan plan;
  EXPECT_TRUE(plan.layout.add(graph));
  Schedule schedule =
      make_schedule(graph, nodes_between(0, graph.nodes().size()), node_costs(graph, Multiply::f32, 1, {}));
  constexpr int64_t kStaging = 4 << 20;
  plan.place(std::vector{&schedule}, kStaging);
  std::vector<std::byte> memory(static_cast<size_t>(plan.arena_bytes + 4096));
  std::byte* const base = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  Values values(plan, base);
  Loaded loaded;
  EXPECT_TRUE(load_weights(source, values, loaded));
  EXPECT_TRUE(initialise(values, loaded, 0));
  const auto at = [&](const std::string& name) { return base + plan.layout.find(name)->offset; };
  RandomText text(50, spec.context, source.architecture().vocab);
  Example example;
  int32_t row = 0;
  for (int64_t i = 0; i < spec.samples; ++i) {
    EXPECT_TRUE(text.read(i * text.size() / spec.samples, example));
    const int32_t start = row;
    for (size_t k = 0; k < example.ids.size(); ++k, ++row) {
      reinterpret_cast<int32_t*>(at("whole.ids"))[row] = example.ids[k];
      reinterpret_cast<int32_t*>(at("whole.positions"))[row] = static_cast<int32_t>(k);
      reinterpret_cast<int32_t*>(at("whole.starts"))[row] = start;
    }
  }
  Threads team(1);
  RunContext context{team, Multiply::f32, 0, 0, 0};
  EXPECT_TRUE(Executor(graph, schedule, plan.layout, Places(plan.layout, base)).run(context, row, -1));
  std::map<std::string, std::vector<float>> out;
  for (const auto& [weight, name] : names) {
    const float* const numbers = reinterpret_cast<const float*>(at(name));
    out[weight].assign(numbers, numbers + plan.layout.find(name)->type.shape.count());
  }
  return out;
}

TEST(Transformation, observes_what_the_layers_of_every_family_read) {
  for (const Family* family : families()) {
    const TinyModel model(tiny_architecture(std::string(family->name)));
    const auto routes = [](const Block& block) { return block.ffn.routing.router != nullptr; };
    if (std::ranges::any_of(model.source->architecture().blocks, routes)) continue;  // refused: the next test
    TransformSpec spec = spec_of(*model.source, kWanda, kF32);
    spec.settings.sparsity = 0;
    const Outcome out = transformed(*model.source, spec);
    const auto whole = whole_statistics(*model.source, kColumnSquares, spec);
    std::vector<std::string> layers;
    for (const TensorSpec& layer : layer_weights(model.source->architecture())) layers.push_back(layer.name);
    EXPECT_EQ(out.order, layers) << family->name;
    ASSERT_EQ(out.statistics.size(), whole.size()) << family->name;
    for (const auto& [name, expected] : whole) {
      const std::vector<float>& found = out.statistics.at(name);
      ASSERT_EQ(found.size(), expected.size()) << name;
      const float largest = *std::max_element(expected.begin(), expected.end());
      EXPECT_GT(largest, 0) << name;
      for (size_t i = 0; i < found.size(); ++i)
        ASSERT_NEAR(found[i], expected[i], 1e-4f * largest) << family->name << " " << name << " " << i;
    }
    // Nothing was dropped, so nothing has changed.
    for (const ModelTensor& tensor : model.source->tensors())
      if (tensor.shape.rank() == 2)
        EXPECT_EQ(out.weights.at(tensor.name), read_weight(tensor, rows_of(*model.source))) << tensor.name;
  }
}

TEST(Transformation, what_experts_read_is_not_gathered) {
  const TinyModel model(tiny_architecture("mixtral"));
  for (const Transform* method : {&kWanda, &kGptq}) {
    const auto refused = plan_transform(spec_of(*model.source, *method, method == &kGptq ? kQ5_1 : kF32));
    ASSERT_FALSE(refused) << method->name;
    EXPECT_THAT(refused.error().message, testing::HasSubstr("experts"));
  }
  EXPECT_TRUE(plan_transform(spec_of(*model.source, kMagnitude, kF32)));
}

Architecture small() {
  return llama({.vocab = 40,
                .width = 64,
                .layers = 3,
                .heads = 4,
                .kv_heads = 2,
                .head_dim = 16,
                .ffn_width = 96,
                .context = 64});
}

TEST(Transformation, gram_is_that_of_the_whole_model) {
  const TinyModel model(small());
  TransformSpec spec = spec_of(*model.source, kGptq, kQ5_1);
  const Outcome out = transformed(*model.source, spec);
  const auto whole = whole_statistics(*model.source, kGram, spec);
  // Of the first block, which reads what the whole model's does; later ones read what rounded ones made.
  const std::string first = "model.layers.0.mlp.down_proj.weight", last = "model.layers.2.mlp.down_proj.weight";
  double apart = 0, all = 0;
  for (size_t i = 0; i < whole.at(first).size(); ++i)
    ASSERT_NEAR(out.statistics.at(first)[i], whole.at(first)[i], 1e-3 * std::abs(whole.at(first)[0])) << i;
  for (size_t i = 0; i < whole.at(last).size(); ++i) {
    apart += std::pow(double{out.statistics.at(last)[i]} - double{whole.at(last)[i]}, 2);
    all += std::pow(double{whole.at(last)[i]}, 2);
  }
  EXPECT_GT(std::sqrt(apart / all), 1e-4) << "the last block did not see that earlier ones were rounded";
  EXPECT_LT(std::sqrt(apart / all), 0.2);
}

// The mask, by the authors' formula in double.
std::vector<float> pruned(std::vector<float> w, const std::vector<float>& squares, int64_t rows, double part) {
  const int64_t columns = static_cast<int64_t>(w.size()) / rows;
  const bool whole = squares.empty();
  const int64_t groups = whole ? 1 : rows, length = whole ? rows * columns : columns;
  for (int64_t g = 0; g < groups; ++g) {
    std::vector<std::pair<double, int64_t>> scores;
    for (int64_t i = 0; i < length; ++i) {
      const double size = std::abs(double{w[static_cast<size_t>(g * length + i)]});
      scores.emplace_back(whole ? size : size * std::sqrt(double{squares[static_cast<size_t>(i)]}), g * length + i);
    }
    std::stable_sort(scores.begin(), scores.end());
    for (int64_t i = 0; i < static_cast<int64_t>(static_cast<double>(length) * part); ++i)
      w[static_cast<size_t>(scores[static_cast<size_t>(i)].second)] = 0;
  }
  return w;
}

TEST(Transformation, prunes_by_the_equations) {
  const TinyModel model(small());
  for (const Transform* transform : {&kMagnitude, &kWanda}) {
    TransformSpec spec = spec_of(*model.source, *transform, kF32);
    spec.settings.sparsity = 0.4;
    const Outcome out = transformed(*model.source, spec);
    for (const TensorSpec& layer : layer_weights(spec.architecture)) {
      const std::vector<float> before = read_weight(*model.source->find(layer.name), rows_of(*model.source));
      EXPECT_EQ(out.weights.at(layer.name), pruned(before, out.statistics.at(layer.name), layer.shape[0], 0.4))
          << transform->name << " " << layer.name;
    }
  }
}

TEST(Transformation, patterns_are_exact) {
  const TinyModel model(small());
  for (const Transform* transform : {&kMagnitude, &kWanda})
    for (const auto& [keep, of] : {std::pair<int64_t, int64_t>{2, 4}, {1, 8}, {3, 4}}) {
      TransformSpec spec = spec_of(*model.source, *transform, kF32);
      spec.settings.keep = keep, spec.settings.of = of;
      const Outcome out = transformed(*model.source, spec);
      for (const TensorSpec& layer : layer_weights(spec.architecture)) {
        const std::vector<float>& w = out.weights.at(layer.name);
        for (size_t i = 0; i < w.size(); i += static_cast<size_t>(of))
          ASSERT_EQ(std::count(w.begin() + static_cast<int64_t>(i), w.begin() + static_cast<int64_t>(i) + of, 0.0f),
                    of - keep)
              << layer.name;
      }
    }
}

TEST(Transformation, every_transform_gives_the_same_bits_for_any_number_of_threads) {
  const TinyModel model(small());
  for (const Transform* transform : transforms()) {
    TransformSpec spec = spec_of(*model.source, *transform, transform->kind == TransformKind::prune ? kBf16 : kQ4_0);
    spec.activation = &kBf16;
    const Outcome one = transformed(*model.source, spec, 1);
    for (int threads : {2, 3}) {
      const Outcome more = transformed(*model.source, spec, threads);
      EXPECT_EQ(more.weights, one.weights) << transform->name;
      EXPECT_EQ(more.statistics, one.statistics) << transform->name;
    }
  }
}

TEST(Transformation, gptq_moves_outputs_less_than_rounding) {
  const TinyModel model(small());
  const Outcome gptq = transformed(*model.source, spec_of(*model.source, kGptq, kQ4_0)),
                plain = transformed(*model.source, spec_of(*model.source, kRound, kQ4_0));
  for (const TensorSpec& layer : layer_weights(small())) {
    const std::vector<float> w = read_weight(*model.source->find(layer.name), rows_of(*model.source));
    const std::vector<float>& h = gptq.statistics.at(layer.name);
    // |X (W - Q)^T|^2 = the sum over rows of d H d^T.
    const auto moved = [&](const std::vector<float>& q) {
      const auto n = static_cast<size_t>(layer.shape[1]);
      double sum = 0;
      for (size_t r = 0; r < w.size(); r += n)
        for (size_t i = 0; i < n; ++i)
          for (size_t j = 0; j < n; ++j)
            sum += (double{w[r + i]} - double{q[r + i]}) * double{h[i * n + j]} * (double{w[r + j]} - double{q[r + j]});
      return sum;
    };
    EXPECT_LT(moved(gptq.weights.at(layer.name)), moved(plain.weights.at(layer.name))) << layer.name;
  }
}

TEST(Transformation, act_order_is_another_result) {
  const TinyModel model(small());
  TransformSpec spec = spec_of(*model.source, kGptq, kQ4_1);
  const Outcome plain = transformed(*model.source, spec);
  ASSERT_TRUE(spec.settings.options.set("gptq", "act_order", 0.0));
  EXPECT_NE(transformed(*model.source, spec).weights, plain.weights);
}

TEST(Transformation, a_budget_that_is_too_small_is_refused) {
  const TinyModel model(small());
  TransformSpec spec = spec_of(*model.source, kGptq, kQ4_0);
  spec.samples = 100'000;
  Threads team(1);
  Transformation job(*model.source, team, spec);
  const auto planned = job.plan(100'000'000);
  ASSERT_FALSE(planned);
  EXPECT_EQ(planned.error().code, ErrorCode::over_budget);
  EXPECT_NE(planned.error().message.find("--samples"), std::string::npos) << planned.error().message;
}

TEST(Transformation, layers_that_the_codec_does_not_fit_stay) {
  Architecture a = small();
  for (Block& block : a.blocks) block.ffn.width = 40;  // rows of down_proj
  const TinyModel model(a);
  const Outcome out = transformed(*model.source, spec_of(*model.source, kGptq, kQ4_0));
  EXPECT_EQ(out.order.size(), 3u * 6u);
  for (const std::string& name : out.order) EXPECT_EQ(name.find("down_proj"), std::string::npos);
}

}  // namespace
}  // namespace thimble
