// Near moves: what a plan may do that is not exact, each within a documented bound of the exact result.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace thimble {

struct TrainingSpec;

enum class Near {
  never,
  where_faster,  // than the exact plan, or where there is none
  always,        // a run that was begun with them goes on with them
};

// Which ones.
struct NearMoves {
  bool eight_bit_states = false;
  bool skip_negligible = false;
  bool eight_bit_activations = false;
  bool operator==(const NearMoves&) const = default;
};
struct NearMove {
  std::string_view name;  // in checkpoints
  bool NearMoves::*taken;
  std::string_view what;
  bool (*legal)(const TrainingSpec& spec);
};
// In the order in which the planner takes them, each with those before it.
std::span<const NearMove> near_move_table();

std::string near_names(const NearMoves& moves);         // with commas between
NearMoves near_moves(std::string_view names) noexcept;  // unknown ones are none

}  // namespace thimble
