// The transform socket: how a finished model becomes another one, layer by layer. One transform is one file in
// transforms/ and one row of the table in transform.cpp.
//
// A transform emits the new weight of one linear layer, from its weight and from what an observer has gathered of its
// inputs. It does not know where the weight comes from, where the result goes, nor how large the model is: those are
// the plan's (plan/transform.h).
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "graph/graph.h"
#include "methods/observer.h"
#include "methods/option.h"

namespace thimble {

enum class TransformKind { prune, quantize };

// What is asked of one run.
struct TransformSettings {
  OptionValues options;
  // prune: the part of every layer's weights that becomes zero; or `keep` of every `of` consecutive ones stay.
  double sparsity = 0.5;
  int64_t keep = 0, of = 0;
};

struct TransformedLayer {
  Graph& graph;
  ValueId w;           // f32 [out, in]
  ValueId statistic;   // of the transform's observer; kNone without one
  const Codec& codec;  // in which the result is stored
  const TransformSettings& settings;
};

struct Transform {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  TransformKind kind;
  std::span<const Option> options = {};
  const Observer* observer = nullptr;  // nullptr: nothing has to be run
  // quantize: whether it can round to this codec. nullptr: to any that is written.
  bool (*rounds_to)(const Codec& codec) = nullptr;
  // Emits the new weight: in f32 (prune), or in the layer's codec (quantize).
  ValueId (*apply)(const TransformedLayer& layer);
};

std::span<const Transform* const> transforms();
// Of one kind; an error names the nearest ones.
Result<const Transform*> transform_named(TransformKind kind, std::string_view name);

// A layer's weight in which those with the smallest scores (f32, of its shape) are zeros, as the settings say: of every
// run of `of`, else of each group.
enum class PruneGroup { matrix, row };
ValueId without_smallest(const TransformedLayer& layer, ValueId scores, PruneGroup group);

extern const Transform kMagnitude;
extern const Transform kWanda;
extern const Transform kRound;
extern const Transform kGptq;
extern const Transform kImportance;

}  // namespace thimble
