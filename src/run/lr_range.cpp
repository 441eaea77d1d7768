#include "run/lr_range.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "report/page.h"
#include "report/style.h"

namespace thimble {
namespace {

constexpr double kDecay = 0.9;
constexpr double kOver = 4;  // times the lowest smoothed loss
constexpr int64_t kSteps = 100;

std::vector<double> smoothed(const std::vector<RatePoint>& points) {
  std::vector<double> out;
  double mean = 0, weight = 0;
  for (const RatePoint& point : points) {
    mean = kDecay * mean + (1 - kDecay) * point.loss;
    weight = kDecay * weight + (1 - kDecay);
    out.push_back(mean / weight);
  }
  return out;
}

Result<double> parse_rate(const std::string& whole, std::string_view text) {
  double rate = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rate);
  if (error == std::errc{} && end == text.data() + text.size() && rate > 0 && rate <= 1e3) return rate;
  return fail(ErrorCode::invalid_argument, "--lr-range: expected LOW:HIGH, 1e-6:1 say, found '{}'", whole);
}

std::string rate_text(const std::optional<double>& rate) { return rate ? fmt::format("{:.2g}", *rate) : "none"; }

}  // namespace

RateRange read_rate_range(std::vector<RatePoint> points) {
  RateRange range{.points = std::move(points)};
  while (!range.points.empty() && !std::isfinite(range.points.back().loss)) range.points.pop_back();
  range.smooth = smoothed(range.points);
  double fastest = 0;
  for (size_t i = 1; i + 1 < range.smooth.size(); ++i) {
    const double across = std::log(range.points[i + 1].rate / range.points[i - 1].rate);
    const double slope = (range.smooth[i + 1] - range.smooth[i - 1]) / across;
    if (across > 0 && slope < fastest) fastest = slope, range.steepest = range.points[i].rate;
  }
  const auto least = std::min_element(range.smooth.begin(), range.smooth.end());
  if (least != range.smooth.end() && least != range.smooth.begin())
    range.lowest = range.points[static_cast<size_t>(least - range.smooth.begin())].rate / 10;
  return range;
}

bool range_is_over(const std::vector<RatePoint>& points) {
  if (points.empty()) return false;
  const std::vector<double> smooth = smoothed(points);
  return !std::isfinite(points.back().loss) || smooth.back() > kOver * *std::min_element(smooth.begin(), smooth.end());
}

Result<void> set_rate_range(const std::string& text, Recipe& recipe) {
  const size_t colon = std::min(text.find(':'), text.size());
  const double low = TRY(parse_rate(text, std::string_view(text).substr(0, colon)));
  const double high = TRY(parse_rate(text, std::string_view(text).substr(std::min(colon + 1, text.size()))));
  if (!(low < high))
    return fail(ErrorCode::invalid_argument, "--lr-range {}: the first rate should be below the second", text);
  if (recipe.resume)
    return fail(ErrorCode::invalid_argument, "--lr-range: a range test is not resumed; leave --resume out");
  recipe.schedule = "rising", recipe.lr = high, recipe.min_lr = low / high, recipe.warmup = 0;
  if (recipe.steps == 0) recipe.steps = kSteps;
  return {};
}

Result<void> write_rate_range(const std::string& path, const RateRange& range, const std::string& title) {
  Page page(TRY(OutputFile::create(path)));
  page.print(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{1}</style></head>"
      "<body><main><h1>{0}</h1><p class=\"soft\">Each step has a larger learning rate, by the same factor. The line is "
      "the smoothed loss. Losses fall fastest at {2}; a tenth of the rate where they are lowest is {3}.</p>\n",
      escaped(title), kReportStyle, rate_text(range.steepest), rate_text(range.lowest));
  if (!range.points.empty()) {
    double least = range.smooth.front(), most = least;
    for (const double loss : range.smooth) least = std::min(least, loss), most = std::max(most, loss);
    const auto x = [&](size_t i) { return std::log10(range.points[i].rate); };
    const double room = 0.05 * std::max(most - least, 1e-3 * std::abs(least));
    Chart chart(page, x(0), x(range.points.size() - 1), least - room, most + room, Chart::Unit::plain, false, "tall");
    // Losses of single steps that are far outside are left out.
    const auto single = [&](size_t i) {
      const double loss = range.points[i].loss;
      return Chart::Point{x(i), loss >= least - room && loss <= most + room ? loss : NAN};
    };
    chart.dots(range.points.size(), single);
    chart.line(
        range.points.size(),
        [&](size_t i) {
          return Chart::Point{x(i), range.smooth[i]};
        },
        "line");
    for (double decade = std::ceil(x(0) - 1e-9); decade <= x(range.points.size() - 1) + 1e-9; ++decade)
      chart.mark(decade, fmt::format("{:g}", std::pow(10, decade)));
    for (const auto& [rate, name] : {std::pair{range.steepest, "fastest"}, {range.lowest, "lowest / 10"}})
      if (rate)
        chart.column(std::log10(*rate) - 0.005, std::log10(*rate) + 0.005, fmt::format("{}: {:.2g}", name, *rate));
  }
  page.print("</main></body></html>\n");
  return page.finish();
}

std::string rate_range_text(const RateRange& range) {
  return fmt::format("learning-rate range: losses fall fastest at {}; a tenth of the rate where they are lowest is {}",
                     rate_text(range.steepest), rate_text(range.lowest));
}

std::string rate_range_json(const RateRange& range) {
  std::string points;
  for (size_t i = 0; i < range.points.size(); ++i)
    points += fmt::format("{}[{:.6g},{:.6g},{:.6g}]", i ? "," : "", range.points[i].rate, range.points[i].loss,
                          range.smooth[i]);
  const auto number = [](const std::optional<double>& rate) { return rate ? fmt::format("{:.6g}", *rate) : "null"; };
  return fmt::format("\"steepest\":{},\"lowest\":{},\"rate_loss_smooth\":[{}]", number(range.steepest),
                     number(range.lowest), points);
}

}  // namespace thimble
