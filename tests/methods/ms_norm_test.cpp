// ms_norm: the same gradients as those of the norms' own equations, out of what the linear layers keep.
#include "methods/kept_graph.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 6, kColumns = 24;

// A residual stream, a norm, two linears behind it.
KeptGraph normed(std::vector<KeeperUse> uses, const Op& norm, float offset, bool trains = true) {
  return {{kRows, kColumns}, std::move(uses), [&, trains](Graph& g, ValueId a) {
            const ValueId x = linear_of(g, a, kColumns, "before");
            const Role role = trains ? Role::parameter : Role::input;
            std::vector<ValueId> in{x, g.add_value("gain", {{kColumns}}, role)};
            if (&norm == &kLayerNorm) in.push_back(g.add_value("bias", {{kColumns}}, role));
            const ValueId y = g.emit(norm, NormAttributes{1e-5, offset}, in, "norm");
            const ValueId q = linear_of(g, y, kColumns, "q");
            const ValueId frozen = g.add_value("k", {{kColumns, kColumns}}, Role::input);
            const ValueId k = g.emit(kLinear, LinearAttributes{}, {y, frozen, kNone, q}, "sum");
            return g.emit(kAdd, {}, {x, k}, "out");
          }};
}

TEST(MsNorm, gradients_are_exact) {
  for (const Op* norm : {&kRmsNorm, &kLayerNorm})
    for (const float offset : {0.0f, 1.0f}) {
      SCOPED_TRACE(fmt::format("{} offset {}", norm->name, offset));
      KeptGraph shared = normed({keeper_use(kMsNorm)}, *norm, offset), exact = normed({}, *norm, offset);
      shared.at("gain")[3] = exact.at("gain")[3] = 0;  // nothing is divided by it
      shared.run(), exact.run();
      EXPECT_EQ(shared.at("out"), exact.at("out"));
      for (const char* parameter : {"before", "gain", "bias", "q"}) {
        if (shared.graph.find(parameter) == kNone) continue;
        const auto &a = shared.gradient(parameter), &b = exact.gradient(parameter);
        for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-9) << parameter << " " << i;
      }
    }
}

TEST(MsNorm, one_value_waits_in_place_of_two) {
  const int64_t number = kRows * kColumns * 4;
  EXPECT_EQ(normed({}, kRmsNorm, 0).kept_bytes(), 3 * number);  // a, x, y
  EXPECT_EQ(normed({keeper_use(kMsNorm)}, kRmsNorm, 0).kept_bytes(), 2 * number + kRows * 4);
}

}  // namespace
}  // namespace thimble
