// The graph of a model: from an architecture as data to values and operations; and what programs make of its last
// hidden state.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "models/architecture.h"
#include "ops/table.h"

namespace thimble {

// What of a model a graph has: all of it, from ids to the last hidden state; from ids to the residual stream that the
// first block reads; or the first block, from stream to stream.
enum class ModelPart { whole, embedding, block };

struct BuildOptions {
  std::string prefix;  // of the names of inputs and results: "train.ids"
  // Before the names of all else, where it is not the only model of the graph: "teacher.". Inputs are shared. Blocks
  // are those of the model without a scope: the activations of others are not kept for a backward pass.
  std::string scope;
  int64_t rows = 512;                // tokens at once, at most
  int64_t positions = 512;           // longest sequence (of the cache, of the table of rotations)
  const Codec* activation = &kBf16;  // rounding of activations
  // Codec of a weight as the plan holds it. nullptr: there is no such weight.
  std::function<const Codec*(const std::string& name, const Shape& shape)> codec;
  Role role = Role::weight;  // of the model's weights
  // Sequences over a cache of keys and values; without one (nullptr) rows are whole sequences.
  const Codec* cache = nullptr;
  int64_t slots = 1;       // of the cache
  bool follow_on = false;  // rows of a sequence that follow one another are attended together, in tiles: prompts
  // For gradients: what they need of attention is made too, experts have their capacity, and their balance is a loss.
  bool differentiable = false;
  ModelPart part = ModelPart::whole;
};

// A model within a graph: its inputs (i32 [rows]; kNone where there is none), its last hidden state and its head.
struct BuiltModel {
  ValueId ids = kNone, positions = kNone, starts = kNone, slots = kNone;
  ValueId stream = kNone;  // of a block: what it reads, [rows, width]
  // [rows, width of the embedding], after the final norm and the scale of logits: logits = cap(hidden head^T + bias).
  // Of a part: the residual stream, [rows, width].
  ValueId hidden = kNone;
  std::vector<ValueId> streams;  // residual streams [rows, width]: behind the embedding, then behind every block
  // Of a model that denoises: what every block reads, at last the head, and what the blocks make; no streams.
  std::vector<ValueId> reads, made;
  ValueId head = kNone, head_bias = kNone;
  double logit_cap = 0;
  // f32 [rows]: a loss of every token that keeps the experts of routed FFNs evenly used; kNone: there is none.
  ValueId balance = kNone;
};

// Values that programs of one model share by their names: the cache of an attention, called "<name>.cache_k" and
// "<name>.cache_v" (its `name` in the block), and a table of rotations.
struct CacheValues {
  ValueId keys, values;
};
bool caches_positions(std::string_view value);  // whether a value is one of them: a row for every slot and position
CacheValues add_cache(Graph& graph, const Attention& attention, const std::string& name, const BuildOptions& options);
ValueId add_rope_table(Graph& graph, const Architecture& architecture, size_t which, const BuildOptions& options);

// Appends the model to `graph`.
Result<BuiltModel> build_model(Graph& graph, const Architecture& architecture, const BuildOptions& options);

// Single blocks of an architecture, on values that are in the graph already: what a network beside a model is made of.
// Each brings its weights, in f32, and finds the inputs and caches that are there. `graph` must outlive it.
class BlockBuilder {
 public:
  BlockBuilder(Graph& graph, Architecture architecture, BuildOptions options);
  ~BlockBuilder();
  ValueId block(int64_t layer, ValueId stream);
  ValueId final_norm(ValueId stream);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// The next-token loss of every row, from tiles of logits.
struct TokenLossOptions {
  std::string prefix;
  bool gradient = false;       // what its gradient needs is made too
  bool tangent = false;        // what its derivative along a direction needs is made too
  bool keep_logits = false;    // for the gradient of the head, instead of making them twice
  float negligible = 0;        // of the head's gradients, what is left out (CrossEntropyAttributes)
  TokenTerms terms = {};       // of the loss of a row
  bool loss = true;            // else only the inputs are made
  bool draws_targets = false;  // from the model's own predictions, where a row has a target
};
struct TokenLoss {
  ValueId targets = kNone;  // i32 [rows], -1: none
  ValueId scale = kNone;    // f32 [1]: what the sum of losses is multiplied with
  ValueId nll = kNone;      // f32 [rows], a result
};
TokenLoss add_token_loss(Graph& graph, const BuiltModel& model, const TokenLossOptions& options);

// The second loss of a model with routed FFNs, of every token, times what a token counts (`share`): a result [rows]
// called "<prefix>balance". Without one, nothing.
void add_balance_loss(Graph& graph, const BuiltModel& model, double share, const std::string& prefix);
inline constexpr std::string_view kBalance = "balance";

// f32 [rows, vocab]: of `rows` of the hidden state (i32, a value of role input), or of all (kNone).
ValueId add_logits(Graph& graph, const BuiltModel& model, std::string name, ValueId rows = kNone);

}  // namespace thimble
