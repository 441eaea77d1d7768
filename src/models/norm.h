// The norm socket: how values are brought to one size before a block reads them. A norm is one file in norms/ and one
// row of the table in norm.cpp; `Norm` (architecture.h) says of one place in a model which it is, and with what.
//
// A norm reads [tokens, width] and makes the same. Its tensors lie behind the place's name: ".weight" [width], gains,
// and ".bias" [width], where the place has them; scalars of its own, each f32 [1], which train like these.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "graph/graph.h"
#include "models/architecture.h"

namespace thimble {

struct NormContext {
  Graph& graph;
  const Norm& norm;
  const Codec* codec;  // of what it makes
  std::string name;    // of the place: "model.layers.3.input_layernorm"
  ValueId x = kNone;
  int64_t group = 0;  // columns that are normalised together, where they are fewer than the gains; 0: all
  std::function<ValueId(const std::string& name)> weight;  // "<place>.weight"; kNone where the place has none

  int64_t columns() const { return graph.value(x).type.shape.columns(); }
  ValueId gain() const { return weight(name + ".weight"); }
  ValueId bias() const { return weight(name + ".bias"); }
  ValueId scalar(std::string_view own) const;  // in f32
};

struct NormScalar {
  std::string_view name;
  float (*initial)(int64_t width);
};

struct NormKind {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  bool biased = false;       // in a new model
  bool elementwise = false;  // no statistics of a row: the size of what it makes is that of what it reads
  std::span<const NormScalar> scalars = {};
  ValueId (*apply)(const NormContext& context);
};

std::span<const NormKind* const> norms();
const NormKind* find_norm(std::string_view name);  // nullptr: there is none
// The norm of a new model, with gains.
Norm new_norm(const NormKind& kind);

extern const NormKind kRms, kLayer, kDyt, kEln;

}  // namespace thimble
