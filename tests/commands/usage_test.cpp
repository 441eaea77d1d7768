// What every command does with what it was given: flags, --config, files, Ctrl-C.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "files/json.h"
#include "program.h"
#include "tiny_files.h"

namespace thimble {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

struct Wrong {
  std::vector<std::string> arguments;
  std::string message;  // the whole of stderr, or its beginning
};

TEST(Usage, a_message_names_the_flag_what_was_expected_and_what_was_found) {
  const std::vector<Wrong> all = {
      {{}, "thimble: expected a command: finetune, train"},
      {{"finetun"}, "thimble: there is no command 'finetun'; the nearest are finetune"},
      {{"finetune", "--memroy", "300M"}, "thimble finetune: there is no --memroy; the nearest are --memory"},
      {{"finetune", "--memroy=300M"}, "thimble finetune: there is no --memroy; the nearest are --memory"},
      {{"finetune", "--steps", "two"}, "thimble finetune: --steps: expected a whole number, found 'two'\n"},
      {{"finetune", "--memory", "300"},
       "thimble finetune: --memory: 300 are 300 bytes, less than any process takes; did you mean 300M?\n"},
      {{"finetune", "--steps", "0"}, "thimble finetune: --steps: expected more than 0, found 0\n"},
      {{"finetune", "--lr", "0"}, "thimble finetune: --lr: expected more than 0, found 0\n"},
      {{"finetune", "--model", "m", "--data", "d", "--out", "o", "--seed", "-1"},
       "thimble finetune: --seed: expected 0 to 9223372036854775807, found -1\n"},
      {{"generate", "--model", "m", "--prompt", "a", "--seed", "-1"},
       "thimble generate: --seed: expected a whole number from 0 on, found '-1'\n"},
      {{"generate", "--seed", "18446744073709551616"},
       "thimble generate: --seed: expected a whole number from 0 on, found '18446744073709551616'\n"},
      {{"finetune", "--steps=1.5"}, "thimble finetune: --steps: expected a whole number, found '1.5'\n"},
      {{"finetune", "--lr", "fast"}, "thimble finetune: --lr: expected a number or auto, found 'fast'\n"},
      {{"finetune", "--steps"}, "thimble finetune: --steps: expected a value, found nothing\n"},
      {{"finetune", "--data", "--memory", "1G"}, "thimble finetune: --data: expected a value, found --memory\n"},
      {{"finetune", "--steps", "1", "--steps=2"},
       "thimble finetune: --steps: given twice, as '1' and as '2'; give it once\n"},
      {{"finetune", "--set", "lora.r=4", "--rank", "4", "--set=lora.r=8"},
       "thimble finetune: --set: 'lora.r' is given twice, as 'lora.r=4' and as 'lora.r=8'; give it once\n"},
      {{"data", "--columns", "prompt=a,completion=b", "--columns", "prompt=c"},
       "thimble data: --columns: 'prompt' is given twice, as 'prompt=a' and as 'prompt=c'; give it once\n"},
      {{"render", "--template-var", "a=1", "--template-var", "a=2"},
       "thimble render: --template-var: 'a' is given twice, as 'a=1' and as 'a=2'; give it once\n"},
      {{"finetune", "--target", ""},
       "thimble finetune: --target: expected a value, found an empty one; leave the flag out\n"},
      {{"finetune", "--adapter="},
       "thimble finetune: --adapter: expected a value, found an empty one; leave the flag out\n"},
      {{"finetune", "--target", "q_proj,"},
       "thimble finetune: --target: expected values with ',' between them, found an empty one in 'q_proj,'\n"},
      {{"generate", "--threads", "-1"}, "thimble generate: --threads: expected 0 to 1024, found '-1'\n"},
      {{"compare", "r.yaml", "--steps", "0"}, "thimble compare: --steps: expected more than 0, found '0'\n"},
      {{"data", "--truncate", "up"}, "thimble data: --truncate: expected left, right, split, found 'up'\n"},
      {{"finetune", "--json=banana"},
       "thimble finetune: --json: expected no value, found 'banana'; it is a switch: give it or leave it out\n"},
      {{"--completions"}, "thimble: --completions: expected a value, found nothing\n"},
      {{"--completions", "bash", "zsh"}, "thimble: 'zsh' belongs to no flag: --completions stands alone\n"},
      {{"--version", "1"}, "thimble: '1' belongs to no flag: --version stands alone\n"},
      {{"chat", "--system", "", "--nosuch"}, "thimble chat: there is no --nosuch"},  // a text may be empty
      {{"plan", "--config", "a", "--config=b"},
       "thimble plan: --config: given twice, as 'a' and as 'b'; give it once\n"},
      {{"plan", "--model", "m", "--data", "d", "--resume"},
       "thimble plan: --out is missing: a folder for the result\n"},
      {{"--memory", "300M", "plan"}, "thimble: expected a command before --memory: finetune, train"},
      {{"finetune", "model.gguf"}, "thimble finetune: 'model.gguf' belongs to no flag; flags begin with --\n"},
      {{"inspect", "a", "b"}, "thimble inspect: 'b' belongs to no flag; flags begin with --\n"},
      {{"generate", "--threads", "9999"}, "thimble generate: --threads: "},
      {{"finetune", "--model", "m", "--size", "5M", "--data", "d", "--out", "o"}, "thimble finetune: --size 5M: "},
      {{"train", "--data", "d", "--out", "o"},
       "thimble train: --size is missing: 5M, 60M, 1B; or --architecture, a config.json\n"},
      {{"train", "--size", "5M", "--architecture", "c", "--data", "d", "--out", "o"},
       "thimble train: --architecture c: --size says what the model is like; leave one of them out\n"},
      {{"pull"}, "thimble pull: MODEL is required\n"},
  };
  for (const Wrong& wrong : all) {
    const Ran ran = run_thimble(wrong.arguments);
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.err, StartsWith(wrong.message));
    EXPECT_EQ(ran.out, "");
  }
}

