// finetune and plan as a user runs them: how they end, and what their flags may name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include <nlohmann/json.hpp>

#include "files/file.h"
#include "files/json.h"
#include "files/safetensors.h"
#include "program.h"
#include "tiny_files.h"

namespace thimble {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class Finetune : public testing::Test {
 protected:
  std::vector<std::string> flags(const std::string& command, const std::vector<std::string>& more) const {
    std::vector<std::string> all = {command, "--model",   tiny_.gguf, "--data", data_,      "--context",
                                    "128",   "--threads", "2",        "--out",  file("run")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  std::string file(const std::string& name) const { return tiny_.folder.file(name); }
  static Json last_line(const std::string& out) {
    const size_t begin = out.rfind('\n', out.size() - 2) + 1;
    return *parse_json(out.substr(begin), "the last line");
  }

  TinyFiles tiny_;
  std::string data_ = tiny_.folder.write(
      "chats.jsonl", R"({"messages":[{"role":"system","content":"Be b."},{"role":"user","content":"a"},)"
                     R"({"role":"assistant","content":"b"}]})"
                     "\n");
};

TEST_F(Finetune, an_interrupted_run_ends_with_an_event) {
  Waiting running(flags("finetune", {"--steps", "1000000", "--json", "--scratch", "none"}));
  ASSERT_TRUE(running.says("out", "\"step\":1,")) << running.errors();
  running.interrupt();
  EXPECT_EQ(running.exit_code(), 130);
  const Json last = last_line(running.output());
  EXPECT_EQ(last.at("event"), "stopped");
  EXPECT_EQ(last.at("code"), "cancelled");
  EXPECT_THAT(last.at("message").get<std::string>(), HasSubstr("--resume"));
  EXPECT_EQ(last_line(file_bytes(file("run/events.jsonl"))), last);
}

// `thimble finetune ... | head`: the run is saved, and can go on.
TEST_F(Finetune, a_run_whose_output_nobody_reads_is_saved) {
  std::string command = quoted(THIMBLE_PROGRAM);
  for (const std::string& argument : on_level(flags("finetune", {"--steps", "1000000", "--json", "--scratch", "none"})))
    command += " " + quoted(argument);
  command += " 2>" + file("err") + " | head -5 >" + file("head");
  ASSERT_EQ(std::system(command.c_str()), 0);
  EXPECT_THAT(file_bytes(file("err")), AllOf(HasSubstr("everything is saved in"), HasSubstr("--resume")));
  EXPECT_TRUE(is_file(file("run/checkpoint.safetensors")));
  EXPECT_EQ(last_line(file_bytes(file("run/events.jsonl"))).at("event"), "stopped");
}

TEST_F(Finetune, a_run_does_not_overwrite_what_it_begins_from) {
  ASSERT_EQ(run_thimble(flags("finetune", {"--steps", "1", "--scratch", "none"})).status, 0);
  const std::string before = file_bytes(file("run/adapter/adapter_model.safetensors"));
  const Ran over =
      run_thimble(flags("finetune", {"--steps", "2", "--scratch", "none", "--adapter", file("run/adapter")}));
  EXPECT_EQ(over.status, 2);
  EXPECT_THAT(over.err, HasSubstr("what this run makes would take its place"));
  EXPECT_EQ(file_bytes(file("run/adapter/adapter_model.safetensors")), before);
}

TEST_F(Finetune, what_is_left_out_of_the_data_is_an_event) {
  const std::string data = tiny_.folder.write(
      "mixed.jsonl", file_bytes(data_) + "no JSON\n" + R"({"prompt":"a","completion":"b","hint":"h"})" + "\n");
  const Ran ran = run_thimble({"finetune", "--model", tiny_.gguf, "--data", data, "--context", "128", "--steps", "1",
                               "--scratch", "none", "--json", "--out", file("run")});
  ASSERT_EQ(ran.status, 0) << ran.err;
  for (const std::string& events : {ran.out, file_bytes(file("run/events.jsonl"))}) {
    const size_t at = events.find("{\"event\":\"data\"");
    ASSERT_NE(at, std::string::npos) << events;
    const Json json = *parse_json(events.substr(at, events.find('\n', at) - at), "the event");
    EXPECT_EQ(json.at("examples"), 2);
    EXPECT_EQ(json.at("bad_lines"), 1);
    EXPECT_EQ(json.at("unused_fields"), Json({{"hint", 1}}));
    EXPECT_THAT(json.at("first_errors")[0].get<std::string>(), HasSubstr("mixed.jsonl:2: not JSON"));
  }
}

TEST_F(Finetune, a_second_run_into_a_folder_in_use_is_refused) {
  Waiting running(flags("finetune", {"--steps", "1000000", "--json", "--scratch", "none"}));
  ASSERT_TRUE(running.says("out", "\"step\":1,")) << running.errors();
  const Ran second = run_thimble(flags("finetune", {"--steps", "1", "--scratch", "none"}));
  EXPECT_EQ(second.status, 2);
  EXPECT_THAT(second.err, HasSubstr("it is in use: another run"));
  running.interrupt();
  EXPECT_EQ(running.exit_code(), 130);
  EXPECT_EQ(run_thimble(flags("finetune", {"--steps", "1", "--scratch", "none"})).status, 0);
}

TEST_F(Finetune, a_run_that_fails_ends_with_an_event) {
  for (const char* command : {"finetune", "plan"}) {
    const Ran ran = run_thimble(flags(command, {"--memory", "1M", "--json"}));
    EXPECT_EQ(ran.status, 3);
    EXPECT_EQ(last_line(ran.out).at("event"), "error");
    EXPECT_EQ(last_line(ran.out).at("code"), "over_budget");
  }
  const Ran eval = run_thimble({"eval", "--model", tiny_.gguf, "--data", file("none"), "--json"});
  EXPECT_EQ(last_line(eval.out).at("code"), "invalid_argument");
}

// Planning so many experts takes more than a small budget leaves it.
TEST_F(Finetune, a_plan_that_is_larger_than_the_budget_says_what_would_do) {
  const Ran ran = run_thimble({"train",
                               "--size",
                               "500K",
                               "--tokenizer",
                               tiny_.gguf,
                               "--data",
                               data_,
                               "--context",
                               "256",
                               "--steps",
                               "1",
                               "--scratch",
                               "none",
                               "--memory",
                               "1M",
                               "--set",
                               "block.router=hash",
                               "--set",
                               "block.experts=256",
                               "--out",
                               file("run")});
  EXPECT_EQ(ran.status, 3);
  EXPECT_THAT(ran.err, HasSubstr("--memory 1.0 MB was given, the smallest budget that would do is "));
}

// The balance of experts is a mean over all tokens, however few of them are learnt: between its factor, where experts
// are used alike, and as many times that as there are experts, in each of the model's blocks.
TEST_F(Finetune, balance_of_experts_does_not_depend_on_what_is_learnt) {
  const std::string data = tiny_.folder.write("pairs.jsonl", R"({"prompt":"abab abc cab bad dab fade","completion":"a"}
{"prompt":"cafe bead added decade","completion":"b"}
)");
  const Ran ran = run_thimble({"train",
                               "--size",
                               "500K",
                               "--tokenizer",
                               tiny_.gguf,
                               "--data",
                               data,
                               "--context",
                               "64",
                               "--steps",
                               "1",
                               "--set",
                               "block.router=switch",
                               "--set",
                               "block.experts=4",
                               "--set",
                               "block.balance=0.5",
                               "--memory",
                               "300M",
                               "--json",
                               "--out",
                               file("run")});
  ASSERT_EQ(ran.status, 0) << ran.err;
  const Json config = Json::parse(*read_text_file(file("run") + "/model/config.json"));
  const double blocks = config.at("num_hidden_layers");
  std::istringstream lines(ran.out);
  double balance = 0;
  for (std::string line; std::getline(lines, line);)
    if (const Json event = Json::parse(line); event.at("event") == "step") balance = event.at("balance");
  EXPECT_GE(balance, 0.5 * blocks * 0.99);
  EXPECT_LE(balance, 0.5 * blocks * 2);
}

TEST_F(Finetune, settings_without_effect_are_said) {
  const Ran ran = run_thimble(flags("finetune", {"--method", "full", "--steps", "1", "--optimizer", "sgd", "--states",
                                                 "int8_block", "--set", "optimizer.decay_of=norm:2"}));
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("optimizer.decay_of have no effect"));
  EXPECT_THAT(ran.err, HasSubstr("--states int8_block has no effect: sgd"));
}

// Without SIGXFSZ ignored, the process would be killed and nothing said.
TEST_F(Finetune, a_file_that_may_not_grow_is_an_error_and_the_checkpoint_before_resumes) {
  const auto train = [&](const std::string& steps, bool resume, const std::string& before) {
    std::vector<std::string> more = {"--method", "full", "--schedule", "constant",
                                     "--steps",  steps,  "--scratch",  "none"};
    if (resume) more.emplace_back("--resume");
    return run_thimble(flags("finetune", more), "", before);
  };
  ASSERT_EQ(train("1", false, "").status, 0);
  const Ran limited = train("2", true, "ulimit -f 500");  // blocks of 512 or 1024 bytes
  EXPECT_EQ(limited.status, 1);
  EXPECT_THAT(limited.err, AllOf(HasSubstr("checkpoint.safetensors"), HasSubstr("File too large"),
                                 HasSubstr("The checkpoint of step 1 in"), HasSubstr("--resume")));
  const Ran rest = train("2", true, "");
  EXPECT_EQ(rest.status, 0) << rest.err;
  EXPECT_THAT(rest.err, HasSubstr("resumed at step 1 of 2"));
}

TEST_F(Finetune, standard_output_that_is_full_is_an_error) {
  const std::string command = quoted(THIMBLE_PROGRAM) + " methods >/dev/full 2>" + quoted(file("err"));
  const int status = std::system(command.c_str());
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_THAT(file_bytes(file("err")), HasSubstr("standard output could not be written"));
}

TEST_F(Finetune, chat_and_generate_open_with_what_the_adapter_was_trained_with) {
  ASSERT_EQ(run_thimble(flags("finetune", {"--steps", "1", "--scratch", "none"})).status, 0);
  EXPECT_EQ(file_bytes(file("run/adapter/system_prompt.txt")), "Be b.");
  const auto ids = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"generate", "--model",      tiny_.gguf, "--prompt",  "a",  "--chat",
                                          "--json",   "--max-tokens", "1",        "--context", "128"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Ran ran = run_thimble(arguments);
    EXPECT_EQ(ran.status, 0) << ran.err;
    return parse_json(ran.out, "output")->at("prompt_ids");
  };
  const Json with = ids({"--adapter", file("run/adapter")});
  EXPECT_EQ(with, ids({"--system", "Be b."}));
  EXPECT_NE(with, ids({}));
  const Ran chat = run_thimble(
      {"chat", "--model", tiny_.gguf, "--adapter", file("run/adapter"), "--max-tokens", "1", "--context", "128"},
      "a\n");
  EXPECT_EQ(chat.status, 0) << chat.err;
  EXPECT_THAT(chat.err, HasSubstr("system message, as the adapter was trained with: Be b."));
}

// The template that --chat-template named stays with the adapter, and goes into what it is merged into.
TEST_F(Finetune, the_adapter_keeps_the_template_that_it_was_trained_with) {
  const std::string source = "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|end|>{% endfor %}[assistant] ";
  tiny_.folder.write("other.jinja", source);
  ASSERT_EQ(
      run_thimble(flags("finetune", {"--steps", "1", "--scratch", "none", "--chat-template", file("other.jinja")}))
          .status,
      0);
  EXPECT_EQ(file_bytes(file("run/adapter/chat_template.jinja")), source);
  const auto rendered = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"generate", "--prompt",     "a", "--chat",    "--system", "s",
                                          "--json",   "--max-tokens", "1", "--context", "128"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Ran ran = run_thimble(arguments);
    EXPECT_EQ(ran.status, 0) << ran.err;
    return parse_json(ran.out, "output")->at("prompt_ids");
  };
  const Json chosen = rendered({"--model", tiny_.gguf, "--chat-template", file("other.jinja")});
  EXPECT_NE(chosen, rendered({"--model", tiny_.gguf}));
  EXPECT_EQ(chosen, rendered({"--model", tiny_.gguf, "--adapter", file("run/adapter")}));
  for (const auto& [format, out] :
       {std::pair<std::string, std::string>{"gguf", file("merged.gguf")}, {"safetensors", file("merged")}}) {
    const Ran merged = run_thimble({"convert", "--model", tiny_.gguf, "--adapter", file("run/adapter"), "--to", format,
                                    "--codec", "f32", "--out", out});
    ASSERT_EQ(merged.status, 0) << merged.err;
    EXPECT_EQ(chosen, rendered({"--model", out})) << format;
  }
  // Going on from it keeps it.
  ASSERT_EQ(
      run_thimble({"finetune", "--model", tiny_.gguf, "--data", data_, "--adapter", file("run/adapter"), "--steps", "1",
                   "--context", "128", "--batch", "1", "--scratch", "none", "--out", file("more")})
          .status,
      0);
  EXPECT_EQ(file_bytes(file("more/adapter/chat_template.jinja")), source);
}

