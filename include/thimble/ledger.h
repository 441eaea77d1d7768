// Where every byte goes: what a person looks at before a run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace thimble {

struct LedgerItem {
  std::string name;  // "weights", "gradients", ...
  int64_t bytes = 0;
  std::string home;  // "ram, q4_1 and q8_0 as stored"
};

struct Ledger {
  std::vector<LedgerItem> items;
  int64_t budget_bytes = 0;                         // 0: none was given
  int64_t planned_bytes = 0;                        // predicted peak of the process
  int64_t scratch_bytes = 0;                        // of the file of the disk tier; 0: there is none
  int64_t read_bytes = 0, written_bytes = 0;        // of it, a step
  double step_seconds = 0, least_step_seconds = 0;  // predicted; that no plan within the budget beats
  double planning_seconds = 0;
  std::vector<std::string> choices;  // what was chosen and why
  std::string numerics_hash;

  // A table with bars, for a terminal `columns` wide (at least 60).
  std::string text(int columns = 80) const;
};

}  // namespace thimble
