// Every field that transformers documents for a family's config.json changes the model when it is changed, is refused
// by its name, or is known to change nothing, with a reason.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/warnings.h"
#include "files/file.h"
#include "memory_model.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

struct Outcome {
  bool changes = false;
  std::string error;
  FieldNote meaning;
};

// What reading `config` gives, beside the architecture `before`.
Outcome outcome(const Family& family, const Json& config, const std::string& field, const Architecture& before) {
  const JsonFields fields = *JsonFields::of(config, "config.json");
  HfFields reader(family.sizes, fields);
  Architecture a;
  family.config(reader, a);
  Outcome out{.meaning = reader.meaning(field)};
  if (const auto result = reader.result(); !result) {
    out.error = result.error().message;
  } else {
    a.family = before.family;
    const auto whole = parse_config(config.dump(), "config.json");
    if (!whole) out.error = whole.error().message;
    out.changes = !(a == before);
  }
  return out;
}

// Other values of the field than it has.
std::vector<Json> probes(const Json& value) {
  if (value.is_boolean()) return {!value.get<bool>()};
  if (value.is_number_integer()) return {value.get<int64_t>() + 1, value.get<int64_t>() * 2 + 2, 4};
  if (value.is_number()) return {value.get<double>() * 2 + 0.125};
  if (value.is_string()) return {"probe", "relu"};
  return {true, false, 3, 0.5, "probe", Json::array({3})};
}

// What a field needs beside it to count: other fields switch it on.
struct Beside {
  const char *family, *field, *json;
};
constexpr const char* kQwenWindows = R"({"use_sliding_window": true, "max_window_layers": 1})";
constexpr Beside kBeside[] = {
    {"qwen2", "max_window_layers", kQwenWindows},
    {"qwen2", "sliding_window", kQwenWindows},
    {"qwen2", "use_sliding_window", kQwenWindows},
    {"qwen3", "max_window_layers", kQwenWindows},
    {"qwen3", "sliding_window", kQwenWindows},
    {"qwen3", "use_sliding_window", kQwenWindows},
    {"qwen3_moe", "sliding_window", R"({"use_sliding_window": true})"},
    {"qwen3_moe", "use_sliding_window", R"({"use_sliding_window": true})"},
    {"smollm3", "no_rope_layer_interval", R"({"no_rope_layer_interval": 2})"},
    {"smollm3", "sliding_window", R"({"use_sliding_window": true, "no_rope_layer_interval": 2})"},
    {"smollm3", "use_sliding_window", R"({"use_sliding_window": true, "no_rope_layer_interval": 2})"},
    {"exaone4", "sliding_window_pattern", R"({"sliding_window": 8, "sliding_window_pattern": 2})"},
    {"gemma3_text", "_sliding_window_pattern", R"({"_sliding_window_pattern": 2})"},
    {"falcon", "num_kv_heads", R"({"new_decoder_architecture": true})"},
    {"phi3", "original_max_position_embeddings",
     R"({"original_max_position_embeddings": 8, "rope_parameters": {"rope_type": "longrope", "rope_theta": 5000,
         "short_factor": [1, 1, 1, 1], "long_factor": [2, 2, 2, 2]}})"},
};

Json config_for(const std::string& family, const std::string& field) {
  Json config = tiny_config(family);
  for (const Beside& beside : kBeside)
    if (beside.family == family && beside.field == field) config.update(Json::parse(beside.json));
  return config;
}

class ConfigFields : public ::testing::TestWithParam<const Family*> {};

TEST_P(ConfigFields, are_honoured_harmless_or_refused) {
  const Family& family = *GetParam();
  const std::string name(family.name);
  listen_for_warnings([](const std::string&) {});
  const Json all = *read_json_file(THIMBLE_CONFIG_FIELDS);
  ASSERT_TRUE(all.contains(name)) << "tools/config_fields.py makes the list";
  for (const auto& [field, otherwise] : all[name].items()) {
    if (field == "model_type") continue;
    SCOPED_TRACE(field);
    const Json base = config_for(name, field);
    const Architecture before = *parse_config(base.dump(), "config.json");
    bool changes = false, refused = false;
    FieldNote meaning;
    for (const Json& value : probes(base.contains(field) ? base[field] : otherwise)) {
      Json config = base;
      config[field] = value;
      const Outcome out = outcome(family, config, field, before);
      meaning = out.meaning;
      changes |= out.changes;
      refused |= out.error.find("'" + field + "'") != std::string::npos || out.error.find(field) != std::string::npos;
    }
    if (changes || refused) continue;
    EXPECT_EQ(meaning.meaning, FieldMeaning::harmless) << "changes nothing, and nothing is said";
    EXPECT_FALSE(meaning.why.empty());
  }
  listen_for_warnings({});
}

INSTANTIATE_TEST_SUITE_P(Families, ConfigFields, ::testing::ValuesIn(families().begin(), families().end()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST(ConfigFields, unknown_ones_are_said) {
  std::string said;
  listen_for_warnings([&](const std::string& text) { said += text; });
  Json config = tiny_config("llama");
  config["next_years_field"] = 3;
  ASSERT_TRUE(parse_config(config.dump(), "a config with a new field"));
  listen_for_warnings({});
  EXPECT_THAT(said, HasSubstr("'next_years_field'"));
}

TEST(ConfigFields, of_rope_are_refused_by_name) {
  for (const char* field : {"mrope_section", "long_mscale", "alpha"}) {
    Json config = tiny_config("llama");
    config["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 2}, {field, 1.5}};
    const auto read = parse_config(config.dump(), "config.json");
    ASSERT_FALSE(read) << field;
    EXPECT_THAT(read.error().message, HasSubstr("'" + std::string(field) + "' is set"));
  }
}

// Every expert has tensors of its own: their number is bounded before they are listed.
TEST(ConfigFields, more_experts_than_can_be_are_refused) {
  Json config = tiny_config("mixtral");
  config["num_hidden_layers"] = 4096, config["num_local_experts"] = 4096;
  const auto read = parse_config(config.dump(), "config.json");
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().message, HasSubstr("number of experts"));
}

TEST(ConfigFields, extents_are_refused_by_the_names_of_the_file) {
  struct Case {
    const char *family, *field;
    int64_t value;
  };
  for (const Case& c :
       {Case{"llama", "num_attention_heads", 0}, Case{"llama", "num_hidden_layers", -2}, Case{"llama", "vocab_size", 0},
        Case{"llama", "intermediate_size", -1}, Case{"gpt2", "n_embd", -12}, Case{"bloom", "n_head", 0},
        Case{"opt", "ffn_dim", 0}, Case{"llama", "num_key_value_heads", 2}, Case{"llama", "head_dim", 3},
        Case{"gpt2", "n_positions", -1}, Case{"mistral", "sliding_window", -5}}) {
    Json config = tiny_config(c.family);
    config[c.field] = c.value;
    const auto read = parse_config(config.dump(), "config.json");
    ASSERT_FALSE(read) << c.family << " " << c.field;
    EXPECT_THAT(read.error().message, HasSubstr(c.field));
  }
}

}  // namespace
}  // namespace thimble
