// q8_0: activations wait in the codec of that name.
//
//   Paper   Chen et al. 2021, "ActNN", arXiv:2104.14129: kept activations in few bits
//   Keeps   34 bytes for 32 numbers of a row
//   Choice  one absmax scale for 32 numbers, and rounding to nearest; ActNN rounds by chance and spends bits unevenly
#include "methods/keeper.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

PointwiseAttributes converted(const Codec& codec) {
  PointwiseBuilder b;
  b.output(b.tensor(), &codec);
  return b.attributes();
}

ValueId saved(Keeping& k, ValueId value) {
  const Type type = k.graph().value(value).type;
  if (type.shape.columns() % kQ8_0.block != 0) return value;
  return k.once("restored", value, [&] {
    const ValueId kept = k.forward(kPointwise, converted(kQ8_0), {value}, k.name(value))[0];
    return k.graph().emit(kPointwise, converted(*type.codec), {kept}, k.name(value) + ".restored");
  });
}

}  // namespace

const Keeper kQ8Keeper = {.name = "q8_0",
                          .summary = "activations of blocks are kept in 8 bits, one scale for 32 of them",
                          .paper = "Chen et al. 2021 (ActNN, arXiv:2104.14129), with absmax scales and to nearest",
                          .saved = saved};

}  // namespace thimble
