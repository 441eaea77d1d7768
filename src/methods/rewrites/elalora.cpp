// ElaLoRA: AdaLoRA's layers, whose ranks move from layers where they matter least to those where they matter most.
//
//   Paper   Chang et al. 2025, arXiv:2504.00254, section 3
//   Graph   as AdaLoRA's: y = x W^T + s (dropout(x) A^T) (B diag(E))^T, s = alpha / (init_rank + 1e-5)
//   Adds    A, E, B of `init_rank` ranks, of which `rank` are there at first: the others have an E of zero
//   Names   as PEFT's AdaLoRA; an adapter does not tell by which of them it was made
//   Trains  with what goes around the optimizer (elalora_moves.cpp)
//   Choice  a layer has room for init_rank ranks and no more, which the plan needs to know; the authors' grow without a
//           bound. A rank is there where its E is not zero; one that begins has 1e-13, as in the authors' code
#include "methods/rewrites/elalora.h"

#include "methods/rewrite.h"
#include "methods/rewrites/adalora.h"

namespace thimble {
namespace {

void adapt(ModuleRewrite& m) {
  const auto there = static_cast<int64_t>(m.option("rank"));
  const auto fill = [there](int64_t first, int64_t count, float* to) {
    for (int64_t i = 0; i < count; ++i) to[i] = first + i < there ? kFreshRank : 0;
  };
  adalora_scale(m, Initial::table(fill, fmt::format("{} fresh ranks", there)));
  adalora_adapt(m);
}

Result<void> check_run(const OptionValues& options, int64_t steps) {
  if (options["init_rank"] < options["rank"])
    return fail(ErrorCode::invalid_argument,
                "--method elalora: layers begin with {} ranks (--rank), more than the {} that they have room for "
                "(elalora.init_rank); give more room, or fewer to begin with",
                options["rank"], options["init_rank"]);
  const double total = options["total"] > 0 ? options["total"] : static_cast<double>(steps);
  if (total == 0 || options["tinit"] < total - options["tfinal"]) return {};
  return fail(ErrorCode::invalid_argument,
              "--method elalora: ranks move between elalora.tinit ({}) and elalora.total - elalora.tfinal ({}), and no "
              "step is; give smaller ones or more --steps",
              options["tinit"], total - options["tfinal"]);
}

}  // namespace

const Rewrite kElalora = {.name = "elalora",
                          .summary = "LoRA whose ranks move to the layers where they matter most",
                          .paper = "arXiv:2504.00254",
                          .rate = 50,
                          .options = kElaloraOptions,
                          .adapt = adapt,
                          .weight = adalora_weight,
                          .scales = true,
                          .check_run = check_run,
                          .wrapper = &kElaloraMoves,
                          .form = {.type = "ADALORA",
                                   .fields = adalora_fields(),
                                   .harmless = adalora_harmless(),
                                   .refused = adalora_refused(),
                                   .init_field = "init_lora_weights",
                                   .alias = true}};

}  // namespace thimble
