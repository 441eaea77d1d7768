// LoRA that trains rows of the embedding beside it: PEFT has both in one folder (trainable_token_indices), here they
// are two techniques.
#pragma once

#include <vector>

#include "adapters/adapter.h"

namespace thimble {

// Takes trainable_token_indices off a configuration; what is left is of the technique alone. Gives the configuration of
// the tokens' own, null where the field says nothing. Refuses different tokens for different modules.
Result<nlohmann::ordered_json> take_token_indices(nlohmann::ordered_json& config, const std::string& source);

// Takes the tokens' rows off an adapter: a second one that reads them, from the same file.
Result<Adapter> take_tokens(Adapter& adapter, nlohmann::ordered_json config);

}  // namespace thimble
