// What techniques share that put virtual tokens before every sequence. Their rows are at positions 0 .. tokens - 1 and
// belong to id 0, whose values the technique replaces where they matter.
#pragma once

#include "methods/rewrite.h"

namespace thimble {

inline constexpr std::string_view kPromptEmbeddings = "prompt_embeddings";
inline constexpr Option kVirtualTokensOptions[] = {
    whole_number("tokens", 20, 1, 4096, "virtual tokens before the text")};
inline constexpr PeftField kVirtualTokensField = {"num_virtual_tokens", "tokens", PeftField::Kind::whole, {}, 20};
inline constexpr std::string_view kOfTheModel = "the model says it";
inline constexpr std::string_view kOfTheBeginning = "it says how values began";
inline constexpr std::string_view kOfTheEncoder = "it is of the encoder in training, whose result the file holds";
// Of adapters that hold a prompt's embeddings, however these were made.
inline constexpr PeftNote kPromptHarmless[] = {{"token_dim", kOfTheModel},
                                               {"num_attention_heads", kOfTheModel},
                                               {"num_layers", kOfTheModel},
                                               {"num_transformer_submodules", kOfTheModel},
                                               {"prompt_tuning_init", kOfTheBeginning},
                                               {"prompt_tuning_init_text", kOfTheBeginning},
                                               {"tokenizer_name_or_path", kOfTheBeginning},
                                               {"tokenizer_kwargs", kOfTheBeginning},
                                               {"encoder_reparameterization_type", kOfTheEncoder},
                                               {"encoder_hidden_size", kOfTheEncoder},
                                               {"encoder_num_layers", kOfTheEncoder},
                                               {"encoder_dropout", kOfTheEncoder}};
inline constexpr std::string_view kVirtualTokensNotMerged =
    "puts virtual tokens before the text, which no weight of the model comes to";

int64_t virtual_tokens(const OptionValues& options);
int64_t virtual_tokens_of(const ModuleRewrite& m);
// `rows` with those of virtual tokens taken from an f32 table [tokens, width].
ValueId with_virtual_rows(ModuleRewrite& m, ValueId rows, ValueId table, std::string name);
// The same of a prompt as the model reads it: where an embedding multiplies its rows (row_scale), these are not its
// rows.
ValueId with_prompt(ModuleRewrite& m, ValueId rows, ValueId prompt);

}  // namespace thimble
