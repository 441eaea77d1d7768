#include "plan/pass_programs.h"

#include "graph/with_tokens.h"
#include "methods/objective.h"
#include "plan/taps.h"

namespace thimble {
namespace {

Result<void> take_to(int64_t rows, Graph& graph) {
  graph = TRY(with_tokens(std::move(graph), rows));
  return {};
}

}  // namespace

Result<PassPrograms> PassBuilder::build(const Pass& pass) {
  const bool barrier = spec_.clip > 0 || passes_a_step(spec_, pass.rows) > 1 || spec_.judges_gradients ||
                       spec_.optimizer->total != Total::none || !spec_.estimator->differentiates();
  const auto [found, fresh] = built_.try_emplace({barrier, pass.keep_logits});
  if (fresh) found->second = {pass.rows, TRY(build_anew(pass, barrier))};
  PassPrograms out = found->second.programs;
  if (pass.rows == found->second.rows) return out;
  CHECK_OK(take_to(pass.rows, out.train.graph));
  for (Program& program : out.programs) CHECK_OK(take_to(pass.rows, program.graph));
  for (PlannedVariant& variant : out.variants) CHECK_OK(take_to(pass.rows, variant.train.graph));
  return out;
}

Result<PassPrograms> PassBuilder::build_anew(const Pass& pass, bool barrier) const {
  PassPrograms out;
  out.train = TRY(build_training(spec_, pass.rows, barrier, {.keep_logits = pass.keep_logits}));
  if (spec_.evaluates) out.programs.push_back(TRY(evaluation(pass.rows, out.train)));
  if (spec_.estimator->moves_in_place(spec_.estimator_options))
    out.programs.push_back({.prefix = kPerturbation, .graph = TRY(build_perturbation(spec_, out.train))});
  out.variants = variants_of(spec_);
  for (PlannedVariant& variant : out.variants)
    variant.train = TRY(build_training(spec_, pass.rows, barrier, {variant.names, pass.keep_logits}));
  return out;
}

Result<Program> PassBuilder::evaluation(int64_t rows, const TrainingGraph& train) const {
  Program out{.prefix = kEvaluation, .multiply = spec_.multiply};
  BuildOptions options{.prefix = kEvaluation, .rows = rows, .positions = spec_.context, .activation = spec_.activation};
  options.codec = [&](const std::string& name, const Shape&) {
    const Codec* codec = spec_.stored(name);
    return codec && spec_.trains_weights() && !train.frozen.contains(name) ? &kF32 : codec;
  };
  const BuiltModel model = TRY(build_model(out.graph, spec_.architecture, options));
  CHECK_OK(out.passes.end("model", out.graph));
  const TokenLoss tokens = add_token_loss(out.graph, model, {.prefix = options.prefix});
  if (spec_.architecture.labels) add_logits(out.graph, model, kEvalScores);
  add_objective(out.graph, evaluated_objective(*spec_.objective), spec_.objective_options, options.prefix,
                {tokens.nll, model.starts, tokens.targets, tokens.scale, head_of(model)});
  CHECK_OK(out.passes.end(fmt::format("objective {}", evaluated_objective(*spec_.objective).name), out.graph));
  out.graph = TRY(rewrite_model(std::move(out.graph), spec_.rewrites, RewriteUse::evaluate, out.passes,
                                taps_of(model, spec_.architecture, options)))
                  .graph;
  if (!spec_.optimizer->evaluated) return out;
  out.graph = with_evaluated(out.graph, spec_, train.parameters);
  CHECK_OK(out.passes.end(fmt::format("weights as {} evaluates", spec_.optimizer->name), out.graph));
  return out;
}

}  // namespace thimble
