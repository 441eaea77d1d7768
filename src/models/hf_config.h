// config.json of Hugging Face: to an Architecture and back.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "files/json.h"
#include "models/architecture.h"

namespace thimble {

// Reads a bare config.json, of which the defaults of transformers fill the gaps. The result is checked.
Result<Architecture> architecture_from_config(const std::string& path);
// The same of its text; `source` names it in messages.
Result<Architecture> parse_config(std::string_view text, const std::string& source);

struct SpecialIds {
  std::optional<int64_t> bos;
  std::vector<int64_t> eos;  // any of them ends a text
  std::optional<int64_t> pad;
};
// Those that a config.json names.
Result<SpecialIds> special_ids_from_config(const std::string& path);

struct ConfigExtras {
  std::string dtype = "float32";  // of the weights, as PyTorch calls it
  SpecialIds ids;
  JsonBox<nlohmann::ordered_json> quantization = {};  // "quantization_config"; null: there is none
};

// A config.json that transformers opens and that parse_config() reads back to the same architecture, but for the
// layout of rope: the file means halves, and the writer of the weights sees to that.
Result<std::string> config_text(const Architecture& architecture, const ConfigExtras& extras);

}  // namespace thimble
