// convert: what comes out holds what went in.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "adapters/whole_model_adapter.h"
#include "files/json.h"
#include "program.h"
#include "text/tokenizer.h"
#include "tiny_files.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

void expect_tokenizes(const std::string& path) {
  const auto tokenizer = Tokenizer::open(path);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  std::vector<int32_t> ids;
  ASSERT_TRUE((*tokenizer)->encode("ab<|end|>b", {}, ids));
  EXPECT_EQ(ids.size(), 3u);
  EXPECT_EQ(ids[0], 257);
  EXPECT_EQ((*tokenizer)->eos(), 0);
  EXPECT_THAT((*tokenizer)->chat_template(), HasSubstr("<|im_start|>"));
}

#ifdef __SANITIZE_ADDRESS__  // which takes memory of its own
constexpr const char* kBudget = "200M";
#else
constexpr const char* kBudget = "100M";
#endif

TEST(Convert, gguf_to_a_folder_and_back) {
  TinyFiles tiny;
  const std::string hf = tiny.folder.file("hf"), back = tiny.folder.file("back.gguf");
  Ran ran = run_thimble({"convert", "--model", tiny.gguf, "--to", "safetensors", "--out", hf, "--memory", kBudget});
  ASSERT_EQ(ran.status, 0) << ran.err;
  const auto folder = ModelSource::open(hf);
  ASSERT_TRUE(folder) << folder.error().message;
  expect_same_weights(**folder, tiny.model);
  expect_tokenizes(hf);
  EXPECT_EQ((*read_json_file(hf + "/config.json"))["eos_token_id"], 0);
  ran = run_thimble({"convert", "--model", hf, "--to", "gguf", "--out", back});
  ASSERT_EQ(ran.status, 0) << ran.err;
  const auto gguf = ModelSource::open(back);
  ASSERT_TRUE(gguf) << gguf.error().message;
  expect_same_weights(**gguf, tiny.model);
  expect_tokenizes(back);
}

