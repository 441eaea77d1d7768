#include "report/report.h"

#include <algorithm>
#include <cmath>

#include "core/count.h"
#include "report/page.h"
#include "report/run_log.h"
#include "report/samples.h"
#include "report/style.h"

namespace thimble {
namespace {

constexpr std::array<std::string_view, kHeldNames.size()> kStyles = {"runtime", "weights", "states",  "gradients",
                                                                     "inputs",  "kept",    "working", "workspace"};

std::string_view style_of_item(std::string_view name) {
  constexpr std::pair<std::string_view, Held> kItems[] = {
      {"frozen weights", Held::weights},  {"trained weights", Held::weights}, {"gradients", Held::gradients},
      {"optimizer states", Held::states}, {"inputs, tables", Held::inputs},   {"kept activations", Held::kept},
      {"workspace", Held::workspace},     {"placement waste", Held::inputs}};
  for (const auto& [item, held] : kItems)
    if (item == name) return kStyles[static_cast<size_t>(held)];
  return "runtime";
}

// The upper end of a memory axis: the budget when it is near enough to be seen beside the plan.
bool budget_in_sight(const Ledger& l) {
  return l.budget_bytes > 0 && static_cast<double>(l.budget_bytes) < 1.6 * static_cast<double>(l.planned_bytes);
}

std::string duration_text(double seconds) {
  if (seconds < 100) return fmt::format("{:.3g} s", seconds);
  const int64_t minutes = std::llround(seconds / 60);
  return minutes < 60 ? fmt::format("{} min", minutes) : fmt::format("{} h {} min", minutes / 60, minutes % 60);
}

std::string setting(const RunLog& log, std::string_view key) {
  for (const auto& [name, value] : log.settings)
    if (name == key) return value;
  return "";
}

std::string file_name(const std::string& path) {
  const size_t end = path.find_last_not_of('/');
  const size_t slash = end == std::string::npos ? end : path.rfind('/', end);
  return path.substr(slash == std::string::npos ? 0 : slash + 1,
                     end == std::string::npos ? end : end - (slash == std::string::npos ? 0 : slash + 1) + 1);
}

class Report {
 public:
  Report(const RunLog& log, Page& page) : log_(log), page_(page) {}

  void write(const std::vector<std::string>& samples) {
    head();
    if (!log_.points.empty()) curves();
    if (!log_.profile.empty()) memory();
    if (!log_.ledger.items.empty()) ledger();
    if (!log_.points.empty()) speed();
    write_samples(page_, samples);
    settings();
    page_.print("</main></body></html>\n");
  }

 private:
  std::string title() const {
    const std::string model = setting(log_, "model"), data = setting(log_, "data");
    const std::string what = model.empty() ? setting(log_, "size") + " from scratch" : file_name(model);
    return escaped(what + (data.empty() ? "" : " on " + file_name(data)));
  }

  void head() {
    page_.print(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width,initial-scale=1\">"
        "<title>{0}</title><style>{1}</style></head><body><main>\n<h1>{0}</h1>\n",
        title(), kReportStyle);
    const StepEvent& last = log_.last;
    page_.print("<p class=\"soft\">{} of {}, {} tokens{}{}. Numerics {}.</p>\n", last.step, counted(last.steps, "step"),
                last.step * last.tokens, last.step < last.steps ? ", stopped before the end" : "",
                log_.unreadable ? fmt::format("; {} of the log unreadable", counted(log_.unreadable, "line")) : "",
                escaped(log_.ledger.numerics_hash));
    page_.print("<div class=\"tiles\">");
    if (!log_.points.empty())
      tile(fmt::format("{:.3f} → {:.3f}", log_.points.front().loss, last.loss), "loss a token, first and last step");
    if (log_.evals.size() > 1)
      tile(fmt::format("{:.3f} → {:.3f}", log_.evals.front().nll, log_.evals.back().nll),
           "held-out loss, before and after");
    if (log_.peak_rss_bytes > 0)
      tile(megabytes(log_.peak_rss_bytes),
           fmt::format("peak memory, {:.1f} % of the plan{}",
                       100.0 * static_cast<double>(log_.peak_rss_bytes) /
                           static_cast<double>(std::max<int64_t>(1, log_.ledger.planned_bytes)),
                       log_.ledger.budget_bytes ? ", budget " + megabytes(log_.ledger.budget_bytes) : ""));
    if (const double s = median_seconds(log_); s > 0)
      tile(fmt::format("{:.0f} tok/s", static_cast<double>(last.tokens) / s), "median of all steps");
    page_.print("</div>\n");
  }

