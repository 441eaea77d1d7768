#include "methods/optimizer.h"

#include <array>
#include <cmath>

#include "core/nearest.h"

namespace thimble {
namespace {

constexpr std::array kOptimizers = {&kAdamw, &kLion,   &kSgd,     &kAdafactor, &kApollo, &kApolloMini,   &kGalore,
                                    &kLamb,  &kMuon,   &kSpam,    &kSoap,      &kCosmos, &kCame,         &kAdamMini,
                                    &kLars,  &kSgdSai, &kProdigy, &kFira,      &kFrugal, &kNaturalGalore};

}  // namespace

std::span<const Optimizer* const> optimizers() { return kOptimizers; }

StateSpec coded(StateSpec state, const Codec& codec) {
  if (!state.any_codec || state.codec != &kF32 || state.shape.count() < kLeastCoded || &codec == &kF32) return state;
  state.codec = &codec;
  if (state.squares && codec.block > 1) state.initial = std::sqrt(state.initial);
  if (state.shape.columns() % codec.block != 0) state.shape = {state.shape.count()};
  return state;
}

Result<const Optimizer*> optimizer_named(std::string_view name) {
  return find_named("--optimizer", "optimizer", optimizers(), name);
}

}  // namespace thimble
