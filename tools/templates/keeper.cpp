// @NAME@: one line that says what waits in place of an activation.
//
//   Paper   Authors and year, arXiv number, section
//   Keeps   34 bytes for 32 numbers of a row
//   Choice  where this differs from the paper
//
// As made from the template: activations wait in 8 bits, as with q8_0.
#include "methods/keeper.h"

namespace thimble {
namespace {

ValueId saved(Keeping& k, ValueId value) {
  if (!kQ8_0.fits_rows(k.graph().value(value).type.shape.columns())) return value;
  return k.once("restored", value, [&] { return kept_in(k, value, kQ8_0); });
}

}  // namespace

const Keeper @SYMBOL@ = {
    .name = "@NAME@", .summary = "one line for help and docs", .paper = "arXiv number", .saved = saved};

}  // namespace thimble
