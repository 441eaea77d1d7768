#include "report/sweep.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "plan/planner.h"
#include "report/page.h"
#include "text/json_output.h"

namespace thimble {
namespace {

constexpr int64_t kMegabyte = 1'000'000;

// What a plan does to fit.
std::vector<std::string> techniques(const TrainingPlan& plan) {
  std::vector<std::string> out;
  const auto use = [&](bool used, const std::string& name) {
    if (used) out.push_back(name);
  };
  const BlockHomes& homes = plan.choice.blocks;
  const auto recomputes = [&](Home::Recompute which) {
    return homes.any([&](const Home& home) { return home.recompute == which; });
  };
  use(recomputes(Home::Recompute::cheap), "recompute without products");
  use(homes.on_disk(), "activations on disk");
  use(recomputes(Home::Recompute::inner), "recompute whole blocks");
  use(plan.layout.bytes(Role::state, Tier::disk) > 0, "states on disk");
  use(plan.layout.bytes(Role::gradient, Tier::disk) > 0, "gradients on disk");
  use(plan.layout.bytes(Role::parameter, Tier::disk) + plan.layout.bytes(Role::weight, Tier::disk) > 0,
      "weights on disk");
  use(plan.passes > 1, "several passes a step");
  for (const NearMove& move : near_move_table()) use(plan.moves.*move.taken, fmt::format("{} (near)", move.what));
  return out;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : ", ") + part;
  return out;
}

Result<SweepPoint> point_at(TrainingSpec& spec, TrainingPlanner& planner, int64_t budget) {
  spec.budget_bytes = budget;
  const TrainingPlan plan = TRY(planner.plan());
  SweepPoint point{.budget_bytes = budget,
                   .planned_bytes = plan.ledger.planned_bytes,
                   .seconds = plan.seconds,
                   .read_bytes = plan.read_bytes,
                   .written_bytes = plan.written_bytes,
                   .techniques = techniques(plan)};
  return point;
}

// The smallest budget, in whole megabytes, for which there is a plan.
int64_t smallest_budget(TrainingSpec& spec, TrainingPlanner& planner, int64_t most) {
  int64_t low = 1, high = (most + kMegabyte - 1) / kMegabyte;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (point_at(spec, planner, middle * kMegabyte))
      high = middle;
    else
      low = middle + 1;
  }
  return high * kMegabyte;
}

}  // namespace

Result<std::vector<SweepPoint>> sweep_budgets(TrainingSpec spec, const Machine& machine, int count) {
  TrainingPlanner planner(spec, machine);
  const SweepPoint plenty = TRY(point_at(spec, planner, 0));
  const double most = static_cast<double>(plenty.planned_bytes) * 1.1;
  const double least = static_cast<double>(smallest_budget(spec, planner, static_cast<int64_t>(most) + kMegabyte));
  // From the smallest on: what was found for it stands for every larger one, which is then never slower.
  std::vector<SweepPoint> points;
  for (int i = count - 1; i >= 0; --i) {
    const double budget = most * std::pow(least / most, static_cast<double>(i) / (count - 1));
    const auto whole = static_cast<int64_t>(std::ceil(budget / kMegabyte - 1e-6)) * kMegabyte;
    if (points.empty() || points.back().budget_bytes != whole) points.push_back(TRY(point_at(spec, planner, whole)));
  }
  std::reverse(points.begin(), points.end());
  std::set<std::string> seen;
  for (SweepPoint& point : points)
    for (const std::string& technique : point.techniques)
      if (seen.insert(technique).second) point.fresh.push_back(technique);
  return points;
}

std::string sweep_table(const std::vector<SweepPoint>& points) {
  std::string out = "   budget    planned   s/step   read/step  written/step  comes into use\n";
  for (const SweepPoint& p : points)
    out += fmt::format("{:>6} MB {:>7.1f} MB {:>8.2f} {:>8.0f} MB  {:>9.0f} MB  {}\n", p.budget_bytes / kMegabyte,
                       static_cast<double>(p.planned_bytes) * 1e-6, p.seconds, static_cast<double>(p.read_bytes) * 1e-6,
                       static_cast<double>(p.written_bytes) * 1e-6, joined(p.fresh));
  return out;
}