// What the run would refuse, the plan does, and it leaves nothing behind.
TEST_F(Finetune, a_range_test_raises_the_rate_and_draws_the_losses) {
  const std::vector<std::string> range = {"--lr-range", "1e-5:0.1", "--steps", "5", "--scratch", "none", "--json"};
  const Ran ran = run_thimble(flags("finetune", range));
  ASSERT_EQ(ran.status, 0) << ran.err;
  const Json last = last_line(ran.out);
  EXPECT_EQ(last.at("event"), "lr_range");
  const auto& points = last.at("rate_loss_smooth");
  ASSERT_EQ(points.size(), 5u);
  EXPECT_NEAR(points[0][0].get<double>(), 1e-5, 1e-9);
  EXPECT_NEAR(points[4][0].get<double>(), 0.1, 1e-5);
  EXPECT_THAT(file_bytes(file("run/lr_range.html")), HasSubstr("<polyline"));
  for (const char* flag : {"--lr", "--warmup", "--min-lr"}) {
    std::vector<std::string> both = range;
    both.insert(both.end(), {flag, "0.5"});
    const Ran refused = run_thimble(flags("finetune", both));
    EXPECT_EQ(refused.status, 2) << flag;
    EXPECT_THAT(refused.err, HasSubstr("--lr-range")) << flag;
  }
}

