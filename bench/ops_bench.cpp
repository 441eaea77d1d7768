// Operations of SmolLM2-135M's shapes on two threads: GFLOP/s and GB/s by their own cost, beside a product of 2048^3
// and the reading of memory in the same run.
//   build/bench/bench/ops_bench
#include <numeric>
#include <string>
#include <vector>

#include "core/isa.h"
#include "memory.h"
#include "ops/table.h"

namespace thimble {
namespace {

constexpr int kThreads = 2;
constexpr int64_t kWidth = 576, kFfn = 1536, kVocab = 49152;

class Example {
 public:
  // Integers are 0, those of the last operand `integer`.
  Example(const Op& op, std::any attributes, std::vector<Type> in, int32_t integer)
      : op_(op), attributes_(std::move(attributes)), in_(std::move(in)), out_(*op.infer(attributes_, in_)) {
    for (const Type& type : in_) inputs_.push_back(make(type, &type == &in_.back() ? integer : 0));
    for (const Type& type : out_) outputs_.push_back(make(type, 0));
    for (const InPlace& pair : op.in_place)
      if (pair.must) outputs_[static_cast<size_t>(pair.out)] = inputs_[static_cast<size_t>(pair.in)];
  }

  // Both multiplications where the operation multiplies.
  void run(benchmark::State& state) {
    Threads threads(kThreads);
    RunContext context{threads, static_cast<Multiply>(state.range(0)), 1, 0, 0};
    std::vector<std::byte> workspace(
        op_.workspace ? static_cast<size_t>(op_.workspace(attributes_, in_, out_, context.multiply, kThreads)) : 0);
    for (auto _ : state) op_.run({attributes_, inputs_, outputs_, workspace, context});
    const Cost cost = op_.cost(attributes_, in_, out_);
    const auto rate = [](double each) {
      return benchmark::Counter(each, benchmark::Counter::kIsIterationInvariantRate);
    };
    if (cost.multiplies())
      state.counters["GFLOP/s"] = rate(1e-9 * std::accumulate(cost.flops.begin(), cost.flops.end(), 0.0));
    state.counters["GB/s"] = rate(1e-9 * cost.bytes);
  }

 private:
  Operand make(const Type& type, int32_t integer) {
    if (!type.codec) return {};
    const int64_t count = type.shape.count();
    auto& bytes = memory_.emplace_back(static_cast<size_t>(type.bytes()) + 64);
    if (type.codec == &kI32) {
      std::fill_n(reinterpret_cast<int32_t*>(bytes.data()), count, integer);
    } else {
      std::vector<float> numbers(static_cast<size_t>(count));
      for (size_t i = 0; i < numbers.size(); ++i)
        numbers[i] = 0.01f * static_cast<float>(static_cast<int>(i * 7 % 31) - 15);
      type.codec->encode(numbers.data(), bytes.data(), count);
    }
    return {bytes.data(), type.shape, type.codec};
  }

  const Op& op_;
  std::any attributes_;
  std::vector<Type> in_, out_;
  std::vector<std::vector<std::byte>> memory_;
  std::vector<Operand> inputs_, outputs_;
};

void add(const std::string& name, const Op& op, const std::any& attributes, const std::vector<Type>& in,
         int32_t integer = 0) {
  auto* const bench = benchmark::RegisterBenchmark(
      name.c_str(), [=, &op](benchmark::State& state) { Example(op, attributes, in, integer).run(state); });
  bench->Arg(static_cast<int>(Multiply::f32));
  if (multiplies(Multiply::bf16)) bench->Arg(static_cast<int>(Multiply::bf16));
  bench->MeasureProcessCPUTime()->UseRealTime()->Unit(benchmark::kMicrosecond);
}

void add_all() {
  benchmark::RegisterBenchmark("read", read)->Arg(kThreads)->MeasureProcessCPUTime()->UseRealTime();
  const Type none{.codec = nullptr}, one{{1}};
  const auto x = [](int64_t rows, int64_t columns) { return Type{{rows, columns}, &kBf16}; };
  const auto rows = [](int64_t count) { return Type{{count}, &kI32}; };
  const LinearAttributes linear{.codec = &kBf16};
  add("product", kLinear, linear, {x(2048, 2048), Type{{2048, 2048}, &kBf16}, none, none});
  const AttentionAttributes heads{9, 3, 64, 0, 0.125f};
  for (int64_t context : {512, 2048}) {
    const Type q = x(context, kWidth), k = x(context, kWidth / 3), lse{{context, 9}};
    add("attention/" + std::to_string(context), kAttention, heads, {q, k, k, rows(context), none});
    add("attention_grad/" + std::to_string(context), kAttentionGrad, heads, {q, q, k, k, q, lse, rows(context), none});
  }
  for (int32_t position : {50, 500, 4000}) {
    const Type cache{{1, position + 1, kWidth / 3}, &kBf16};
    add("attention_cached/" + std::to_string(position), kAttentionCached, heads,
        {x(1, kWidth), x(1, kWidth / 3), x(1, kWidth / 3), cache, cache, rows(1), rows(1), none}, position);
  }
  const Type table{{kVocab, kWidth}, &kBf16};
  add("linear_cross_entropy", kLinearCrossEntropy, CrossEntropyAttributes{},
      {x(512, kWidth), table, rows(512), one, none});
  const ActivationAttributes silu{Activation::silu};
  add("activation", kActivation, silu, {x(2048, kFfn), x(2048, kFfn)});
  add("activation_grad", kActivationGrad, silu, {x(2048, kFfn), x(2048, kFfn), x(2048, kFfn)});
  add("rms_norm", kRmsNorm, NormAttributes{1e-5}, {x(2048, kWidth), Type{{kWidth}}});
  add("rope", kRope, RopeAttributes{.head_dim = 64}, {x(2048, kWidth), rows(2048), Type{{4, 64}}});
  add("add", kAdd, {}, {x(2048, kWidth), x(2048, kWidth)});
}

}  // namespace
}  // namespace thimble

int main(int argc, char** argv) {
  thimble::use_widest_isa();
  thimble::add_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