std::string sweep_json(const std::vector<SweepPoint>& points) {
  std::string out;
  for (const SweepPoint& p : points) {
    std::string names;
    for (const std::string& technique : p.techniques) names += (names.empty() ? "" : ",") + json_string(technique);
    out += fmt::format(
        "{{\"event\":\"sweep\",\"budget_bytes\":{},\"planned_peak_bytes\":{},\"predicted_step_seconds\":{:.6g},"
        "\"disk_read_bytes\":{},\"disk_written_bytes\":{},\"techniques\":[{}]}}\n",
        p.budget_bytes, p.planned_bytes, p.seconds, p.read_bytes, p.written_bytes, names);
  }
  return out;
}

std::string sweep_svg(const std::vector<SweepPoint>& points, const std::string& title) {
  constexpr double kWidth = 860, kHeight = 420, kLeft = 60, kTop = 40, kRight = 20, kBottom = 45;
  constexpr double kHeadroom = 1.7;  // room for the labels above the curve
  const double x0 = std::log(static_cast<double>(points.back().budget_bytes)),
               x1 = std::log(static_cast<double>(points.front().budget_bytes));
  double most = 0;
  for (const SweepPoint& p : points) most = std::max(most, p.seconds);
  const auto x = [&](double budget) {
    return kLeft + (std::log(budget) - x0) / std::max(1e-9, x1 - x0) * (kWidth - kLeft - kRight);
  };
  const auto y = [&](double seconds) {
    return kHeight - kBottom - seconds / (kHeadroom * most) * (kHeight - kTop - kBottom);
  };
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/><text x=\"{}\" y=\"22\" font-size=\"15\">{}</text>\n",
      kWidth, kHeight, kLeft, escaped(title));
  for (double tick : round_ticks(0, kHeadroom * most, 5))
    out += fmt::format(
        "<path d=\"M{:.1f} {:.1f}H{:.1f}\" stroke=\"#ddd\"/><text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\" "
        "fill=\"#555\">{:g} s</text>\n",
        kLeft, y(tick), kWidth - kRight, kLeft - 6, y(tick) + 4, tick);
  for (double decade = 1e6; decade < 1e13; decade *= 10)
    for (double tick : {decade, 2 * decade, 5 * decade})
      if (std::log(tick) >= x0 - 1e-9 && std::log(tick) <= x1 + 1e-9)
        out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" fill=\"#555\">{:g} MB</text>\n",
                           x(tick), kHeight - kBottom + 20, tick * 1e-6);
  std::string line, marks;
  int row = 0;
  for (const SweepPoint& p : points) {
    const double px = x(static_cast<double>(p.budget_bytes)), py = y(p.seconds);
    line += fmt::format("{:.1f},{:.1f} ", px, py);
    marks += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"#1b6ac9\"/>\n", px, py);
    for (const std::string& technique : p.fresh) {
      const double at = kTop + 14 + 16 * (row++ % 7);
      const bool left = px > kWidth / 2;  // labels stay within the picture
      marks += fmt::format(
          "<path d=\"M{0:.1f} {1:.1f}V{2:.1f}\" stroke=\"#c9571b\" stroke-dasharray=\"3 3\"/><text x=\"{3:.1f}\" "
          "y=\"{1:.1f}\" text-anchor=\"{4}\" fill=\"#c9571b\">{5}</text>\n",
          px, at, py, left ? px - 4 : px + 4, left ? "end" : "start", escaped(technique));
    }
  }
  out += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"#1b6ac9\" stroke-width=\"2\"/>\n{}", line, marks);
  out += fmt::format(
      "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" fill=\"#555\">memory budget (--memory)</text></svg>\n",
      (kLeft + kWidth) / 2, kHeight - 8);
  return out;
}

}  // namespace thimble
