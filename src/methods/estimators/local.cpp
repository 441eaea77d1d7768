// Local learning: blocks in modules, each with a loss of its own; no gradient passes from one module to another.
//
//   Paper      Nokland and Eidnes 2019, arXiv:1901.06656; Belilovsky et al. 2020 (decoupled greedy learning),
//              arXiv:1901.08164, with all modules trained at once
//   Loss       sum over modules m of CE(head(norm(h_m))), h_m = module_m(stop(h_(m-1)))
//   Estimate   the exact gradient of that sum, where stop(h) is a number: not the gradient of the last loss
//   State      none
//   Choice     of a language model every module predicts the next token through the model's own last norm and head, as
//              heads of their own would be larger than the modules; these have the gradients of all modules' losses.
//              The papers' auxiliary networks are small convolutions and a classifier a module
#include "methods/estimator.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number(
        "modules", 4, 2, 4096,
        "that the blocks are cut into, as even as it goes; one a block where none is given and there are fewer"),
};

LocalModules modules(const OptionValues& options) { return {.count = static_cast<int64_t>(options["modules"])}; }

}  // namespace

const Estimator kLocal = {.name = "local",
                          .summary = "modules of blocks with losses of their own; activations of one are kept",
                          .paper = "Nokland and Eidnes 2019",
                          .options = kOptions,
                          .modules = modules};

}  // namespace thimble