TEST(Usage, lists_negative_numbers_and_switches_are_taken) {
  TinyFiles tiny;
  const Ran ran = run_thimble({"generate", "--model", tiny.gguf, "--prompt", "--x", "--temperature", "-1", "--json"});
  EXPECT_THAT(ran.err, Not(HasSubstr("there is no")));
  const Ran list = run_thimble({"finetune", "--target", "q_proj", "v_proj", "--set", "a.b=1", "--set", "a.c=2"});
  EXPECT_THAT(list.err, StartsWith("thimble finetune: --model is missing"));
}

TEST(Usage, settings_of_a_recipe_are_overruled_by_name) {
  TinyFiles tiny;
  const std::string data = tiny.folder.write("data.jsonl", "{\"frage\": \"a cab\", \"antwort\": \"b\"}\n");
  const std::string recipe = tiny.folder.write("recipe.yaml", "columns: [prompt=x, completion=antwort]\n");
  const Ran ran =
      run_thimble({"data", "--config", recipe, "--model", tiny.gguf, "--data", data, "--columns", "prompt=frage"});
  EXPECT_EQ(ran.status, 0) << ran.err;
}

TEST(Usage, a_plan_refuses_an_adapter_that_contradicts_itself) {
  TinyFiles tiny;
  const std::string config = tiny.adapter + "/adapter_config.json";
  auto json = nlohmann::json::parse(*read_text_file(config, 1 << 20));
  json["r"] = json["r"].get<int>() + 1;
  json["layers_to_transform"] = {1};  // as it has no other, and is asked to train on
  std::ofstream(config) << json;
  tiny.folder.write("data.jsonl", "{\"text\": \"a cab\"}\n");
  const std::vector<std::vector<std::string>> all = {
      {"generate", "--model", tiny.gguf, "--adapter", tiny.adapter, "--prompt", "a", "--plan"},
      {"plan", "--model", tiny.gguf, "--adapter", tiny.adapter, "--data", tiny.folder.file("data.jsonl"), "--out",
       tiny.folder.file("out")}};
  for (const std::vector<std::string>& arguments : all) {
    const Ran ran = run_thimble(arguments);
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.err, HasSubstr("this model needs"));
  }
}

