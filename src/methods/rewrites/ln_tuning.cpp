// LN tuning: the gains (and biases) of the norms train, all else stays as it is.
//
//   Paper   Zhao et al. 2023, arXiv:2312.11420
//   Names   as PEFT's: "<module>.ln_tuning_layers.weight"
#include "methods/rewrite.h"

namespace thimble {
namespace {

// Norms of blocks and the last one: modules whose name says so.
bool trains(std::string_view value) {
  const std::string_view module = value.substr(0, value.rfind('.'));
  return module.ends_with("norm");
}

}  // namespace

const Rewrite kLnTuning = {.name = "ln_tuning",
                           .summary = "the gains of the norms train",
                           .paper = "arXiv:2312.11420",
                           .rate = 10,
                           .trains = trains,
                           .trained_as = "ln_tuning_layers",
                           .form = {.type = "LN_TUNING"}};

}  // namespace thimble
