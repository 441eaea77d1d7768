// Whole models against other engines: transformers (SmolLM2, weights dequantised to f32) and llama2.c (stories260K).
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>

#include "files/safetensors.h"
#include "run/all_logits.h"
#include "run/replies.h"
#include "run/sampler.h"
#include "shared_data.h"
#include "smollm2.h"
#include "temporary_folder.h"
#include "text/token_stream.h"
#include "whole.h"

namespace thimble {
namespace {

// Of 512 tokens.
int64_t windows() { return whole_tests() ? 32 : 4; }

std::vector<int32_t> encode(Tokenizer& tokenizer, const std::string& text, const EncodeOptions& options = {}) {
  std::vector<int32_t> ids;
  const auto result = tokenizer.encode(text, options, ids);
  EXPECT_TRUE(result) << result.error().message;
  return ids;
}

TEST(Golden, smollm2_greedy) {
  NEED_SMOLLM2(model);
  NEED_SHARED_DATA(path, "models/smollm2/greedy.json");
  const auto golden = read_json_file(path);
  ASSERT_TRUE(golden);
  const auto inference = open_model(model, "f32");
  ASSERT_TRUE(inference);
  std::vector<Exchange> exchanges;
  for (const Json& line : *golden)
    exchanges.push_back({.prompt = encode(inference->tokenizer(), line.at("prompt").get<std::string>()), .most = 64});
  const auto generator = Generator::prepare(*inference, 4, 256);  // fewer slots than prompts: some are filled later
  ASSERT_TRUE(generator) << generator.error().message;
  ASSERT_TRUE((*generator)->load());
  const int32_t stop = *inference->tokenizer().eos();
  ASSERT_TRUE(reply_to_all(**generator, exchanges, {&stop, 1}, [](int64_t) {}));
  for (size_t i = 0; i < exchanges.size(); ++i) {
    std::vector<int32_t> ids = exchanges[i].reply;
    if (exchanges[i].ended) ids.push_back(stop);
    EXPECT_EQ(ids, (*golden)[i].at("ids").get<std::vector<int32_t>>()) << (*golden)[i].at("prompt");
  }
  EXPECT_LE(peak_resident_bytes(), inference->plan().ledger.planned_bytes);
}

// Weights that do not fit wait on disk: the logits are those of a plenty of memory, bit for bit.
TEST(Golden, smollm2_answers_with_weights_on_disk) {
  NEED_SMOLLM2(model);
  constexpr int64_t kLess = 40'000'000;
  const auto whole = Inference::open({.model = model, .scratch = "none"});
  ASSERT_TRUE(whole) << whole.error().message;
  const auto in_memory = Generator::prepare(**whole, 2, 64);
  ASSERT_TRUE(in_memory) << in_memory.error().message;
  EXPECT_EQ((*whole)->plan().scratch_bytes, 0);
  const int64_t budget = (*whole)->plan().ledger.planned_bytes - kLess;
  const auto tight = Inference::open({.model = model, .memory = budget, .scratch = testing::TempDir()});
  ASSERT_TRUE(tight) << tight.error().message;
  const auto from_disk = Generator::prepare(**tight, 2, 64);
  ASSERT_TRUE(from_disk) << from_disk.error().message;
  EXPECT_GT((*tight)->plan().scratch_bytes, kLess / 2);
  const std::vector<int32_t> ids = encode((*whole)->tokenizer(), "Twelve owls and a fox went to sea in a");
  const std::vector<Generator::Prompt> prompts = {{0, ids}, {1, std::span(ids).first(3)}};
  std::vector<std::vector<float>> logits;
  for (Generator* generator : {from_disk->get(), in_memory->get()}) {
    ASSERT_TRUE(generator->load());
    ASSERT_TRUE(generator->prefill(prompts));
    for (const int64_t slot : {0, 1})
      logits.emplace_back(generator->logits(slot).begin(), generator->logits(slot).end());
    if (generator == from_disk->get()) EXPECT_LE(peak_resident_bytes(), budget);
  }
  EXPECT_EQ(logits[0], logits[2]);
  EXPECT_EQ(logits[1], logits[3]);
}

// A cache in 8 bits takes half the bytes of bf16, and mostly says the same for a while.
TEST(Golden, smollm2_greedy_with_a_cache_in_q8_0) {
  NEED_SMOLLM2(model);
  NEED_SHARED_DATA(path, "models/smollm2/greedy.json");
  const auto golden = read_json_file(path);
  ASSERT_TRUE(golden);
  int64_t bytes[2];
  for (const char* type : {"bf16", "q8_0"}) {
    const auto inference = Inference::open({.model = model, .precision = "f32", .cache_type = type});
    ASSERT_TRUE(inference) << inference.error().message;
    std::vector<Exchange> exchanges;
    for (const Json& line : *golden)
      exchanges.push_back(
          {.prompt = encode((*inference)->tokenizer(), line.at("prompt").get<std::string>()), .most = 8});
    const auto generator = Generator::prepare(**inference, 1, 256);
    ASSERT_TRUE(generator) << generator.error().message;
    ASSERT_TRUE((*generator)->load());
    ASSERT_TRUE(reply_to_all(**generator, exchanges, {}, [](int64_t) {}));
    bytes[type[0] == 'q'] = (*inference)->plan().layout.bytes(Role::state);
    int64_t all = 0, same = 0;  // ids before the first that differs
    for (size_t i = 0; i < exchanges.size(); ++i) {
      const auto& reply = exchanges[i].reply;
      const auto ids = (*golden)[i].at("ids").get<std::vector<int32_t>>();
      all += std::min(std::ssize(reply), std::ssize(ids));
      same += std::mismatch(reply.begin(), reply.end(), ids.begin(), ids.end()).first - reply.begin();
    }
    EXPECT_GE(4 * same, 3 * all) << type << ", of " << all;
  }
  EXPECT_NEAR(static_cast<double>(bytes[1]), 34.0 / 64 * static_cast<double>(bytes[0]), 4096);
}

TEST(Golden, smollm2_logits) {
  NEED_SMOLLM2(model);
  NEED_SHARED_DATA(path, "models/smollm2/logits.safetensors");
  NEED_SHARED_DATA(cases_path, "models/smollm2/cases.json");
  const auto golden = SafetensorsFile::open(path);
  const auto cases = read_json_file(cases_path);
  ASSERT_TRUE(golden && cases);
  const auto inference = open_model(model, "f32");
  ASSERT_TRUE(inference);
  const auto logits = AllLogits::prepare(*inference, 128);
  ASSERT_TRUE(logits) << logits.error().message;
  ASSERT_TRUE((*logits)->load());
  const auto prompts = cases->at("prompts").get<std::vector<std::string>>();
  for (size_t i = 0; i < prompts.size(); ++i) {
    const SafetensorsEntry* const entry = golden->find("prompt" + std::to_string(i));
    ASSERT_TRUE(entry);
    std::vector<float> expected(static_cast<size_t>(entry->shape.count()));
    ASSERT_TRUE(golden->file().read(entry->offset, std::as_writable_bytes(std::span(expected))));
    const auto found = (*logits)->run(encode(inference->tokenizer(), prompts[i]));
    ASSERT_TRUE(found) << found.error().message;
    const std::span<const float> last = found->last(expected.size());
    float worst = 0;
    for (size_t j = 0; j < expected.size(); ++j) worst = std::max(worst, std::abs(last[j] - expected[j]));
    EXPECT_LE(worst, 1e-3f) << "prompt " << i;
  }
}

TEST(Golden, smollm2_losses) {
  NEED_SMOLLM2(model);
  NEED_SHARED_DATA(text, "wikitext2/valid.txt");
  NEED_SHARED_DATA(path, "models/smollm2/nll_wikitext2_valid.json");
  const std::vector<double> golden = golden_losses(path), found = window_losses(model, "f32", text, windows());
  ASSERT_EQ(found.size(), static_cast<size_t>(windows()));
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], golden[i], 1e-4) << "window " << i;
}