// Families whose parts differ most, from config.json to a model that other commands open.
TEST_F(Finetune, begins_from_scratch_like_a_config) {
  const std::pair<const char*, const char*> families[] = {
      {"gpt_neox", R"("intermediate_size":32,"rotary_pct":0.5,"use_parallel_residual":true)"},
      {"gemma3_text", R"("intermediate_size":32,"num_key_value_heads":1,"head_dim":8,"sliding_window":16)"},
      {"gpt2", R"("n_embd":16,"n_layer":2,"n_head":2,"n_positions":128)"},
      {"olmoe", R"("intermediate_size":32,"num_key_value_heads":2,"num_experts":4,"num_experts_per_tok":2)"}};
  const auto train = [&](const std::string& config, const std::string& out, std::vector<std::string> more) {
    std::vector<std::string> all = {"train", "--architecture", config,   "--tokenizer", tiny_.gguf, "--data",
                                    data_,   "--context",      "128",    "--steps",     "2",        "--scratch",
                                    "none",  "--out",          file(out)};
    all.insert(all.end(), more.begin(), more.end());
    return run_thimble(all);
  };
  const auto write = [&](const std::string& family, const std::string& fields, int vocab) {
    return tiny_.folder.write(
        family + ".json",
        fmt::format(R"({{"model_type":"{}","hidden_size":16,"num_hidden_layers":2,"num_attention_heads":2,)"
                    R"("max_position_embeddings":128,"vocab_size":{},{}}})",
                    family, vocab, fields));
  };
  for (const auto& [family, fields] : families) {
    SCOPED_TRACE(family);
    const Ran ran = train(write(family, fields, 512), family, {});
    ASSERT_EQ(ran.status, 0) << ran.err;
    const std::string model = file(std::string(family) + "/model");
    EXPECT_EQ(parse_json(file_bytes(model + "/config.json"), "config.json")->at("model_type"), family);
    EXPECT_EQ(run_thimble({"eval", "--model", model, "--data", data_, "--context", "128"}).status, 0);
    EXPECT_EQ(train(write(family, fields, 512), family, {"--resume"}).status, 0);
  }
  const Ran quantised =
      train(write("gpt_neox", families[0].second + std::string(R"(,"quantization_config":{})"), 512), "quantised", {});
  EXPECT_EQ(quantised.status, 2);
  EXPECT_THAT(quantised.err, HasSubstr("'quantization_config' is of weights that there are"));
  const std::string small = write("gpt_neox", families[0].second, 3);
  const Ran few = train(small, "few", {});
  EXPECT_EQ(few.status, 2);
  EXPECT_THAT(few.err, HasSubstr("vocab_size"));
  const Ran blocks = train(write("gpt_neox", families[0].second, 512), "blocks", {"--set", "block.norm=dyt"});
  EXPECT_EQ(blocks.status, 2);
  EXPECT_THAT(blocks.err, HasSubstr("the sockets with options here"));
}

