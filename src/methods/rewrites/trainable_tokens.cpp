// Trainable tokens: the rows of some tokens train, all else stays as it is.
//
//   Source  PEFT 0.18, tuners/trainable_tokens; no paper
//   Graph   rows of the embedding whose token is among them are those of the trained table; where the head is the
//           embedding, its rows too
//   Adds    [tokens, width], which begins with the rows of the model
//   Names   as PEFT's: "<module>.trainable_tokens_delta", which holds the rows themselves
//   Choice  where the head is the embedding, its changed weight is made whole, in f32: the plan shows it
#include <set>

#include "methods/rewrite.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr std::string_view kDelta = "trainable_tokens_delta";

constexpr Option kOptions[] = {{"tokens", 0, 0, 1 << 24, "ids of the tokens", Option::Kind::whole_numbers}};
constexpr PeftField kFields[] = {{"token_indices", "tokens", PeftField::Kind::list}};

std::vector<int64_t> tokens_of(const AdaptedModule& module) {
  const std::vector<double>& list = module.options.list("tokens");
  return {list.begin(), list.end()};
}

Result<void> check(const OptionValues& options, int64_t, int64_t vocabulary) {
  const std::vector<double>& tokens = options.list("tokens");
  if (tokens.empty())
    return fail(ErrorCode::invalid_argument, "no token is named; give --set trainable_tokens.tokens=ID|ID|...");
  std::set<double> seen;
  for (const double token : tokens)
    if (token >= static_cast<double>(vocabulary) || !seen.insert(token).second)
      return fail(ErrorCode::invalid_argument, "token {} is {}; expected ids from 0 to {}, each once", token,
                  token < static_cast<double>(vocabulary) ? "named twice" : "not in the vocabulary", vocabulary - 1);
  return {};
}

ValueId delta(ModuleRewrite& m) {
  return m.add(kDelta, {static_cast<int64_t>(tokens_of(m.module).size()), m.in}, {}, {.derived = true});
}

ValueId embed(ModuleRewrite& m, ValueId ids, ValueId rows) {
  return m.graph.emit(kReplaceRows, ReplaceRowsAttributes{tokens_of(m.module), m.attributes.codec},
                      {rows, ids, delta(m)}, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  const int64_t first = m.merged < 0 ? 0 : m.first, count = m.merged < 0 ? m.out : m.merged;
  const std::string table = fmt::format("rows {} to {}", first, first + count);
  const auto fill = [first](int64_t at, int64_t some, float* to) {
    for (int64_t e = 0; e < some; ++e) to[e] = static_cast<float>(first + at + e);
  };
  const ValueId ids = m.constant(table, {count}, Initial::table(fill, table), &kI32);
  return m.graph.emit(kReplaceRows, ReplaceRowsAttributes{tokens_of(m.module)}, {m.w, ids, delta(m)},
                      m.module.name + ".tokens_W");
}

std::vector<std::pair<std::string_view, ValueId>> begin(ModuleRewrite& m) {
  PointwiseBuilder b;
  b.output(b.tensor());
  return {{kDelta, m.graph.emit(kPointwise, b.attributes(), {m.w}, m.name("rows"))}};
}

}  // namespace

const Rewrite kTrainableTokens = {
    .name = "trainable_tokens",
    .summary = "the embedding's rows of some tokens train",
    .paper = "PEFT",
    .rate = 1,
    .options = kOptions,
    .weight = weight,
    .embed = embed,
    .targets = "embed_tokens",
    .with_tied_head = true,
    .check = check,
    .begin = begin,
    .begin_rows = tokens_of,
    .form = {.type = "TRAINABLE_TOKENS", .fields = kFields, .init_field = "init_weights"}};

}  // namespace thimble
