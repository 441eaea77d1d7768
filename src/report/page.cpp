#include "report/page.h"

#include <cmath>

#include "plan/ledger.h"

namespace thimble {

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '\n':
      case '\t':
        out += c;
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
          out += "\xEF\xBF\xBD";
        else
          out += c;
    }
  return out;
}

void Page::flush() {
  if (status_) status_ = file_.write(std::string_view(buffer_.data(), buffer_.size()));
  buffer_.clear();
}

Result<void> Page::finish() {
  flush();
  CHECK_OK(status_);
  return file_.commit();
}

std::vector<double> round_ticks(double low, double high, int count) {
  std::vector<double> out;
  if (!(high > low)) return {low};
  const double rough = (high - low) / count, power = std::pow(10, std::floor(std::log10(rough)));
  const double part = rough / power;
  const double step = power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
  for (double tick = std::ceil(low / step - 1e-9); tick * step <= high + step * 1e-9; ++tick)
    out.push_back(tick * step + 0.0);
  return out;
}

Chart::Chart(Page& page, double x0, double x1, double y0, double y1, Unit unit, bool x_ticks, std::string_view style)
    : page_(page), x0_(x0), x1_(x1 > x0 ? x1 : x0 + 1), y0_(y0), y1_(y1 > y0 ? y1 : y0 + 1) {
  page_.print("<div class=\"chart {}\"><svg viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
              style, kWidth, kHeight);
  for (double tick : round_ticks(y0_, y1_, 4)) {
    page_.print("<path class=\"grid\" d=\"M0 {:.1f}H{}\"/>", y(tick), kWidth);
    label(tick, "tick",
          unit == Unit::bytes ? fmt::format("{:g} MB", tick * 1e-6)
                              : fmt::format("{:.4g}", std::abs(tick) < 1e-15 ? 0 : tick));
  }
  if (!x_ticks) return;
  for (double tick : round_ticks(x0_, x1_, 5))
    if (tick == std::round(tick)) mark(tick, fmt::format("{:.0f}", tick));
}

Chart::~Chart() { page_.print("</svg>{}</div>\n", labels_); }

void Chart::vertex(Point point) {
  if (std::isfinite(point.x) && std::isfinite(point.y)) page_.print("{:.1f},{:.1f} ", x(point.x), y(point.y));
}

// A line without length and with round ends: a dot that the stretching leaves round.
void Chart::dot(Point point) {
  if (std::isfinite(point.x) && std::isfinite(point.y))
    page_.print("<path class=\"dot\" d=\"M{:.1f} {:.1f}h.01\"/>", x(point.x), y(point.y));
}

void Chart::label(double at, std::string_view style, const std::string& text) {
  labels_ += fmt::format("<span class=\"{}\" style=\"top:{:.2f}%\">{}</span>", style, y(at) / kHeight * 100, text);
}

void Chart::level(double at, std::string_view style, const std::string& text) {
  page_.print("<path class=\"{}\" d=\"M0 {:.1f}H{}\"/>", style, y(at), kWidth);
  label(at, "level", text);
}

void Chart::separator(double at) { page_.print("<path class=\"grid\" d=\"M{:.1f} 0V{}\"/>", x(at), kHeight); }

void Chart::column(double from, double to, const std::string& title) {
  page_.print("<rect class=\"column\" x=\"{:.1f}\" y=\"0\" width=\"{:.1f}\" height=\"{}\"><title>{}</title></rect>",
              x(from), x(to) - x(from), kHeight, title);
}

void Chart::tag(Point point, const std::string& text) {
  labels_ += fmt::format("<span class=\"tag\" style=\"left:{:.2f}%;top:{:.2f}%\">{}</span>", x(point.x) / kWidth * 100,
                         y(point.y) / kHeight * 100, text);
}

void Chart::mark(double at, const std::string& text) {
  labels_ += fmt::format("<span class=\"mark\" style=\"left:{:.2f}%\">{}</span>", x(at) / kWidth * 100, text);
}

}  // namespace thimble