// Where nothing else says which ids begin and end a text, the config does.
TEST_F(Finetune, keeps_the_special_ids_of_a_config_without_a_tokenizer) {
  const std::string config = tiny_.folder.write(
      "ids.json", R"({"model_type":"gpt_neox","hidden_size":16,"num_hidden_layers":2,"num_attention_heads":2,)"
                  R"("intermediate_size":32,"max_position_embeddings":32,"vocab_size":64,"bos_token_id":3,)"
                  R"("eos_token_id":[5,6],"pad_token_id":7})");
  const auto train = [&](const std::string& data) {
    return run_thimble({"train", "--architecture", config, "--data", data, "--context", "32", "--steps", "1",
                        "--scratch", "none", "--out", file("run")});
  };
  const Ran missing = train(file("none.jsonl"));
  EXPECT_EQ(missing.status, 2);
  EXPECT_THAT(missing.err, AllOf(HasSubstr("none.jsonl"), Not(HasSubstr("--tokenizer"))));
  const SafetensorsTensor tensor{"ids", "I32", {4, 32}};
  const std::vector<int32_t> ids(4 * 32, 9);
  auto data = SafetensorsWriter::create(file("ids.safetensors"), {&tensor, 1});
  ASSERT_TRUE(data);
  ASSERT_TRUE(data->write(std::as_bytes(std::span(ids))));
  ASSERT_TRUE(data->finish());
  const Ran ran = train(file("ids.safetensors"));
  ASSERT_EQ(ran.status, 0) << ran.err;
  const auto expect_ids = [](const std::string& folder) {
    const Json json = *parse_json(file_bytes(folder + "/config.json"), "config.json");
    EXPECT_EQ(json.at("bos_token_id"), 3);
    EXPECT_EQ(json.at("eos_token_id"), Json::array({5, 6}));
    EXPECT_EQ(json.at("pad_token_id"), 7);
  };
  expect_ids(file("run/model"));
  const Ran converted =
      run_thimble({"convert", "--model", file("run/model"), "--to", "safetensors", "--out", file("again")});
  ASSERT_EQ(converted.status, 0) << converted.err;
  expect_ids(file("again"));
}

