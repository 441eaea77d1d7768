// BitFit: the biases train, all else stays as it is.
//
//   Paper   Ben Zaken et al. 2021, arXiv:2106.10199
//   Names   "<module>.bias"
//   Choice  PEFT has no such technique: the folder is like its own, of peft_type BITFIT, which other tools do not read
#include "methods/rewrite.h"

namespace thimble {

const Rewrite kBitfit = {.name = "bitfit",
                         .summary = "the biases train",
                         .paper = "arXiv:2106.10199",
                         .rate = 10,
                         .trains = [](std::string_view value) { return value.ends_with(".bias"); },
                         .form = {.type = "BITFIT"}};

}  // namespace thimble