TEST(Convert, copies_the_metadata_of_gguf) {
  TinyFiles tiny;
  const std::string out = tiny.folder.file("new folder/out.gguf");
  const Ran ran =
      run_thimble({"convert", "--model", tiny.gguf, "--to", "gguf", "--codec", "q8_0", "--out", out, "--json"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  const Json json = *parse_json(ran.out, "output");
  EXPECT_EQ(json["output"], out);
  const double peak = json["peak_rss_bytes"], planned = json["planned_peak_bytes"];
#ifndef __SANITIZE_ADDRESS__  // which takes memory of its own
  EXPECT_LE(peak, planned);
#endif
  EXPECT_GE(peak, 0.97 * planned);
  const auto file = GgufFile::open(out);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(*file->get<std::string>("general.name"), "tiny");
  EXPECT_EQ(*file->get<std::string>("tokenizer.ggml.pre"), "gpt-2");
  EXPECT_EQ(file->find_tensor("blk.0.ffn_up.weight")->type, kQ8_0.gguf_type);
  expect_tokenizes(out);
}

TEST(Convert, merges_an_adapter) {
  TinyFiles tiny;
  for (const char* to : {"gguf", "safetensors"}) {
    SCOPED_TRACE(to);
    const std::string out = tiny.folder.file(std::string("merged.") + to);
    const Ran ran = run_thimble(
        {"convert", "--model", tiny.gguf, "--adapter", tiny.adapter, "--to", to, "--codec", "f32", "--out", out});
    ASSERT_EQ(ran.status, 0) << ran.err;
    EXPECT_THAT(ran.out, HasSubstr("merged into 1 matrix"));
    const auto source = ModelSource::open(out);
    ASSERT_TRUE(source) << source.error().message;
    for (const ModelTensor& tensor : (*source)->tensors()) {
      const std::vector<float> values = read_all(**source, tensor);
      if (tensor.name != std::string(TinyFiles::kModule) + ".weight") {
        EXPECT_EQ(values, tiny.model.values.at(tensor.name)) << tensor.name;
        continue;
      }
      for (int64_t i = 0; i < 64 * 64; ++i) ASSERT_NEAR(values[i], tiny.merged(i / 64, i % 64), 1e-5) << i;
    }
  }
}

TEST(Convert, says_how_much_of_an_adapter_a_codec_keeps) {
  TinyFiles tiny;
  const std::string quantised = tiny.folder.file("q4_1.gguf"), faint = tiny.folder.file("faint");
  ASSERT_EQ(
      run_thimble({"convert", "--model", tiny.gguf, "--to", "gguf", "--codec", "q4_1", "--out", quantised}).status, 0);
  // Changes far below a step of four bits: the values go back to where they were.
  tiny.write_lora(faint, 0.02f);
  const auto kept = [&](const char* codec) {
    const Ran ran = run_thimble({"convert", "--model", quantised, "--adapter", faint, "--to", "gguf", "--codec", codec,
                                 "--out", tiny.folder.file("out.gguf")});
    EXPECT_EQ(ran.status, 0) << ran.err;
    const size_t at = ran.out.find(" keeps ");
    return at == std::string::npos ? -1 : std::atoi(ran.out.c_str() + at + 7);
  };
  EXPECT_LT(kept("q4_1"), 30);
  EXPECT_GT(kept("q8_0"), 80);
  EXPECT_LT(kept("q8_0"), 120);
}

TEST(Convert, says_what_it_wrote_in_place_of_k_quants) {
  TinyFiles tiny;
  for (const auto& [wanted, used] : {std::pair{"q4_K", "q5_0"}, {"q5_K", "q5_1"}, {"q6_K", "q8_0"}}) {
    const std::string out = tiny.folder.file("k.gguf");
    const Ran ran = run_thimble({"convert", "--model", tiny.gguf, "--to", "gguf", "--codec", wanted, "--out", out});
    ASSERT_EQ(ran.status, 0) << ran.err;
    EXPECT_THAT(ran.out, HasSubstr(fmt::format("{} needs rows of whole blocks of 256: {} written for 14 tensors",
                                               wanted, used)));
    const auto file = GgufFile::open(out);
    EXPECT_EQ(file->find_tensor("blk.1.ffn_down.weight")->type, find_codec(used)->gguf_type);
  }
}

TEST(Convert, refuses_with_reasons) {
  TinyFiles tiny;
  const std::string out = tiny.folder.file("out.gguf");
  const auto refusal = [&](std::vector<std::string> more, int status) {
    std::vector<std::string> arguments = {"convert", "--model", tiny.gguf, "--out", out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Ran ran = run_thimble(arguments);
    EXPECT_EQ(ran.status, status) << ran.err;
    EXPECT_FALSE(is_file(out));
    return ran.err;
  };
  EXPECT_THAT(refusal({"--to", "onnx"}, 2), HasSubstr("--to: expected gguf or safetensors, found 'onnx'"));
  EXPECT_THAT(refusal({"--to", "gguf", "--codec", "q4_2"}, 2), HasSubstr("q4_1"));
  EXPECT_THAT(refusal({"--to", "gguf", "--codec", "nf4"}, 2), HasSubstr("GGUF has no format nf4"));
  EXPECT_THAT(refusal({"--to", "safetensors", "--codec", "q4_1"}, 2), HasSubstr("convert to bf16, f16 or f32"));
  EXPECT_THAT(refusal({"--to", "gguf", "--memory", "3M"}, 3), HasSubstr("the smallest that does is --memory"));
  EXPECT_THAT(refusal({"--to", "gguf", "--memory", "lots"}, 2), HasSubstr("lots"));
  EXPECT_THAT(refusal({"--to", "gguf", "--adapter", tiny.folder.path()}, 2), HasSubstr("adapter_config.json"));
  EXPECT_THAT(refusal({"--to", "gguf", "--adapted", "x"}, 2), HasSubstr("the nearest are --adapter"));
  EXPECT_EQ(run_thimble({"convert", "--model", tiny.gguf, "--to", "gguf", "--out", tiny.gguf}).status, 2);
  EXPECT_EQ(run_thimble({"convert", "--model", tiny.folder.file("none"), "--to", "gguf", "--out", out}).status, 2);
}

TEST(Convert, takes_a_folder_without_a_tokenizer) {
  const TemporaryFolder folder;
  const MemoryModel model(command_architecture());
  ASSERT_TRUE(write_hf_model(folder.file("m"), model.architecture, model.tensors, model.rows()));
  for (const char* to : {"safetensors", "gguf"}) {
    const Ran ran = run_thimble({"convert", "--model", folder.file("m"), "--to", to, "--out", folder.file(to)});
    EXPECT_EQ(ran.status, 0) << ran.err;
    EXPECT_THAT(ran.out + ran.err, HasSubstr("brings no tokenizer"));
    const auto source = ModelSource::open(folder.file(to));
    ASSERT_TRUE(source) << source.error().message;
    expect_same_weights(**source, model);
  }
}

TEST(Convert, refuses_an_adapter_of_another_model) {
  TinyFiles tiny;
  Architecture a = command_architecture();
  a.blocks.resize(1);
  const MemoryModel shallow(a);
  const std::string path = tiny.folder.file("shallow.gguf");
  ASSERT_TRUE(write_gguf_model(path, a, shallow.tensors, shallow.rows()));
  const Ran ran = run_thimble(
      {"convert", "--model", path, "--adapter", tiny.adapter, "--to", "gguf", "--out", tiny.folder.file("o.gguf")});
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("q_proj.lora_A.weight' and the others have no place in this model"));
}

// The model's own tokenizer, and two tokens that the model has no rows for.
std::string larger_tokenizer(const TinyFiles& tiny) {
  const std::string folder = tiny.folder.file("larger");
  const Ran ran = run_thimble({"convert", "--model", tiny.gguf, "--to", "safetensors", "--out", folder});
  EXPECT_EQ(ran.status, 0) << ran.err;
  Json json = *read_json_file(folder + "/tokenizer.json");
  for (const auto& [id, content] : {std::pair{258, "<|one|>"}, {259, "<|two|>"}})
    json["added_tokens"].push_back({{"id", id},
                                    {"content", content},
                                    {"special", false},
                                    {"single_word", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"normalized", false}});
  return tiny.folder.write("larger.json", json.dump());
}

TEST(Convert, appends_rows_on_request) {
  TinyFiles tiny;
  const std::string tokenizer = larger_tokenizer(tiny), out = tiny.folder.file("rows");
  std::vector<std::string> flags = {"convert",     "--model", tiny.gguf, "--tokenizer", tokenizer, "--to",
                                    "safetensors", "--out",   out};
  EXPECT_THAT(run_thimble(flags).out, HasSubstr("'<|one|>' (id 258) has none"));
  flags.push_back("--add-rows");
  const Ran ran = run_thimble(flags);
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("2 rows appended, 260 in all"));
  const auto source = ModelSource::open(out);
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ((*source)->architecture().vocab, 260);
  const Ran again =
      run_thimble({"convert", "--model", out, "--to", "gguf", "--out", tiny.folder.file("a.gguf"), "--add-rows"});
  EXPECT_EQ(again.status, 2);
  EXPECT_THAT(again.err, HasSubstr("--add-rows: "));
}

// Full training gives new tokens rows; an adapter has no place for them, and says what to do.
TEST(Convert, training_on_tokens_without_rows) {
  TinyFiles tiny;
  const std::string tokenizer = larger_tokenizer(tiny), out = tiny.folder.file("run");
  const std::string data = tiny.folder.write("d.jsonl", R"({"prompt":"a","completion":"<|one|>b"})"
                                                        "\n");
  const std::vector<std::string> flags = {"finetune", "--model",   tiny.gguf, "--tokenizer", tokenizer,
                                          "--data",   data,        "--out",   out,           "--steps",
                                          "1",        "--context", "16",      "--strict",    "--method"};
  const auto with = [&](const std::string& method) {
    std::vector<std::string> all = flags;
    all.push_back(method);
    return run_thimble(all);
  };
  const Ran lora = with("lora");
  EXPECT_EQ(lora.status, 2);
  EXPECT_THAT(lora.err, HasSubstr("convert --add-rows"));
  EXPECT_THAT(lora.err, HasSubstr("'<|one|>' (id 258) has no row in the model"));
  const Ran full = with("full");
  ASSERT_EQ(full.status, 0) << full.err;
  EXPECT_THAT(full.out + full.err, HasSubstr("2 rows are appended, each the mean"));
  const auto source = ModelSource::open(out + "/model");
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ((*source)->architecture().vocab, 260);
}

// The adapter alone, for llama.cpp; applied by thimble it is the same.
TEST(Convert, writes_an_adapter_alone) {
  TinyFiles tiny;
  const std::string lora = tiny.folder.file("new/lora.gguf");
  const Ran ran = run_thimble(
      {"convert", "--model", tiny.gguf, "--adapter", tiny.adapter, "--to", "gguf", "--adapter-only", "--out", lora});
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("2 tensors of the adapter"));
  EXPECT_NE(GgufFile::open(lora)->find_tensor("blk.1.attn_q.weight.lora_b"), nullptr);
  const auto reply = [&](const std::string& adapter) {
    return run_thimble({"generate", "--model", tiny.gguf, "--adapter", adapter, "--prompt", "ab", "--max-tokens", "8",
                        "--precision", "f32", "--json"});
  };
  const Ran folder = reply(tiny.adapter), file = reply(lora);
  ASSERT_EQ(file.status, 0) << file.err;
  EXPECT_EQ((*parse_json(file.out, "out"))["ids"], (*parse_json(folder.out, "out"))["ids"]);
  const Ran codec = run_thimble({"convert", "--model", tiny.gguf, "--adapter", tiny.adapter, "--to", "gguf",
                                 "--adapter-only", "--codec", "f16", "--out", lora});
  EXPECT_EQ(codec.status, 2);
  EXPECT_THAT(codec.err, HasSubstr("--codec: it would have no effect"));
}

