// Forward-forward: modules of blocks that learn to have much goodness for text as it is and little for text that is
// wrong in places; no gradient passes from one to another, and none from what is predicted to any of them.
//
//   Paper      Hinton 2022, arXiv:2212.13345, sections 2, 3.2 and 3.4; collaborate: Lorberbom et al. 2023,
//              arXiv:2305.12393; backpropagation within a module of several layers: Krutsylo 2025, arXiv:2501.03176
//   Goodness   g_m = |d|^2 / mean(stop(h)^2) of each row, d [width] what module m adds to h, the residual stream
//   Loss       sum over modules and rows of -log sigmoid(g_m + c_m - t) of the text, and of -log sigmoid(t - g_m - c_m)
//              where a hybrid of the text is wrong, t = threshold * width;  c_m = 0, or with collaborate the goodness
//              of all other modules as a number;  and CE(head(norm(stop(h)))), which trains the last norm and the head
//   Estimate   the exact gradient of that sum, where stop(h) is a number
//   State      none
//   Choice     the embedded text is data, and a number to the first module. Hinton norms the vector that a layer hands
//              on, so that the next reads nothing of its goodness; blocks norm what they read, and the length of the
//              stream, which stays as it is, is taken out of the goodness. A block is the least module: its layers have
//              the backward pass through the block. What is predicted is read by the head, the softmax that Hinton
//              trains beside the goodness; Krutsylo's prediction by the goodness of classes needs layers for them
#include "methods/estimator.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number(
        "modules", 4, 1, 4096,
        "that the blocks are cut into, as even as it goes; one a block where none is given and there are fewer"),
    {"threshold", 0.3, 0, 1e6,
     "of the goodness, in units of the width, that text is to exceed and hybrids to fall below"},
    {"replaced", 0.15, 0.001, 1, "part of the tokens of a hybrid that are earlier ones of its text"},
    zero_or_one("collaborate", 0, "1: the goodness of the other modules is added to a module's, as a number"),
};

LocalModules modules(const OptionValues& options) {
  return {.count = static_cast<int64_t>(options["modules"]),
          .goodness = Goodness{.threshold = options["threshold"],
                               .replaced = options["replaced"],
                               .collaborates = options["collaborate"] > 0}};
}

}  // namespace

const Estimator kForwardForward = {
    .name = "forward_forward",
    .summary = "modules of blocks that tell text from text that is wrong in places; activations of one are kept",
    .paper = "Hinton 2022",
    .options = kOptions,
    .modules = modules};

}  // namespace thimble
