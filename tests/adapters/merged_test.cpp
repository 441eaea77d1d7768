// An adapter beside a model says what the model says into which it was merged: every family, with every scale that
// families have behind their layers, and techniques that touch a layer in each of the ways there are.
#include "run/merged.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "models/hf_writer.h"
#include "models/memory_model.h"
#include "run/all_logits.h"
#include "run/trainer.h"
#include "temporary_folder.h"
#include "whole_model_adapter.h"

namespace thimble {
namespace {

using Ordered = nlohmann::json;

// A kind of adapter: its configuration, and the tensors of a module.
struct Kind {
  const char* name;
  Ordered config;
  bool biases;  // adds to biases that a layer need not have
  std::function<void(RandomTensors&, const ModelModule&)> tensors;
  // What is added to element [row, column] of the module's weight as the file has it; nullptr: that is no sum.
  using Tensor = std::function<const std::vector<float>&(const std::string& suffix)>;
  std::function<double(const Tensor&, int64_t in, int64_t out, int64_t row, int64_t column)> delta = nullptr;
  // Tensors for all modules, of the largest extents.
  std::function<void(RandomTensors&, int64_t in, int64_t out)> shared = nullptr;
  bool pairs = false;  // of rows: for modules that have an even number of them
  bool is_for(const ModelModule& m) const { return m.linear && (!pairs || m.whole % 2 == 0); }
};

double at(const std::vector<float>& values, int64_t row, int64_t columns, int64_t column) {
  return double{values.at(static_cast<size_t>(row * columns + column))};
}

void low_rank(RandomTensors& to, const ModelModule& m) {
  to.add(m.owner + ".lora_A.weight", {kRank, m.shape[1]});
  to.add(m.owner + ".lora_B.weight", {m.whole, kRank});
}

constexpr double kScale = 1.5;  // lora_alpha 3 by a rank of 2

double low_rank_delta(const Kind::Tensor& tensor, int64_t in, int64_t, int64_t row, int64_t column) {
  double sum = 0;
  for (int64_t r = 0; r < kRank; ++r)
    sum += at(tensor("lora_B.weight"), row, kRank, r) * at(tensor("lora_A.weight"), r, in, column);
  return kScale * sum;
}

// b_row sum over r of B[row, r] d_r A[r, column]; A and B are the first columns and rows of those for all layers.
double vera_delta(const Kind::Tensor& tensor, int64_t, int64_t, int64_t row, int64_t column) {
  const int64_t columns = std::ssize(tensor("vera_A")) / kRank;
  double sum = 0;
  for (int64_t r = 0; r < kRank; ++r)
    sum += at(tensor("vera_B"), row, kRank, r) * double{tensor("vera_lambda_d").at(static_cast<size_t>(r))} *
           at(tensor("vera_A"), r, columns, column);
  return double{tensor("vera_lambda_b").at(static_cast<size_t>(row))} * sum;
}

// w1 (x) w2, both whole, the smaller 2 x 2.
double lokr_delta(const Kind::Tensor& tensor, int64_t in, int64_t out, int64_t row, int64_t column) {
  const int64_t b = out / 2, d = in / 2;
  return 4.0 / 64 * at(tensor("lokr_w1"), row / b, 2, column / d) * at(tensor("lokr_w2"), row % b, d, column % d);
}

// A vector of two numbers out of a bank of three: the two largest of its logits, by their softmax.
double vblora_element(const std::vector<float>& logits, int64_t vector, const std::vector<float>& bank, int64_t place) {
  std::vector<std::pair<double, int64_t>> order;
  for (int64_t i = 0; i < 3; ++i) order.emplace_back(-at(logits, vector, 3, i), i);
  std::ranges::sort(order);
  const double first = std::exp(-order[0].first), second = std::exp(-order[1].first);
  return (first * at(bank, order[0].second, 2, place) + second * at(bank, order[1].second, 2, place)) /
         (first + second);
}
double vblora_delta(const Kind::Tensor& tensor, int64_t in, int64_t, int64_t row, int64_t column) {
  const std::vector<float>& bank = tensor("vblora_vector_bank");
  double sum = 0;
  for (int64_t r = 0; r < kRank; ++r)
    sum += vblora_element(tensor("vblora_logits_B"), row / 2 * kRank + r, bank, row % 2) *
           vblora_element(tensor("vblora_logits_A"), r * (in / 2) + column / 2, bank, column % 2);
  return sum;
}

std::vector<Kind> kinds() {
  return {{"lora", {{"peft_type", "LORA"}}, false, low_rank, low_rank_delta},
          {"pissa", {{"peft_type", "LORA"}, {"init_lora_weights", "pissa"}}, false, low_rank},
          {"olora", {{"peft_type", "LORA"}, {"init_lora_weights", "olora"}}, false, low_rank},
          {"vera",
           {{"peft_type", "VERA"}},
           false,
           [](RandomTensors& to, const ModelModule& m) {
             to.add(m.owner + ".vera_lambda_d", {kRank});
             to.add(m.owner + ".vera_lambda_b", {m.whole});
           },
           vera_delta,
           [](RandomTensors& to, int64_t in, int64_t out) {
             to.add("vera_A", {kRank, in});
             to.add("vera_B", {out, kRank});
           }},
          {"lokr",
           {{"peft_type", "LOKR"}, {"alpha", 4}, {"r", 64}, {"decompose_factor", 2}},
           false,
           [](RandomTensors& to, const ModelModule& m) {
             to.add(m.owner + ".lokr_w1", {2, 2});
             to.add(m.owner + ".lokr_w2", {m.whole / 2, m.shape[1] / 2});
           },
           lokr_delta,
           nullptr,
           true},
          {"vblora",
           {{"peft_type", "VBLORA"}, {"num_vectors", 3}, {"vector_length", 2}},
           false,
           [](RandomTensors& to, const ModelModule& m) {
             to.add(m.owner + ".vblora_logits_A", {kRank, m.shape[1] / 2, 3});
             to.add(m.owner + ".vblora_logits_B", {m.whole / 2, kRank, 3});
           },
           vblora_delta,
           [](RandomTensors& to, int64_t, int64_t) {
             to.add("vblora_vector_bank", {3, 2});
           },
           true},
          {"lora_bias",
           {{"peft_type", "LORA"}, {"lora_bias", true}},
           true,
           [](RandomTensors& to, const ModelModule& m) {
             low_rank(to, m);
             to.add(m.owner + ".lora_B.bias", {m.whole});
           }},
          {"dora",
           {{"peft_type", "LORA"}, {"use_dora", true}},
           false,
           [](RandomTensors& to, const ModelModule& m) {
             low_rank(to, m);
             to.add(m.owner + ".lora_magnitude_vector", {m.whole});
           }},
          {"ia3",
           {{"peft_type", "IA3"}, {"feedforward_modules", Ordered::array()}},
           false,
           [](RandomTensors& to, const ModelModule& m) {
             to.add(m.owner + ".ia3_l", {m.whole, 1});
           }},
          {"loha", {{"peft_type", "LOHA"}, {"alpha", 4}}, false, [](RandomTensors& to, const ModelModule& m) {
             for (const char* one : {".hada_w1", ".hada_w2"}) {
               to.add(m.owner + one + "_a", {m.whole, kRank});
               to.add(m.owner + one + "_b", {kRank, m.shape[1]});
             }
           }}};
}

const std::vector<int32_t> kIds = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3};

std::vector<float> logits_of(const std::string& model, const std::string& adapter,
                             std::span<const int32_t> ids = kIds) {
  InferenceOptions options{.model = model, .adapter = adapter, .precision = "f32", .multiply = "f32"};
  options.threads = 1;
  auto inference = Inference::open(options);
  EXPECT_TRUE(inference) << inference.error().message;
  if (!inference) return {};
  auto all = AllLogits::prepare(**inference, static_cast<int64_t>(ids.size()));
  EXPECT_TRUE(all) << all.error().message;
  if (!all) return {};
  const auto loaded = (*all)->load();
  EXPECT_TRUE(loaded) << loaded.error().message;
  if (!loaded) return {};
  const auto rows = (*all)->run(ids);
  EXPECT_TRUE(rows) << rows.error().message;
  return rows ? std::vector<float>(rows->begin(), rows->end()) : std::vector<float>();
}

std::map<std::string, std::vector<float>> numbers_of(const std::string& path) {
  std::map<std::string, std::vector<float>> numbers;
  const auto file = SafetensorsFile::open(path);
  EXPECT_TRUE(file) << file.error().message;
  if (!file) return numbers;
  for (const SafetensorsEntry& entry : file->entries()) {
    std::vector<float>& values = numbers[entry.name];
    values.resize(static_cast<size_t>(entry.shape.count()));
    EXPECT_TRUE(file->file().read(entry.offset, std::as_writable_bytes(std::span(values))));
  }
  return numbers;
}

class MergedAdapter : public ::testing::TestWithParam<const Family*> {
 protected:
  void SetUp() override {
    const Architecture a = tiny_architecture(std::string(GetParam()->name));
    const MemoryModel model(a);
    const auto written = write_hf_model(folder_.file("base"), a, model.tensors, model.rows());
    ASSERT_TRUE(written) << written.error().message;
  }

