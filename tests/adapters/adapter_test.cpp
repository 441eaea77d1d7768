// Adapters in files and in graphs of a model.
#include "adapters/adapter.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "adapted_graph.h"
#include "models/memory_model.h"
#include "temporary_folder.h"
#include "written_adapter.h"

namespace thimble {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

float element(int64_t i) { return static_cast<float>(i) + 0.5f; }

constexpr const char* kQ = "base_model.model.model.layers.1.self_attn.q_proj";

// One module of a model of tiny_architecture("llama"), rank 2.
std::vector<WrittenTensor> one_module(const std::string& module = kQ) {
  return {{module + ".lora_A.weight", {2, 12}, element}, {module + ".lora_B.weight", {12, 2}, element}};
}

TEST(Adapter, reads_options_of_each_module) {
  TemporaryFolder folder;
  auto tensors = one_module();
  for (const WrittenTensor& t : one_module("base_model.model.model.layers.0.self_attn.q_proj")) tensors.push_back(t);
  write_folder(folder.path(),
               R"({"peft_type":"LORA","r":2,"lora_alpha":16,"use_rslora":true,"target_modules":["q_proj"],
                   "alpha_pattern":{"layers.1.self_attn.q_proj":3}})",
               tensors);
  auto adapters = open_adapters(folder.path());
  ASSERT_TRUE(adapters) << adapters.error().message;
  const auto spec = rewrite_of(adapters->front(), tiny_architecture("llama"));
  ASSERT_TRUE(spec) << spec.error().message;
  ASSERT_EQ(spec->modules.size(), 2u);
  EXPECT_EQ(spec->modules.at("model.layers.0.self_attn.q_proj").options["alpha"], 16);
  EXPECT_EQ(spec->modules.at("model.layers.1.self_attn.q_proj").options["alpha"], 3);
  EXPECT_EQ(spec->modules.at("model.layers.1.self_attn.q_proj").options["rslora"], 1);
}

// However a tool prefixes its names.
TEST(Adapter, takes_names_with_any_prefix) {
  for (const char* name :
       {"base_model.model.model.layers.1.self_attn.q_proj", "base_model.model.layers.1.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj", "base_model.model.model.language_model.layers.1.self_attn.q_proj"}) {
    TemporaryFolder folder;
    write_folder(folder.path(), R"({"peft_type":"LORA","r":2,"target_modules":["q_proj"]})", one_module(name));
    auto adapters = open_adapters(folder.path());
    ASSERT_TRUE(adapters) << adapters.error().message;
    const auto spec = rewrite_of(adapters->front(), tiny_architecture("llama"));
    ASSERT_TRUE(spec) << name << ": " << spec.error().message;
    EXPECT_EQ(spec->modules.size(), 1u) << name;
  }
  EXPECT_EQ(tensor_key("base_model.model.lm_head.lora_A.default.weight"), "lm_head.lora_A.weight");
}

TEST(Adapter, refuses_one_of_another_model) {
  const auto refusal = [](const std::vector<WrittenTensor>& tensors, const char* targets = "\"all-linear\"") {
    TemporaryFolder folder;
    write_folder(folder.path(), fmt::format(R"({{"peft_type":"LORA","r":2,"target_modules":{}}})", targets), tensors);
    auto adapters = open_adapters(folder.path());
    if (!adapters) return adapters.error().message;
    const auto made = adapt(*adapters, tiny_architecture("llama"));
    return made ? std::string("was taken") : made.error().message;
  };
  EXPECT_EQ(refusal(one_module()), "was taken");
  EXPECT_THAT(refusal(one_module("base_model.model.model.layers.7.self_attn.q_proj")), HasSubstr("belongs to another"));
  EXPECT_THAT(refusal(one_module(), R"(["v_proj"])"), HasSubstr("do not name"));
  auto more = one_module();
  more.push_back({std::string(kQ) + ".lora_magnitude_vector", {12}});
  EXPECT_THAT(refusal(more), HasSubstr("lora_magnitude_vector' has no place"));
  more = one_module();
  more.pop_back();
  EXPECT_THAT(refusal(more), HasSubstr("lora_B.weight' is missing"));
  more = one_module();
  more.back().shape = {11, 2};
  EXPECT_THAT(refusal(more), HasSubstr("is [11, 2], this model needs [12, 2]"));
}

