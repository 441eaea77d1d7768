// Broken files, each with the part of the message that tells its user what is wrong. None may crash, hang or be taken
// for a model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "files/binary_files.h"
#include "files/gguf.h"
#include "files/safetensors.h"
#include "memory_model.h"
#include "models/gguf_writer.h"
#include "models/hf_config.h"
#include "models/hf_writer.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

struct Broken {
  std::string what;  // of the test
  std::string bytes;
  std::string error;  // part of the message
};

template <class Open>
void expect_errors(const std::vector<Broken>& files, Open open) {
  TemporaryFolder folder;
  for (const Broken& broken : files) {
    SCOPED_TRACE(broken.what);
    const std::string path = folder.write("broken", broken.bytes);
    const auto result = open(path);
    ASSERT_FALSE(result) << "was read without an error";
    EXPECT_THAT(result.error().message, HasSubstr(broken.error));
    EXPECT_THAT(result.error().message, HasSubstr("broken"));  // the file
  }
}

std::string tensor(const std::string& fields) { return "{\"x\":{" + fields + "}}"; }

TEST(BrokenFiles, safetensors) {
  const auto with = [](const std::string& header, size_t data = 8) { return safetensors_bytes(header, data); };
  const std::string x = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  expect_errors(
      {
          {"empty", "", "too short for safetensors"},
          {"length only", "\1\0\0", "too short"},
          {"header longer than the file", Bytes().add(uint64_t{1000}).raw("{}").text(), "header claims 1000 bytes"},
          {"header of all ones", Bytes().add(~uint64_t{0}).raw("{}").text(), "header claims"},
          {"no JSON", with("hello"), "not valid JSON"},
          {"array", with("[]"), "should be a JSON object, found an array"},
          {"cut JSON", with("{\"x\":"), "not valid JSON"},
          {"depth bomb", with(std::string(1000000, '[')), "header should be a JSON object"},
          {"object bomb", with(tensor("\"shape\":{\"a\":{")), "'shape' cannot be or hold an object"},
          {"tensor is a number", with("{\"x\":5}"), "'x' cannot be a number"},
          {"unknown dtype", with(tensor(R"("dtype":"Q9","shape":[2],"data_offsets":[0,8])")), "dtype 'Q9'"},
          {"dtype is a number", with(tensor(R"("dtype":3,"shape":[2],"data_offsets":[0,8])")), "'dtype' cannot be"},
          {"no dtype", with(tensor(R"("shape":[2],"data_offsets":[0,8])")), "'dtype' is missing"},
          {"no offsets", with(tensor(R"("dtype":"F32","shape":[2])")), "'data_offsets' is missing"},
          {"bomb in an unknown field", with(tensor(x + ",\"more\":" + std::string(100000, '['))), "nested too deep"},
          {"field twice", with(tensor(x + "," + x)), "'dtype' is there twice"},
          {"negative extent", with(tensor(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])")), "a negative number"},
          {"extent is a float", with(tensor(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])")), "no integer"},
          {"rank five", with(tensor(R"("dtype":"F32","shape":[1,1,1,1,2],"data_offsets":[0,8])")), "more than 4"},
          {"extent of 64 bits", with(tensor(R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8])")),
           "is too large"},
          {"product overflows", with(tensor(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8])")),
           "does not fit"},
          {"one offset", with(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0])")), "two numbers, found 1"},
          {"three offsets", with(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])")), "more than two"},
          {"offsets in reverse", with(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])")), "outside the 8"},
          {"offsets outside", with(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[8,16])")), "outside the 8"},
          {"shape and offsets disagree", with(tensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])")),
           "shape [3] and dtype F32 does not fit its 8 bytes"},
          {"hole before", with(tensor(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])")), "has a hole"},
          {"bytes after", with("{\"x\":{" + x + "}}", 12), "4 bytes after the last tensor"},
          {"overlap", with("{\"x\":{" + x + R"(},"y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"), "overlaps"},
          {"duplicate name", with("{\"x\":{" + x + R"(},"x":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}})"),
           "'x' is there twice"},
          {"metadata is a number", with(R"({"__metadata__":{"a":1}})"), "'a' cannot be a number"},
      },
      [](const std::string& path) { return SafetensorsFile::open(path); });
}

// Case b22 of the field: what the format's own reader lets pass.
TEST(BrokenFiles, safetensors_may_have_no_metadata_and_unknown_fields) {
  TemporaryFolder folder;
  const std::string x = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  for (const std::string& header : {"{\"__metadata__\":null,\"x\":{" + x + "}}", "{\"x\":{" + x + ",\"more\":1}}",
                                    "{\"x\":{\"more\":{\"a\":[1,{\"dtype\":[]}],\"b\":null}," + x + "}}",
                                    "{\"x\":{\"more\":[[],2.5,-1,true,\"s\"]," + x + "}}"}) {
    const auto file = SafetensorsFile::open(folder.write("x", safetensors_bytes(header, 8)));
    ASSERT_TRUE(file) << header << ": " << file.error().message;
    ASSERT_EQ(file->entries().size(), 1u);
    EXPECT_EQ(file->entries()[0].shape, (Shape{2}));
  }
}

// A copy of good_gguf() with other bytes at `offset`.
template <class T>
std::string gguf_with(size_t offset, T value) {
  std::string bytes = good_gguf();
  bytes.replace(offset, sizeof(T), reinterpret_cast<const char*>(&value), sizeof(T));
  return bytes;
}

std::string gguf_with_key(const Bytes& key) { return Bytes().gguf_header(3, 0, 1).raw(key.text()).pad(32).text(); }

std::string gguf_with_tensors(uint64_t count, const Bytes& tensors, size_t data = 64) {
  return Bytes().gguf_header(3, count, 0).raw(tensors.text()).pad(32).raw(std::string(data, '\0')).text();
}

TEST(BrokenFiles, gguf) {
  const uint64_t huge = uint64_t{1} << 62;
  const std::string good = good_gguf();
  expect_errors(
      {
          {"empty", "", "the magic number needs 4 bytes"},
          {"wrong magic", "GGML" + good.substr(4), "does not begin with 'GGUF'"},
          {"version 1", gguf_with(4, uint32_t{1}), "expected GGUF version 2 or 3, found 1"},
          {"version 0", gguf_with(4, uint32_t{0}), "found 0"},
          {"big-endian", gguf_with(4, uint32_t{0x03000000}), "is big-endian"},
          {"tensors without end", gguf_with(8, ~uint64_t{0}), "at most 262144"},
          {"keys without end", gguf_with(16, huge), "metadata keys; at most"},
          {"key without end", gguf_with(24, huge), "a metadata key at offset 32 claims"},
          {"one tensor too many", gguf_with(8, uint64_t{3}), "broken"},
          {"unknown value type", gguf_with_key(Bytes().string("k").add(uint32_t{99})), "unknown type"},
          {"string without end", gguf_with_key(Bytes().string("k").add(uint32_t{8}).add(huge)), "k at offset"},
          {"array without end", gguf_with_key(Bytes().string("k").add(uint32_t{9}).add(uint32_t{4}).add(huge)),
           "'k' claims"},
          {"strings without end", gguf_with_key(Bytes().string("k").add(uint32_t{9}).add(uint32_t{8}).add(huge)),
           "'k' claims"},
          {"string of an array too long",
           gguf_with_key(Bytes().string("k").add(uint32_t{9}).add(uint32_t{8}).add(uint64_t{1}).add(huge)),
           "element 0 of 'k' claims"},
          {"arrays of arrays", gguf_with_key(Bytes().string("k").add(uint32_t{9}).add(uint32_t{9}).add(uint64_t{1})),
           "array of arrays"},
          {"alignment of no power of two", gguf_with_key(Bytes().key_u32("general.alignment", 24)), "is 24; expected"},
          {"alignment zero", gguf_with_key(Bytes().key_u32("general.alignment", 0)), "is 0; expected"},
          {"alignment is a string", gguf_with_key(Bytes().key_string("general.alignment", "32")),
           "should be an integer"},
          {"key twice", Bytes().gguf_header(3, 0, 2).key_u32("k", 1).key_u32("k", 2).text(), "'k' is there twice"},
          {"tensor twice", gguf_with_tensors(2, Bytes().gguf_tensor("x", 8, 0, 0, 0).gguf_tensor("x", 8, 0, 0, 32)),
           "'x' is there twice"},
          {"tensors overlap", gguf_with_tensors(2, Bytes().gguf_tensor("x", 16, 0, 0, 0).gguf_tensor("y", 8, 0, 0, 32)),
           "'x' and 'y' overlap"},
          {"tensor outside", gguf_with_tensors(1, Bytes().gguf_tensor("x", 17, 0, 0, 0)), "is the download complete"},
          {"offset outside", gguf_with_tensors(1, Bytes().gguf_tensor("x", 8, 0, 0, huge)), "outside or not aligned"},
          {"offset not aligned", gguf_with_tensors(1, Bytes().gguf_tensor("x", 8, 0, 0, 4)), "not aligned to 32"},
          {"rank five", gguf_with_tensors(1, Bytes().string("x").add(uint32_t{5}).pad(64)), "has rank 5"},
          {"extent zero", gguf_with_tensors(1, Bytes().gguf_tensor("x", 0, 0, 0, 0)), "has extent 0"},
          {"extents overflow",
           gguf_with_tensors(1, Bytes().gguf_tensor("x", uint64_t{1} << 40, uint64_t{1} << 40, 0, 0)), "on axis 1"},
          {"rows of broken blocks", gguf_with_tensors(1, Bytes().gguf_tensor("x", 33, 1, 3, 0)),
           "not a multiple of 32"},
      },
      [](const std::string& path) { return GgufFile::open(path); });
}

TEST(BrokenFiles, every_truncation_of_gguf_is_refused) {
  TemporaryFolder folder;
  const std::string good = good_gguf();
  ASSERT_TRUE(GgufFile::open(folder.write("good", good)));
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_FALSE(GgufFile::open(folder.write("cut", good.substr(0, length)))) << length;
  }
}

// config.json with one field changed.
std::string config(const std::string& more) {
  return R"({"model_type":"llama","vocab_size":100,"hidden_size":64,"num_hidden_layers":2,"num_attention_heads":4,)"
         R"("intermediate_size":128,"max_position_embeddings":32)" +
         more + "}";
}

TEST(BrokenFiles, config_json) {
  expect_errors(
      {
          {"empty", "", "not valid JSON"},
          {"array", "[1]", "expected a JSON object, found an array"},
          {"depth bomb", config(",\"a\":" + std::string(100000, '[')), "nested more than 64 deep"},
          {"no model_type", "{}", "'model_type' is missing"},
          {"unknown family", R"({"model_type":"lama"})", "'lama' is not supported; those nearest to it are llama"},
          {"size missing", R"({"model_type":"llama"})", "'vocab_size' is missing"},
          {"size is a string", config(R"(,"vocab_size":"100")"), "'vocab_size' should be an integer, found \"100\""},
          {"size is a float", config(R"(,"hidden_size":64.5)"), "'hidden_size' should be an integer, found 64.5"},
          {"no heads", config(R"(,"num_attention_heads":0)"),
           "number of heads ('num_attention_heads') should be in 1..16384, found 0"},
          {"negative layers", config(R"(,"num_hidden_layers":-2)"), "number of layers"},
          {"layers without end", config(R"(,"num_hidden_layers":9000000000000000000)"), "number of layers"},
          {"vocabulary overflows", config(R"(,"vocab_size":18446744073709551615)"), "should be an integer"},
          {"uneven kv heads", config(R"(,"num_key_value_heads":3)"),
           "cannot share 3 kv heads ('num_key_value_heads') evenly"},
          {"odd head dimension", config(R"(,"head_dim":15)"),
           "even head dimension ('head_dim'), or an even part of it, found 15"},
          {"epsilon zero", config(R"(,"rms_norm_eps":0)"), "epsilon"},
          {"NaN", config(R"(,"rms_norm_eps":NaN)"), "not valid JSON"},
          {"rope base negative", config(R"(,"rope_theta":-1)"), "rope base should be positive"},
          {"rope scaling unknown", config(R"(,"rope_scaling":{"type":"spiral","factor":2})"), "'spiral' is not among"},
          {"rope factor missing", config(R"(,"rope_scaling":{"type":"linear"})"), "'factor' is missing"},
          {"rope factor below 1", config(R"(,"rope_scaling":{"type":"linear","factor":0.5})"), "at least 1"},
          {"rope scaling is a list", config(R"(,"rope_scaling":[1])"), "expected a JSON object, found an array"},
          {"rope of layers", config(R"(,"rope_parameters":{"full_attention":{"rope_theta":1}})"), "of its own"},
          {"activation unknown", config(R"(,"hidden_act":"mish")"), "'mish', which is not among silu"},
          {"window negative", config(R"(,"sliding_window":-5,"model_type":"mistral","num_key_value_heads":2)"),
           "'sliding_window' is -5; expected at least 1"},
      },
      [](const std::string& path) { return architecture_from_config(path); });
}

TEST(BrokenFiles, llama2c) {
  const auto header = [](std::vector<int32_t> fields, size_t more = 0) {
    Bytes bytes;
    for (int32_t field : fields) bytes.add(field);
    return bytes.raw(std::string(more, '\0')).text();
  };
  const std::vector<Broken> files = {
      {"empty", "", "expected 28 bytes"},
      {"newer version", header({0x616b3432, 1, 0, 0, 0, 0, 0}), "format version 1"},
      {"negative width", header({-8, 8, 1, 1, 1, 8, 8}), "model width"},
      {"no heads", header({8, 8, 1, 0, 1, 8, 8}), "number of heads"},
      {"width not divisible", header({9, 8, 1, 2, 1, 8, 8}), "no multiple of 2 heads"},
      {"smallest vocabulary", header({8, 8, 1, 1, 1, INT32_MIN, 8}), "vocabulary size"},
      {"sizes without end", header({1 << 20, 1 << 22, 4096, 1 << 14, 1, 1 << 24, 1 << 30}), "head"},
      {"cut", header({8, 8, 1, 1, 1, 8, 8}, 100), "describes a file of"},
  };
  TemporaryFolder folder;
  for (const Broken& broken : files) {
    SCOPED_TRACE(broken.what);
    const auto source = ModelSource::open(folder.write("broken.bin", broken.bytes));
    ASSERT_FALSE(source);
    EXPECT_THAT(source.error().message, HasSubstr(broken.error));
  }
}

// Files that are sound in themselves, but are not the model that they claim to be.
TEST(BrokenFiles, gguf_models) {
  TemporaryFolder folder;
  const auto refusal = [&](const Bytes& keys, uint64_t count, const Bytes& tensors = {}, uint64_t tensor_count = 0) {
    const std::string bytes = Bytes()
                                  .gguf_header(3, tensor_count, count)
                                  .raw(keys.text())
                                  .raw(tensors.text())
                                  .pad(32)
                                  .raw(std::string(4096, '\0'))
                                  .text();
    const auto source = ModelSource::open(folder.write("m.gguf", bytes));
    return source ? "was read" : source.error().message;
  };
  const auto sizes = [](uint32_t width = 8) {
    return Bytes()
        .key_string("general.architecture", "llama")
        .key_u32("llama.embedding_length", width)
        .key_u32("llama.block_count", 1)
        .key_u32("llama.attention.head_count", 2)
        .key_u32("llama.feed_forward_length", 16)
        .key_u32("llama.context_length", 32)
        .key_f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  };
  const auto embedding = [](uint64_t columns = 8, uint32_t type = 0) {
    return Bytes().gguf_tensor("token_embd.weight", columns, 4, type, 0);
  };
  EXPECT_THAT(refusal(Bytes(), 0), HasSubstr("'general.architecture' is missing"));
  EXPECT_THAT(refusal(Bytes().key_u32("general.architecture", 3), 1), HasSubstr("should be a string"));
  EXPECT_THAT(refusal(Bytes().key_string("general.architecture", "bert"), 1), HasSubstr("'bert' is not among"));
  EXPECT_THAT(refusal(Bytes().key_string("general.architecture", "llama"), 1),
              HasSubstr("embedding_length' is missing"));
  EXPECT_THAT(refusal(sizes(), 7), HasSubstr("a vocabulary without a model"));
  EXPECT_THAT(refusal(sizes(16), 7, embedding(), 1),
              HasSubstr("should have shape [4, 16] by the metadata, found [4, 8]"));
  EXPECT_THAT(refusal(sizes(256), 7, embedding(256, 29), 1), HasSubstr("of type iq1_m, which thimble has no codec"));
  EXPECT_THAT(refusal(sizes(), 7, embedding(8, 77), 1), HasSubstr("of type of unknown number 77"));
  EXPECT_THAT(refusal(sizes(), 7, embedding(), 1), HasSubstr("'blk.0.attn_norm.weight' is missing"));
  EXPECT_THAT(refusal(sizes(7), 7, embedding(), 1), HasSubstr("even head dimension"));
  EXPECT_THAT(refusal(sizes().key_u32("llama.expert_count", 8), 8, embedding(), 1), HasSubstr("mixture of experts"));
  EXPECT_THAT(refusal(sizes().key_u32("llama.rope.dimension_count", 2), 8, embedding(), 1),
              HasSubstr("tensor 'blk.0.attn_norm.weight' is missing"));  // partial rotation is fine
  EXPECT_THAT(refusal(sizes().key_string("llama.rope.scaling.type", "longrope"), 8, embedding(), 1),
              HasSubstr("longrope"));
  EXPECT_THAT(refusal(sizes().key_f32("llama.rope.freq_base", NAN), 8, embedding(), 1), HasSubstr("rope base"));
  EXPECT_THAT(refusal(sizes().key_u32("llama.attention.value_length", 6), 8, embedding(), 1),
              HasSubstr("needs them equal"));
}

TEST(BrokenFiles, folders) {
  TemporaryFolder folder;
  const MemoryModel model(tiny_architecture("llama"));
  const std::string path = folder.file("m"), weights = folder.file("m/model.safetensors");
  ASSERT_TRUE(write_hf_model(path, model.architecture, model.tensors, model.rows()));
  const std::string good = file_bytes(weights), good_config = file_bytes(folder.file("m/config.json"));
  const auto refusal = [&](const std::string& from, const std::string& to) {
    std::string bytes = good;
    for (size_t at = 0; (at = bytes.find(from, at)) != std::string::npos; at += to.size())
      bytes.replace(at, from.size(), to);
    folder.write("m/model.safetensors", bytes);
    const auto source = ModelSource::open(path);
    return source ? "was read" : source.error().message;
  };
  EXPECT_THAT(refusal("model.norm", "model.mean"), HasSubstr("'model.norm.weight' is missing"));
  EXPECT_THAT(refusal("lm_head", "ml_head"), HasSubstr("'tie_word_embeddings' in config.json right"));
  EXPECT_THAT(refusal("\"shape\":[11,12]", "\"shape\":[12,11]"),
              HasSubstr("should have shape [11, 12] by config.json"));
  EXPECT_THAT(refusal("F32", "I32"), HasSubstr("is of dtype I32, which thimble has no codec for"));
  folder.write("m/model.safetensors", good);
  folder.write(
      "m/config.json",
      std::string(good_config).replace(good_config.find("\"num_hidden_layers\": 2"), 22, "\"num_hidden_layers\": 1"));
  EXPECT_THAT(ModelSource::open(path).error().message,
              HasSubstr("'model.layers.1.input_layernorm.weight' has no place"));
  folder.write("m/config.json", good_config);
  std::filesystem::remove(weights);
  EXPECT_THAT(ModelSource::open(path).error().message, HasSubstr("convert the weights to safetensors first"));
  for (const char* file : {"../m/x", "/etc/passwd", "", "..", ".hidden"}) {
    folder.write("m/model.safetensors.index.json", fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", file));
    EXPECT_THAT(ModelSource::open(path).error().message, HasSubstr("is not the name of a file"));
  }
  folder.write("m/model.safetensors.index.json", R"({"weight_map":{"a":3}})");
  EXPECT_THAT(ModelSource::open(path).error().message, HasSubstr("'a' should be a string"));
  folder.write("m/model.safetensors.index.json", R"({"weight_map":{"a":"b.safetensors"}})");
  EXPECT_THAT(ModelSource::open(path).error().message, HasSubstr("b.safetensors: No such file"));
}

}  // namespace
}  // namespace thimble
