// Writing HTML and charts in small pieces: nothing is held but a few kilobytes.
#pragma once

#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include "files/file.h"

namespace thimble {

// Text with & < > " ' as entities and control characters replaced.
std::string escaped(std::string_view text);

class Page {
 public:
  explicit Page(OutputFile file) : file_(std::move(file)) {}

  // Markup. User text among the arguments must be escaped().
  template <class... Args>
  void print(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(buffer_), format, std::forward<Args>(args)...);
    if (buffer_.size() >= kPiece) flush();
  }
  // The first error of all writes.
  Result<void> finish();

 private:
  static constexpr size_t kPiece = 4096;
  void flush();
  OutputFile file_;
  fmt::memory_buffer buffer_;
  Result<void> status_;
};

// A chart: curves stretch with the window (an SVG without a fixed aspect), labels are HTML and keep their size.
class Chart {
 public:
  struct Point {
    double x, y;
  };
  enum class Unit { plain, bytes };

  // Ends of both axes in the units of the data. Draws the grid and labels of y, and of x when `x_ticks`.
  Chart(Page& page, double x0, double x1, double y0, double y1, Unit unit, bool x_ticks, std::string_view style);
  ~Chart();
  // The functions give point i of `count`; points that are not finite are left out.
  template <class At>
  void line(size_t count, At at, std::string_view style) {
    page_.print("<polyline class=\"{}\" points=\"", style);
    for (size_t i = 0; i < count; ++i) vertex(at(i));
    page_.print("\"/>");
  }
  template <class At>
  void dots(size_t count, At at) {
    for (size_t i = 0; i < count; ++i) dot(at(i));
  }
  // The area under a staircase: value i from i to i + 1.
  template <class At>
  void stairs(size_t count, At at, std::string_view style) {
    page_.print("<path class=\"{}\" d=\"M0 {}", style, kHeight);
    double last = -1;
    for (size_t i = 0; i < count; ++i) {
      const double y = at(i);
      if (y != last) page_.print("H{:.1f}V{:.1f}", x(static_cast<double>(i)), this->y(y));
      last = y;
    }
    page_.print("H{:.1f}V{}Z\"/>", x(static_cast<double>(count)), kHeight);
  }
  // A horizontal line with a label at its end.
  void level(double y, std::string_view style, const std::string& label);
  void separator(double x);
  // A column that shows `title` (escaped) when pointed at.
  void column(double from, double to, const std::string& title);
  // A label beside a point.
  void tag(Point point, const std::string& text);
  // A label below the axis.
  void mark(double x, const std::string& text);

 private:
  static constexpr int kWidth = 1000, kHeight = 400;
  double x(double value) const { return (value - x0_) / (x1_ - x0_) * kWidth; }
  double y(double value) const { return kHeight - (value - y0_) / (y1_ - y0_) * kHeight; }
  void vertex(Point point);
  void dot(Point point);
  void label(double y, std::string_view style, const std::string& text);

  Page& page_;
  double x0_, x1_, y0_, y1_;
  std::string labels_;  // HTML over the drawing
};

// Round numbers that cut [low, high] into about `count` parts.
std::vector<double> round_ticks(double low, double high, int count);

}  // namespace thimble
