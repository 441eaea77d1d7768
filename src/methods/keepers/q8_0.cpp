// q8_0: activations wait in the codec of that name.
//
//   Paper   Chen et al. 2021, "ActNN", arXiv:2104.14129: kept activations in few bits
//   Keeps   34 bytes for 32 numbers of a row
//   Choice  one absmax scale for 32 numbers, and rounding to nearest; ActNN rounds by chance and spends bits unevenly
#include "methods/keeper.h"

namespace thimble {
namespace {

ValueId saved(Keeping& k, ValueId value) {
  if (!kQ8_0.fits_rows(k.graph().value(value).type.shape.columns())) return value;
  return k.once("restored", value, [&] { return kept_in(k, value, kQ8_0); });
}

}  // namespace

const Keeper kQ8Keeper = {.name = "q8_0",
                          .summary = "activations of blocks are kept in 8 bits, one scale for 32 of them",
                          .paper = "Chen et al. 2021 (ActNN, arXiv:2104.14129), with absmax scales and to nearest",
                          .saved = saved};

}  // namespace thimble