// Such an adapter applies as it is, but does not train on.
TEST(Adapter, that_lacks_layers_it_names_does_not_train_on) {
  const auto refusal = [](const char* layers) {
    TemporaryFolder folder;
    write_folder(folder.path(), fmt::format(R"({{"peft_type":"LORA","r":2,"target_modules":["q_proj"]{}}})", layers),
                 one_module());
    auto adapters = open_adapters(folder.path());
    if (!adapters) return adapters.error().message;
    const Architecture architecture = tiny_architecture("llama");
    const auto spec = rewrite_of(adapters->front(), architecture);
    if (!spec) return spec.error().message;
    const auto complete = check_complete(adapters->front(), *spec, architecture);
    return complete ? std::string("is complete") : complete.error().message;
  };
  EXPECT_THAT(refusal(""), HasSubstr("model.layers.0.self_attn.q_proj"));
  EXPECT_EQ(refusal(R"(,"layers_to_transform":[1])"), "is complete");
}

TEST(Adapter, channels_that_trained_have_a_tensor) {
  const auto refusal = [](const char* layers) {
    TemporaryFolder folder;
    write_folder(
        folder.path(),
        fmt::format(R"({{"peft_type":"S2FT","numbers":96,"target_modules":["o_proj"],"channels_pattern":{{{}}}}})",
                    layers),
        {{"base_model.model.model.layers.0.self_attn.o_proj.s2_D", {12, 4}, element}});
    auto adapters = open_adapters(folder.path());
    if (!adapters) return adapters.error().message;
    const auto made = adapt(*adapters, tiny_architecture("llama"));
    return made ? std::string("was taken") : made.error().message;
  };
  EXPECT_EQ(refusal(R"("model.layers.0.self_attn.o_proj":[0,1,2,3])"), "was taken");
  EXPECT_THAT(refusal(R"("model.layers.0.self_attn.o_proj":[0,1,2,3],"model.layers.1.self_attn.o_proj":[4,5,6,7])"),
              HasSubstr("has no tensor of it"));
}

// LoRA and rows of the embedding in one folder are two techniques.
TEST(Adapter, tokens_beside_lora_are_a_technique_of_their_own) {
  const auto open = [](const TemporaryFolder& folder, const char* tokens) {
    std::vector<WrittenTensor> tensors = one_module();
    tensors.push_back({"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", {2, 12}, element});
    write_folder(
        folder.path(),
        fmt::format(R"({{"peft_type":"LORA","r":2,"target_modules":["q_proj"],"trainable_token_indices":{}}})", tokens),
        tensors);
    return open_adapters(folder.path());
  };
  for (const char* tokens : {"[7,3]", R"({"embed_tokens":[7,3]})", R"({"embed_tokens":[7,3],"lm_head":[7,3]})"}) {
    SCOPED_TRACE(tokens);
    TemporaryFolder folder;
    auto adapters = open(folder, tokens);
    ASSERT_TRUE(adapters) << adapters.error().message;
    ASSERT_EQ(adapters->size(), 2u);
    EXPECT_EQ((*adapters)[0].rewrite, &kTrainableTokens) << "first, so that LoRA adds to what they make of the head";
    EXPECT_EQ((*adapters)[1].rewrite, &kLora);
    EXPECT_FALSE((*adapters)[1].config->contains("trainable_token_indices"));
    Architecture tied = tiny_architecture("llama");
    tied.tied = true;
    const auto made = adapt(*adapters, tied);
    ASSERT_TRUE(made) << made.error().message;
    const auto delta = std::ranges::find_if(made->tensors, [](const auto& t) { return t.value.ends_with("_delta"); });
    ASSERT_NE(delta, made->tensors.end());
    ASSERT_TRUE(find_entry(adapter_of(*adapters, *delta), *delta));
    EXPECT_TRUE(check_files(*adapters, made->tensors));
  }
  const auto refusal = [&](const char* tokens) {
    TemporaryFolder folder;
    const auto adapters = open(folder, tokens);
    return adapters ? "was read" : adapters.error().message;
  };
  EXPECT_THAT(refusal(R"({"embed_tokens":[7,3],"lm_head":[7]})"), HasSubstr("has other tokens for 'lm_head'"));
  EXPECT_THAT(refusal("7"), HasSubstr("should be a list of token ids"));
  EXPECT_THAT(refusal(R"(["a"])"), HasSubstr("a list of token ids"));
  TemporaryFolder folder;
  write_folder(folder.path(), R"({"peft_type":"LORA","r":2,"target_modules":["q_proj"],"trainable_token_indices":[1]})",
               one_module());
  EXPECT_THAT(open_adapters(folder.path()).error().message, HasSubstr("there are no rows for them"));
}

// The file's field is what a message names, not the option that it becomes.
TEST(Adapter, wrong_tokens_beside_lora_are_said_by_the_name_of_their_field) {
  for (const char* tokens : {R"("all")", R"([1,"two"])", "[1,-2]", "[1.5]", R"({"embed_tokens":[true]})",
                             R"({"embed_tokens":7})", "[99999999999]"}) {
    SCOPED_TRACE(tokens);
    TemporaryFolder folder;
    auto tensors = one_module();
    tensors.push_back({"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", {1, 12}, element});
    write_folder(
        folder.path(),
        fmt::format(R"({{"peft_type":"LORA","r":2,"target_modules":["q_proj"],"trainable_token_indices":{}}})", tokens),
        tensors);
    const auto adapters = open_adapters(folder.path());
    ASSERT_FALSE(adapters);
    EXPECT_THAT(adapters.error().message, HasSubstr("'trainable_token_indices' should be a list of token ids"));
  }
}