TEST(Golden, smollm2_losses_in_bf16) {
  NEED_SMOLLM2(model);
  NEED_SHARED_DATA(text, "wikitext2/valid.txt");
  NEED_SHARED_DATA(path, "models/smollm2/nll_wikitext2_valid.json");
  const std::vector<double> golden = golden_losses(path), found = window_losses(model, "bf16", text, windows());
  ASSERT_EQ(found.size(), static_cast<size_t>(windows()));
  const double sum = std::accumulate(found.begin(), found.end(), 0.0),
               wanted = std::accumulate(golden.begin(), golden.begin() + windows(), 0.0);
  EXPECT_NEAR(sum / static_cast<double>(windows()), wanted / static_cast<double>(windows()), 0.01);
}

struct Stories {
  std::string model, tokenizer;
};
std::optional<Stories> stories() {
  const auto model = shared_data("models/stories260K/stories260K.bin"),
             tokenizer = shared_data("models/stories260K/tok512.bin");
  if (!model || !tokenizer) return std::nullopt;
  return Stories{*model, *tokenizer};
}

TEST(Golden, stories260K_greedy) {
  NEED_SHARED_DATA(golden, "models/stories260K/golden_greedy200.txt");
  const auto files = stories();
  ASSERT_TRUE(files);
  const auto inference = open_model(files->model, "f32", files->tokenizer);
  ASSERT_TRUE(inference);
  std::vector<Exchange> exchanges = {{.prompt = encode(inference->tokenizer(), "", {.bos = true}), .most = 200}};
  const auto generator = Generator::prepare(*inference, 1, 256);
  ASSERT_TRUE(generator && (*generator)->load());
  ASSERT_TRUE(reply_to_all(**generator, exchanges, {}, [](int64_t) {}));
  TokenStream stream(inference->tokenizer(), exchanges[0].prompt);
  std::string text;
  for (int32_t id : exchanges[0].reply) text += stream.push(id);
  text += stream.rest();
  EXPECT_EQ(text, file_bytes(golden));
}

