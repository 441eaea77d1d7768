// Muon against its iteration in double, on wide and tall matrices; AdamW for the rest.
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

Dense orthogonalised(const Dense& direction) {
  Dense x = direction;
  const double norm = direction.norm() + 1e-7;
  for (double& e : x.at) e /= norm;
  for (int i = 0; i < 5; ++i) {
    const Dense a = x * transpose(x), aa = a * a;
    Dense b = a;
    for (size_t e = 0; e < b.at.size(); ++e) b.at[e] = -4.7750 * a.at[e] + 2.0315 * aa.at[e];
    const Dense bx = b * x;
    for (size_t e = 0; e < x.at.size(); ++e) x.at[e] = 3.4445 * x.at[e] + bx.at[e];
  }
  return x;
}

void follow(int64_t rows, int64_t columns) {
  constexpr double kRate = 1e-2, kDecay = 0.1, kMomentum = 0.95;
  const auto count = static_cast<size_t>(rows * columns);
  OptimizerRun run(kMuon, OptionValues(kMuon.options), {"p", {rows, columns}, true}, kDecay);
  run.set_parameter(normals(count, 1, 0.1));
  Dense p(rows, columns, run.parameter()), m(rows, columns);
  for (int64_t t = 1; t <= 4; ++t) {
    const std::vector<float> gradient = normals(count, 10 + static_cast<uint64_t>(t));
    run.step(kRate, t, 0.5, gradient);
    Dense d(rows, columns);
    for (size_t e = 0; e < count; ++e) {
      const double g = 0.5 * static_cast<double>(gradient[e]);
      m.at[e] = kMomentum * m.at[e] + g;
      d.at[e] = g + kMomentum * m.at[e];
    }
    const Dense x = orthogonalised(d);
    const double scale = 0.2 * std::sqrt(static_cast<double>(std::max(rows, columns)));
    for (size_t e = 0; e < count; ++e) p.at[e] = p.at[e] * (1 - kRate * kDecay) - kRate * scale * x.at[e];
  }
  expect_near(run.parameter(), p.at, 2e-5);
}

TEST(Muon, follows_its_iteration) {
  follow(12, 31);
  follow(31, 12);
  follow(17, 17);
}

TEST(Muon, leaves_embeddings_and_vectors_to_adamw) {
  const OptionValues adamw(kAdamw.options), muon(kMuon.options);
  for (const Parameter& parameter : {Parameter{"p", {40, 8}, false}, Parameter{"p", {40}, true}}) {
    OptimizerRun rest(kMuon, muon, parameter, 0.1), expected(kAdamw, adamw, parameter, 0.1);
    const auto count = static_cast<size_t>(parameter.shape.count());
    for (int64_t t = 1; t <= 3; ++t)
      for (OptimizerRun* run : {&rest, &expected}) run->step(1e-3, t, 0.5, normals(count, static_cast<uint64_t>(t)));
    EXPECT_EQ(rest.parameter(), expected.parameter());
  }
}

}  // namespace
}  // namespace thimble
