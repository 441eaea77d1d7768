// All operations, and the attributes of those that are built from outside this folder.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "graph/op.h"
#include "kernels/rows.h"

namespace thimble {

std::span<const Op* const> ops();

// y = sum_i scale_i x_i W_i^(T) + bias + addend.  in: x0, w0, x1, w1, ..., bias, addend.
// transposed: W is [out, in] (a layer's weight, forward); else [in, out].
struct LinearAttributes {
  struct Term {
    bool transposed = true;
    float scale = 1;
    bool operator==(const Term&) const = default;
  };
  std::vector<Term> terms = {Term{}};
  const Codec* codec = &kF32;  // of y
  bool narrow = false;         // few rows: through kernels/narrow.h; every W must be transposed
  bool operator==(const LinearAttributes&) const = default;
};
extern const Op kLinear;

// Several narrow linears of as many rows, none of which needs another's result.  in: theirs, one after another;
// out: one each. For inference.
struct LinearGroupAttributes {
  std::vector<LinearAttributes> members;
  bool operator==(const LinearGroupAttributes&) const = default;
};
extern const Op kLinearGroup;
// The graph with those linears made narrow whose weights are best read so: all, where rows are few; those in int8
// formats, where products are int8.
struct NarrowLinears {
  bool all = false;
  bool int8 = false;
};
Graph narrow_linears(const Graph& graph, const NarrowLinears& which);
// The graph with its narrow linears in groups, within each block.
Graph group_linears(const Graph& graph);

// accumulator += scale left^T right, over granules of 512 rows.  in: accumulator [n, k], left [t, n], right [t, k].
struct ScaleAttributes {
  float scale = 1;
  bool operator==(const ScaleAttributes&) const = default;
};
extern const Op kLinearDw;
// accumulator [n] += sum over rows of x [t, n] (or [t], as n = 1), or over rows and groups of x [t, groups * n].
extern const Op kColumnSum;

// in: ids [t], table [v, d]. Row ids[i] + first of the table.
struct EmbeddingAttributes {
  const Codec* codec = &kF32;
  int64_t first = 0;
  bool operator==(const EmbeddingAttributes&) const = default;
};
extern const Op kEmbedding;
extern const Op kEmbeddingGrad;  // in: accumulator [v, d], ids, dy

// Gains are used as offset + gain. A row is normalised in groups, each by itself: of so many columns, or of as many as
// there are gains (0). Gains and biases [w] repeat over the columns of a row; w is a multiple of the group.
struct NormAttributes {
  double epsilon = 1e-5;
  float offset = 0;
  int64_t group = 0;
  bool operator==(const NormAttributes&) const = default;
};
// in: x [t, d], gain [w].
extern const Op kRmsNorm;
extern const Op kRmsNormDx;     // in: dy, x, gain, addend
extern const Op kRmsNormDgain;  // in: accumulator [w], dy, x
// in: x [t, d], gain [w] (absent: 1), bias [w] (absent: 0).
extern const Op kLayerNorm;
extern const Op kLayerNormDx;     // in: dy, x, gain, addend
extern const Op kLayerNormDgain;  // in: accumulator [w], dy, x

// in: x [t, heads * head_dim], positions [t], table [positions, rotated] of (cos, sin) pairs. The first `rotated`
// elements of each head turn, the others stay.
struct RopeAttributes {
  int64_t head_dim = 0;
  int64_t rotated = 0;  // 0: all
  bool interleaved = false;
  bool inverse = false;  // rotate back: the gradient
  bool operator==(const RopeAttributes&) const = default;
};
extern const Op kRope;

// in: q [t, heads * head_dim], k, v [t, kv_heads * head_dim], starts [t], bias;  out: y, lse [t, heads].
// Row i sees rows max(starts[i], i - window + 1) .. i. Scores are scale * q.k, then cap * tanh(score / cap) where there
// is a cap, plus bias[head, j - starts[i]] where there is a bias [heads, positions] f32 (a constant: ALiBi).
struct AttentionAttributes {
  int64_t heads = 1, kv_heads = 1, head_dim = 1;
  int64_t window = 0;  // 0: none
  float scale = 1;
  float cap = 0;        // 0: none
  int64_t longest = 0;  // sequence, for the cost alone; 0: all rows may be one
  bool tiles = false;   // attention_cached: rows that follow one another together
  bool operator==(const AttentionAttributes&) const = default;
};
extern const Op kAttention;
extern const Op kAttentionGrad;  // in: dy, q, k, v, y, lse, starts, bias;  out: dq, dk, dv
// The derivative of y along a direction.  in: q, k, v, y, lse, starts, bias; of q, k and v the derivatives (any of them
// may be absent: 0).
extern const Op kAttentionTangent;
// For generation. in: q, k, v (of the new rows), cache_k, cache_v [slots, places, kv], slots [t], positions [t], bias;
// the rows' k and v are written to their place first.  out: y, cache_k, cache_v.
extern const Op kAttentionCached;

struct ActivationAttributes {
  Activation kind = Activation::silu;
  bool operator==(const ActivationAttributes&) const = default;
};
extern const Op kActivation;      // in: gate, up (kNone: plain)
extern const Op kActivationGrad;  // in: dy, gate, up;  out: dgate, dup

extern const Op kAdd;  // in: a, b

enum class Reduce : uint8_t { sum, squares, absolute, maximum };
enum class ReduceOver : uint8_t { columns, rows, all };
struct ReduceAttributes {
  Reduce kind = Reduce::sum;
  ReduceOver over = ReduceOver::columns;
  bool operator==(const ReduceAttributes&) const = default;
};
// in: x of any shape, as [rows, columns];  out: f32 [rows], [columns] or [1].
extern const Op kReduce;

struct ZerosAttributes {
  Shape shape;
  bool operator==(const ZerosAttributes&) const = default;
};
extern const Op kDetach;  // in: x;  out: x, through which no gradient passes
extern const Op kZeros;   // in: none

struct DropoutAttributes {
  double rate = 0;
  uint64_t stream = 0;  // which mask
  bool operator==(const DropoutAttributes&) const = default;
};
extern const Op kDropout;

// What the loss of a row is made of: lse - target z_target - uniform mean_v z_v + square lse^2, with z its logits.
struct TokenTerms {
  float target = 1, uniform = 0, square = 0;
  bool operator==(const TokenTerms&) const = default;
};
struct CrossEntropyAttributes {
  // Probabilities below it are left out of gradients where they are for every row of a granule; 0: none are. A near
  // move (Wijmans et al. 2024 take 2^-12: what bf16 would round away beside the target's).
  float negligible = 0;
  float cap = 0;  // of logits: cap tanh(logit / cap); 0: none
  TokenTerms terms = {};
  bool operator==(const CrossEntropyAttributes&) const = default;
};
constexpr float kNegligible = 0x1p-12f;
// in: x [t, d], w [v, d], targets [t] (-1: ignored), scale [1], bias [v];  out: loss [t], dx [t, d] = scale * d(sum
// loss)/dx, lse [t], logits [t, v] of the rows that have a target. uniform cannot be had with a cap.
extern const Op kLinearCrossEntropy;
inline constexpr size_t kTargetsOfLoss = 2, kScaleOfLoss = 3;  // of its operands
inline constexpr size_t kLogitsOfLoss = 3;                     // of what it makes
// in: accumulator [v, d], x, w, targets, scale ([1], or [t]: of each row's loss), lse; where w is the embedding's table
// too: ids, dy of the look-up; logits, where they were kept; bias.
extern const Op kLinearCrossEntropyDw;
// The derivative of the losses along a direction.  in: x, w, targets, lse, bias; of x, w and bias the derivatives (any
// of them may be absent: 0);  out: f32 [t].
extern const Op kLinearCrossEntropyTangent;
struct DrawTargetsAttributes {
  uint64_t stream = 0;  // which random numbers
  float cap = 0;        // of logits, as above
  bool operator==(const DrawTargetsAttributes&) const = default;
};
// Targets drawn from the model's own predictions, for rows that have one.  in: x [t, d], w [v, d], targets [t] (-1:
// none), bias [v];  out: targets [t], -1 where there was none. No gradient passes through it.
extern const Op kDrawTargets;
struct DistillationAttributes {
  float temperature = 1;           // that logits are divided by
  float cap = 0, teacher_cap = 0;  // of logits, as above
  bool operator==(const DistillationAttributes&) const = default;
};
// in: x [t, d], w [v, d], targets [t] (-1: ignored), scale [1], bias [v]; of the teacher x [t, e], w [v, e], bias [v].
// out: loss [t], dx [t, d] = scale * d(sum loss)/dx, and of both models the log-sum-exp [t].
extern const Op kLinearDistillation;
// in: accumulator [v, d], x, w, targets, scale ([1] or [t]), lse; ids, dy as above; of the teacher x, w, lse; both
// biases
extern const Op kLinearDistillationDw;
// The derivative of the losses along a direction of the student.  in: x, w, targets, lse, bias, their derivatives as
// above; of the teacher x, w, lse, bias;  out: f32 [t].
extern const Op kLinearDistillationTangent;
extern const Op kLinearCrossEntropyDbias;  // in: accumulator [v], x, w, targets, scale, lse, logits, bias

}  // namespace thimble
