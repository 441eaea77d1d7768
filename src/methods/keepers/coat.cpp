// coat: activations wait in 8-bit floats, with scales as fine as who reads them needs.
//
//   Paper   Xi et al. 2024, "COAT", arXiv:2410.19313, section 5 (mixed-granularity activation quantisation)
//   Keeps   what only weights read: E4M3 with one scale for all;  what norms, activation functions and pointwise
//           operations read: E4M3 with one scale for 16 numbers of a row (codecs/fp8_group.cpp), where rows are whole
//           groups
//   Choice  one scale for the 512 tokens of a granule, not for all of a batch, so that no budget changes a bit. What an
//           attention reads or writes stays as it is, as in the paper. The forward pass multiplies in full precision;
//           the paper's in FP8 too
#include <algorithm>

#include "methods/keeper.h"
#include "ops/keep.h"
#include "ops/table.h"

namespace thimble {
namespace {

enum class Reader : uint8_t { weights, others, attention };

// For whose gradient a value is kept. Sums read nothing of it.
Reader reader_of(const Graph& g, ValueId value) {
  const auto producer = static_cast<size_t>(g.producer(value));
  if (g.nodes()[producer].op == &kAttention) return Reader::attention;
  Reader out = Reader::weights;
  for (size_t i = producer; i < g.nodes().size() && g.nodes()[i].phase == Phase::forward; ++i) {
    const Node& node = g.nodes()[i];
    if (std::ranges::find(node.in, value) == node.in.end()) continue;
    if (node.op == &kAttention) return Reader::attention;
    if (node.op != &kLinear && node.op != &kAdd) out = Reader::others;
  }
  return out;
}

ValueId by_granule(Keeping& k, ValueId value) {
  const Type type = k.graph().value(value).type;
  const int64_t columns = type.shape.columns();
  const ByteAttributes floats{.group = columns, .e4m3 = true, .codec = type.codec, .columns = columns};
  const std::string name = k.name(value);
  const ValueId ranges = k.forward(kGroupRanges, RangeAttributes{columns}, {value}, name + ".ranges")[0];
  const ValueId kept = k.forward(kToBytes, floats, {value, ranges, kNone}, name)[0];
  return k.graph().emit(kFromBytes, floats, {kept, ranges, kNone}, name + ".restored");
}

bool cut_in_groups(Keeping& k, ValueId value) {
  return k.graph().value(value).type.shape.columns() % kFp8Group.block == 0;
}

// Who reads it is asked before anything is kept: that reads it too.
ValueId saved(Keeping& k, ValueId value) {
  return k.once("restored", value, [&] {
    switch (reader_of(k.graph(), value)) {
      case Reader::weights:
        return by_granule(k, value);
      case Reader::others:
        return cut_in_groups(k, value) ? kept_in(k, value, kFp8Group) : by_granule(k, value);
      case Reader::attention:
        return value;
    }
    return value;
  });
}

}  // namespace

const Keeper kCoat = {.name = "coat",
                      .summary = "activations are kept in 8-bit floats, with one scale or one for 16 of them",
                      .paper = "Xi et al. 2024 (arXiv:2410.19313)",
                      .saved = saved};

}  // namespace thimble
