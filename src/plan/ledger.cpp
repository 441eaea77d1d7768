#include "plan/ledger.h"

#include <fmt/format.h>

#include <algorithm>

namespace thimble {

std::string megabytes(int64_t bytes) { return fmt::format("{:.1f} MB", static_cast<double>(bytes) * 1e-6); }

std::string Ledger::text(int columns) const {
  const int width = std::clamp(columns - 62, 10, 40);
  const int64_t whole = std::max<int64_t>(1, budget_bytes ? budget_bytes : planned_bytes);
  std::string out;
  const auto row = [&](const std::string& name, int64_t bytes, const std::string& note) {
    const int filled = static_cast<int>(std::min<double>(width, static_cast<double>(bytes) / static_cast<double>(whole) * width + 0.5));
    std::string bar;
    for (int i = 0; i < width; ++i) bar += i < filled ? "█" : "·";
    out += fmt::format("  {:<18} {:>10}  {}  {}\n", name, megabytes(bytes), bar, note);
  };
  for (const LedgerItem& item : items) row(item.name, item.bytes, item.home);
  row("planned peak", planned_bytes, budget_bytes ? fmt::format("of {} ({:.0f} %)", megabytes(budget_bytes), 100.0 * static_cast<double>(planned_bytes) / static_cast<double>(budget_bytes)) : "no budget given");
  for (const std::string& choice : choices) out += "  " + choice + "\n";
  if (step_seconds > 0) out += fmt::format("  predicted: {:.2f} s a step\n", step_seconds);
  if (!numerics_hash.empty()) out += fmt::format("  numerics {}\n", numerics_hash);
  return out;
}

}  // namespace thimble