TEST(Golden, stories260K_logits_and_losses) {
  NEED_SHARED_DATA(text, "models/stories260K/golden_text1.txt");
  NEED_SHARED_DATA(logits_path, "models/stories260K/golden_logits1.f32");
  const auto files = stories();
  ASSERT_TRUE(files);
  const auto inference = open_model(files->model, "f32", files->tokenizer);
  ASSERT_TRUE(inference);
  const std::vector<int32_t> ids = encode(inference->tokenizer(), file_bytes(text), {.bos = true});
  const auto logits = AllLogits::prepare(*inference, 512);
  ASSERT_TRUE(logits && (*logits)->load());
  const auto found = (*logits)->run(ids);
  ASSERT_TRUE(found) << found.error().message;
  const std::string golden = file_bytes(logits_path);
  const size_t vocab = 512, positions[] = {0, 1, 15, ids.size() - 2};
  ASSERT_EQ(golden.size(), 4 * vocab * 4);
  for (size_t p = 0; p < 4; ++p)
    for (size_t j = 0; j < vocab; ++j) {
      float expected = 0;
      std::memcpy(&expected, golden.data() + (p * vocab + j) * 4, 4);
      ASSERT_NEAR((*found)[positions[p] * vocab + j], expected, 1e-4) << "position " << positions[p];
    }
}

TEST(Golden, stories260K_loss) {
  NEED_SHARED_DATA(text, "models/stories260K/golden_text1.txt");
  const auto files = stories();
  ASSERT_TRUE(files);
  const auto inference = open_model(files->model, "f32", files->tokenizer);
  ASSERT_TRUE(inference);
  const std::vector<int32_t> ids = encode(inference->tokenizer(), file_bytes(text), {.bos = true});
  Score score;
  const auto evaluator = Evaluator::prepare(*inference, 512, 1, [&](const Score& s) { score = s; });
  ASSERT_TRUE(evaluator && (*evaluator)->load());
  ASSERT_TRUE((*evaluator)->add(ids, std::vector<uint8_t>(ids.size(), 1)));
  (*evaluator)->flush();
  EXPECT_EQ(score.tokens, 373);
  EXPECT_NEAR(score.mean(), 1.315989, 1e-5);
}

}  // namespace
}  // namespace thimble
