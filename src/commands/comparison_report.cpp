// A comparison as a table, as JSON, and as a page with pictures.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "commands/comparison.h"
#include "files/json.h"
#include "plan/ledger.h"
#include "report/page.h"
#include "report/style.h"

namespace thimble {
namespace {

double megabytes_of(int64_t bytes) { return static_cast<double>(bytes) * 1e-6; }

std::string loss_text(const Outcome& o) {
  std::string text = o.runs.size() > 1 ? fmt::format("{:.4f} ± {:.4f}", o.mean_loss(), o.deviation())
                                       : fmt::format("{:.4f}", o.mean_loss());
  if (const auto accuracy = o.mean_accuracy()) text += fmt::format(", {:.1f} % right", 100 * *accuracy);
  return text;
}

// Of those that ran: no other has both less loss and less of `cost`. By cost.
template <class Cost>
std::vector<const Outcome*> pareto(const std::vector<Outcome>& outcomes, Cost cost) {
  std::vector<const Outcome*> sorted, out;
  for (const Outcome& o : outcomes)
    if (o.failed.empty()) sorted.push_back(&o);
  std::ranges::stable_sort(sorted, {}, [&](const Outcome* o) { return std::pair(cost(*o), o->mean_loss()); });
  for (const Outcome* o : sorted)
    if (out.empty() || o->mean_loss() < out.back()->mean_loss()) out.push_back(o);
  return out;
}

double peak(const Outcome& o) { return static_cast<double>(o.runs.front().peak_bytes); }
double seconds(const Outcome& o) { return o.runs.front().seconds; }

template <class Cost>
void picture(Page& page, const Outcomes& outcomes, const char* title, Cost cost, double unit) {
  double x1 = 0, y0 = HUGE_VAL, y1 = -HUGE_VAL;
  std::vector<const Outcome*> ran;
  for (const Outcome& o : outcomes.variants) {
    if (!o.failed.empty() || !std::isfinite(o.mean_loss())) continue;
    ran.push_back(&o);
    x1 = std::max(x1, cost(o) / unit), y0 = std::min(y0, o.mean_loss()), y1 = std::max(y1, o.mean_loss());
  }
  if (ran.empty()) return;
  const double margin = std::max(1e-3, 0.08 * (y1 - y0));
  page.print("<div class=\"card\"><h3>{}</h3>", title);
  Chart chart(page, 0, x1 * 1.15, y0 - margin, y1 + margin, Chart::Unit::plain, true, "tall");
  const auto point = [&](const Outcome* o) { return Chart::Point{cost(*o) / unit, o->mean_loss()}; };
  const auto line = pareto(outcomes.variants, cost);
  chart.line(
      line.size(), [&](size_t i) { return point(line[i]); }, "evals");
  chart.dots(ran.size(), [&](size_t i) { return point(ran[i]); });
  for (const Outcome* o : ran) chart.tag(point(o), escaped(o->variant));
  page.print("</div>\n");
}

void section(Page& page, const Outcomes& outcomes) {
  page.print("<h2>{}</h2>\n<p class=\"soft\">{} seed{}, {} learning rate{} tried each.</p>\n",
             escaped(outcomes.comparison->name), outcomes.comparison->seeds.size(),
             outcomes.comparison->seeds.size() == 1 ? "" : "s", outcomes.comparison->rates.size(),
             outcomes.comparison->rates.size() == 1 ? "" : "s");
  page.print("<div class=\"grid2\">");
  picture(page, outcomes, "loss against peak memory (MB)", peak, 1e6);
  picture(page, outcomes, "loss against seconds a step", seconds, 1);
  page.print(
      "</div>\n<div class=\"card scroll\"><table><tr><th>variant</th><th class=\"n\">loss</th><th "
      "class=\"n\">rate</th><th class=\"n\">peak</th><th class=\"n\">states</th><th class=\"n\">kept</th><th "
      "class=\"n\">s/step</th></tr>");
  for (const Outcome& o : outcomes.variants) {
    if (!o.failed.empty()) {
      page.print("<tr><td>{}</td><td colspan=\"6\">not run: {}</td></tr>", escaped(o.variant), escaped(o.failed));
      continue;
    }
    const RunResult& run = o.runs.front();
    page.print(
        "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{:.3g}</td><td class=\"n\">{}</td><td "
        "class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{:.3g}</td></tr>",
        escaped(o.variant), loss_text(o), o.learning_rate, megabytes(run.peak_bytes), megabytes(run.states_bytes),
        megabytes(run.kept_bytes), run.seconds);
  }
  page.print("</table></div>\n");
}

}  // namespace

std::string comparison_table(const Outcomes& outcomes) {
  std::string out = fmt::format(
      "### {}\n\n| variant | loss | to {} | rate | peak MB | states MB | kept MB | s/step |\n"
      "|---|---|---|---|---|---|---|---|\n",
      outcomes.comparison->name, outcomes.variants.front().variant);
  const double baseline = outcomes.variants.front().mean_loss();
  for (const Outcome& o : outcomes.variants) {
    if (!o.failed.empty()) {
      out += fmt::format("| {} | not run: {} | | | | | | |\n", o.variant, o.failed);
      continue;
    }
    const RunResult& run = o.runs.front();
    out += fmt::format("| {} | {} | {:+.4f} | {:.3g} | {:.1f} | {:.2f} | {:.2f} | {:.3g} |\n", o.variant, loss_text(o),
                       o.mean_loss() - baseline, o.learning_rate, megabytes_of(run.peak_bytes),
                       megabytes_of(run.states_bytes), megabytes_of(run.kept_bytes), run.seconds);
  }
  return out;
}

std::string comparison_json(const std::vector<Outcomes>& all) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const Outcomes& outcomes : all)
    for (const Outcome& o : outcomes.variants) {
      nlohmann::ordered_json row = {{"workload", outcomes.comparison->name}, {"variant", o.variant}};
      if (!o.failed.empty()) {
        row["failed"] = o.failed;
        out.push_back(std::move(row));
        continue;
      }
      const RunResult& run = o.runs.front();
      if (const auto accuracy = o.mean_accuracy()) row["accuracy"] = *accuracy;
      row["loss"] = o.mean_loss(), row["deviation"] = o.deviation(), row["learning_rate"] = o.learning_rate;
      row["peak_rss_bytes"] = run.peak_bytes, row["planned_peak_bytes"] = run.planned_bytes;
      row["states_bytes"] = run.states_bytes, row["kept_bytes"] = run.kept_bytes, row["step_seconds"] = run.seconds;
      for (const RunResult& r : o.runs) row["losses"].push_back(r.loss);
      for (const RunResult& r : o.tries) row["tries"].push_back({{"learning_rate", r.learning_rate}, {"loss", r.loss}});
      out.push_back(std::move(row));
    }
  return out.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

Result<void> write_comparison_page(const std::vector<Outcomes>& all, const std::string& path) {
  Page page(TRY(OutputFile::create(path)));
  page.print(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>Comparison</title><style>{}</style></head><body><main>\n"
      "<h1>Comparison</h1>\n<p class=\"soft\">Loss is held out where the workload says on what, else the mean of the "
      "last "
      "tenth of the steps; the dashed line joins variants that no other beats in both.</p>\n",
      kReportStyle);
  for (const Outcomes& outcomes : all) section(page, outcomes);
  page.print("</main></body></html>\n");
  return page.finish();
}

}  // namespace thimble
