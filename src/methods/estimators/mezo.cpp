// MeZO: a gradient from two forward passes, in the memory of inference.
//
//   Paper      Malladi et al. 2023, arXiv:2305.17333, algorithms 1 and 2 (n-SPSA)
//   Estimate   g = (L(p + eps z) - L(p - eps z)) / (2 eps) * z,   z ~ N(0, I), the mean over `directions`
//   State      none: z is drawn again from (seed, step, name, element) wherever it is read
//   Options    one_sided  g = (L(p + eps z) - L(p)) / eps * z: one probe is where the parameters are anyway
//              sign, conservative, blocks: of the benchmark of Zhang et al. 2024, arXiv:2402.11592
//              sign       sign(g) is handed to the optimizer (their ZO-SGD-Sign); with --optimizer adamw the estimate
//              is
//                         their ZO-Adam
//              conservative  p, p - lr g and p + lr g: the step is taken that goes where the loss is least, as g, -g or
//                         none (their ZO-SGD-Cons; other optimizers are handed that gradient)
//              sparsity   the largest numbers of every matrix neither move nor train (Sparse MeZO of Liu et al. 2024,
//                         arXiv:2402.15751, section 3.2); its threshold follows the matrix, by its mean square, where
//                         theirs is a percentile of the first weights
//              blocks     groups of layers with a direction and a derivative each (their block-wise ZO)
//   Choice     parameters are moved in place in the order p + eps z, p - eps z, p, as the authors' code moves them; the
//              losses compared are those of all micro-batches of the step. Rate: the authors train all weights at 1e-6
//              with SGD (their table 15), which is this factor of SGD's own 1e-2
#include "methods/estimator.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"epsilon", 1e-3, 1e-8, 10, "how far parameters are moved"},
    whole_number("directions", 1, 1, kMostDirections, "drawn a step; their gradients are averaged"),
    zero_or_one("one_sided", 0, "1: the loss at p + epsilon z is compared with that at p"),
    zero_or_one("sign", 0, "1: of the gradient only the sign"),
    zero_or_one("conservative", 0, "1: the step goes along, against or nowhere, where the loss is least"),
    whole_number("blocks", 1, 1, kMostDirections, "groups of layers, each with directions of its own"),
    {"sparsity", 0, 0, 0.99, "part of every matrix, its largest numbers, that does not train; the paper has 0.75"},
};

std::vector<Probe> probes(const OptionValues& options) {
  if (options["one_sided"] > 0) return {{1, 1}, {0, -1}};
  return {{1, 0.5}, {-1, -0.5}};
}

Expr direction(PointwiseBuilder& builder, uint64_t stream) { return builder.normal_noise(stream); }

Expr finish(Expr gradient, const OptionValues& options) { return options["sign"] > 0 ? sign(gradient) : gradient; }

int groups(const OptionValues& options) { return static_cast<int>(options["blocks"]); }
double sparsity(const OptionValues& options) { return options["sparsity"]; }
bool conservative(const OptionValues& options) { return options["conservative"] > 0; }

}  // namespace

const Estimator kMezo = {.name = "mezo",
                         .summary = "two forward passes along a random direction, in the memory of inference",
                         .paper = "Malladi et al. 2023",
                         .options = kOptions,
                         .probes = probes,
                         .direction = direction,
                         .finish = finish,
                         .groups = groups,
                         .sparsity = sparsity,
                         .conservative = conservative,
                         .rate = 1e-4,
                         .optimizer = "sgd"};

}  // namespace thimble
