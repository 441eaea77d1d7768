// The steps of a model whose blocks find a label's embedding e behind noise (Architecture::denoises).
//
//   Paper   Li et al. 2025, arXiv:2503.24322, section 2; the posterior is that of Ho et al. 2020, arXiv:2006.11239,
//           eq. 7
//   Noise   z_t = sqrt(s_t) e + sqrt(1 - s_t) n,  s_t = sin^2(pi/2 t / (T+1)),  t = 0 .. T: of z_0 nothing is e's
//   Step    the mean of z_t, given z_(t-1) and e:  a_t e + b_t z_(t-1);  with r = s_(t-1) / s_t
//           a_t = sqrt(s_t) (1 - r) / (1 - s_(t-1)),  b_t = sqrt(r) (1 - s_t) / (1 - s_(t-1))
//   Choice  z_0 is 0 and steps add no noise of their own, so that a model says the same of a text at every time
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>

#include "models/build.h"

namespace thimble {

// s_t of T steps.
inline double denoising_signal(int64_t t, int64_t steps) {
  const double sine = std::sin(std::numbers::pi / 2 * static_cast<double>(t) / static_cast<double>(steps + 1));
  return sine * sine;
}

struct DenoisingStep {
  double a, b;
};
inline DenoisingStep denoising_step(int64_t t, int64_t steps) {
  const double before = denoising_signal(t - 1, steps), now = denoising_signal(t, steps), r = before / now;
  return {std::sqrt(now) * (1 - r) / (1 - before), std::sqrt(r) * (1 - now) / (1 - before)};
}

// What the first block reads: the embedded text x, of mean square 1 as the noise is. Begins model.reads; `scope` is
// before names.
ValueId begin_denoising(Graph& graph, BuiltModel& model, ValueId x, const std::string& scope);
// What is read behind the next of so many steps, given what its block made; z becomes that of the step. In `codec`.
ValueId denoised(Graph& graph, BuiltModel& model, ValueId& z, int64_t steps, ValueId made, const Codec& codec,
                 const std::string& scope);

}  // namespace thimble