  void tile(const std::string& value, const std::string& what) {
    page_.print("<div><b>{}</b><span>{}</span></div>", value, what);
  }

  // One curve over the steps.
  template <class Value>
  void curve(const char* name, Value value, bool from_zero, bool with_evals = false) {
    double low = HUGE_VAL, high = -HUGE_VAL;
    const auto cover = [&](double v) {
      if (std::isfinite(v)) low = std::min(low, v), high = std::max(high, v);
    };
    for (const RunPoint& p : log_.points) cover(value(p));
    if (with_evals)
      for (const EvalEvent& e : log_.evals) cover(e.nll);
    if (low > high) low = 0, high = 1;
    if (from_zero || low > 0) low = std::min(low, 0.0);
    if (high <= low) high = low + 1;
    const size_t count = log_.points.size();
    const double first = with_evals && !log_.evals.empty() ? 0 : log_.points.front().step;
    page_.print("<div class=\"card\"><h3>{}</h3>", name);
    {
      Chart chart(page_, first, log_.points.back().step, low, high * 1.06, Chart::Unit::plain, true, "");
      chart.line(
          count,
          [&](size_t i) {
            return Chart::Point{static_cast<double>(log_.points[i].step), value(log_.points[i])};
          },
          "curve");
      if (with_evals) {
        const auto at = [&](size_t i) {
          return Chart::Point{static_cast<double>(log_.evals[i].step), log_.evals[i].nll};
        };
        chart.line(log_.evals.size(), at, "evals");
        chart.dots(log_.evals.size(), at);
      }
      hover(chart, value, name);
    }
    if (with_evals && !log_.evals.empty())
      page_.print(
          "<ul class=\"legend\"><li><i class=\"key\" style=\"background:var(--accent)\"></i>training</li><li><i "
          "class=\"key\" style=\"background:var(--second)\"></i>held out</li></ul>");
    page_.print("</div>\n");
  }

  // At most 120 columns, each of which tells the value at its middle.
  template <class Value>
  void hover(Chart& chart, Value value, const char* name) {
    const size_t count = log_.points.size(), columns = std::min<size_t>(count, 120);
    for (size_t i = 0; i < columns; ++i) {
      const size_t begin = i * count / columns, end = (i + 1) * count / columns, middle = (begin + end) / 2;
      const double from =
          begin == 0 ? log_.points[0].step : (log_.points[begin - 1].step + log_.points[begin].step) / 2.0;
      const double to =
          end == count ? log_.points.back().step : (log_.points[end - 1].step + log_.points[end].step) / 2.0;
      chart.column(from, to,
                   fmt::format("step {}: {} {:.5g}", log_.points[middle].step, name, value(log_.points[middle])));
    }
  }

  void curves() {
    page_.print(
        "<h2>Training</h2>\n<p class=\"soft\">Loss is the mean negative log-likelihood of a predicted token, in nats; "
        "the norm is that of the gradient before clipping.</p>\n<div class=\"grid2\">");
    curve(
        "loss", [](const RunPoint& p) { return static_cast<double>(p.loss); }, true, true);
    curve(
        "learning rate", [](const RunPoint& p) { return static_cast<double>(p.learning_rate); }, true);
    curve(
        "gradient norm", [](const RunPoint& p) { return static_cast<double>(p.grad_norm); }, true);
    curve(
        "tokens a second", [](const RunPoint& p) { return static_cast<double>(p.tokens_per_second); }, true);
    page_.print("</div>\n");
  }

