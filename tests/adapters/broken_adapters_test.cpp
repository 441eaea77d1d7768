// Adapters that are damaged, or hostile: whatever comes of them is a value.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "adapted_graph.h"
#include "models/damaged.h"
#include "models/memory_model.h"
#include "temporary_folder.h"
#include "written_adapter.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

TEST(BrokenAdapters, thousands_of_damaged_copies) {
  TemporaryFolder folder;
  const Random random(15, "adapter");
  uint64_t next = 0;
  const std::string module = "base_model.model.model.layers.0.self_attn.q_proj";
  write_folder(folder.path(), R"({"peft_type":"LORA","r":2,"lora_alpha":4,"target_modules":["q_proj"],"bias":"none",
                                  "alpha_pattern":{"q_.*":3},"layers_to_transform":[0,1]})",
               {{module + ".lora_A.weight", {2, 12}}, {module + ".lora_B.weight", {12, 2}}});
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors"}) {
    const std::string good = file_bytes(folder.file(name));
    for (int i = 0; i < 600; ++i) {
      folder.write(name, damaged(good, random, next, 600));
      auto adapters = open_adapters(folder.path());
      if (adapters) static_cast<void>(adapt(*adapters, tiny_architecture("llama")));
    }
    folder.write(name, good);
  }
  auto adapters = open_adapters(folder.path());
  ASSERT_TRUE(adapters) << adapters.error().message;
  EXPECT_TRUE(adapt(*adapters, tiny_architecture("llama")));
}

TEST(BrokenAdapters, say_what_is_wrong) {
  TemporaryFolder folder;
  const auto refusal = [&](const std::vector<SafetensorsTensor>& tensors) {
    folder.write("adapter_config.json", R"({"peft_type":"LORA","r":2,"target_modules":"all-linear"})");
    auto writer = SafetensorsWriter::create(folder.file("adapter_model.safetensors"), tensors);
    std::vector<std::byte> zeros(4096);
    for (const auto& t : tensors)
      EXPECT_TRUE(writer->write(std::span(zeros).first(t.shape.count() * *safetensors_element_bytes(t.dtype))));
    EXPECT_TRUE(writer->finish());
    const auto adapters = open_adapters(folder.path());
    return adapters ? "was read" : adapters.error().message;
  };
  const SafetensorsTensor a{"base_model.model.m.lora_A.weight", "F32", {2, 3}};
  EXPECT_EQ(refusal({a}), "was read");
  EXPECT_THAT(refusal({}), HasSubstr("holds no tensors of an adapter"));
  EXPECT_THAT(refusal({{a.name, "I32", {2, 3}}}), HasSubstr("dtype I32"));
  EXPECT_THAT(refusal({a, {"m.lora_A.default.weight", "F32", {2, 3}}}), HasSubstr("are for the same"));
  folder.write("adapter_stack.json", R"({"stack":["../x"]})");
  EXPECT_THAT(open_adapters(folder.path()).error().message, HasSubstr("is not the name of a folder"));
  folder.write("adapter_stack.json", R"({"stack":[]})");
  EXPECT_THAT(open_adapters(folder.path()).error().message, HasSubstr("should be a list"));
}

// A number that is none is an error where it is read, which says whose it is: a router would choose other experts by
// it, and what the head makes of it would seem to be the model's doing.
TEST(BrokenAdapters, numbers_that_are_none_are_said_by_their_tensor) {
  const std::string q = "base_model.model.model.layers.0.self_attn.q_proj", head = "base_model.model.lm_head";
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()})
    for (const auto& [name, shape] : std::vector<std::pair<std::string, Shape>>{
             {q + ".lora_A.weight", {2, 12}}, {q + ".lora_B.weight", {12, 2}}, {head + ".weight", {11, 12}}}) {
      SCOPED_TRACE(name);
      TemporaryFolder folder;
      std::vector<WrittenTensor> tensors = {
          {q + ".lora_A.weight", {2, 12}}, {q + ".lora_B.weight", {12, 2}}, {head + ".weight", {11, 12}}};
      for (WrittenTensor& tensor : tensors)
        if (tensor.name == name) tensor.value = [bad](int64_t i) { return i == 5 ? bad : 0.5f; };
      write_folder(folder.path(),
                   R"({"peft_type":"LORA","r":2,"target_modules":["q_proj"],"modules_to_save":["lm_head"]})", tensors);
      auto adapters = open_adapters(folder.path());
      ASSERT_TRUE(adapters) << adapters.error().message;
      const auto made = adapt(*adapters, tiny_architecture("llama"));
      ASSERT_TRUE(made) << made.error().message;
      std::vector<std::string> errors;
      for (const AdapterTensor& tensor : made->tensors) {
        const auto entry = find_entry(adapters->front(), tensor);
        ASSERT_TRUE(entry && *entry) << tensor.value;
        std::vector<float> numbers(static_cast<size_t>((*entry)->shape.count()));
        const auto read = read_elements(adapters->front(), **entry, tensor, (*entry)->shape, 0, numbers);
        if (!read) errors.push_back(read.error().message);
      }
      ASSERT_EQ(errors.size(), 1u);
      EXPECT_THAT(errors.front(), HasSubstr("element 5 of '" + name + "' is "));
      EXPECT_THAT(errors.front(), HasSubstr("the adapter is damaged"));
    }
}

}  // namespace
}  // namespace thimble