TEST(Usage, a_config_is_blamed_by_file_line_and_key) {
  const TemporaryFolder folder;
  const std::string path = folder.file("recipe.yaml");
  const std::vector<std::pair<std::string, std::string>> all = {
      {"# a comment\nmodel: m\nstepz: 3\n", path + ":3: there is no key 'stepz'; the nearest are steps"},
      {"stepz: false\n", path + ":1: there is no key 'stepz'"},
      {"help: true\n", path + ":1: there is no key 'help'"},
      {"model: m\nsteps: two\n", path + ":2: steps: expected a whole number, found 'two'"},
      {"json: yes please\n", path + ":1: json: expected true or false, found 'yes please'"},
      {"steps: {a: 1}\n", path + ":1: steps: expected a value or a list of values"},
      {"steps: [1, 2]\n", path + ":1: steps: expected a whole number, found '1,2'"},
      {"set: [a.b=1, a.b=2]\n", path + ":1: set: 'a.b' is given twice, as 'a.b=1' and as 'a.b=2'; give it once"},
      {"- a\n", path + ": expected a map"},
      {"a: [\n", path + ": it is not YAML"},
  };
  for (const auto& [text, message] : all) {
    folder.write("recipe.yaml", text);
    const Ran ran = run_thimble({"finetune", "--config", path});
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.err, HasSubstr(message));
  }
  folder.write("recipe.yaml", "steps: 3\njson: true\ndata: none.jsonl\n");
  // The command line wins.
  EXPECT_THAT(run_thimble({"finetune", "--config", path, "--steps", "5"}).err, HasSubstr("--model is missing"));
}

// 2: what was given cannot be used.
TEST(Usage, files_that_can_not_be_used_exit_with_2) {
  TinyFiles tiny;
  const TemporaryFolder& folder = tiny.folder;
  const std::string good = folder.write("good.jsonl", "{\"prompt\":\"ab\",\"completion\":\"ab\"}\n");
  const std::vector<Wrong> all = {
      {{"--data", folder.file("none.jsonl")}, "none.jsonl: No such file"},
      {{"--data", folder.write("empty.jsonl", "")}, "empty.jsonl"},
      {{"--data", folder.write("bad.jsonl", "{\n"), "--strict"},
       "the file ends within the object that begins at line 1"},
      {{"--data", good, "--config", folder.file("none.yaml")}, "none.yaml"},
      {{"--data", good, "--adapter", folder.file("none")}, "none"},
      {{"--data", good, "--resume"}, "checkpoint.safetensors"},
      {{"--data", good, "--scratch", good}, "good.jsonl: Not a directory; give --scratch a folder"},
      {{"--data", good, "--scratch", folder.file("none")}, "none: No such file or directory; give --scratch a folder"},
  };
  for (const Wrong& wrong : all) {
    std::vector<std::string> arguments = {"finetune", "--model", tiny.gguf, "--context",       "16",
                                          "--steps",  "1",       "--out",   folder.file("out")};
    arguments.insert(arguments.end(), wrong.arguments.begin(), wrong.arguments.end());
    const Ran ran = run_thimble(arguments);
    EXPECT_EQ(ran.status, 2) << wrong.message;
    EXPECT_THAT(ran.err, AllOf(HasSubstr("thimble finetune: "), HasSubstr(wrong.message)));
  }
  EXPECT_EQ(run_thimble({"generate", "--model", folder.file("none.gguf"), "--prompt", "a"}).status, 2);
  EXPECT_EQ(run_thimble({"generate", "--model", good, "--prompt", "a"}).status, 2);
}

TEST(Usage, a_refusal_names_the_largest_parts_and_advises_what_the_command_has) {
  TinyFiles tiny;
  const std::string text = tiny.folder.write("text.txt", std::string(500, 'a'));
  const Ran generate = run_thimble({"generate", "--model", tiny.gguf, "--prompt", "a", "--memory", "1M"});
  EXPECT_EQ(generate.status, 3);
  EXPECT_THAT(generate.err, AllOf(HasSubstr("the largest parts of that are runtime "), HasSubstr("Lower --context ("),
                                  Not(HasSubstr("--batch"))));
  const Ran eval = run_thimble({"eval", "--model", tiny.gguf, "--data", text, "--memory", "1M", "--batch", "2"});
  EXPECT_THAT(eval.err, HasSubstr("or --batch (2)"));
}

