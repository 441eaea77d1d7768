// MAN, momentum auxiliary network: local learning whose modules hear from the next one by an average of its weights.
//
//   Paper      Su et al. 2024, arXiv:2407.05623, section 3; the authors' code (JunhaoSu0/MAN, forward of
//              InfoProResNet)
//   Loss       as local, with h_m + h'_m in place of h_m: both are of the module's output x, A(x) + B(x), A the next
//              module's first block with averaged weights, B a block of the same kind that learns (the "learnable
//              bias")
//   Average    e <- momentum e + (1 - momentum) w after every step, of the weights w of the block as it began; no
//              gradient reaches e, but one passes through A to the module
//   State      e, shape of one block for each module but the last; B is trained, and begins as the next block too
//   Choice     the classifier behind A + B is the model's last norm and head (local.cpp). Their loss by reconstruction
//              of the image, and its weights by module, are InfoPro's and not here. A and B are thrown away with the
//              run
#include "methods/estimator.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number(
        "modules", 4, 2, 4096,
        "that the blocks are cut into, as even as it goes; one a block where none is given and there are fewer"),
    {"momentum", 0.995, 0, 1, "of the average of the next block's weights"},
};

LocalModules modules(const OptionValues& options) {
  return {.count = static_cast<int64_t>(options["modules"]), .momentum = options["momentum"]};
}

}  // namespace

const Estimator kMan = {.name = "man",
                        .summary = "local learning whose modules hear from the next block by an average of its weights",
                        .paper = "Su et al. 2024",
                        .options = kOptions,
                        .modules = modules};

}  // namespace thimble
