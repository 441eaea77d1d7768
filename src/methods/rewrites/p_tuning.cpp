// P-tuning: prompt tuning whose embeddings an encoder makes while it trains.
//
//   Paper   Liu et al. 2021, arXiv:2103.10385, section 3.2
//   Graph   P = relu(relu(E W1^T + b1) W2^T + b2) W3^T + b3, put at positions 0 .. tokens - 1 as prompt_tuning's table
//   Adds    E [tokens, width], standard normal; W [width, width] and b [width], uniform up to 1 / sqrt(width), as in
//           PEFT, whose encoder is this MLP unless an LSTM is asked for
//   Names   an adapter holds P alone, "prompt_embeddings", as PEFT's: a step ends with computing it anew. Another run
//           cannot go on from that; --resume can, as checkpoints hold the encoder.
#include <array>
#include <cmath>

#include "methods/rewrites/virtual_tokens.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr PeftField kFields[] = {kVirtualTokensField};
constexpr int kLayers = 3;

// What the encoder reads, and its layers' weights and biases.
struct Encoder {
  ValueId tokens = kNone;
  std::array<std::pair<ValueId, ValueId>, kLayers> layers = {};
};

// Of a function that gives a value by its suffix.
template <class Find>
Encoder encoder(const Find& find) {
  Encoder e{.tokens = find("encoder.embedding")};
  for (int i = 0; i < kLayers; ++i)
    e.layers[static_cast<size_t>(i)] = {find(fmt::format("encoder.{}.weight", i)),
                                        find(fmt::format("encoder.{}.bias", i))};
  return e;
}

ValueId encode(Graph& graph, const Encoder& e, const std::string& name) {
  ValueId x = e.tokens;
  for (size_t i = 0; i < kLayers; ++i) {
    const auto [weight, bias] = e.layers[i];
    const std::string layer = fmt::format("{}.{}", name, i);
    x = graph.emit(kLinear, LinearAttributes{.codec = &kF32}, {x, weight, bias, kNone}, layer);
    if (i + 1 == kLayers) break;
    PointwiseBuilder b;
    b.output(max(b.tensor(), 0));
    x = graph.emit(kPointwise, b.attributes(), {x}, layer + ".relu");
  }
  return x;
}

ValueId embed(ModuleRewrite& m, ValueId, ValueId rows) {
  const Shape table{virtual_tokens_of(m), m.in};
  const ValueId prompt = m.add(kPromptEmbeddings, table, Initial::constant(0),
                               {.trained = false, .alone = kPromptEmbeddings, .computed = m.trains()});
  if (!m.trains()) return with_prompt(m, rows, prompt);
  const Initial weights = Initial::uniform(1 / std::sqrt(static_cast<float>(m.in)));
  const Encoder e = encoder([&](const std::string& suffix) {
    if (suffix.ends_with("embedding")) return m.add(suffix, table, Initial::normal(1), {.saved = false});
    return m.add(suffix, suffix.ends_with("bias") ? Shape{m.in} : Shape{m.in, m.in}, weights, {.saved = false});
  });
  return with_prompt(m, rows, encode(m.graph, e, m.name("encoded")));
}

void end_step(Graph& graph, const AdaptedModule& module) {
  const std::string of = module.scope + module.owner + ".";
  const ValueId now =
      encode(graph, encoder([&](const std::string& suffix) { return graph.latest(graph.find(of + suffix)); }),
             "encoded.saved");
  PointwiseBuilder b;
  const Expr saved = b.tensor();
  b.store(saved, b.tensor());
  const ValueId prompt = graph.add_value(of + std::string(kPromptEmbeddings), {graph.value(now).type.shape},
                                         Role::state, Initial::constant(0));
  graph.emit(kPointwise, b.attributes(), {prompt, now}, "saved." + std::string(kPromptEmbeddings));
}

}  // namespace

const Rewrite kPTuning = {.name = "p_tuning",
                          .summary = "prompt tuning whose embeddings an encoder makes while it trains",
                          .paper = "arXiv:2103.10385",
                          .options = kVirtualTokensOptions,
                          .embed = embed,
                          .virtual_tokens = virtual_tokens,
                          .targets = "embed_tokens",
                          .not_continued =
                              "its file holds what an encoder made in training, and not the encoder; go on with "
                              "--resume where its run is",
                          .not_merged = kVirtualTokensNotMerged,
                          .end_step = end_step,
                          .form = {.type = "P_TUNING", .fields = kFields, .harmless = kPromptHarmless}};

}  // namespace thimble
