// What every operation must do. A new row of the table is tested the moment it is listed: its kernel against its scalar
// reference, its gradient against finite differences in double, its in-place pairs, its shape rule.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/random.h"
#include "graph/op.h"
#include "ops/backward.h"
#include "ops/reference_graph.h"
#include "ops/table.h"
#include "ops/tangents.h"
#include "ops/update.h"

namespace thimble {
namespace {

struct Buffers {
  std::vector<std::vector<std::byte>> bytes;
  std::vector<std::vector<double>> values;
  std::vector<Operand> operands;
};

void encode_rows(const Type& type, const float* from, std::byte* to) {
  const int64_t columns = type.shape.columns();
  for (int64_t r = 0; r < type.shape.rows(); ++r)
    type.codec->encode(from + r * columns, to + r * type.codec->bytes(columns), columns);
}
void decode_rows(const Type& type, const std::byte* from, float* to) {
  const int64_t columns = type.shape.columns();
  if (type.codec == &kI32) return std::copy_n(reinterpret_cast<const int32_t*>(from), type.shape.count(), to), void();
  for (int64_t r = 0; r < type.shape.rows(); ++r)
    type.codec->decode(from + r * type.codec->bytes(columns), to + r * columns, columns);
}

// Random numbers, encoded as the sample says; `values` holds what they decode to.
Buffers fill(const Sample& sample, uint64_t seed) {
  Buffers b;
  b.bytes.resize(sample.in.size());
  b.values.resize(sample.in.size());
  for (size_t i = 0; i < sample.in.size(); ++i) {
    const Type& type = sample.in[i];
    if (type.codec == nullptr) {
      b.operands.push_back({});
      continue;
    }
    const int64_t count = type.shape.count();
    b.bytes[i].resize(static_cast<size_t>(type.bytes()) + 64);
    b.values[i].resize(static_cast<size_t>(count));
    if (type.codec == &kI32) {
      for (int64_t j = 0; j < count; ++j) {
        reinterpret_cast<int32_t*>(b.bytes[i].data())[j] = sample.integers[i][static_cast<size_t>(j)];
        b.values[i][static_cast<size_t>(j)] = sample.integers[i][static_cast<size_t>(j)];
      }
    } else {
      std::vector<float> numbers(static_cast<size_t>(count));
      const Random random(seed, i, 0);
      for (int64_t j = 0; j < count; ++j) {
        const float number = random.normal(static_cast<uint64_t>(j));
        numbers[static_cast<size_t>(j)] = sample.positive ? std::abs(number) : number;
      }
      encode_rows(type, numbers.data(), b.bytes[i].data());
      decode_rows(type, b.bytes[i].data(), numbers.data());
      b.values[i].assign(numbers.begin(), numbers.end());
    }
    b.operands.push_back({b.bytes[i].data(), type.shape, type.codec});
  }
  return b;
}

class OpContract : public testing::TestWithParam<std::tuple<const Op*, size_t>> {
 protected:
  const Op& op() const { return *std::get<0>(GetParam()); }
  Sample sample() const { return op().samples()[std::get<1>(GetParam())]; }
};

std::vector<std::vector<float>> run_kernel(const Op& op, const Sample& sample, Buffers& in, Multiply multiply,
                                           int thread_count, bool in_place, bool together,
                                           const std::vector<Type>& types) {
  Threads threads(thread_count);
  RunContext run{threads, multiply, 11, 2, 0};
  std::vector<std::vector<std::byte>> memory;
  std::vector<Operand> out;
  for (size_t i = 0; i < types.size(); ++i) {
    memory.emplace_back(static_cast<size_t>(types[i].bytes()));
    out.push_back({memory.back().data(), types[i].shape, types[i].codec});
  }
  std::vector<InPlace> pairs(op.in_place.begin(), op.in_place.end());
  for (int i = 0; op.overwrites && i < op.overwrites(sample.attributes); ++i) pairs.push_back({i, i, true});
  for (const InPlace& pair : pairs) {
    const auto o = static_cast<size_t>(pair.out), i = static_cast<size_t>(pair.in);
    if (o >= out.size() || i >= in.operands.size() || !in.operands[i]) continue;
    if (!pair.destructive && !in_place) continue;
    if (out[o].data == memory[o].data()) out[o].data = in.operands[i].data;
  }
  const int64_t bytes = op.workspace ? op.workspace(sample.attributes, sample.in, types, multiply, thread_count) : 0;
  std::vector<std::byte> workspace(static_cast<size_t>(bytes) + 64, std::byte{0x7f});
  const Call call{sample.attributes, in.operands, out, {workspace.data(), static_cast<size_t>(bytes)}, run};
  if (together)
    threads.together([&] { op.run(call); });
  else
    op.run(call);
  for (size_t i = 0; i < 64; ++i)
    EXPECT_EQ(workspace[static_cast<size_t>(bytes) + i], std::byte{0x7f}) << "writes past its workspace";
  std::vector<std::vector<float>> results;
  for (size_t i = 0; i < types.size(); ++i) {
    results.emplace_back(static_cast<size_t>(types[i].shape.count()));
    decode_rows(types[i], out[i].data, results.back().data());
  }
  return results;
}

TEST_P(OpContract, kernel_equals_reference) {
  const Sample s = sample();
  const auto types = op().infer(s.attributes, s.in);
  ASSERT_TRUE(types) << types.error().message;
  Buffers b = fill(s, 5);
  std::vector<ReferenceOperand> in, out;
  for (size_t i = 0; i < s.in.size(); ++i) in.push_back({b.operands[i] ? &b.values[i] : nullptr, s.in[i].shape});
  std::vector<std::vector<double>> expected;
  for (const Type& type : *types) expected.emplace_back(static_cast<size_t>(type.shape.count()));
  for (size_t i = 0; i < types->size(); ++i) out.push_back({&expected[i], (*types)[i].shape});
  Threads one(1);
  RunContext run{one, Multiply::f32, 11, 2, 0};
  op().reference({s.attributes, in, out, run});
  std::vector<std::vector<float>> first;
  for (Multiply multiply : {Multiply::f32, Multiply::bf16})
    for (int threads : {1, 2, 3})
      for (auto [in_place, together] : {std::pair{false, false}, {true, false}, {false, true}, {true, true}}) {
        if (together && op().alone) continue;
        Buffers fresh = fill(s, 5);
        const auto results = run_kernel(op(), s, fresh, multiply, threads, in_place, together, *types);
        for (size_t o = 0; o < results.size(); ++o) {
          double largest = 1;
          bool rounded = multiply == Multiply::bf16;
          for (const Type& type : s.in) rounded |= type.codec && type.codec != &kF32 && type.codec != &kI32;
          for (double v : expected[o]) largest = std::max(largest, std::abs(v));
          for (size_t i = 0; i < results[o].size(); ++i)
            ASSERT_NEAR(results[o][i], expected[o][i], (rounded ? 3e-2 : 2e-5) * largest)
                << "output " << o << " element " << i << " threads " << threads << " in place " << in_place
                << " together " << together;
        }
        if (multiply == Multiply::f32) {
          if (first.empty()) first = results;
          ASSERT_EQ(results, first) << "bits depend on threads, on being in place or together";
        }
      }
}

class DifferentiableOp : public OpContract {};

// Finite differences of L = sum of c * output 0, all in double.
TEST_P(DifferentiableOp, gradient_equals_finite_differences) {
  const Sample s = sample();
  Graph graph;
  std::vector<ValueId> in;
  for (size_t i = 0; i < s.in.size(); ++i) {
    const bool real = s.in[i].codec && s.in[i].codec != &kI32;
    in.push_back(s.in[i].codec ? graph.add_value(fmt::format("in{}", i), s.in[i], real ? Role::parameter : Role::input)
                               : kNone);
  }
  for (int fixed : s.fixed)
    if (in[static_cast<size_t>(fixed)] != kNone) graph.value(in[static_cast<size_t>(fixed)]).role = Role::input;
  const std::vector<ValueId> wanted = parameters_of(graph);
  if (wanted.empty()) GTEST_SKIP() << "no gradient of this sample is asked for";
  const std::vector<ValueId> out = graph.emit_all(op(), s.attributes, in, "y");
  Backward backward(graph, wanted);
  // Upstream gradients of the first output, and of all that have one: other outputs serve the gradient alone.
  const ValueId seed = graph.add_value("seed", graph.value(out[0]).type, Role::input);
  backward.add(out[0], seed);
  const auto ran = backward.run({});
  ASSERT_TRUE(ran) << ran.error().message;
  ASSERT_TRUE(graph.verify()) << graph.verify().error().message;
  std::map<ValueId, std::vector<ValueId>> gradients;
  for (const auto& p : backward.leaves()) gradients[p.parameter].push_back(p.last);
  ASSERT_EQ(gradients.size(), wanted.size()) << "an operand has no gradient";

  Buffers b = fill(s, 9);
  ReferenceValues values;
  for (size_t i = 0; i < in.size(); ++i)
    if (in[i] != kNone) values[in[i]] = b.values[i];
  const Random random(1, "seed");
  const int64_t outputs = graph.value(out[0]).type.shape.count();
  for (int64_t i = 0; i < outputs; ++i) values[seed].push_back(random.normal(static_cast<uint64_t>(i)));
  for (const auto& p : backward.leaves())
    values[p.first].assign(static_cast<size_t>(graph.value(p.first).type.shape.count()), 0.0);
  Threads threads(1);
  RunContext run{threads, Multiply::f32, 11, 2, 0};
  run_reference(graph, values, run);

  const auto loss = [&](ReferenceValues at) {
    std::vector<ReferenceOperand> operands, results;
    std::vector<std::vector<double>> memory;
    for (ValueId id : out) memory.emplace_back(static_cast<size_t>(graph.value(id).type.shape.count()));
    for (size_t i = 0; i < in.size(); ++i)
      operands.push_back(in[i] == kNone ? ReferenceOperand{} : ReferenceOperand{&at.at(in[i]), s.in[i].shape});
    for (size_t i = 0; i < out.size(); ++i) results.push_back({&memory[i], graph.value(out[i]).type.shape});
    op().reference({s.attributes, operands, results, run});
    double sum = 0;
    // A loss carries its own scale, which its gradient is of.
    const bool scaled = &op() == &kLinearCrossEntropy || &op() == &kLinearDistillation;
    const double scale = scaled ? b.values[3][0] : 1;
    for (size_t i = 0; i < memory[0].size(); ++i) sum += scale * memory[0][i] * values[seed][i];
    return sum;
  };
  for (const auto& [id, parts] : gradients) {
    const size_t count = values[id].size();
    double largest = 0;
    for (size_t i = 0; i < count; ++i) {
      double g = 0;
      for (ValueId part : parts) g += values[part][i];
      largest = std::max(largest, std::abs(g));
    }
    const size_t stride = std::max<size_t>(1, count / 40);
    for (size_t i = 0; i < count; i += stride) {
      const double h = 1e-5;
      ReferenceValues up = values, down = values;
      up[id][i] += h, down[id][i] -= h;
      const double expected = (loss(up) - loss(down)) / (2 * h);
      double g = 0;
      for (ValueId part : parts) g += values[part][i];
      ASSERT_NEAR(g, expected, 1e-6 * std::max(largest, 1e-2)) << graph.value(id).name << " element " << i;
    }
  }
}

class TangentOp : public OpContract {};

// Central differences of output 0 along a random direction, in double: of all operands together, and of each alone.
TEST_P(TangentOp, derivative_along_a_direction_equals_finite_differences) {
  const Sample s = sample();
  std::vector<size_t> free;
  for (size_t i = 0; i < s.in.size(); ++i)
    if (s.in[i].codec && s.in[i].codec != &kI32 && std::ranges::count(s.fixed, static_cast<int>(i)) == 0)
      free.push_back(i);
  if (free.empty()) GTEST_SKIP() << "no operand of this sample moves";
  std::vector<std::vector<size_t>> sets{free};
  if (free.size() > 1)
    for (size_t i : free) sets.push_back({i});
  for (const std::vector<size_t>& moving : sets) {
    SCOPED_TRACE(moving.size() > 1 ? "all operands" : fmt::format("operand {}", moving[0]));
    Graph graph;
    std::vector<ValueId> in;
    std::map<ValueId, ValueId> directions;
    for (size_t i = 0; i < s.in.size(); ++i)
      in.push_back(s.in[i].codec ? graph.add_value(fmt::format("in{}", i), s.in[i], Role::input) : kNone);
    for (size_t i : moving) directions[in[i]] = graph.add_value(fmt::format("direction{}", i), s.in[i], Role::input);
    const std::vector<ValueId> out = graph.emit_all(op(), s.attributes, in, "y");
    Tangents tangents(graph, [&](Graph&, ValueId leaf) {
      const auto found = directions.find(leaf);
      return found == directions.end() ? kNone : found->second;
    });
    const Node node = graph.nodes().back();
    const auto pushed = tangents.push(node);
    ASSERT_TRUE(pushed) << pushed.error().message;
    const ValueId tangent = tangents.of(out[0]);
    ASSERT_NE(tangent, kNone);
    ASSERT_TRUE(graph.verify()) << graph.verify().error().message;
    EXPECT_EQ(graph.value(tangent).type, graph.value(out[0]).type);

    Buffers b = fill(s, 9);
    ReferenceValues values;
    for (size_t i = 0; i < in.size(); ++i)
      if (in[i] != kNone) values[in[i]] = b.values[i];
    for (const auto& [leaf, direction] : directions) {
      const Random random(4, static_cast<uint64_t>(leaf), 0);
      for (size_t i = 0; i < values[leaf].size(); ++i) values[direction].push_back(random.normal(i));
    }
    Threads threads(1);
    RunContext run{threads, Multiply::f32, 11, 2, 0};
    const auto y_at = [&](double h) {
      std::vector<std::vector<double>> moved(in.size()), memory;
      std::vector<ReferenceOperand> operands, results;
      for (size_t i = 0; i < in.size(); ++i) {
        operands.push_back({});
        if (in[i] == kNone) continue;
        moved[i] = values.at(in[i]);
        if (directions.contains(in[i]))
          for (size_t e = 0; e < moved[i].size(); ++e) moved[i][e] += h * values.at(directions.at(in[i]))[e];
        operands.back() = {&moved[i], s.in[i].shape};
      }
      for (ValueId id : out) memory.emplace_back(static_cast<size_t>(graph.value(id).type.shape.count()));
      for (size_t i = 0; i < out.size(); ++i) results.push_back({&memory[i], graph.value(out[i]).type.shape});
      op().reference({s.attributes, operands, results, run});
      return memory[0];
    };
    constexpr double kStep = 1e-5;
    const std::vector<double> up = y_at(kStep), down = y_at(-kStep);
    run_reference(graph, values, run);
    double largest = 0;
    for (double d : values[tangent]) largest = std::max(largest, std::abs(d));
    for (size_t i = 0; i < up.size(); ++i)
      ASSERT_NEAR(values[tangent][i], (up[i] - down[i]) / (2 * kStep), 1e-6 * std::max(largest, 1e-2)) << i;
  }
}

// An operand in another codec is either refused or read as it decodes.
TEST_P(OpContract, other_codecs_are_refused_or_read) {
  const Sample s = sample();
  for (size_t i = 0; i < s.in.size(); ++i) {
    if (!s.in[i].codec) continue;
    Sample other = s;
    other.in[i].codec = s.in[i].codec == &kI32 ? &kF32 : &kI32;
    EXPECT_FALSE(op().infer(other.attributes, other.in)) << "operand " << i << " as " << other.in[i].codec->name;
    if (s.in[i].codec == &kI32) continue;
    other.in[i].codec = &kInt8Block;
    const auto types = op().infer(other.attributes, other.in);
    if (!types) continue;
    Buffers b = fill(other, 5);
    std::vector<ReferenceOperand> in, out;
    for (size_t k = 0; k < s.in.size(); ++k) in.push_back({b.operands[k] ? &b.values[k] : nullptr, s.in[k].shape});
    std::vector<std::vector<double>> expected;
    for (const Type& type : *types) expected.emplace_back(static_cast<size_t>(type.shape.count()));
    for (size_t k = 0; k < types->size(); ++k) out.push_back({&expected[k], (*types)[k].shape});
    Threads one(1);
    RunContext run{one, Multiply::f32, 11, 2, 0};
    op().reference({other.attributes, in, out, run});
    const auto results = run_kernel(op(), other, b, Multiply::f32, 2, false, false, *types);
    for (size_t o = 0; o < results.size(); ++o) {
      double largest = 1;
      for (double v : expected[o]) largest = std::max(largest, std::abs(v));
      for (size_t e = 0; e < results[o].size(); ++e)
        ASSERT_NEAR(results[o][e], expected[o][e], 3e-2 * largest) << "operand " << i << " output " << o << " at " << e;
    }
  }
}

TEST_P(OpContract, wrong_shapes_are_errors) {
  const Sample s = sample();
  std::vector<Type> fewer = s.in;
  for (size_t i = 0; i < fewer.size(); ++i) {
    if (!fewer[i].codec || &op() == &kSquaredNorm || &op() == &kReduce) continue;
    std::vector<Type> wrong = fewer;
    wrong[i].shape = Shape{3, 1, 4, 1};
    EXPECT_FALSE(op().infer(s.attributes, wrong)) << "operand " << i;
  }
}

using Case = std::tuple<const Op*, size_t>;

std::vector<Case> cases(const std::function<bool(const Op&)>& has) {
  std::vector<Case> out;
  for (const Op* op : ops())
    for (size_t i = 0; has(*op) && i < op->samples().size(); ++i) out.emplace_back(op, i);
  return out;
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  return std::string(std::get<0>(info.param)->name) + "_" + std::to_string(std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(Table, OpContract, testing::ValuesIn(cases([](const Op&) { return true; })), case_name);
INSTANTIATE_TEST_SUITE_P(Table, DifferentiableOp,
                         testing::ValuesIn(cases([](const Op& op) { return op.gradient != nullptr; })), case_name);
INSTANTIATE_TEST_SUITE_P(Table, TangentOp, testing::ValuesIn(cases([](const Op& op) { return op.tangent != nullptr; })),
                         case_name);

}  // namespace
}  // namespace thimble
