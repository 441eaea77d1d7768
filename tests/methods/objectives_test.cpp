// Objectives of pairs and of judged replies against their papers' equations in double, and their slopes against finite
// differences.
#include <gtest/gtest.h>

#include <cmath>

#include "core/random.h"
#include "methods/objective.h"
#include "ops/backward.h"
#include "ops/reference_graph.h"
#include "ops/update.h"

namespace thimble {
namespace {

// Two pairs and an unused row: replies of 3 and 2 targets behind prompts of 2 rows; of 1 and 4.
struct Rows {
  std::vector<double> nll, starts, pair_starts, sign, share, first, reference, label, drift = {0};
};

constexpr int kReplies[2][2] = {{3, 2}, {1, 4}};
constexpr int kPrompt = 2;

Rows pairs_for_tests() {
  Rows rows;
  const Random random(7, "nll");
  for (const auto& pair : kReplies) {
    const auto begin = static_cast<double>(rows.nll.size());
    for (int side = 0; side < 2; ++side) {
      const auto document = static_cast<double>(rows.nll.size());
      for (int i = 0; i < kPrompt + pair[side]; ++i) {
        const bool target = i >= kPrompt;
        rows.nll.push_back(target ? 0.2 + 2.0 * static_cast<double>(random.uniform(rows.nll.size())) : 0);
        rows.starts.push_back(document), rows.pair_starts.push_back(begin);
        rows.sign.push_back(!target ? 0 : side == 0 ? 1 : -1);
        rows.share.push_back(target ? 1.0 / pair[side] : 0);
        rows.first.push_back(side == 0 && i == 0 ? 1 : 0);
        rows.reference.push_back(rows.first.back() * (0.3 - 0.7 * begin));
      }
    }
  }
  const auto end = static_cast<double>(rows.nll.size());
  rows.nll.push_back(0), rows.starts.push_back(end), rows.pair_starts.push_back(end);
  for (auto* column : {&rows.sign, &rows.share, &rows.first, &rows.reference}) column->push_back(0);
  rows.label.resize(rows.nll.size());
  return rows;
}

// The same replies, each judged by itself: the chosen ones are wanted.
Rows replies_for_tests(double drift) {
  Rows rows = pairs_for_tests();
  rows.pair_starts = rows.starts, rows.drift = {drift};
  for (size_t row = 0; row + 1 < rows.nll.size(); ++row) {
    if (rows.starts[row] != static_cast<double>(row)) continue;
    const bool wanted = rows.pair_starts[row] == 0 || row == 9;
    rows.first[row] = 1, rows.label[row] = wanted ? 1 : -1, rows.reference[row] = 0.4 - 0.1 * static_cast<double>(row);
  }
  return rows;
}

// Of pair `which`: of both replies the sum of log likelihoods and the mean, and the reference.
struct Likelihoods {
  double sum[2] = {}, mean[2] = {}, reference = 0;
};
Likelihoods likelihoods(const Rows& rows, int which) {
  Likelihoods out;
  size_t row = which == 0 ? 0 : static_cast<size_t>(2 * kPrompt + kReplies[0][0] + kReplies[0][1]);
  out.reference = rows.reference[row];
  for (int side = 0; side < 2; ++side) {
    row += kPrompt;
    for (int i = 0; i < kReplies[which][side]; ++i) out.sum[side] -= rows.nll[row++];
    out.mean[side] = out.sum[side] / kReplies[which][side];
  }
  return out;
}

double log_sigmoid(double x) { return -std::log1p(std::exp(-x)); }

// The papers' losses.
double expected(const Objective& o, const OptionValues& options, const Likelihoods& l) {
  const double sums = l.sum[0] - l.sum[1] - l.reference, means = l.mean[0] - l.mean[1];
  if (&o == &kDpo) {
    const double h = options["beta"] * sums, e = options["label_smoothing"];
    return -(1 - e) * log_sigmoid(h) - e * log_sigmoid(-h);
  }
  if (&o == &kIpo) return std::pow(means - l.reference - 1 / (2 * options["beta"]), 2);
  if (&o == &kHinge) return std::max(0.0, 1 - options["beta"] * sums);
  if (&o == &kSimpo) return -log_sigmoid(options["beta"] * means - options["gamma"]);
  const auto log_odds = [](double log_p) { return log_p - std::log(1 - std::exp(log_p)); };
  return -l.mean[0] - options["lambda"] * log_sigmoid(log_odds(l.mean[0]) - log_odds(l.mean[1]));
}

// Of the reply that begins at a row.
double expected_of_reply(const Objective& o, const OptionValues& options, const Rows& rows, size_t row) {
  const double s = rows.label[row];
  double ratio = -s * rows.reference[row];  // log pi(y|x) / pi_ref(y|x)
  for (size_t i = row; i < rows.nll.size() && rows.starts[i] == rows.starts[row]; ++i)
    ratio -= rows.share[i] > 0 ? rows.nll[i] : 0;
  const double z = &o == &kKto ? std::max(0.0, rows.drift[0]) : 0;
  const double weight = options[s > 0 ? "desirable_weight" : "undesirable_weight"];
  return weight * (1 - 1 / (1 + std::exp(-options["beta"] * s * (ratio - z))));
}

// A graph of the objective alone: likelihoods are what is wanted.
struct Program {
  Graph graph;
  ValueId nll, starts, loss;
};
Program program(const Objective& objective, const OptionValues& options, int64_t rows) {
  Program p;
  const Type column{{rows}, &kF32, Extent::tokens};
  p.nll = p.graph.add_value("nll", column, Role::parameter);
  p.starts = p.graph.add_value("starts", {{rows}, &kI32, Extent::tokens}, Role::input);
  p.loss = add_objective(p.graph, objective, options, "t.", {.nll = p.nll, .starts = p.starts});
  return p;
}

ReferenceValues evaluated(const Program& p, const Rows& rows) {
  ReferenceValues values{{p.nll, rows.nll}, {p.starts, rows.starts}};
  const std::pair<std::string_view, const std::vector<double>*> inputs[] = {
      {kPairStarts, &rows.pair_starts}, {kPairSign, &rows.sign},           {kPairShare, &rows.share},
      {kPairFirst, &rows.first},        {kPairReference, &rows.reference}, {kReplyLabel, &rows.label},
      {kReplyDrift, &rows.drift}};
  for (const auto& [name, column] : inputs)
    if (const ValueId id = p.graph.find("t." + std::string(name)); id != kNone) values[id] = *column;
  for (size_t i = 0; i < p.graph.values().size(); ++i) {  // gradients begin at 0
    const Value& value = p.graph.values()[i];
    if (value.role == Role::gradient && !values.contains(static_cast<ValueId>(i)))
      values[static_cast<ValueId>(i)].assign(static_cast<size_t>(value.type.shape.count()), 0.0);
  }
  Threads threads(1);
  RunContext run{threads, Multiply::f32, 0, 0, 0};
  run_reference(p.graph, values, run);
  return values;
}

double total(const std::vector<double>& losses) {
  double sum = 0;
  for (const double loss : losses) sum += loss;
  return sum;
}

class Objectives : public testing::TestWithParam<const Objective*> {
 protected:
  OptionValues options(double smoothing = 0) const {
    OptionValues options(GetParam()->options);
    if (!options.has("label_smoothing")) return options;
    EXPECT_TRUE(options.set("test", "label_smoothing", smoothing));
    return options;
  }
};

TEST_P(Objectives, is_the_equation_of_its_paper) {
  const Rows rows = pairs_for_tests();
  for (const double smoothing : {0.0, 0.2}) {
    const OptionValues given = options(smoothing);
    const Program p = program(*GetParam(), given, static_cast<int64_t>(rows.nll.size()));
    ASSERT_TRUE(p.graph.verify());
    const ReferenceValues values = evaluated(p, rows);
    const auto& losses = values.at(p.loss);
    for (int which = 0; which < 2; ++which) {
      const auto first = static_cast<size_t>(std::ranges::find(rows.first, 1.0) - rows.first.begin()) +
                         (which == 0 ? 0 : static_cast<size_t>(2 * kPrompt + kReplies[0][0] + kReplies[0][1]));
      EXPECT_NEAR(losses[first], expected(*GetParam(), given, likelihoods(rows, which)), 1e-9);
    }
    EXPECT_NEAR(total(losses), losses[0] + losses[9], 1e-12) << "only first rows have a loss";
  }
}

void expect_slope(const Objective& objective, const OptionValues& given, Rows rows) {
  const auto count = static_cast<int64_t>(rows.nll.size());
  Program p = program(objective, given, count);
  const std::vector<ValueId> losses{p.loss}, wanted{p.nll};
  Backward backward(p.graph, wanted);
  const auto done = backward.run(losses);
  ASSERT_TRUE(done) << done.error().message;
  const ValueId gradient = backward.leaves().front().last;
  const std::vector<double> slope = evaluated(p, rows).at(gradient);
  for (size_t i = 0; i < rows.nll.size(); ++i) {
    if (rows.sign[i] == 0) {
      EXPECT_EQ(slope[i], 0) << i;
      continue;
    }
    constexpr double kStep = 1e-5;
    const double at = rows.nll[i];
    rows.nll[i] = at + kStep;
    const double above = total(evaluated(p, rows).at(p.loss));
    rows.nll[i] = at - kStep;
    const double below = total(evaluated(p, rows).at(p.loss));
    rows.nll[i] = at;
    EXPECT_NEAR(slope[i], (above - below) / (2 * kStep), 1e-6) << i;
  }
}

TEST_P(Objectives, has_the_slope_of_finite_differences) { expect_slope(*GetParam(), options(0.1), pairs_for_tests()); }

std::vector<const Objective*> objectives_of(LossTerm term) {
  std::vector<const Objective*> out;
  for (const Objective* objective : objectives())
    if (objective->term == term) out.push_back(objective);
  return out;
}
INSTANTIATE_TEST_SUITE_P(Table, Objectives, testing::ValuesIn(objectives_of(LossTerm::pair)),
                         [](const auto& info) { return std::string(info.param->name); });

class JudgedReplies : public testing::TestWithParam<const Objective*> {
 protected:
  // Both replies of either kind weigh otherwise.
  static OptionValues options() {
    OptionValues options(GetParam()->options);
    EXPECT_TRUE(options.set("test", "desirable_weight", 1.3));
    EXPECT_TRUE(options.set("test", "undesirable_weight", 0.7));
    EXPECT_TRUE(options.set("test", "beta", 0.5));
    return options;
  }
};

TEST_P(JudgedReplies, are_the_equation_of_the_paper) {
  for (const double drift : {0.6, -0.6}) {
    const Rows rows = replies_for_tests(drift);
    const OptionValues given = options();
    const Program p = program(*GetParam(), given, static_cast<int64_t>(rows.nll.size()));
    ASSERT_TRUE(p.graph.verify());
    const ReferenceValues values = evaluated(p, rows);
    const auto& losses = values.at(p.loss);
    double sum = 0;
    for (const size_t row : {size_t{0}, size_t{5}, size_t{9}, size_t{12}}) {
      ASSERT_NE(rows.label[row], 0);
      EXPECT_NEAR(losses[row], expected_of_reply(*GetParam(), given, rows, row), 1e-9) << row;
      sum += losses[row];
    }
    EXPECT_NEAR(total(losses), sum, 1e-12) << "only first rows have a loss";
  }
}

TEST_P(JudgedReplies, have_the_slope_of_finite_differences) {
  for (const double drift : {0.6, -0.6}) expect_slope(*GetParam(), options(), replies_for_tests(drift));
}

INSTANTIATE_TEST_SUITE_P(Table, JudgedReplies, testing::ValuesIn(objectives_of(LossTerm::reply)),
                         [](const auto& info) { return std::string(info.param->name); });

// A run of DPO begins where both replies are as likely as the reference says.
TEST(Objective, minus_log_sigmoid_has_its_slope_at_zero_and_far_away) {
  PointwiseBuilder b;
  b.output(minus_log_sigmoid(b.tensor()));
  Graph graph;
  const ValueId x = graph.add_value("x", {{5}}, Role::parameter);
  const ValueId y = graph.emit(kPointwise, b.attributes(), {x}, "y");
  const std::vector<ValueId> losses{y}, wanted{x};
  Backward backward(graph, wanted);
  ASSERT_TRUE(backward.run(losses));
  Threads threads(1);
  RunContext run{threads, Multiply::f32, 0, 0, 0};
  const std::vector<double> at{0, 2, -2, 300, -300};
  ReferenceValues values{{x, at}, {backward.leaves().front().first, std::vector<double>(5, 0.0)}};
  run_reference(graph, values, run);
  for (size_t i = 0; i < at.size(); ++i) {
    EXPECT_NEAR(values.at(y)[i], at[i] < -30 ? -at[i] : std::log1p(std::exp(-at[i])), 1e-12);
    EXPECT_NEAR(values.at(backward.leaves().front().last)[i], -1 / (1 + std::exp(at[i])), 1e-12);
  }
}

}  // namespace
}  // namespace thimble