TEST(Usage, a_model_that_says_nothing_finite_is_an_error) {
  TinyFiles tiny;
  const TemporaryFolder& folder = tiny.folder;
  // Writers refuse such a number: it is put into the file.
  const float mark = 1234.5678f, nothing = NAN;
  tiny.model.values.at("model.norm.weight")[5] = mark;
  const TokenizerTables tokenizer = tiny_tokenizer();
  ASSERT_TRUE(write_gguf_model(tiny.gguf, tiny.model.architecture, tiny.model.tensors, tiny.model.rows(),
                               {.tokenizer = &tokenizer}));
  std::string bytes = file_bytes(tiny.gguf);
  const size_t at = bytes.find(std::string_view(reinterpret_cast<const char*>(&mark), sizeof mark));
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, sizeof mark, reinterpret_cast<const char*>(&nothing), sizeof nothing);
  std::ofstream(tiny.gguf, std::ios::binary) << bytes;
  const std::string chats = folder.write("chats.jsonl", R"({"messages":[{"role":"user","content":"a"},)"
                                                        R"({"role":"assistant","content":"b"}]})");
  const std::string choices = folder.write("choices.jsonl", R"({"prompt":"a","choices":["b","c"],"answer":0})");
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
           {"generate", "--prompt", "a"},
           {"chat"},
           {"eval", "--data", chats},
           {"eval", "--metric", "exact", "--data", chats},
           {"eval", "--metric", "choice", "--data", choices},
           {"eval", "--data", chats, "--logits", folder.file("logits.safetensors")},
       }) {
    std::vector<std::string> arguments = command;
    arguments.insert(arguments.end(), {"--model", tiny.gguf});
    const Ran ran = run_thimble(arguments, "a\n");
    EXPECT_EQ(ran.status, 1) << testing::PrintToString(command);
    EXPECT_THAT(ran.err, HasSubstr("not finite"));
  }
  EXPECT_FALSE(std::filesystem::exists(folder.file("logits.safetensors")));
}

TEST(Generate, says_why_it_stopped) {
  TinyFiles tiny;  // a context of 64 tokens
  const auto stopped = [&](const std::string& most) {
    const Ran ran = run_thimble(
        {"generate", "--model", tiny.gguf, "--prompt", "ab", "--max-tokens", most, "--temperature", "0", "--json"});
    EXPECT_EQ(ran.status, 0) << ran.err;
    const Json json = *parse_json(ran.out, "output");
    return std::pair(json.at("stopped").get<std::string>(), json.at("ids").size());
  };
  // The last token of a full context is made and not fed.
  EXPECT_EQ(stopped("3"), std::pair(std::string("max-tokens"), size_t{3}));
  EXPECT_EQ(stopped("65"), std::pair(std::string("context"), size_t{64}));
  const Ran plain =
      run_thimble({"generate", "--model", tiny.gguf, "--prompt", "ab", "--max-tokens", "100", "--temperature", "0"});
  EXPECT_THAT(plain.err, HasSubstr("The context of 64 tokens is full"));
}

TEST(Chat, an_interrupt_while_waiting_says_how_to_leave_and_a_second_one_leaves) {
  TinyFiles tiny;
  Waiting chat({"chat", "--model", tiny.gguf, "--max-tokens", "4"});
  chat.type("a\n");
  ASSERT_TRUE(chat.says("out", "\n")) << chat.errors();  // the reply is over
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  chat.interrupt();
  ASSERT_TRUE(chat.says("err", "Ctrl-D ends the chat")) << chat.errors();
  chat.interrupt();
  EXPECT_EQ(chat.exit_code(), 130);
}