// Rows are merged a piece at a time: however many pieces there are, and of however many sizes, there is memory of one.
TEST(Convert, merges_a_larger_model_within_its_plan) {
  const TemporaryFolder folder;
  const Architecture a = llama({.vocab = 258,
                                .width = 512,
                                .layers = 5,
                                .heads = 8,
                                .kv_heads = 2,
                                .head_dim = 64,
                                .ffn_width = 3000,
                                .context = 64});
  const MemoryModel model(a);
  ASSERT_TRUE(write_hf_model(folder.file("base"), a, model.tensors, model.rows()));
  const TinyFiles tiny;
  std::set<std::string> targets;
  const auto tensors = all_modules(a, targets);
  const nlohmann::json config = {{"peft_type", "LORA"}, {"r", kRank}, {"lora_alpha", 3}, {"target_modules", targets}};
  write_folder(folder.file("adapter"), config.dump(), tensors);
  const Ran ran =
      run_thimble({"convert", "--model", folder.file("base"), "--adapter", folder.file("adapter"), "--tokenizer",
                   tiny.gguf, "--to", "safetensors", "--codec", "f32", "--out", folder.file("merged"), "--json"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  const Json done = parse_json(ran.out, "convert").value_or(Json());
  EXPECT_LE(done["peak_rss_bytes"].get<int64_t>(), done["planned_peak_bytes"].get<int64_t>());
}

// A merged Llama has no place for the bias of an adapter; used beside the model it counts.
TEST(Convert, a_bias_without_a_place_is_named) {
  const TinyFiles tiny;
  const std::string name = std::string("base_model.model.") + TinyFiles::kModule, adapter = tiny.folder.file("biased");
  const auto one = [](int64_t i) { return 0.01f * static_cast<float>(i % 7); };
  write_folder(adapter, R"({"peft_type":"LORA","r":2,"lora_alpha":4,"lora_bias":true,"target_modules":["q_proj"]})",
               {{name + ".lora_A.weight", {2, 64}, one},
                {name + ".lora_B.weight", {64, 2}, one},
                {name + ".lora_B.bias", {64}, one}});
  const Ran merged = run_thimble({"convert", "--model", tiny.gguf, "--adapter", adapter, "--to", "gguf", "--out",
                                  tiny.folder.file("merged.gguf")});
  EXPECT_EQ(merged.status, 2);
  EXPECT_THAT(merged.err, HasSubstr("(lora_bias); use the adapter beside the model"));
  EXPECT_EQ(run_thimble({"generate", "--model", tiny.gguf, "--adapter", adapter, "--prompt", "a", "--max-tokens", "1"})
                .status,
            0);
}

}  // namespace
}  // namespace thimble
