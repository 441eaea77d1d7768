// Measuring the machine: the operations of training themselves, on operands of the shapes of a small model.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "core/round.h"
#include "kernels/rows.h"
#include "methods/optimizer.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"
#include "plan/machine.h"

namespace thimble {
namespace {

constexpr int kRepeats = 3;
constexpr int64_t kRows = 512, kWidth = 576, kWide = 1536, kHeads = 9, kKvHeads = 3, kColumns = 1024;

// Memory for one measurement, given back after it.
class Space {
 public:
  explicit Space(int64_t bytes)
      : memory_(static_cast<std::byte*>(std::aligned_alloc(4096, static_cast<size_t>(round_up(bytes, 4096)))),
                std::free) {
    if (!memory_) throw std::bad_alloc();
    std::memset(memory_.get(), 0, static_cast<size_t>(bytes));
  }
  std::byte* take(int64_t bytes) {
    std::byte* const at = memory_.get() + used_;
    used_ += round_up(bytes, 64);
    return at;
  }

 private:
  std::unique_ptr<std::byte, decltype(&std::free)> memory_;
  int64_t used_ = 0;
};

// Median seconds; once before brings operands into the cache, as the operation before does in a run.
template <class Work>
double median_seconds(Work work) {
  std::array<double, kRepeats> seconds;
  work();
  for (double& s : seconds) {
    const auto start = std::chrono::steady_clock::now();
    work();
    s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  std::nth_element(seconds.begin(), seconds.begin() + kRepeats / 2, seconds.end());
  return seconds[kRepeats / 2];
}

// Times operations. Operands are zeros: no kernel looks at what it multiplies.
class MachineProbe {
 public:
  explicit MachineProbe(Threads& threads) : run_{threads, Multiply::f32, 1, 0, 0} {}

  void multiply(Multiply multiply) { run_.multiply = multiply; }

  double seconds(const Op& op, const std::any& attributes, const std::vector<Type>& in) {
    const std::vector<Type> out = *op.infer(attributes, in);
    const int64_t workspace = op.workspace ? op.workspace(attributes, in, out, run_.multiply, run_.threads.count()) : 0;
    int64_t needed = workspace + 64;
    for (const std::vector<Type>* types : {&in, &out})
      for (const Type& type : *types) needed += type.codec ? round_up(type.bytes(), 64) : 0;
    Space space(needed);
    const auto operand = [&](const Type& type) {
      return type.codec ? Operand{space.take(type.bytes()), type.shape, type.codec} : Operand{};
    };
    std::vector<Operand> inputs, outputs;
    for (const Type& type : in) inputs.push_back(operand(type));
    for (const Type& type : out) outputs.push_back(operand(type));
    for (const InPlace& pair : op.in_place)
      if (pair.destructive && static_cast<size_t>(pair.out) < outputs.size())
        outputs[static_cast<size_t>(pair.out)].data = inputs[static_cast<size_t>(pair.in)].data;
    const Call call{attributes, inputs, outputs, {space.take(workspace), static_cast<size_t>(workspace)}, run_};
    return median_seconds([&] { op.run(call); });
  }

 private:
  RunContext run_;
};

// Speeds of products with these activations and weights.
class ProductProbe {
 public:
  ProductProbe(MachineProbe& probe, const Codec& activation) : probe_(probe), activation_(&activation) {}

  ProductSpeeds speeds() {
    const Type none{.codec = nullptr}, x = matrix(kRows, kWidth), y = matrix(kRows, kWide);
    const Type w{{kWide, kWidth}}, down{{8, kWidth}}, low = matrix(kRows, 8);
    const Type ids{{kRows}, &kI32}, one{{1}}, each{{kRows}};
    const LinearAttributes forward{.codec = activation_}, back{.terms = {{.transposed = false}}, .codec = activation_};
    add(ProductUse::forward, kLinear, forward, {x, w, none, none});
    add(ProductUse::input_gradient, kLinear, back, {y, w, none, none});
    add(ProductUse::weight_gradient, kLinearDw, ScaleAttributes{}, {w, y, x});
    add(ProductUse::narrow, kLinear, forward, {x, down, none, none});
    add(ProductUse::narrow, kLinear, back, {low, down, none, none});
    add(ProductUse::narrow, kLinearDw, ScaleAttributes{}, {down, low, x});
    const Type table{{kColumns, kWidth}};
    add(ProductUse::head, kLinearCrossEntropy, CrossEntropyAttributes{}, {x, table, ids, one, none});
    add(ProductUse::head_gradient, kLinearCrossEntropyDw, CrossEntropyAttributes{},
        {table, x, table, ids, one, each, none, none, none, none});
    const AttentionAttributes heads{kHeads, kKvHeads, kWidth / kHeads, 0, 0.125f};
    const Type kv = matrix(kRows, kWidth / kHeads * kKvHeads), lse{{kRows, kHeads}};
    add(ProductUse::attention, kAttention, heads, {x, kv, kv, ids, none});
    add(ProductUse::attention_gradient, kAttentionGrad, heads, {x, x, kv, kv, x, lse, ids, none});
    ProductSpeeds out;
    for (size_t use = 0; use < kProductUses; ++use) out[use] = flops_[use] / seconds_[use];
    return out;
  }

 private:
  Type matrix(int64_t rows, int64_t columns) const { return {{rows, columns}, activation_}; }

  void add(ProductUse use, const Op& op, const std::any& attributes, const std::vector<Type>& in) {
    const auto i = static_cast<size_t>(use);
    flops_[i] += op.cost(attributes, in, *op.infer(attributes, in)).of(use);
    seconds_[i] += probe_.seconds(op, attributes, in);
  }

  MachineProbe& probe_;
  const Codec* activation_;
  ProductSpeeds flops_ = {}, seconds_ = {};
};

// Elements a second: what a product takes longer with weights in a block codec.
double decode_speed(MachineProbe& probe) {
  const Codec* const codec = find_codec("q4_1");
  const Type x{{kRows, kWidth}, &kBf16}, none{.codec = nullptr};
  const LinearAttributes forward{.codec = &kBf16};
  const auto seconds = [&](const Codec* stored) {
    return probe.seconds(kLinear, forward, {x, Type{{kWide, kWidth}, stored}, none, none});
  };
  const double plain = seconds(&kF32), coded = seconds(codec);
  return static_cast<double>(kWide * kWidth) / std::max(coded - plain, 0.02 * plain);
}

double read_speed(Threads& threads) {
  constexpr int64_t kFloats = 2 << 20;
  Space space(4 * kFloats);
  const float* const from = reinterpret_cast<const float*>(space.take(4 * kFloats));
  std::vector<float> sums(static_cast<size_t>(threads.count()));
  return 4.0 * kFloats / median_seconds([&] {
           threads.split(kFloats, 4096, [&](int64_t begin, int64_t end, int thread) {
             sums[static_cast<size_t>(thread)] = sum(from + begin, end - begin);
           });
         });
}

double moved_speed(MachineProbe& probe) {
  const Type x{{kRows, kWidth}, &kBf16}, y{{kRows, kWide}, &kBf16}, gain{{kWidth}}, none{.codec = nullptr};
  double bytes = 0, seconds = 0;
  const auto add = [&](const Op& op, const std::any& attributes, const std::vector<Type>& in) {
    bytes += op.cost(attributes, in, *op.infer(attributes, in)).bytes;
    seconds += probe.seconds(op, attributes, in);
  };
  add(kActivation, ActivationAttributes{}, {y, y});
  add(kActivationGrad, ActivationAttributes{}, {y, y, y});
  add(kRmsNorm, NormAttributes{}, {x, gain});
  add(kRmsNormDx, NormAttributes{}, {x, x, gain, none});
  return bytes / seconds;
}

// Normal numbers a second: what a copy takes longer that adds one to each element.
double draw_speed(MachineProbe& probe) {
  const Type x{{kRows, kWidth}};
  const auto seconds = [&](bool draws) {
    PointwiseBuilder b;
    const Expr value = b.tensor();
    b.output(draws ? value + b.normal_noise(1) : value + 1.0);
    return probe.seconds(kPointwise, b.attributes(), {x});
  };
  const double plain = seconds(false);
  return static_cast<double>(x.shape.count()) / std::max(seconds(true) - plain, 0.02 * plain);
}

// Speeds of updates: bytes a second with states in f32, and elements a second that are written in 8 bits.
class UpdateProbe {
 public:
  explicit UpdateProbe(MachineProbe& probe) : probe_(probe) {}

  void measure(Machine& machine) {
    const auto [cost, plain] = adamw(kF32);
    machine.updated = cost.bytes / plain;
    const auto [coded_cost, coded] = adamw(kInt8Block);
    machine.encode = coded_cost.encoded / std::max(coded - coded_cost.bytes / machine.updated, 0.02 * plain);
  }

 private:
  std::pair<Cost, double> adamw(const Codec& states) {
    Graph graph;
    const OptionValues options(kAdamw.options);
    const Type type{{600, 800}}, state{{type.shape.count()}, &states}, one{{1}};
    const auto value = [&](const char* name, const Type& t) { return graph.add_value(name, t, Role::state); };
    Update update{.graph = graph,
                  .options = options,
                  .trained = {"p", type.shape},
                  .decay = 0,
                  .parameter = value("p", type),
                  .gradient = value("g", type),
                  .accumulator = kNone,
                  .states = {value("m", state), value("v", state)},
                  .statistics = {},
                  .totals = {},
                  .learning_rate = value("rate", one),
                  .step = value("step", one),
                  .clip = value("clip", one)};
    kAdamw.hooks.apply(update);
    const Node& node = graph.nodes().back();
    const std::vector<Type> in = graph.types(node.in);
    return {node.op->cost(node.attributes, in, graph.types(node.out)), probe_.seconds(*node.op, node.attributes, in)};
  }

  MachineProbe& probe_;
};

}  // namespace

Machine probe_machine(Threads& threads) {
  Machine machine;
  MachineProbe probe(threads);
  machine.f32 = ProductProbe(probe, kF32).speeds();
  if (multiplies(Multiply::bf16)) {
    probe.multiply(Multiply::bf16);
    machine.bf16 = ProductProbe(probe, kBf16).speeds();
  }
  machine.decode = decode_speed(probe);
  machine.moved = moved_speed(probe);
  machine.draw = draw_speed(probe);
  UpdateProbe(probe).measure(machine);
  machine.bandwidth = read_speed(threads);
  machine.calls = 1 / probe.seconds(kAdd, {}, {Type{{256, 16}}, Type{{256, 16}}});
  return machine;
}

}  // namespace thimble