// PEFT writes rows of a head that is the embedding under both names.
TEST(Adapter, rows_of_a_tied_head_are_in_the_file_twice) {
  Architecture tied = tiny_architecture("llama");
  tied.tied = true;
  const std::string embedding = "base_model.model.model.embed_tokens.trainable_tokens_delta",
                    head = "base_model.model.lm_head.trainable_tokens_delta";
  for (const float more : {0.0f, 1.0f}) {
    TemporaryFolder folder;
    write_folder(folder.path(),
                 R"({"peft_type":"TRAINABLE_TOKENS","token_indices":[7,3],"target_modules":["embed_tokens"]})",
                 {{embedding, {2, 12}, element}, {head, {2, 12}, [&](int64_t i) { return element(i) + more; }}});
    auto adapters = open_adapters(folder.path());
    ASSERT_TRUE(adapters) << adapters.error().message;
    const auto made = adapt(*adapters, tied);
    EXPECT_EQ(made.has_value(), more == 0);
    if (!made) EXPECT_THAT(made.error().message, HasSubstr("differ, and are for one matrix"));
  }
}

// With bias "all" PEFT saves biases of modules_to_save several times.
TEST(Adapter, biases_beside_modules_that_are_saved_whole_are_left_out) {
  TemporaryFolder folder;
  std::vector<WrittenTensor> tensors = one_module();
  const std::string norm = "base_model.model.model.norm.";
  tensors.push_back({norm + "weight", {12}, element});
  tensors.push_back({norm + "modules_to_save.weight", {12}});
  tensors.push_back({norm + "original_module.weight", {12}});
  write_folder(folder.path(), R"({"peft_type":"LORA","r":2,"target_modules":["q_proj"],"modules_to_save":["norm"]})",
               tensors);
  auto adapters = open_adapters(folder.path());
  ASSERT_TRUE(adapters) << adapters.error().message;
  EXPECT_EQ(adapters->front().tensors.size(), 3u);
  EXPECT_EQ(adapters->front().tensors.at("norm.weight").name, norm + "weight");
}

// PEFT takes one factor on a CPU, and leaves the configuration as it was.
TEST(Adapter, butterfly_factors_are_those_of_the_tensor) {
  TemporaryFolder folder;
  const std::string q = std::string(kQ) + ".boft_";
  write_folder(
      folder.path(),
      R"({"peft_type":"BOFT","boft_block_size":2,"boft_block_num":0,"boft_n_butterfly_factor":2,"target_modules":["q_proj"]})",
      {{q + "R", {1, 6, 2, 2}, element}, {q + "s", {12, 1}, element}});
  auto adapters = open_adapters(folder.path());
  ASSERT_TRUE(adapters) << adapters.error().message;
  EXPECT_EQ((*adapters->front().config)["boft_n_butterfly_factor"], 1);
  const auto made = adapt(*adapters, tiny_architecture("llama"));
  EXPECT_TRUE(made) << made.error().message;
}

