// reversible: what blocks made is had back from what came out of the last one, whatever their number.
#include <cmath>

#include "methods/kept_graph.h"
#include "ops/couple.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 5, kColumns = 8;

ValueId activated(Graph& g, ValueId x, const std::string& name) {
  const ValueId n = g.emit(kLayerNorm, NormAttributes{}, {x, kNone, kNone}, name + ".norm");
  const ValueId low = linear_of(g, n, kColumns, name + ".down");
  const ValueId act = g.emit(kActivation, ActivationAttributes{Activation::gelu}, {low, kNone}, name + ".act");
  return linear_of(g, act, kColumns, name + ".up");
}

// Blocks that couple two streams as meft does: the second one is read twice.
KeptGraph coupled(std::vector<KeeperUse> uses, int blocks, double lambda) {
  return {{kRows, kColumns}, std::move(uses), [=](Graph& g, ValueId x) {
            Wide x1{x, kNone}, x2{x, kNone};
            for (int b = 0; b < blocks; ++b) {
              g.set_block(b);
              const std::string name = std::to_string(b);
              const ValueId f = activated(g, x2.high, name + ".f");
              const Wide y1 = couple(g, {lambda, 1 + lambda, 1 - lambda}, x1, f, x2, name + ".y1");
              x1 = couple(g, {}, x2, activated(g, y1.high, name + ".g"), {}, name + ".y2");
              x2 = y1;
            }
            g.set_block(-1);
            return joined(g, x2, x1, lambda, kF32, "out");
          }};
}

double loss(KeptGraph& kept) {
  kept.run();
  double sum = 0;
  for (size_t i = 0; i < kept.at("out").size(); ++i) sum += kept.at("out")[i] * kept.at("dy")[i];
  return sum;
}

TEST(Reversible, gradients_are_those_of_kept_activations) {
  KeptGraph restored = coupled({keeper_use(kReversible)}, 3, 0.5), exact = coupled({}, 3, 0.5);
  restored.run(), exact.run();
  EXPECT_EQ(restored.at("out"), exact.at("out"));
  int compared = 0;
  for (const Value& value : exact.graph.values()) {
    if (value.role != Role::parameter) continue;
    const auto &a = restored.gradient(value.name), &b = exact.gradient(value.name);
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-11) << value.name << " " << i;
    ++compared;
  }
  EXPECT_EQ(compared, 12);
}

TEST(Reversible, gradients_equal_finite_differences) {
  KeptGraph kept = coupled({keeper_use(kReversible)}, 2, 0.5);
  kept.run();
  for (const char* name : {"0.f.down", "0.f.up", "0.g.down", "1.f.up", "1.g.up"}) {
    const std::vector<double> gradient = kept.gradient(name);
    for (size_t i = 0; i < gradient.size(); i += 7) {
      constexpr double kStep = 1e-6;
      const double before = kept.at(name)[i];
      kept.at(name)[i] = before + kStep;
      const double up = loss(kept);
      kept.at(name)[i] = before - kStep;
      const double down = loss(kept);
      kept.at(name)[i] = before;
      EXPECT_NEAR(gradient[i], (up - down) / (2 * kStep), 1e-5 * std::max(1.0, std::abs(gradient[i])))
          << name << " " << i;
    }
  }
}

// In double a division by lambda costs 53 bits what it costs 96 in the run: an error that does not grow as 1 / lambda a
// block would mean that something else is read than what was had back.
TEST(Reversible, loses_digits_by_lambda) {
  const auto error = [](double lambda, int blocks) {
    KeptGraph restored = coupled({keeper_use(kReversible)}, blocks, lambda), exact = coupled({}, blocks, lambda);
    restored.run(), exact.run();
    double most = 0;
    for (size_t i = 0; i < exact.gradient("0.f.up").size(); ++i)
      most = std::max(most, std::abs(restored.gradient("0.f.up")[i] / exact.gradient("0.f.up")[i] - 1));
    return most;
  };
  EXPECT_GT(error(0.1, 10), 1e3 * error(0.5, 10));
}

TEST(Reversible, what_waits_does_not_grow_with_blocks) {
  const int64_t two = coupled({keeper_use(kReversible)}, 2, 0.5).kept_bytes();
  EXPECT_EQ(two, 2 * 4 * kRows * kColumns * 4);  // both streams, in four parts each
  EXPECT_EQ(coupled({keeper_use(kReversible)}, 6, 0.5).kept_bytes(), two);
  EXPECT_GT(coupled({}, 6, 0.5).kept_bytes(), 2 * coupled({}, 2, 0.5).kept_bytes());
}

// A block is had back when the first of its values is asked for, and nothing of it is read when the one before it is.
TEST(Reversible, one_block_is_alive_at_a_time) {
  const KeptGraph kept = coupled({keeper_use(kReversible)}, 4, 0.5);
  const Graph& g = kept.graph;
  for (const Node& node : g.nodes())
    for (const ValueId id : node.in) {
      if (node.phase != Phase::backward || id == kNone || g.producer(id) < 0) continue;
      const Node& maker = g.nodes()[static_cast<size_t>(g.producer(id))];
      const bool inner = maker.op == &kLinear || maker.op == &kActivation || maker.op == &kLayerNorm;
      if (maker.phase == Phase::backward && inner && maker.block != node.block)
        EXPECT_TRUE(g.value(id).name.starts_with("d.")) << g.value(id).name << " of block " << maker.block;
    }
}

}  // namespace
}  // namespace thimble
