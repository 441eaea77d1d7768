// LoRAM as a user gives it: an adapter that is trained on a cut model answers on the whole one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "adapters/adapter.h"
#include "models/cut_model.h"
#include "program.h"
#include "tiny_files.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

struct Job {
  TinyFiles tiny;
  std::string data = tiny.folder.write("text.jsonl", "{\"text\":\"a cab at a bar, a crab at a cabaret\"}\n");
  std::string file(const std::string& name) const { return tiny.folder.file(name); }
  Ran cut(const std::string& out, std::vector<std::string> more = {}) const {
    std::vector<std::string> all = {"cut", "--model", tiny.gguf, "--out", file(out)};
    all.insert(all.end(), more.begin(), more.end());
    return run_thimble(all);
  }
  Ran train(const std::string& model, const std::string& out, const std::string& method = "lora") const {
    return run_thimble({"finetune", "--model", model, "--data", data, "--out", file(out), "--method", method, "--steps",
                        "6", "--context", "64", "--batch", "1", "--lr", "0.02", "--scratch", "none"});
  }
  Ran recover(const std::string& cut, const std::string& adapter, const std::string& out) const {
    return run_thimble({"recover", "--model", tiny.gguf, "--cut", file(cut), "--adapter", adapter, "--out", file(out)});
  }
  double nll(std::vector<std::string> more) const {
    std::vector<std::string> all = {"eval", "--data", data, "--context", "64", "--json"};
    all.insert(all.end(), more.begin(), more.end());
    const Ran ran = run_thimble(all);
    EXPECT_EQ(ran.status, 0) << ran.err;
    const size_t at = ran.out.rfind("\"nll\":");
    return at == std::string::npos ? 0 : std::stod(ran.out.substr(at + 6));
  }
};

// The numbers of a tensor of an adapter's file.
std::vector<float> numbers(const std::string& folder, const std::string& key, Shape* shape = nullptr) {
  const auto adapters = open_adapters(folder);
  EXPECT_TRUE(adapters) << adapters.error().message;
  const SafetensorsEntry& entry = adapters->front().tensors.at(key);
  std::vector<float> out(static_cast<size_t>(entry.shape.count()));
  EXPECT_TRUE(adapters->front().weights->read(entry.offset, std::as_writable_bytes(std::span(out))));
  if (shape) *shape = entry.shape;
  return out;
}

TEST(Cut, an_adapter_of_the_cut_model_answers_on_the_whole) {
  const Job job;
  for (const std::string by : {"random", "magnitude"}) {
    SCOPED_TRACE(by);
    const std::string cut = "cut-" + by, run = "run-" + by, whole = "whole-" + by;
    const Ran ran = job.cut(cut, {"--by", by});
    ASSERT_EQ(ran.status, 0) << ran.err;
    EXPECT_THAT(ran.out, HasSubstr("1 of 2 heads of keys and 64 of 96 FFN units stay in each of 2 blocks"));
    ASSERT_EQ(job.train(job.file(cut), run).status, 0);
    const std::string adapter = job.file(run) + "/adapter";
    const Ran recovered = job.recover(cut, adapter, whole);
    ASSERT_EQ(recovered.status, 0) << recovered.err;

    const KeptParts kept = *read_kept(job.file(cut));
    Shape small_shape, shape;
    for (const char* module : {"self_attn.q_proj", "mlp.gate_proj"}) {
      const std::string key = fmt::format("layers.1.{}.lora_B.weight", module);
      const std::vector<float> small = numbers(adapter, key, &small_shape), all = numbers(job.file(whole), key, &shape);
      const KeptPlaces places =
          kept_places(kept, 1, std::string_view(module).substr(std::string_view(module).find('.') + 1));
      ASSERT_EQ(shape[0], places.whole_rows);
      std::vector<float> expected(all.size());
      for (int64_t r = 0; r < small_shape[0]; ++r)
        for (int64_t c = 0; c < shape[1]; ++c)
          expected[static_cast<size_t>((*places.rows)[static_cast<size_t>(r)] * shape[1] + c)] =
              small[static_cast<size_t>(r * shape[1] + c)];
      EXPECT_EQ(all, expected) << module;
    }
    const Ran told = job.cut(cut + "-told", {"--by", by, "--json"});
    EXPECT_THAT(told.out, HasSubstr(R"("kv_heads":1,"kv_heads_before":2,"ffn_units":64,"ffn_units_before":96)"));
    const Ran fitted = run_thimble({"recover", "--model", job.tiny.gguf, "--cut", job.file(cut), "--adapter", adapter,
                                    "--out", job.file(whole + "-told"), "--json"});
    EXPECT_THAT(fitted.out, HasSubstr(R"({"event":"done")"));
    EXPECT_THAT(fitted.out, HasSubstr(R"("grown":)"));

    const std::string key = "layers.0.mlp.down_proj.lora_A.weight";
    const std::vector<float> small = numbers(adapter, key, &small_shape), all = numbers(job.file(whole), key, &shape);
    ASSERT_EQ(shape[1], 96);
    std::vector<float> expected(all.size());
    for (int64_t r = 0; r < shape[0]; ++r)
      for (size_t c = 0; c < kept.layers[0].units.size(); ++c)
        expected[static_cast<size_t>(r * 96 + kept.layers[0].units[c])] =
            small[static_cast<size_t>(r) * kept.layers[0].units.size() + c];
    EXPECT_EQ(all, expected);
    // Outputs of the residual stream's width are what they were.
    EXPECT_EQ(numbers(job.file(whole), "layers.0.mlp.down_proj.lora_B.weight"),
              numbers(adapter, "layers.0.mlp.down_proj.lora_B.weight"));
    EXPECT_LT(job.nll({"--model", job.tiny.gguf, "--adapter", job.file(whole)}), job.nll({"--model", job.tiny.gguf}));
  }
}

TEST(Cut, refuses_what_can_not_be) {
  const Job job;
  const auto expect = [](const Ran& ran, const std::string& because) {
    EXPECT_EQ(ran.status, 2) << because;
    EXPECT_THAT(ran.err, HasSubstr(because));
  };
  expect(job.cut("out", {"--ratio", "1"}), "--ratio: expected a part between 0 and 1");
  expect(job.cut("out", {"--by", "chance"}), "--by");
  expect(job.cut("out", {"--by", "magnitude", "--key", "3"}), "draws nothing");
  expect(job.cut("out", {"--codec", "q4_0"}), "safetensors has no format q4_0");
  ASSERT_EQ(job.cut("cut").status, 0);
  expect(job.recover("cut", job.tiny.adapter, "back"), "an adapter of another model");
  expect(job.recover("nothing", job.tiny.adapter, "back"), "'thimble cut' writes");
  ASSERT_EQ(job.train(job.file("cut"), "dora", "dora").status, 0);
  expect(job.recover("cut", job.file("dora") + "/adapter", "back"), "expected one LoRA adapter");
  ASSERT_EQ(job.train(job.file("cut"), "lora").status, 0);
  expect(run_thimble({"recover", "--model", job.file("cut"), "--cut", job.file("cut"), "--adapter",
                      job.file("lora") + "/adapter", "--out", job.file("back")}),
         "is not the model that was cut");
  EXPECT_FALSE(is_file(job.file("back") + "/adapter_config.json"));
}

}  // namespace
}  // namespace thimble