  void memory() {
    const Ledger& l = log_.ledger;
    const auto& profile = log_.profile;
    const size_t count = profile.size();
    const bool budget = budget_in_sight(l);
    const double top = 1.08 * static_cast<double>(std::max(l.planned_bytes, budget ? l.budget_bytes : 0));
    page_.print(
        "<h2>Memory over one step</h2>\n<p class=\"soft\">What is alive at every operation of one pass and its update, "
        "in the order of execution. "
        "The arena is taken whole at the start, so the process always holds the planned peak; the space between is "
        "free for what comes next.{}</p>\n<div class=\"card\">",
        l.budget_bytes && !budget ? " The budget of " + megabytes(l.budget_bytes) + " is beyond the picture." : "");
    {
      Chart chart(page_, 0, static_cast<double>(count), 0, top, Chart::Unit::bytes, false, "tall");
      for (size_t k = kStyles.size(); k-- > 0;) {
        if (std::none_of(profile.begin(), profile.end(), [&](const ProfilePoint& p) { return p.bytes[k] > 0; }))
          continue;
        chart.stairs(
            count,
            [&](size_t i) {
              double below = 0;
              for (size_t j = 0; j <= k; ++j) below += static_cast<double>(profile[i].bytes[j]);
              return below;
            },
            kStyles[k]);
      }
      phases(chart);
      if (budget) chart.level(static_cast<double>(l.budget_bytes), "budget", "budget " + megabytes(l.budget_bytes));
      if (!budget || l.budget_bytes - l.planned_bytes > l.budget_bytes / 15)
        chart.level(static_cast<double>(l.planned_bytes), "planned", "planned peak " + megabytes(l.planned_bytes));
      for (size_t i = 0; i < count; ++i)
        chart.column(static_cast<double>(i), static_cast<double>(i + 1), breakdown(profile[i]));
    }
    legend();
    page_.print("</div>\n");
  }

  // Where the forward pass ends, and the update begins.
  void phases(Chart& chart) const {
    const auto& profile = log_.profile;
    const auto is = [&](size_t i, std::string_view phase) { return profile[i].name.starts_with(phase); };
    size_t turn = 0, update = profile.size();
    while (turn < profile.size() && is(turn, "forward")) ++turn;
    while (update > turn && is(update - 1, "update")) --update;
    const auto phase = [&](size_t begin, size_t end, const char* name) {
      if (begin > 0 && begin < profile.size()) chart.separator(static_cast<double>(begin));
      if (end - begin >= profile.size() / 16) chart.mark(static_cast<double>(begin + end) / 2, name);
    };
    phase(0, turn, "forward");
    phase(turn, update, "backward");
    phase(update, profile.size(), "update");
  }

  static std::string breakdown(const ProfilePoint& point) {
    std::string out = escaped(fmt::format("{}\n{} alive", point.name, megabytes(point.total())));
    for (size_t k = kHeldNames.size(); k-- > 0;)
      if (point.bytes[k] > 0) out += fmt::format("\n{}: {}", kHeldNames[k], megabytes(point.bytes[k]));
    return out;
  }

  void legend() {
    page_.print("<ul class=\"legend\">");
    for (size_t k = 0; k < kStyles.size(); ++k)
      if (std::any_of(log_.profile.begin(), log_.profile.end(), [&](const ProfilePoint& p) { return p.bytes[k] > 0; }))
        page_.print("<li><i class=\"key {}\"></i>{}</li>", kStyles[k], kHeldNames[k]);
    page_.print("</ul>");
  }

