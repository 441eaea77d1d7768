#include "plan/ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace thimble {
namespace {

// Words of `text` in lines of at most `width` characters (of one byte each).
std::vector<std::string> wrapped(const std::string& text, int width) {
  std::vector<std::string> lines(1);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (!lines.back().empty() && static_cast<int>(lines.back().size() + 1 + word.size()) > width) lines.emplace_back();
    lines.back() += (lines.back().empty() ? "" : " ") + word;
    begin = end + 1;
  }
  return lines;
}

std::string repeated(const char* text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

std::string largest_items(const Ledger& ledger) {
  std::vector<LedgerItem> items = ledger.items;
  std::stable_sort(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  std::string out;
  for (size_t i = 0; i < std::min<size_t>(3, items.size()); ++i)
    out += fmt::format("{}{} {}", i ? ", " : "", items[i].name, megabytes(items[i].bytes));
  return out;
}

// A bar from `begin` on, both as parts of the whole, in a field of `width` columns.
std::string floating_bar(double begin, double length, int width) {
  const int first = std::clamp(static_cast<int>(begin * width), 0, width - 1);
  const double cells = std::clamp(length * width, 0.125, static_cast<double>(width - first));
  const int used = std::min(width - first, static_cast<int>(std::ceil(cells - 1e-9)));
  const std::string bar = bar_text(cells / used, used);
  const auto blanks = static_cast<int>(std::count(bar.begin(), bar.end(), ' '));
  return repeated("·", first) + bar.substr(0, bar.find(' ')) + repeated("·", width - first - used + blanks);
}

}  // namespace

std::string megabytes(int64_t bytes) { return fmt::format("{:.1f} MB", static_cast<double>(bytes) * 1e-6); }

Failure does_not_fit(const Ledger& least, int64_t least_bytes, std::string_view advice) {
  const int64_t budget = whole_megabytes(least_bytes);
  return Failure(Error{ErrorCode::over_budget,
                       fmt::format("the smallest budget that would do is {}; the largest parts of that are {}. {}, or "
                                   "give --memory {}M",
                                   megabytes(least_bytes), largest_items(least), advice, budget / 1'000'000),
                       budget});
}

std::string bar_text(double part, int width) {
  static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = std::clamp(static_cast<int>(std::lround(part * width * 8)), 0, width * 8);
  const bool open = eighths % 8 != 0;
  return repeated("█", eighths / 8) + kEighths[eighths % 8] + repeated(" ", width - eighths / 8 - open);
}

// Every item begins where the one above it ends, so that the rows together fill the budget. What there is to say of one
// stands beside its bar, or below where the terminal is narrow.
std::string Ledger::text(int columns) const {
  constexpr int kNames = 30, kIndent = 4;
  const int room = std::max(columns, 40) - 1;
  const bool beside = columns >= 72;
  const int width = beside ? std::clamp(std::min(room * 3 / 10, room - 52), 6, 40) : room - kNames;
  const bool near = budget_bytes > 0 && budget_bytes < 4 * planned_bytes;  // else the bar would show nothing
  const double whole = static_cast<double>(std::max<int64_t>(1, near ? budget_bytes : planned_bytes));
  std::string out;
  const auto row = [&](const std::string& name, int64_t bytes, const std::string& bar, const std::string& note) {
    out += fmt::format("  {:<16} {:>9}  {}", name, megabytes(bytes), bar);
    const int indent = beside ? kNames + width + 2 : kIndent;
    bool first = beside;
    for (const std::string& part : wrapped(note, room - indent))
      if (!part.empty()) out += std::exchange(first, false) ? "  " + part : fmt::format("\n{:{}}{}", "", indent, part);
    out += "\n";
  };
  int64_t above = 0;
  for (const LedgerItem& item : items) {
    row(item.name, item.bytes,
        floating_bar(static_cast<double>(above) / whole, static_cast<double>(item.bytes) / whole, width), item.home);
    above += item.bytes;
  }
  row("planned peak", planned_bytes, repeated("─", width),
      budget_bytes ? fmt::format("{:.1f} % of {}",
                                 100.0 * static_cast<double>(planned_bytes) / static_cast<double>(budget_bytes),
                                 megabytes(budget_bytes))
                   : "no budget given");
  const auto line = [&](const std::string& text) {
    for (const std::string& part : wrapped(text, room - 2)) out += "  " + part + "\n";
  };
  for (const std::string& choice : choices) line(choice);
  line((step_seconds > 0 ? fmt::format("predicted: {:.2f} s a step; ", step_seconds) : "") +
       (numerics_hash.empty() ? "" : "numerics " + numerics_hash));
  return out;
}

}  // namespace thimble