TEST(generate, stops_at_strings_and_says_which) {
  TemporaryFolder folder;
  const TinyFiles tiny;
  const auto run = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"generate", "--model",      tiny.gguf, "--prompt",
                                          "ab",       "--max-tokens", "24",      "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Ran ran = run_thimble(arguments);
    EXPECT_EQ(ran.status, 0) << ran.err;
    return Json::parse(ran.out, nullptr, false);
  };
  const Json plain = run({});
  // A tiny model says bytes of any kind; a stop of several tokens is taken from what it says, where that is text.
  const auto text = plain["text"].get<std::string>();
  size_t at = 1;
  while (at + 3 < text.size() && !(std::isalnum(text[at]) && std::isalnum(text[at + 1]))) ++at;
  if (at + 3 < text.size()) {
    const std::string stop = text.substr(at, 2);
    const Json stopped = run({"--stop", "never this", "--stop", stop});
    EXPECT_EQ(stopped["stopped"], "stop");
    EXPECT_EQ(stopped["stop"], stop);
    EXPECT_EQ(stopped["text"], text.substr(0, text.find(stop)));
  }
  const Json logprobs = run({"--logprobs", "3"});
  ASSERT_EQ(logprobs["logprobs"].size(), logprobs["ids"].size());
  for (const Json& token : logprobs["logprobs"]) {
    ASSERT_EQ(token["top"].size(), 3u);
    EXPECT_EQ(token["top"][0]["id"], token["id"]);  // the likeliest was taken
    EXPECT_GE(token["top"][0]["logprob"], token["top"][1]["logprob"]);
    EXPECT_LT(token["logprob"].get<double>(), 0);
  }
}

TEST(generate, prompts_of_a_file_are_answered_as_each_alone) {
  TemporaryFolder folder;
  const TinyFiles tiny;
  const std::string jsonl = folder.write("p.jsonl", R"({"id":"x","prompt":"ab"}
{"prompt":"abab c"}
{"messages":[{"role":"user","content":"a"}]}
)");
  const auto run = [&](const std::string& batch) {
    const Ran ran =
        run_thimble({"generate", "--model", tiny.gguf, "--prompts", jsonl, "--max-tokens", "9", "--batch", batch});
    EXPECT_EQ(ran.status, 0) << ran.err;
    return ran.out;
  };
  const std::string together = run("3");
  EXPECT_EQ(together, run("1"));
  EXPECT_EQ(std::ranges::count(together, '\n'), 3);
  const Json first = Json::parse(together.substr(0, together.find('\n')), nullptr, false);
  EXPECT_EQ(first["id"], "x");
  const Ran alone = run_thimble({"generate", "--model", tiny.gguf, "--prompt", "ab", "--max-tokens", "9", "--json"});
  EXPECT_EQ(Json::parse(alone.out, nullptr, false)["ids"], first["ids"]);
  folder.write("p.jsonl", R"({"prompt":"a","stream":true})");
  EXPECT_THAT(run_thimble({"generate", "--model", tiny.gguf, "--prompts", jsonl}).err, HasSubstr("the field 'stream'"));
}

// A role that the template knows by its own name keeps that; elsewhere it is the usual one.
TEST(generate, prompts_of_a_file_have_the_roles_of_the_template) {
  TemporaryFolder folder;
  const TinyFiles tiny;
  const std::string jsonl = folder.write("p.jsonl", R"({"messages":[{"role":"observation","content":"3"}]})");
  const auto answer = [&](const std::string& role) {
    const std::string text =
        "{% for m in messages %}{% if m.role == '" + role + "' %}abab{% else %}c{% endif %}{% endfor %}";
    const Ran ran = run_thimble({"generate", "--model", tiny.gguf, "--prompts", jsonl, "--max-tokens", "9",
                                 "--chat-template", folder.write("t.jinja", text)});
    EXPECT_EQ(ran.status, 0) << ran.err;
    return Json::parse(ran.out, nullptr, false)["ids"];
  };
  EXPECT_EQ(answer("observation"), answer("tool"));
  EXPECT_NE(answer("observation"), answer("user"));
}

TEST(generate, a_seed_that_was_not_given_is_told) {
  TemporaryFolder folder;
  const TinyFiles tiny;
  std::vector<std::string> arguments = {"generate",     "--model", tiny.gguf,       "--prompt", "ab",
                                        "--max-tokens", "12",      "--temperature", "1",        "--json"};
  const Json drawn = Json::parse(run_thimble(arguments).out, nullptr, false);
  ASSERT_TRUE(drawn.contains("seed"));
  arguments.insert(arguments.end(), {"--seed", fmt::format("{}", drawn["seed"].get<uint64_t>())});
  EXPECT_EQ(Json::parse(run_thimble(arguments).out, nullptr, false)["ids"], drawn["ids"]);
}