  void ledger() {
    const Ledger& l = log_.ledger;
    const bool budget = budget_in_sight(l);
    const double whole =
        static_cast<double>(std::max<int64_t>(1, std::max(l.planned_bytes, budget ? l.budget_bytes : 0)));
    page_.print(
        "<h2>Ledger</h2>\n<p class=\"soft\">The plan of every byte of the process, made before the first was "
        "taken.</p>\n<div class=\"card\"><div class=\"bar\" role=\"img\" aria-label=\"planned memory by item\">");
    for (const LedgerItem& item : l.items)
      page_.print("<i class=\"{}\" style=\"width:{:.3f}%\" title=\"{}: {}\"></i>", style_of_item(item.name),
                  100 * static_cast<double>(item.bytes) / whole, escaped(item.name), megabytes(item.bytes));
    if (budget)
      page_.print("<em style=\"left:{:.3f}%\"><span>budget {}</span></em>",
                  100 * static_cast<double>(l.budget_bytes) / whole, megabytes(l.budget_bytes));
    page_.print(
        "</div><div class=\"scroll\"><table><tr><th>what</th><th class=\"n\">planned</th><th "
        "class=\"n\">part</th><th>home</th></tr>");
    const double planned = static_cast<double>(std::max<int64_t>(1, l.planned_bytes));
    for (const LedgerItem& item : l.items)
      page_.print(
          "<tr><td><i class=\"key {}\"></i>{}</td><td class=\"n\">{}</td><td class=\"n\">{:.1f} %</td><td>{}</td></tr>",
          style_of_item(item.name), escaped(item.name), megabytes(item.bytes),
          100 * static_cast<double>(item.bytes) / planned, escaped(item.home));
    page_.print("<tr class=\"sum\"><td>planned peak</td><td class=\"n\">{}</td><td class=\"n\"></td><td>{}</td></tr>",
                megabytes(l.planned_bytes), l.budget_bytes ? "of a budget of " + megabytes(l.budget_bytes) : "");
    if (log_.peak_rss_bytes)
      page_.print(
          "<tr class=\"sum\"><td>measured peak</td><td class=\"n\">{}</td><td class=\"n\">{:.1f} %</td><td>VmHWM of "
          "the process</td></tr>",
          megabytes(log_.peak_rss_bytes), 100 * static_cast<double>(log_.peak_rss_bytes) / planned);
    page_.print("</table></div></div>\n");
    for (const std::string& choice : l.choices)
      page_.print("<p class=\"soft\" style=\"margin:.6rem 0 0\">{}.</p>\n", escaped(choice));
  }

  void speed() {
    const double measured = median_seconds(log_), predicted = log_.ledger.step_seconds;
    page_.print(
        "<h2>Speed</h2>\n<div class=\"card\"><table class=\"settings\"><tr><th>measured</th><td>{:.3g} s a step "
        "(median), {:.0f} tokens a second</td></tr>",
        measured, static_cast<double>(log_.last.tokens) / std::max(measured, 1e-9));
    if (predicted > 0)
      page_.print("<tr><th>predicted</th><td>{:.3g} s a step; measured is {:.2f} times that</td></tr>", predicted,
                  measured / predicted);
    page_.print("<tr><th>all steps</th><td>about {} without evaluation and saving</td></tr></table></div>\n",
                duration_text(measured * static_cast<double>(log_.last.step)));
  }

  void settings() {
    page_.print(
        "<h2>Settings</h2>\n<p class=\"soft\">Flags that were given or have a value of their own; runs of equal "
        "numerics compute the same bits.</p>\n<div class=\"card\"><table class=\"settings\">");
    for (const auto& [name, value] : log_.settings)
      page_.print("<tr><th>{}</th><td>{}</td></tr>", escaped(name), escaped(value));
    page_.print("<tr><th>numerics</th><td><code>{}</code></td></tr></table></div>\n",
                escaped(log_.ledger.numerics_hash));
  }

  const RunLog& log_;
  Page& page_;
};

}  // namespace

Result<void> write_report(const std::string& folder, const std::vector<std::string>& samples) {
  const RunLog log = TRY(read_run_log(folder + kEventsFile));
  CHECK_OK(check_samples(samples));
  Page page(TRY(OutputFile::create(folder + kReportFile)));
  Report(log, page).write(samples);
  return page.finish();
}

}  // namespace thimble
