// prune and quantize as a user gives them: what is written, and what is refused.
#include "plan/transform.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "files/json.h"
#include "models/model_source.h"
#include "program.h"
#include "tiny_files.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

std::vector<float> weight(const ModelSource& source, const std::string& name) {
  const ModelTensor& tensor = *source.find(name);
  const int64_t rows = tensor.shape.rows(), columns = tensor.shape.columns();
  std::vector<std::byte> bytes(static_cast<size_t>(rows * tensor.codec->bytes(columns)));
  std::vector<float> out(static_cast<size_t>(rows * columns));
  EXPECT_TRUE(source.read(tensor, 0, rows, bytes));
  for (int64_t r = 0; r < rows; ++r)
    tensor.codec->decode(bytes.data() + r * tensor.codec->bytes(columns), out.data() + r * columns, columns);
  return out;
}

struct Job {
  TinyFiles tiny;
  std::string data = tiny.folder.file("text.txt");
  Job() {
    std::string text;
    for (int i = 0; i < 4000; ++i) text += static_cast<char>('a' + Random(3, 1, 0).bits(static_cast<uint64_t>(i)) % 26);
    tiny.folder.write("text.txt", text);
  }
  std::string file(const std::string& name) const { return tiny.folder.file(name); }
  Ran run(const std::string& command, std::vector<std::string> more) const {
    std::vector<std::string> arguments = {command, "--model", tiny.gguf};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_thimble(arguments);
  }
};

constexpr const char* kLayer = "model.layers.1.mlp.down_proj.weight";

TEST(Prune, halves_every_layer_in_both_formats) {
  const Job job;
  for (const std::string to : {"gguf", "safetensors"})
    for (const std::string method : {"magnitude", "wanda"}) {
      const std::string out = job.file(method + to);
      std::vector<std::string> flags = {"--method", method, "--to", to, "--out", out, "--json"};
      if (method == "wanda") flags.insert(flags.end(), {"--data", job.data, "--samples", "8", "--context", "32"});
      const Ran ran = job.run("prune", flags);
      ASSERT_EQ(ran.status, 0) << ran.err;
      const Json done = Json::parse(ran.out.substr(ran.out.rfind("{\"event\"")));
      EXPECT_EQ(done["layers"], 14);
      EXPECT_EQ(done["sparsity"], 0.5);
      EXPECT_LE(done["peak_rss_bytes"].get<int64_t>(), done["planned_peak_bytes"].get<int64_t>());
      const auto before = ModelSource::open(job.tiny.gguf), after = ModelSource::open(out);
      ASSERT_TRUE(after) << after.error().message;
      const std::vector<float> w = weight(**after, kLayer);
      EXPECT_EQ(std::count(w.begin(), w.end(), 0.0f), static_cast<int64_t>(w.size() / 2));
      EXPECT_EQ(weight(**after, "model.embed_tokens.weight"), weight(**before, "model.embed_tokens.weight"));
      // What stays is what was there.
      const std::vector<float> old = weight(**before, kLayer);
      for (size_t i = 0; i < w.size(); ++i) EXPECT_TRUE(w[i] == 0 || w[i] == old[i]);
      const Ran used = run_thimble({"eval", "--model", out, "--data", job.data, "--context", "32"});
      EXPECT_EQ(used.status, 0) << used.err;
    }
}

TEST(Prune, patterns_and_none_at_all) {
  const Job job;
  const std::string two = job.file("two.gguf"), none = job.file("none.gguf");
  ASSERT_EQ(job.run("prune", {"--method", "magnitude", "--pattern", "2:4", "--to", "gguf", "--out", two}).status, 0);
  ASSERT_EQ(job.run("prune", {"--method", "magnitude", "--sparsity", "0", "--to", "gguf", "--out", none}).status, 0);
  const auto before = ModelSource::open(job.tiny.gguf), half = ModelSource::open(two), same = ModelSource::open(none);
  const std::vector<float> w = weight(**half, kLayer);
  for (size_t i = 0; i < w.size(); i += 4)
    ASSERT_EQ(std::count(w.begin() + int64_t(i), w.begin() + int64_t(i) + 4, 0.0f), 2);
  for (const ModelTensor& tensor : (*before)->tensors())
    if (tensor.shape.rank() == 2) EXPECT_EQ(weight(**same, tensor.name), weight(**before, tensor.name)) << tensor.name;
}