  // Of every module in linear layers; whether there is one that the kind can adapt.
  bool write_adapter(const Kind& kind, const Architecture& a) {
    RandomTensors tensors;
    std::set<std::string> targets;
    int64_t in = 0, out = 0;
    for (const ModelModule& m : whole_modules(a, true)) {
      if (!kind.is_for(m)) continue;
      targets.insert(m.owner);
      kind.tensors(tensors, m);
      in = std::max(in, m.shape[1]), out = std::max(out, m.whole);
    }
    if (kind.shared) kind.shared(tensors, in, out);
    Ordered config = {{"r", kRank}, {"target_modules", targets}};
    config.update(kind.config);
    if (config["peft_type"] == "LORA") config["lora_alpha"] = 3;
    if (config["peft_type"] == "IA3") config.erase("r");
    write_folder(folder_.file(kind.name), config.dump(), tensors.made);
    return !targets.empty();
  }

  TemporaryFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(Families, MergedAdapter, ::testing::ValuesIn(families()),
                         [](const auto& info) { return std::string(info.param->name); });

// In the order of the rows of Hugging Face's file, whatever order the model has them in, and however many of its layers
// are one of the file's.
TEST_P(MergedAdapter, adds_to_the_weights_of_the_file) {
  const auto source = ModelSource::open(folder_.file("base"));
  ASSERT_TRUE(source) << source.error().message;
  for (const Kind& kind : kinds()) {
    if (!kind.delta) continue;
    SCOPED_TRACE(kind.name);
    ASSERT_TRUE(write_adapter(kind, (*source)->architecture()));
    auto adapters = open_adapters(folder_.file(kind.name));
    ASSERT_TRUE(adapters) << adapters.error().message;
    auto merged = MergedModel::make(**source, *adapters);
    ASSERT_TRUE(merged) << merged.error().message;
    const bool has_biases = std::ranges::any_of(
        adapters->front().tensors, [](const auto& tensor) { return tensor.first.find("bias") != std::string::npos; });
    for (const std::string& name : merged->changed()) EXPECT_TRUE(has_biases || !name.ends_with(".bias")) << name;
    const std::string folder = folder_.file(std::string("out_") + kind.name);
    ASSERT_TRUE(write_hf_model(folder, merged->architecture(), merged->tensors(), merged->rows()));
    const auto before = numbers_of(folder_.file("base") + "/model.safetensors"),
               after = numbers_of(folder + "/model.safetensors"),
               adapter = numbers_of(folder_.file(kind.name) + "/adapter_model.safetensors");
    const auto named = [](const auto& numbers, const std::string& name) -> const std::vector<float>& {
      static const std::vector<float> none;
      for (const auto& [key, values] : numbers)
        if (key == name || key.ends_with("." + name)) return values;
      return none;
    };
    for (const ModelModule& m : whole_modules((*source)->architecture(), true)) {
      if (!kind.is_for(m)) continue;
      SCOPED_TRACE(m.owner);
      const auto tensor = [&](const std::string& suffix) -> const std::vector<float>& {
        const std::vector<float>& own = named(adapter, m.owner + "." + suffix);
        return own.empty() ? named(adapter, suffix) : own;
      };
      const std::vector<float>&w = named(before, m.owner + ".weight"), &v = named(after, m.owner + ".weight");
      const int64_t in = m.shape[1], out = m.whole;
      ASSERT_EQ(w.size(), static_cast<size_t>(in * out));
      ASSERT_EQ(v.size(), w.size());
      for (int64_t row = 0; row < out; ++row)
        for (int64_t column = 0; column < in; ++column) {
          const double delta = kind.delta(tensor, in, out, row, column);
          const auto place = static_cast<size_t>(m.transposed ? column * out + row : row * in + column);
          ASSERT_NEAR(v[place], w[place] + delta, 1e-4 * std::max(1.0, std::abs(delta)))
              << "row " << row << ", column " << column;
        }
    }
  }
}

TEST_P(MergedAdapter, says_the_same) {
  const std::vector<float> plain = logits_of(folder_.file("base"), "");
  for (const Kind& kind : kinds()) {
    SCOPED_TRACE(kind.name);
    const auto source = ModelSource::open(folder_.file("base"));
    ASSERT_TRUE(source) << source.error().message;
    ASSERT_TRUE(write_adapter(kind, (*source)->architecture()));
    auto adapters = open_adapters(folder_.file(kind.name));
    ASSERT_TRUE(adapters) << adapters.error().message;
    auto merged = MergedModel::make(**source, *adapters);
    if (!merged && kind.biases) {  // a layer without a bias has no place for one
      EXPECT_THAT(merged.error().message, ::testing::HasSubstr("bias"));
      continue;
    }
    ASSERT_TRUE(merged) << merged.error().message;
    const std::string out = folder_.file(std::string("merged_") + kind.name);
    ASSERT_TRUE(write_hf_model(out, merged->architecture(), merged->tensors(), merged->rows()));
    const std::vector<float> beside = logits_of(folder_.file("base"), folder_.file(kind.name)),
                             apart = logits_of(out, "");
    ASSERT_EQ(beside.size(), apart.size());
    const auto [least, most] = std::minmax_element(apart.begin(), apart.end());
    double worst = 0, moved = 0;
    for (size_t i = 0; i < apart.size(); ++i) {
      worst = std::max(worst, std::abs(double{beside[i]} - apart[i]));
      moved = std::max(moved, std::abs(double{beside[i]} - plain[i]));
    }
    EXPECT_LT(worst, 1e-4 * (double{*most} - *least));
    EXPECT_GT(moved, 1e-2 * (double{*most} - *least));
  }
}

void expect_same(const std::vector<float>& found, const std::vector<float>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  ASSERT_FALSE(expected.empty());
  const auto [least, most] = std::minmax_element(expected.begin(), expected.end());
  for (size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(found[i], expected[i], 1e-4 * (double{*most} - *least)) << "logit " << i;
}

// DoRA of an embedding W [vocabulary, width]: its columns are those of V = W + s A^T B^T, each scaled to its magnitude.
TEST_P(MergedAdapter, columns_of_an_embedding_have_their_magnitudes) {
  const auto source = ModelSource::open(folder_.file("base"));
  ASSERT_TRUE(source) << source.error().message;
  const ModelModule table = model_modules((*source)->architecture()).front();
  const int64_t vocabulary = table.shape[0], width = table.shape[1];
  RandomTensors tensors;
  tensors.add(table.owner + ".lora_embedding_A", {kRank, vocabulary});
  tensors.add(table.owner + ".lora_embedding_B", {width, kRank});
  tensors.add(table.owner + ".lora_magnitude_vector", {width});
  const Ordered config = {
      {"peft_type", "LORA"}, {"use_dora", true}, {"r", kRank}, {"lora_alpha", 3}, {"target_modules", {table.owner}}};
  write_folder(folder_.file("dora_embedding"), config.dump(), tensors.made);
  auto adapters = open_adapters(folder_.file("dora_embedding"));
  ASSERT_TRUE(adapters) << adapters.error().message;
  auto merged = MergedModel::make(**source, *adapters);
  ASSERT_TRUE(merged) << merged.error().message;
  const std::string out = folder_.file("merged_embedding");
  ASSERT_TRUE(write_hf_model(out, merged->architecture(), merged->tensors(), merged->rows()));
  const std::vector<float> w = numbers_of(folder_.file("base") + "/model.safetensors").at(table.owner + ".weight"),
                           v = numbers_of(out + "/model.safetensors").at(table.owner + ".weight");
  const auto value = [&](size_t tensor, int64_t i) { return double{tensors.made[tensor].value(i)}; };
  for (int64_t column = 0; column < width; ++column) {
    std::vector<double> expected;
    double squares = 0;
    for (int64_t row = 0; row < vocabulary; ++row) {
      double sum = 0;
      for (int64_t r = 0; r < kRank; ++r) sum += value(0, r * vocabulary + row) * value(1, column * kRank + r);
      expected.push_back(at(w, row, width, column) + kScale * sum);
      squares += expected.back() * expected.back();
    }
    for (int64_t row = 0; row < vocabulary; ++row)
      ASSERT_NEAR(at(v, row, width, column), value(2, column) / std::sqrt(squares) * expected[static_cast<size_t>(row)],
                  1e-4)
          << "row " << row << ", column " << column;
  }
  expect_same(logits_of(folder_.file("base"), folder_.file("dora_embedding")), logits_of(out, ""));
}

// What PiSSA takes off a weight is what it begins with: of layers that are one of the file, off that one.
TEST_P(MergedAdapter, begins_at_the_model) {
  const SafetensorsTensor ids{"ids", "I32", {2, 10}};
  auto writer = SafetensorsWriter::create(folder_.file("ids.safetensors"), {&ids, 1});
  ASSERT_TRUE(writer);
  for (int copy = 0; copy < 2; ++copy) ASSERT_TRUE(writer->write(std::as_bytes(std::span(kIds))));
  ASSERT_TRUE(writer->finish());
  std::vector<double> losses;
  for (const char* method : {"lora", "pissa", "olora"}) {
    Recipe recipe{.model = folder_.file("base"), .data = folder_.file("ids.safetensors")};
    recipe.out = folder_.file(std::string("run_") + method), recipe.method = method, recipe.rank = kRank;
    recipe.precision = recipe.multiply = "f32", recipe.scratch = "none", recipe.threads = 1;
    recipe.batch = 2, recipe.context = 10, recipe.steps = 1, recipe.warmup = 0;
    Events events(true);
    events.on_step([&](const StepEvent& step) { losses.push_back(step.loss); });
    auto trainer = Trainer::prepare(recipe, events);
    ASSERT_TRUE(trainer) << trainer.error().message;
    const auto done = (*trainer)->run();
    ASSERT_TRUE(done) << done.error().message;
  }
  ASSERT_EQ(losses.size(), 3u);
  EXPECT_NEAR(losses[1], losses[0], 1e-4 * losses[0]);
  EXPECT_NEAR(losses[2], losses[0], 1e-4 * losses[0]);
}

// Virtual tokens with what the files' embedding makes of tokens are those tokens: Gemma's multiplies its rows itself.
TEST_P(MergedAdapter, prompts_of_the_rows_of_tokens_are_these_tokens) {
  constexpr int64_t kLead = 3;
  const Architecture a = tiny_architecture(std::string(GetParam()->name));
  const std::vector<float> table = MemoryModel(a).values.at("model.embed_tokens.weight");
  const int64_t width = std::ssize(table) / a.vocab;
  const double by = a.family.starts_with("gemma") ? std::sqrt(static_cast<double>(a.width)) : 1;
  write_folder(folder_.file("prompt"), fmt::format(R"({{"peft_type":"PROMPT_TUNING","num_virtual_tokens":{}}})", kLead),
               {{"prompt_embeddings", {kLead, width}, [&](int64_t i) {
                   const int64_t row = kIds[static_cast<size_t>(i / width)];
                   return static_cast<float>(by * table[static_cast<size_t>(row * width + i % width)]);
                 }}});
  std::vector<float> whole = logits_of(folder_.file("base"), "");
  whole.erase(whole.begin(), whole.begin() + kLead * a.vocab);
  expect_same(logits_of(folder_.file("base"), folder_.file("prompt"), std::span(kIds).subspan(kLead)), whole);
}

// Copies of what is one matrix in the model are two.
TEST_P(MergedAdapter, copies_of_a_tied_embedding_and_head_are_apart) {
  Architecture a = tiny_architecture(std::string(GetParam()->name));
  a.tied = true;
  const MemoryModel tied(a);
  const auto written = write_hf_model(folder_.file("tied"), a, tied.tensors, tied.rows());
  ASSERT_TRUE(written) << written.error().message;
  Architecture untied = a;
  untied.tied = false;
  MemoryModel other(untied);
  const auto modules = model_modules(a);
  const auto tensor = [&](const ModelModule& m, float first) {
    return WrittenTensor{"base_model.model." + m.owner + ".weight", m.shape,
                         [first](int64_t i) { return std::sin(first + static_cast<float>(i)); }};
  };
  const WrittenTensor embedding = tensor(modules.front(), 1), head = tensor(modules.back(), 2);
  for (auto& [name, values] : other.values) {
    const bool is_head = name == "lm_head.weight";
    if (!is_head && name != "model.embed_tokens.weight") {
      values = tied.values.at(name);
      continue;
    }
    for (size_t i = 0; i < values.size(); ++i) values[i] = (is_head ? head : embedding).value(static_cast<int64_t>(i));
  }
  ASSERT_TRUE(write_hf_model(folder_.file("untied"), untied, other.tensors, other.rows()));
  std::vector<WrittenTensor> tensors = {embedding, head};
  for (const ModelModule& m : modules)
    if (m.tensor == "lm_head.bias") {
      const std::vector<float>& bias = tied.values.at(m.tensor);
      tensors.push_back({"base_model.model." + m.owner + ".bias", m.shape,
                         [&bias](int64_t i) { return bias[static_cast<size_t>(i)]; }});
    }
  const auto last = [](const std::string& owner) { return owner.substr(owner.rfind('.') + 1); };
  write_folder(folder_.file("copies"),
               fmt::format(R"({{"peft_type":"LORA","target_modules":[],"modules_to_save":["{}","{}"]}})",
                           last(modules.front().owner), last(modules.back().owner)),
               tensors);
  expect_same(logits_of(folder_.file("tied"), folder_.file("copies")), logits_of(folder_.file("untied"), ""));
}

}  // namespace
}  // namespace thimble
