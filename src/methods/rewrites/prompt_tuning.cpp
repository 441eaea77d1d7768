// Prompt tuning: trained rows before every sequence, in place of the embeddings of virtual tokens.
//
//   Paper   Lester et al. 2021, arXiv:2104.08691
//   Graph   rows at positions 0 .. tokens - 1 are those of a trained table; the text follows from position `tokens` on
//   Adds    [tokens, width], which begins with the rows of tokens that are drawn from the most frequent ones
//   Names   as PEFT's: "prompt_embeddings"
//   Choice  as PEFT does, the last virtual token predicts the first of the text. Tokens are drawn from the first 5000
//           of the vocabulary, which tokenizers order by frequency (the paper's section 3.2 draws from the most common)
#include <numeric>

#include "core/random.h"
#include "methods/rewrites/virtual_tokens.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr PeftField kFields[] = {kVirtualTokensField};

ValueId embed(ModuleRewrite& m, ValueId, ValueId rows) {
  const ValueId prompt =
      m.add(kPromptEmbeddings, {virtual_tokens_of(m), m.in}, {}, {.derived = true, .alone = kPromptEmbeddings});
  return with_prompt(m, rows, prompt);
}

// Different tokens, of the first ones.
std::vector<int64_t> begin_rows(const AdaptedModule& module) {
  constexpr int64_t kFrequent = 5000;
  const auto tokens = static_cast<int64_t>(module.options["tokens"]);
  std::vector<int64_t> order(static_cast<size_t>(std::min(module.whole, std::max(kFrequent, tokens))));
  std::iota(order.begin(), order.end(), int64_t{0});
  const Random random(0, "tokens that virtual ones begin with");
  std::vector<int64_t> drawn;
  for (int64_t i = 0; i < tokens; ++i) {
    const auto at = static_cast<size_t>(i) % order.size();
    std::swap(order[at], order[at + random.below(static_cast<uint64_t>(i), order.size() - at)]);
    drawn.push_back(order[at]);
  }
  return drawn;
}

std::vector<std::pair<std::string_view, ValueId>> begin(ModuleRewrite& m) {
  PointwiseBuilder b;
  b.output(b.tensor() * m.module.row_scale);
  return {{kPromptEmbeddings, m.graph.emit(kPointwise, b.attributes(), {m.w}, m.name("rows"))}};
}

}  // namespace

int64_t virtual_tokens(const OptionValues& options) { return static_cast<int64_t>(options["tokens"]); }
int64_t virtual_tokens_of(const ModuleRewrite& m) { return virtual_tokens(m.module.options); }

ValueId with_virtual_rows(ModuleRewrite& m, ValueId rows, ValueId table, std::string name) {
  ReplaceRowsAttributes attributes{std::vector<int64_t>(static_cast<size_t>(virtual_tokens_of(m))),
                                   m.graph.value(rows).type.codec};
  std::iota(attributes.tokens.begin(), attributes.tokens.end(), int64_t{0});
  return m.graph.emit(kReplaceRows, attributes, {rows, m.positions, table}, std::move(name));
}

ValueId with_prompt(ModuleRewrite& m, ValueId rows, ValueId prompt) {
  if (m.module.row_scale == 1) return with_virtual_rows(m, rows, prompt, m.name("with_prompt"));
  PointwiseBuilder b;
  b.output(b.tensor() * (1 / m.module.row_scale));
  const ValueId unscaled = m.graph.emit(kPointwise, b.attributes(), {prompt}, m.name("prompt"));
  return with_virtual_rows(m, rows, unscaled, m.name("with_prompt"));
}

const Rewrite kPromptTuning = {.name = "prompt_tuning",
                               .summary = "embeddings of virtual tokens before the text train",
                               .paper = "arXiv:2104.08691",
                               .rate = 50,
                               .options = kVirtualTokensOptions,
                               .embed = embed,
                               .virtual_tokens = virtual_tokens,
                               .targets = "embed_tokens",
                               .not_merged = kVirtualTokensNotMerged,
                               .begin = begin,
                               .begin_rows = begin_rows,
                               .form = {.type = "PROMPT_TUNING", .fields = kFields, .harmless = kPromptHarmless}};

}  // namespace thimble