// What is read is written again: the configuration with all its fields, in their order, and the tensors' names and
// numbers, whatever their layout.
TEST(Adapter, what_is_read_is_written) {
  const Architecture gpt2 = tiny_architecture("gpt2");
  Architecture rotated = tiny_architecture("llama");
  rotated.ropes[0].layout = Rope::Layout::interleaved;
  struct Case {
    Architecture architecture;
    const char* config;
    std::vector<WrittenTensor> tensors;
  };
  const std::string attn = "base_model.model.transformer.h.0.attn.c_attn", neox = "base_model.model.gpt_neox.layers.";
  const Case cases[] = {
      {gpt2,
       R"({"peft_type":"LORA","r":2,"revision":"main","lora_alpha":5,"target_modules":["c_attn"],"bias":"lora_only"})",
       {{attn + ".base_layer.bias", {36}, element},
        {attn + ".lora_A.weight", {2, 12}, element},
        {attn + ".lora_B.weight", {36, 2}, element}}},
      {rotated, R"({"peft_type":"LORA","r":2,"target_modules":["q_proj"],"alpha_pattern":{"q_proj":1,".*":2}})",
       one_module()},
      {tiny_architecture("llama"),
       R"({"peft_type":"LORA","r":2,"target_modules":["embed_tokens"]})",
       {{"base_model.model.model.embed_tokens.lora_embedding_A", {2, 11}, element},
        {"base_model.model.model.embed_tokens.lora_embedding_B", {12, 2}, element}}},
      {tiny_architecture("gpt_neox"),
       R"({"peft_type":"LORA","r":2,"target_modules":["query_key_value"]})",
       {{neox + "0.attention.query_key_value.lora_A.weight", {2, 24}, element},
        {neox + "0.attention.query_key_value.lora_B.weight", {72, 2}, element},
        {neox + "1.attention.query_key_value.lora_A.weight", {2, 24}, element},
        {neox + "1.attention.query_key_value.lora_B.weight", {72, 2}, element}}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.config);
    TemporaryFolder folder;
    write_folder(folder.file("a"), c.config, c.tensors);
    auto adapters = open_adapters(folder.file("a"));
    ASSERT_TRUE(adapters) << adapters.error().message;
    const auto made = adapt(*adapters, c.architecture);
    ASSERT_TRUE(made) << made.error().message;
    AdapterToWrite out{
        .config = adapters->front().config, .system_prompt = "", .tensors = {}, .names = &adapters->front()};
    std::map<std::string, std::vector<float>> values;
    for (const AdapterTensor& tensor : made->tensors) {
      Graph graph = made->graph;
      const Shape shape = graph.value(graph.find(tensor.value)).type.shape;
      auto& numbers = values[tensor.value];
      numbers.resize(static_cast<size_t>(shape.count()));
      // In pieces that begin and end within rows.
      for (int64_t at = 0; at < shape.count(); at += 7) {
        const auto some = static_cast<size_t>(std::min<int64_t>(7, shape.count() - at));
        ASSERT_TRUE(read_elements(adapters->front(), **find_entry(adapters->front(), tensor), tensor, shape, at,
                                  std::span(numbers).subspan(static_cast<size_t>(at), some)));
      }
      out.tensors.emplace_back(tensor, shape);
      // By head: the second key's rows begin behind a head's query, key and value, and another query.
      if (c.architecture.family == "gpt_neox" && tensor.rows.first == 8) {
        EXPECT_EQ(numbers[0], element(8 * 2));
        EXPECT_EQ(numbers[8 * 2], element((24 + 8) * 2));
      }
    }
    const auto written =
        write_adapter(folder.file("b"), out, [&](const AdapterTensor& tensor, int64_t first, std::span<float> to) {
          std::copy_n(values[tensor.value].begin() + first, to.size(), to.begin());
          return Result<void>();
        });
    ASSERT_TRUE(written) << written.error().message;
    EXPECT_EQ(nlohmann::ordered_json::parse(file_bytes(folder.file("b/adapter_config.json"))).dump(),
              nlohmann::ordered_json::parse(c.config).dump());
    const auto a = SafetensorsFile::open(folder.file("a/adapter_model.safetensors")),
               b = SafetensorsFile::open(folder.file("b/adapter_model.safetensors"));
    ASSERT_TRUE(a && b);
    ASSERT_EQ(a->entries().size(), b->entries().size());
    for (const SafetensorsEntry& entry : a->entries()) {
      const SafetensorsEntry* const again = b->find(entry.name);
      ASSERT_TRUE(again) << entry.name;
      EXPECT_EQ(again->shape, entry.shape);
      std::vector<float> x(entry.bytes / 4), y(entry.bytes / 4);
      ASSERT_TRUE(a->file().read(entry.offset, std::as_writable_bytes(std::span(x))));
      ASSERT_TRUE(b->file().read(again->offset, std::as_writable_bytes(std::span(y))));
      EXPECT_EQ(x, y) << entry.name;
    }
  }
}

// Rows of q in Hugging Face's order become those of a model that pairs neighbours (llama2.c).
TEST(Adapter, rotates_rows_of_heads) {
  TemporaryFolder folder;
  write_folder(folder.path(), R"({"peft_type":"LORA","r":2,"target_modules":["q_proj"]})", one_module());
  auto adapters = open_adapters(folder.path());
  Architecture a = tiny_architecture("llama");
  a.ropes[0].layout = Rope::Layout::interleaved;
  const auto made = adapt(*adapters, a);
  ASSERT_TRUE(made) << made.error().message;
  const auto b = std::ranges::find_if(made->tensors, [](const auto& t) { return t.value.ends_with("lora_B.weight"); });
  std::vector<float> rows(24);
  ASSERT_TRUE(read_elements(adapters->front(), **find_entry(adapters->front(), *b), *b, {12, 2}, 0, rows));
  // Heads of 4: elements 0 1 2 3 of the file are 0 2 1 3 here.
  EXPECT_THAT(std::vector<float>(rows.begin(), rows.begin() + 8),
              ElementsAre(0.5f, 1.5f, 4.5f, 5.5f, 2.5f, 3.5f, 6.5f, 7.5f));
}

}  // namespace
}  // namespace thimble