TEST(chat, commands_change_save_and_load_the_conversation) {
  TemporaryFolder folder;
  const TinyFiles tiny;
  const std::string saved = folder.file("chat.json");
  const auto chat = [&](const std::string& input) {
    const Ran ran = run_thimble({"chat", "--model", tiny.gguf, "--max-tokens", "3", "--context", "256"}, input);
    EXPECT_EQ(ran.status, 0) << ran.err;
    return ran;
  };
  const Ran first = chat("/system Be b.\na\n/save " + saved + "\n/save " + saved + "\n");
  EXPECT_THAT(first.err, AllOf(HasSubstr("(another system message)"), HasSubstr("(wrote 3 messages to "),
                               HasSubstr("is there already")));
  const Json record = Json::parse(file_bytes(saved), nullptr, false);
  ASSERT_EQ(record["messages"].size(), 3u);
  EXPECT_EQ(record["messages"][0], Json({{"role", "system"}, {"content", "Be b."}}));
  EXPECT_EQ(record["messages"][1]["content"], "a");
  const Ran second = chat("/load " + saved + "\nb\n/save " + folder.file("more.json") + "\n/clear\n/save " +
                          folder.file("none.json") + "\n/load " + folder.file("absent.json") + "\n/odd is text\n");
  EXPECT_THAT(second.err, AllOf(HasSubstr("(read 3 messages from "), HasSubstr("(wrote 5 messages"),
                                HasSubstr("(wrote 1 message to"), HasSubstr("absent.json")));
  const Ran lines = chat("/multiline\na\nb\n\n/save " + folder.file("lines.json") + "\n");
  EXPECT_EQ(Json::parse(file_bytes(folder.file("lines.json")), nullptr, false)["messages"][0]["content"], "a\nb");
  folder.write("bad.json", R"({"messages":[{"role":"tool","content":"x"}]})");
  EXPECT_THAT(chat("/load " + folder.file("bad.json") + "\n").err, HasSubstr("message 0 is of the role 'tool'"));
}

TEST(generate, holds_a_reply_to_a_schema) {
  const TinyFiles tiny;
  for (const char* temperature : {"0", "1"}) {
    const Ran ran = run_thimble(
        {"generate", "--model", tiny.gguf, "--prompt", "ab", "--max-tokens", "40", "--json", "--temperature",
         temperature, "--json-schema",
         R"({"type":"object","properties":{"a":{"enum":["x","yy"]},"b":{"type":"boolean"}},"required":["a","b"]})"});
    ASSERT_EQ(ran.status, 0) << ran.err;
    const Json result = Json::parse(ran.out, nullptr, false);
    EXPECT_TRUE(result["stopped"] == "grammar" || result["stopped"] == "max-tokens");
    if (result["stopped"] != "grammar") continue;  // white space may go on for long
    const Json made = Json::parse(result["text"].get<std::string>(), nullptr, false);
    ASSERT_TRUE(made.is_object()) << result["text"];
    EXPECT_TRUE(made["a"] == "x" || made["a"] == "yy");
    EXPECT_TRUE(made["b"].is_boolean());
  }
  EXPECT_THAT(run_thimble({"generate", "--model", tiny.gguf, "--prompt", "a", "--json-schema",
                           R"({"type":"integer","minimum":1})"})
                  .err,
              HasSubstr("'minimum' is not supported"));
}

TEST(Usage, a_context_of_one_token_is_refused) {
  const TinyFiles tiny;
  for (const char* command : {"generate", "chat"}) {
    std::vector<std::string> arguments = {command, "--model", tiny.gguf, "--context", "1"};
    if (command == std::string("generate")) arguments.insert(arguments.end(), {"--prompt", "a"});
    const Ran ran = run_thimble(arguments);
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.err, HasSubstr("--context: expected 2 to 1048576, found 1"));
  }
}