// A packed 2:4 model is a smaller one, to the bit the same in whatever is done with it.
TEST(Prune, packs_a_pattern) {
  const Job job;
  const std::string full = job.file("full"), packed = job.file("packed");
  for (const auto& [codec, out] : {std::pair{"bf16", full}, {"bf16_2_4", packed}})
    ASSERT_EQ(job.run("prune", {"--method", "wanda", "--data", job.data, "--samples", "8", "--context", "32",
                                "--pattern", "2:4", "--to", "safetensors", "--codec", codec, "--out", out})
                  .status,
              0);
  const auto dense = ModelSource::open(full), small = ModelSource::open(packed);
  ASSERT_TRUE(small) << small.error().message;
  EXPECT_EQ((*small)->find(kLayer)->codec->name, "bf16_2_4");
  EXPECT_EQ((*small)->find(kLayer)->bytes() * 16, (*dense)->find(kLayer)->bytes() * 9);
  EXPECT_EQ((*small)->find("model.embed_tokens.weight")->codec->name, "bf16");
  for (const ModelTensor& tensor : (*dense)->tensors())
    EXPECT_EQ(weight(**small, tensor.name), weight(**dense, tensor.name)) << tensor.name;

  const auto of = [&](const std::string& model, std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--model", model});
    const Ran ran = run_thimble(arguments);
    EXPECT_EQ(ran.status, 0) << ran.err;
    return ran.out;
  };
  const auto nll = [](const std::string& text) {
    const size_t at = text.rfind("\"nll\":");
    EXPECT_NE(at, std::string::npos) << text;
    return text.substr(at, text.find(',', at) - at);
  };
  const std::vector<std::string> eval = {"eval", "--data", job.data, "--context", "32", "--json"},
                                 reply = {"generate", "--prompt", "ab", "--max-tokens", "24", "--context", "48"};
  EXPECT_EQ(of(packed, reply), of(full, reply));
  EXPECT_EQ(nll(of(packed, eval)), nll(of(full, eval)));
  // Adapters see the same numbers, and the same gradients come through them.
  for (const std::string& model : {full, packed})
    of(model, {"finetune", "--data", job.data, "--out", model + "-lora", "--method", "lora", "--steps", "4",
               "--context", "32", "--batch", "2", "--scratch", "none"});
  const std::string adapter = "-lora/adapter/adapter_model.safetensors";
  EXPECT_EQ(file_bytes(packed + adapter), file_bytes(full + adapter));
  // Both ways, to the byte.
  const std::string weights = "/model.safetensors", there = job.file("there"), back = job.file("back");
  of(full, {"convert", "--to", "safetensors", "--codec", "bf16_2_4", "--out", there});
  of(there, {"convert", "--to", "safetensors", "--codec", "bf16", "--out", back});
  EXPECT_EQ(file_bytes(there + weights), file_bytes(packed + weights));
  EXPECT_EQ(file_bytes(back + weights), file_bytes(full + weights));
  of(packed, {"convert", "--to", "safetensors", "--out", job.file("copy")});
  EXPECT_EQ(file_bytes(job.file("copy") + weights), file_bytes(packed + weights));
  // GGUF has no such format: what it takes without --codec is told.
  EXPECT_THAT(of(packed, {"convert", "--to", "gguf", "--out", job.file("packed.gguf")}),
              testing::HasSubstr("no --codec was given: bf16 is taken"));
}

// Full fine-tuning with the mask kept ends in a model that packs again; without it, packing says what is in the way.
TEST(Prune, trains_on_with_its_mask) {
  const Job job;
  const std::string packed = job.file("packed"), again = job.file("again");
  ASSERT_EQ(job.run("prune", {"--method", "magnitude", "--pattern", "2:4", "--to", "safetensors", "--codec", "bf16_2_4",
                              "--out", packed})
                .status,
            0);
  const auto begun = ModelSource::open(packed);
  const std::vector<float> old = weight(**begun, kLayer);
  const auto train = [&](const std::string& method, const std::string& optimizer, const std::string& out) {
    return run_thimble({"finetune", "--model",     packed,    "--data",    job.data,  "--out",     out,
                        "--method", method,        "--steps", "4",         "--batch", "2",         "--lr",
                        "0.01",     "--optimizer", optimizer, "--context", "32",      "--scratch", "none"});
  };
  const auto pack = [&](const std::string& model) {
    return run_thimble({"convert", "--model", model, "--to", "safetensors", "--codec", "bf16_2_4", "--out", again});
  };
  for (const std::string optimizer : {"adamw", "muon", "schedule_free"}) {
    SCOPED_TRACE(optimizer);
    const std::string out = job.file(optimizer);
    const Ran ran = train("full", optimizer + ",keep_zeros", out);
    ASSERT_EQ(ran.status, 0) << ran.err;
    const auto trained = ModelSource::open(out + "/model");
    ASSERT_TRUE(trained) << trained.error().message;
    const std::vector<float> now = weight(**trained, kLayer);
    int64_t moved = 0;
    for (size_t i = 0; i < old.size(); ++i) {
      ASSERT_EQ(now[i] == 0, old[i] == 0) << i;
      moved += now[i] != old[i];
    }
    EXPECT_GT(moved, static_cast<int64_t>(old.size()) / 3);
    EXPECT_EQ(pack(out + "/model").status, 0);
  }
  ASSERT_EQ(train("full", "adamw", job.file("plain")).status, 0);
  EXPECT_THAT(pack(job.file("plain") + "/model").err, HasSubstr("are not zero, codec bf16_2_4 holds 2"));
  EXPECT_THAT(train("lora", "adamw,keep_zeros", job.file("lora")).err, HasSubstr("training the model's own weights"));
}

