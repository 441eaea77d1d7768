// How much every rank of a layer W + B diag(E) A matters while it trains: what techniques that allot ranks share. Their
// options are at least those that the schedule and the scores read: tinit, tfinal, total, beta1, beta2.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "methods/optimizer.h"

namespace thimble {

// A layer's factors; B may be several values, by rows.
struct RankedLayer {
  Update *a = nullptr, *e = nullptr;
  std::vector<Update*> b;
  int64_t rank() const { return e->trained.shape[0]; }
};
// Those of lora_A, lora_E and lora_B; layers without one of them are left out.
std::vector<RankedLayer> ranked_layers(std::span<Update* const> updates);
bool is_rank_factor(std::string_view name);  // of a parameter: one of the three
bool is_rank_rows(std::string_view name);    // A
bool is_rank_scale(std::string_view name);   // E

// When ranks are allotted, in steps from 0: behind `begin`, before `end`.
struct RankSchedule {
  explicit RankSchedule(const Update& update);
  double begin, end;
};

// What the scores keep of each number of a factor; the first states of a wrapper.
enum RankState : size_t { kSensitivity, kUncertainty, kRankStates };
std::vector<StateSpec> rank_states(const Parameter& parameter);

// [rank], higher the more a rank matters. Writes the states, and adds to the gradients of A and B `orthogonal` times
// that of |A A^T - I| and |B^T B - I|, over the ranks where `alive` [rank] is 1 (kNone: all).
ValueId rank_scores(const RankedLayer& layer, double orthogonal, ValueId alive = kNone);
// Vectors of numbers, one after another: [count].
ValueId joined_ranks(Graph& graph, std::span<const ValueId> vectors, int64_t count, const std::string& name);
// Their places, f32 [count]: 0, 1, 2 ...
ValueId rank_places(Graph& graph, int64_t count);

}  // namespace thimble
