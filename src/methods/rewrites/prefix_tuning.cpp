// Prefix tuning: in every attention trained keys and values stand before those of the text.
//
//   Paper   Li and Liang 2021, arXiv:2101.00190
//   Graph   keys (after rotation) and values at positions 0 .. tokens - 1 of layer l are columns of one trained table
//   Adds    [tokens, layers * 2 * kv width]: for each layer its keys, then its values
//   Names   as PEFT's: "prompt_embeddings"
//   Choice  keys and values begin small, where PEFT has a deviation of 1. Rows of virtual tokens go through the model
//           like others, and what they give is not used. The table trains itself, without the paper's MLP in front;
//           adapters that PEFT trained with one hold what it made
#include "methods/rewrites/virtual_tokens.h"
#include "ops/matrix.h"
#include "ops/table.h"

namespace thimble {
namespace {

constexpr PeftField kFields[] = {kVirtualTokensField};
constexpr PeftNote kHarmless[] = {
    {"token_dim", kOfTheModel},           {"num_attention_heads", kOfTheModel},
    {"num_layers", kOfTheModel},          {"num_transformer_submodules", kOfTheModel},
    {"prefix_projection", kOfTheEncoder}, {"encoder_hidden_size", kOfTheEncoder},
};

// Columns of the table as the model orders elements of heads: files have pair i at i and i + head_dim / 2.
ValueId interleaved(ModuleRewrite& m, ValueId x, int64_t head_dim, const std::string& name) {
  const int64_t width = m.graph.value(x).type.shape.columns();
  const auto fill = [head_dim](int64_t first, int64_t count, float* to) {
    for (int64_t e = first; e < first + count; ++e) {
      const int64_t head = e / head_dim, i = e % head_dim;
      to[e - first] = static_cast<float>(head * head_dim + i / 2 + i % 2 * (head_dim / 2));
    }
  };
  const std::string table = fmt::format("interleaved columns {} of {}", width, head_dim);
  const ValueId columns = m.constant(table, {width}, Initial::table(fill, table), &kI32);
  return m.graph.emit(kGather, GatherAttributes{GatherAttributes::Axis::columns}, {x, columns}, name);
}

// Of keys that are rotated, and that the model has in another order than files; 0: of others.
int64_t interleaved_head(const ModuleRewrite& m, ValueId keys) {
  const int made = m.graph.producer(keys);
  const bool rotated = made >= 0 && m.graph.nodes()[static_cast<size_t>(made)].op == &kRope;
  return rotated && m.module.interleaved ? m.module.head_dim : 0;
}

void attend(ModuleRewrite& m, int64_t layer, int64_t layers, ValueId& keys, ValueId& values) {
  const int64_t width = m.graph.value(keys).type.shape.columns(), head = interleaved_head(m, keys);
  const ValueId table = m.add(kPromptEmbeddings, {virtual_tokens_of(m), layers * 2 * width}, Initial::normal(0.02f),
                              {.alone = kPromptEmbeddings});
  const auto part = [&](int64_t which, const char* name) {
    const SliceAttributes columns{SliceAttributes::Axis::columns, (2 * layer + which) * width, width};
    return m.graph.emit(kSlice, columns, {table}, fmt::format("prefix.{}.{}", layer, name));
  };
  ValueId prefix = part(0, "keys");
  if (head > 0) prefix = interleaved(m, prefix, head, fmt::format("prefix.{}.keys.interleaved", layer));
  keys = with_virtual_rows(m, keys, prefix, fmt::format("prefix.{}.k", layer));
  values = with_virtual_rows(m, values, part(1, "values"), fmt::format("prefix.{}.v", layer));
}

}  // namespace

const Rewrite kPrefixTuning = {.name = "prefix_tuning",
                               .summary = "keys and values before those of the text train",
                               .paper = "arXiv:2101.00190",
                               .rate = 50,
                               .options = kVirtualTokensOptions,
                               .attend = attend,
                               .virtual_tokens = virtual_tokens,
                               .targets = "embed_tokens",
                               .not_merged = kVirtualTokensNotMerged,
                               .form = {.type = "PREFIX_TUNING", .fields = kFields, .harmless = kHarmless}};

}  // namespace thimble