// Each convention counts the tokens that it says, and where one window holds the text they are one number.
TEST(eval, perplexity_by_its_conventions) {
  TemporaryFolder folder;
  const TinyFiles tiny;
  std::string text;
  for (int i = 0; i < 30; ++i) text += "x" + std::to_string(i) + " ";  // 30 words; no ab, so a token is a byte
  const std::string data = folder.write("t.txt", text);
  const auto tokens = static_cast<int64_t>(text.size());
  const auto eval = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"eval", "--model", tiny.gguf, "--data", data, "--precision", "f32", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Ran ran = run_thimble(arguments);
    EXPECT_EQ(ran.status, 0) << ran.err;
    for (size_t at = 0; at < ran.out.size();) {
      const size_t end = ran.out.find('\n', at);
      const Json event = Json::parse(ran.out.substr(at, end - at), nullptr, false);
      if (event["event"] == "eval") return event;
      at = end + 1;
    }
    return Json();
  };
  const Json strided = eval({"--convention", "strided", "--context", "32", "--stride", "8"});
  EXPECT_EQ(strided["tokens"], tokens - 1);  // every one but the first, once
  const Json word = eval({"--convention", "word", "--context", "32"});
  EXPECT_EQ(word["tokens"], tokens);
  EXPECT_NEAR(word["word_perplexity"].get<double>(),
              std::exp(word["nll"].get<double>() * static_cast<double>(tokens) / 31),
              1e-3 * word["word_perplexity"].get<double>());
  EXPECT_NEAR(word["byte_perplexity"].get<double>(), word["perplexity"].get<double>(),
              1e-6 * word["perplexity"].get<double>());
  const Json halves = eval({"--convention", "llama.cpp", "--context", "16"});
  EXPECT_EQ(halves["windows"], tokens / 16);
  EXPECT_EQ(halves["tokens"], tokens / 16 * 7);
  folder.write("t.txt", text.substr(0, 40));
  const double one = eval({"--context", "64"})["nll"];
  EXPECT_NEAR(eval({"--convention", "strided", "--context", "64"})["nll"].get<double>(), one, 1e-6);
  EXPECT_NEAR(eval({"--convention", "word", "--context", "60"})["nll"].get<double>(),
              eval({"--context", "64", "--bos"})["nll"].get<double>(), 1e-6);
  EXPECT_THAT(run_thimble({"eval", "--model", tiny.gguf, "--data", data, "--convention", "halves"}).err,
              HasSubstr("--convention: expected one of"));
  const std::string records = tiny.folder.write("records.jsonl", R"({"text":"abc"})");
  EXPECT_THAT(run_thimble({"eval", "--model", tiny.gguf, "--data", records, "--convention", "word"}).err,
              HasSubstr("holds records"));
  EXPECT_THAT(run_thimble({"eval", "--model", tiny.gguf, "--data", data, "--stride", "4"}).err,
              HasSubstr("only --convention strided has a stride"));
}