TEST(Quantize, writes_the_codec_that_was_asked_for) {
  const Job job;
  for (const std::string method : {"round", "gptq"}) {
    const std::string out = job.file(method + ".gguf");
    std::vector<std::string> flags = {"--method", method, "--to", "q4_0", "--out", out};
    if (method == "gptq") flags.insert(flags.end(), {"--data", job.data, "--samples", "8", "--context", "32"});
    const Ran ran = job.run("quantize", flags);
    ASSERT_EQ(ran.status, 0) << ran.err;
    const auto after = ModelSource::open(out);
    ASSERT_TRUE(after) << after.error().message;
    EXPECT_EQ((*after)->find(kLayer)->codec, &kQ4_0);
    EXPECT_EQ(run_thimble({"eval", "--model", out, "--data", job.data, "--context", "32"}).status, 0);
  }
  // Rounding is what convert does, byte for byte.
  const std::string converted = job.file("converted.gguf");
  ASSERT_EQ(job.run("convert", {"--to", "gguf", "--codec", "q4_0", "--out", converted}).status, 0);
  const auto a = ModelSource::open(converted), b = ModelSource::open(job.file("round.gguf")),
             c = ModelSource::open(job.file("gptq.gguf"));
  EXPECT_EQ(weight(**a, kLayer), weight(**b, kLayer));
  EXPECT_NE(weight(**a, kLayer), weight(**c, kLayer));
}

// Mean squares of the inputs of every layer of the tiny model, as llama.cpp writes them; `column` counts most.
std::string imatrix_file(const Job& job, size_t column) {
  std::string bytes;
  const auto put = [&](auto value) { bytes.append(reinterpret_cast<const char*>(&value), sizeof value); };
  put(int32_t{14});
  for (int block = 0; block < 2; ++block)
    for (const auto& [name, columns] : {std::pair{"attn_q", 64},
                                        {"attn_k", 64},
                                        {"attn_v", 64},
                                        {"attn_output", 64},
                                        {"ffn_gate", 64},
                                        {"ffn_up", 64},
                                        {"ffn_down", 96}}) {
      const std::string tensor = fmt::format("blk.{}.{}.weight", block, name);
      put(static_cast<int32_t>(tensor.size()));
      bytes += tensor;
      put(int32_t{2}), put(static_cast<int32_t>(columns));
      for (int i = 0; i < columns; ++i) put(static_cast<size_t>(i) == column ? 2000.0f : 2.0f);
    }
  return job.tiny.folder.write("imatrix.dat", bytes);
}

