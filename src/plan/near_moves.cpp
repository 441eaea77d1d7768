#include "plan/near_moves.h"

#include "plan/training.h"

namespace thimble {
namespace {

// Training from scratch begins with probabilities that are negligible all of them: there nothing is skipped.
constexpr NearMove kNearMoves[] = {
    {"skip_negligible", &NearMoves::skip_negligible, "the head's gradients without probabilities below 2^-12",
     [](const TrainingSpec& spec) {
       return spec.estimator->differentiates() && !spec.from_scratch && !spec.estimator->modules;
     }},
    {"eight_bit_states", &NearMoves::eight_bit_states, "optimizer states in 8 bits",
     [](const TrainingSpec&) { return true; }},
    {"eight_bit_activations", &NearMoves::eight_bit_activations, "activations of blocks kept in 8 bits (q8_0)",
     [](const TrainingSpec& spec) { return spec.estimator->differentiates() && spec.keepers.empty(); }}};

}  // namespace

std::span<const NearMove> near_move_table() { return kNearMoves; }

std::string near_names(const NearMoves& moves) {
  std::string out;
  for (const NearMove& move : kNearMoves)
    if (moves.*move.taken) out += fmt::format("{}{}", out.empty() ? "" : ",", move.name);
  return out;
}

NearMoves near_moves(std::string_view names) noexcept {
  NearMoves moves;
  for (const NearMove& move : kNearMoves) moves.*move.taken = names.find(move.name) != std::string_view::npos;
  return moves;
}

}  // namespace thimble