// What the manual page and the completions say is what the program takes.
// A flag that others make void is refused by name, in every command.
TEST(Usage, flags_without_effect_are_refused) {
  TinyFiles tiny;
  const std::string data = tiny.folder.write("d.jsonl", R"({"prompt":"a","completion":"b"})"
                                                        "\n");
  const std::string m = tiny.gguf, out = tiny.folder.file("out");
  const std::vector<std::vector<std::string>> voids = {
      {"--rank", "finetune", "--model", m, "--data", data, "--out", out, "--method", "full", "--rank", "4"},
      {"--target", "finetune", "--model", m, "--data", data, "--out", out, "--method", "full", "--target", "q_proj"},
      {"--eval-every", "finetune", "--model", m, "--data", data, "--out", out, "--eval-every", "2"},
      {"--decay", "finetune", "--model", m, "--data", data, "--out", out, "--decay", "0.1"},
      {"--epochs", "finetune", "--model", m, "--data", data, "--out", out, "--steps", "2", "--epochs", "1"},
      {"--memory", "plan", "--model", m, "--data", data, "--sweep", "--memory", "100M"},
      {"--batch", "generate", "--model", m, "--prompt", "a", "--batch", "2"},
      {"--logprobs", "generate", "--model", m, "--prompt", "a", "--logprobs", "2"},
      {"--chat-template", "generate", "--model", m, "--prompt", "a", "--chat-template", "chatml"},
      {"--template-var", "generate", "--model", m, "--prompt", "a", "--template-var", "x=1"},
      {"--date", "generate", "--model", m, "--prompt", "a", "--date", "2026-01-02"},
      {"--bos", "generate", "--model", m, "--prompt", "a", "--bos", "--no-bos"},
      {"--bos", "generate", "--model", m, "--prompt", "a", "--chat", "--bos"},
      {"--stride", "eval", "--model", m, "--data", data, "--stride", "4"},
      {"--out", "eval", "--model", m, "--data", data, "--out", out},
      {"--max-tokens", "eval", "--model", m, "--data", data, "--max-tokens", "4"},
      {"--convention", "eval", "--model", m, "--data", data, "--metric", "exact", "--convention", "word"},
      {"--batch", "eval", "--model", m, "--data", data, "--logits", out, "--batch", "2"},
      {"--pieces", "tokenize", "--model", m, "--text", "a", "--pieces"},
      {"--no-special", "tokenize", "--model", m, "--decode", "1", "--no-special"},
      {"--model", "tokenize", "--model", m, "--tokenizer", m, "--text", "a"},
      {"--threads", "inspect", m, "--threads", "2"},
      {"--tensors", "inspect", "--cpu", "--tensors"},
  };
  for (const auto& given : voids) {
    const Ran ran = run_thimble({given.begin() + 1, given.end()});
    SCOPED_TRACE(given[0] + " of " + given[1]);
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.err, HasSubstr(given[0] + ": it would have no effect: "));
  }
}

TEST(Usage, values_without_effect_are_said) {
  TinyFiles tiny;
  const std::string data = tiny.folder.write("d.jsonl", R"({"prompt":"a","completion":"b"})"
                                                        "\n");
  const Ran run = run_thimble({"finetune", "--model", tiny.gguf, "--data", data, "--out", tiny.folder.file("run"),
                               "--steps", "1", "--context", "16", "--save-every", "5"});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out + run.err, HasSubstr("--save-every 5 is not reached within the run of 1 step"));
  const Ran chat = run_thimble({"generate", "--model", tiny.gguf, "--prompt", "a", "--chat", "--max-tokens", "1",
                                "--template-var", "nowhere=1", "--repeat-last", "3"});
  ASSERT_EQ(chat.status, 0) << chat.err;
  EXPECT_THAT(chat.err, HasSubstr("--template-var nowhere: "));
  EXPECT_THAT(chat.err, HasSubstr("--repeat-last has no effect"));
}

TEST(Usage, manual_and_completions_come_from_the_flag_tables) {
  const Ran man = run_thimble({"--man"});
  EXPECT_EQ(man.status, 0);
  EXPECT_THAT(man.out, AllOf(StartsWith(".TH THIMBLE 1"), HasSubstr(".SS thimble generate"), HasSubstr("min\\-p")));
  const Ran version = run_thimble({"--version"});
  EXPECT_THAT(version.out,
              AllOf(StartsWith("thimble "), HasSubstr("\nbuilt by "), HasSubstr("\nkernels for baseline")));
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Ran made = run_thimble({"--completions", shell});
    EXPECT_EQ(made.status, 0) << made.err;
    EXPECT_THAT(made.out, AllOf(HasSubstr("tokenize"), HasSubstr("json-schema")));
  }
  const Ran wrong = run_thimble({"--completions", "csh"});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_THAT(wrong.err, HasSubstr("expected one of"));
  if (!is_directory("/dev/fd/")) GTEST_SKIP() << "bash completes through /dev/fd, which is not there";
  TemporaryFolder folder;
  const std::string script = folder.write("c.bash", run_thimble({"--completions", "bash"}).out +
                                                        "COMP_WORDS=(thimble generate --min-)\nCOMP_CWORD=2\n_thimble\n"
                                                        "echo \"${COMPREPLY[@]}\" > " +
                                                        folder.file("out") + "\n");
  ASSERT_EQ(std::system(("bash " + quoted(script)).c_str()), 0);
  EXPECT_EQ(file_bytes(folder.file("out")), "--min-p\n");
}

}  // namespace
}  // namespace thimble