TEST_F(Finetune, a_rate_by_law_is_for_training_from_scratch) {
  const Ran scratch = run_thimble({"train", "--size", "1M", "--tokenizer", tiny_.gguf, "--data", data_, "--context",
                                   "128", "--steps", "1", "--lr", "auto", "--out", file("run"), "--scratch", "none"});
  EXPECT_EQ(scratch.status, 0) << scratch.err;
  EXPECT_THAT(scratch.out + scratch.err, HasSubstr("Step Law"));
  const Ran longer =
      run_thimble({"train", "--size", "1M", "--tokenizer", tiny_.gguf, "--data", data_, "--context", "128", "--steps",
                   "2", "--lr", "auto", "--out", file("run"), "--scratch", "none", "--resume"});
  EXPECT_EQ(longer.status, 0) << longer.err;
  const Ran tuned = run_thimble(flags("finetune", {"--lr", "auto", "--steps", "1"}));
  EXPECT_EQ(tuned.status, 2);
  EXPECT_THAT(tuned.err, HasSubstr("Step Law"));
  for (const char* wrong : {"1e999", "nan", "automatic", "0"})
    EXPECT_EQ(run_thimble(flags("finetune", {"--lr", wrong, "--steps", "1"})).status, 2) << wrong;
}

TEST_F(Finetune, a_plan_checks_the_scratch_folder) {
  EXPECT_EQ(run_thimble(flags("plan", {"--scratch", file("none")})).status, 2);
  EXPECT_EQ(run_thimble(flags("plan", {"--scratch", data_})).status, 2);
  ASSERT_TRUE(make_directories(file("scratch")));
  const Ran good = run_thimble(flags("plan", {"--scratch", file("scratch")}));
  EXPECT_EQ(good.status, 0) << good.err;
  EXPECT_TRUE(std::filesystem::is_empty(file("scratch")));
  for (const char* name : {"none", "run"}) EXPECT_FALSE(std::filesystem::exists(file(name)));
  struct statfs system {};
  if (::statfs("/dev/shm", &system) != 0 || system.f_type != TMPFS_MAGIC) GTEST_SKIP() << "/dev/shm is not tmpfs";
  const Ran memory = run_thimble(flags("plan", {"--scratch", "/dev/shm"}));
  EXPECT_EQ(memory.status, 2);
  EXPECT_THAT(memory.err, HasSubstr("in memory (tmpfs)"));
}

}  // namespace
}  // namespace thimble