TEST(Quantize, errors_count_as_an_importance_matrix_says) {
  const Job job;
  constexpr size_t kColumn = 33;
  const std::string imatrix = imatrix_file(job, kColumn), all = job.file("all.gguf"), one = job.file("one.gguf");
  ASSERT_EQ(job.run("quantize", {"--method", "round", "--to", "q4_0", "--out", all}).status, 0);
  const Ran ran = job.run("quantize", {"--imatrix", imatrix, "--to", "q4_0", "--out", one, "--memory", "40M"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.err + ran.out, HasSubstr("14 matrices"));
  const auto model = ModelSource::open(job.tiny.gguf), plain = ModelSource::open(all),
             weighted = ModelSource::open(one);
  for (const TensorSpec& layer : layer_weights((*model)->architecture())) {
    const std::vector<float> w = weight(**model, layer.name), a = weight(**plain, layer.name),
                             b = weight(**weighted, layer.name);
    double plainly = 0, weighed = 0;
    for (size_t i = kColumn; i < w.size(); i += static_cast<size_t>(layer.shape[1])) {
      plainly += (a[i] - w[i]) * (a[i] - w[i]);
      weighed += (b[i] - w[i]) * (b[i] - w[i]);
    }
    EXPECT_LT(weighed, 0.25 * plainly) << layer.name;
  }
  // The same from text, which is observed.
  const std::string observed = job.file("observed.gguf");
  EXPECT_EQ(job.run("quantize", {"--method", "importance", "--data", job.data, "--samples", "8", "--context", "32",
                                 "--to", "q5_1", "--out", observed})
                .status,
            0);
  const Ran shown = run_thimble({"inspect", imatrix, "--tensors"});
  EXPECT_EQ(shown.status, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr("importance matrix of llama.cpp (legacy)"));
  EXPECT_THAT(shown.out, HasSubstr("blk.1.ffn_down.weight"));
}

TEST(Prune, refuses_what_can_not_be) {
  const Job job;
  const std::string out = job.file("out.gguf");
  const auto refused = [&](const std::string& command, std::vector<std::string> flags, const std::string& because,
                           int status = 2) {
    flags.insert(flags.end(), {"--out", out});
    const Ran ran = job.run(command, flags);
    EXPECT_EQ(ran.status, status) << because << ran.out;
    EXPECT_THAT(ran.err, HasSubstr(because));
    EXPECT_FALSE(is_file(out)) << because;
  };
  refused("prune", {"--method", "magnitud", "--to", "gguf"}, "nearest are magnitude");
  refused("prune", {"--method", "gptq", "--to", "gguf"}, "there is no way to prune 'gptq'");
  refused("prune", {"--method", "wanda", "--to", "gguf"}, "--data is missing");
  refused("prune", {"--method", "magnitude", "--to", "gguf", "--data", job.data}, "looks at weights alone");
  refused("prune", {"--method", "magnitude", "--to", "gguf", "--codec", "q4_1"}, "no exact zero");
  refused("prune", {"--method", "magnitude", "--to", "gguf", "--sparsity", "1.5"}, "--sparsity: expected 0 to 1");
  refused("prune", {"--method", "magnitude", "--to", "gguf", "--pattern", "5:4"}, "--pattern: expected N:M");
  refused("prune", {"--method", "magnitude", "--to", "gguf", "--pattern", "2:4", "--sparsity", "0.3"},
          "--pattern 2:4 says");
  refused("prune", {"--method", "magnitude", "--to", "gguf", "--pattern", "3:7"}, "no whole runs of 7");
  refused("quantize", {"--method", "gptq", "--to", "q6_K", "--data", job.data}, "take q4_0, q4_1, q5_0, q5_1");
  refused("prune", {"--method", "magnitude", "--to", "gguf", "--pattern", "2:4", "--codec", "bf16_2_4"},
          "GGUF has no such format");
  for (const char* pattern : {"3:4", "4:8"})
    refused("prune", {"--method", "magnitude", "--to", "safetensors", "--pattern", pattern, "--codec", "bf16_2_4"},
            "prune with --pattern 2:4");
  refused("prune", {"--method", "magnitude", "--to", "safetensors", "--codec", "f16_2_4"}, "prune with --pattern 2:4");
  const std::string imatrix = imatrix_file(job, 0);
  refused("quantize", {"--to", "q4_0"}, "--method is missing");
  refused("quantize", {"--imatrix", imatrix, "--to", "q8_0"}, "take q4_0, q4_1, q5_0, q5_1, q4_K, q5_K, q6_K");
  refused("quantize", {"--imatrix", imatrix, "--to", "q4_0", "--data", job.data}, "--imatrix says what layers read");
  refused("quantize", {"--imatrix", job.tiny.gguf, "--to", "q4_0"}, "expected 'imatrix'");
  refused("quantize", {"--imatrix", imatrix, "--method", "gptq", "--to", "q4_0"}, "mean squares");
  refused("quantize", {"--method", "gptq", "--to", "q4_0", "--data", job.data, "--set", "gptq.damp=7"},
          "expected 1e-06 to 1");
  refused("quantize", {"--method", "gptq", "--to", "q4_0", "--data", job.data, "--context", "100"},
          "64 tokens at most");
  refused("quantize", {"--method", "gptq", "--to", "q4_0", "--data", job.data, "--context", "32", "--memory", "12M"},
          "--memory", 3);
}

}  // namespace
}  // namespace thimble
