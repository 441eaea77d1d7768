// Files from strangers that try to take memory, time or the terminal: every command ends in clear words, within its
// budget. Large ones are made of holes, which cost the disk nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>

#include "commands/tiny_files.h"
#include "files/binary_files.h"
#include "program.h"
#include "text/small_tokenizer.h"

namespace thimble {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

struct Measured {
  int status = -1;  // exit code; -1: killed
  std::string err;
  int64_t peak_bytes = 0;
  double seconds = 0;
};

// The program alone, without a shell; its output is thrown away.
Measured measure(const std::vector<std::string>& arguments) {
  TemporaryFolder folder;
  const auto begin = std::chrono::steady_clock::now();
  const pid_t process = ::fork();
  if (process == 0) {
    const int none = ::open("/dev/null", O_RDWR), err = ::open(folder.file("err").c_str(), O_CREAT | O_WRONLY, 0600);
    ::dup2(none, 0), ::dup2(none, 1), ::dup2(err, 2);
    std::vector<char*> argv = {const_cast<char*>(THIMBLE_PROGRAM)};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    ::execv(THIMBLE_PROGRAM, argv.data());
    ::_exit(127);
  }
  int status = 0;
  rusage usage{};
  ::wait4(process, &status, 0, &usage);
  Measured measured;
  measured.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (WIFEXITED(status)) measured.status = WEXITSTATUS(status);
  measured.err = file_bytes(folder.file("err"));
  measured.peak_bytes = usage.ru_maxrss * 1024;
  return measured;
}

class Hostile : public testing::Test {
 protected:
  // A file that begins so and goes on with zeros.
  std::string holes(const std::string& name, const std::string& begin, uint64_t bytes) {
    const std::string path = folder_.write(name, begin);
    std::filesystem::resize_file(path, bytes);
    return path;
  }
  // Ends with a message and 2 or 3, in time, within the budget.
  void refuses(std::vector<std::string> arguments, const std::string& says = "") {
    SCOPED_TRACE(testing::PrintToString(arguments));
    arguments.insert(arguments.end(), {"--memory", "200M"});
    const Measured ran = measure(arguments);
    EXPECT_THAT(ran.status, AnyOf(2, 3)) << ran.err;
    EXPECT_THAT(ran.err, HasSubstr("thimble " + arguments[0] + ": "));
    EXPECT_THAT(ran.err, HasSubstr(says));
    EXPECT_LE(ran.peak_bytes, 200'000'000);
    EXPECT_LE(ran.seconds, 30) << "on a busy machine; alone it is a second";
  }

  TemporaryFolder folder_;
};

TEST_F(Hostile, one_word_of_200_megabytes) {
  small_byte_bpe(folder_);
  const std::string tokenizer = folder_.file("tokenizer.json");
  const std::string word = holes("word.txt", "", 200'000'000);
  refuses({"tokenize", "--tokenizer", tokenizer, "--file", word});
  refuses({"data", "--tokenizer", tokenizer, "--data", word});
  refuses({"train", "--size", "1M", "--tokenizer", tokenizer, "--data", word, "--out", folder_.file("run")});
}

TEST_F(Hostile, gguf_with_counts_that_no_file_holds) {
  const auto refuse = [&](const std::string& bytes, uint64_t size, const std::string& says) {
    refuses({"inspect", holes("a.gguf", bytes, std::max<uint64_t>(bytes.size(), size))}, says);
  };
  constexpr uint64_t kLarge = 4'000'000'000;
  refuse(Bytes().gguf_header(3, uint64_t{1} << 63, 1).text(), kLarge, "claims");
  refuse(Bytes().gguf_header(3, 1'000'000, 1).text(), kLarge, "claims 1000000 tensors");
  refuse(Bytes().gguf_header(3, 1, 100'000'000).text(), kLarge, "claims");
  const auto array = [](std::string_view key, uint32_t type, uint64_t count) {
    return Bytes().gguf_header(3, 0, 1).string(key).add(uint32_t{9}).add(type).add(count).text();
  };
  refuse(array("a", 9, 3), 1000, "array of arrays");
  refuse(array("a", 8, ~uint64_t{0}), 1000, "more than the file can hold");
  refuse(Bytes().gguf_header(3, 0, 1).add(~uint64_t{0}).text(), 1000, "");
  refuse(Bytes().gguf_header(3, 0, 1).key_u32("general.alignment", 0).text(), 1000, "general.alignment is 0");
  refuse(Bytes().gguf_header(3, 0, 1).key_u32("general.alignment", 13).text(), 1000, "general.alignment is 13");
  Bytes wraps;  // 2^32 * 2^32 elements
  wraps.gguf_header(3, 1, 0).gguf_tensor("w", uint64_t{1} << 32, uint64_t{1} << 32, 0, 0);
  refuse(wraps.text(), 1000, "which cannot be");
  Bytes twice;
  twice.gguf_header(3, 2, 0).gguf_tensor("w", 4, 0, 0, 0).gguf_tensor("w", 4, 0, 0, 32);
  refuse(twice.text(), 1000, "there twice");
}

TEST_F(Hostile, gguf_vocabularies_that_grow_when_they_are_read) {
  constexpr uint64_t kMany = 150'000'000;
  Bytes types;  // bytes, which would be kept as numbers of 32 bits
  types.gguf_header(3, 0, 3).key_string("tokenizer.ggml.model", "gpt2");
  types.string("tokenizer.ggml.tokens").add(uint32_t{9}).add(uint32_t{8}).add(uint64_t{1}).string("a");
  types.string("tokenizer.ggml.token_type").add(uint32_t{9}).add(uint32_t{0}).add(kMany);
  refuses({"tokenize", "--text", "a", "--tokenizer", holes("types.gguf", types.text(), kMany + 4096)},
          "at most 4194304");
  Bytes merges;  // of no length: eight bytes in the file
  merges.gguf_header(3, 0, 3).key_string("tokenizer.ggml.model", "gpt2");
  merges.string("tokenizer.ggml.tokens").add(uint32_t{9}).add(uint32_t{8}).add(uint64_t{1}).string("a");
  merges.string("tokenizer.ggml.merges").add(uint32_t{9}).add(uint32_t{8}).add(uint64_t{10'000'000});
  refuses({"tokenize", "--text", "a", "--tokenizer", holes("merges.gguf", merges.text(), 80'000'000 + 4096)},
          "tokenizer.ggml.merges has 10000000 entries");
}

TEST_F(Hostile, a_million_names) {
  std::string header = "{";
  for (int i = 0; i < 300'000; ++i)
    header += fmt::format(R"({}"{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", i ? "," : "", i);
  header += "}";
  refuses({"inspect", folder_.write("names.safetensors", safetensors_bytes(header, 0))},
          "lists more than 262144 tensors");
  refuses({"inspect", holes("long.safetensors", Bytes().add(uint64_t{90'000'000}).text(), 100'000'000)},
          "the header claims");
  refuses({"inspect", holes("all.safetensors", Bytes().add(~uint64_t{0}).text(), 1000)}, "the header claims");
}

TEST_F(Hostile, json_that_is_deep_or_large) {
  const std::string deep(1'000'000, '[');
  folder_.write("model/config.json", deep);
  refuses({"inspect", folder_.file("model")}, "nested more than 64 deep");
  holes("large/config.json", "{\"a\":\"", 60'000'000);
  refuses({"inspect", folder_.file("large")}, "expected at most 1048576 bytes");
  refuses({"tokenize", "--text", "a", "--tokenizer", folder_.write("deep/tokenizer.json", deep)});
  refuses({"tokenize", "--text", "a", "--tokenizer", holes("big/tokenizer.json", "{", 120'000'000)});
  folder_.write("adapter/adapter_config.json", deep);
  refuses({"inspect", folder_.file("adapter")});
}

// 1.2 million tokens: what is taken is within the budget, or it is refused.
TEST_F(Hostile, a_vocabulary_of_a_million_tokens) {
  std::string vocab;
  for (int i = 0; i < 1'200'000; ++i) vocab += fmt::format(R"({}"t{}":{})", i ? "," : "", i, i);
  const std::string path =
      folder_.write("tokenizer.json", fmt::format(R"({{"model":{{"type":"BPE","vocab":{{{}}},"merges":[]}}}})", vocab));
  const Measured ran = measure({"tokenize", "--tokenizer", path, "--text", "t1", "--memory", "200M"});
  EXPECT_THAT(ran.status, AnyOf(0, 2, 3)) << ran.err;
  EXPECT_LE(ran.peak_bytes, 200'000'000);
  const Measured tight = measure({"tokenize", "--tokenizer", path, "--text", "t1", "--memory", "80M"});
  EXPECT_EQ(tight.status, 3) << tight.err;
  EXPECT_THAT(tight.err, HasSubstr("--memory"));
}

TEST_F(Hostile, an_event_log_that_is_deep) {
  folder_.write("run/events.jsonl", std::string(60'000, '[') + "\n{\"event\":\"recipe\",\"settings\":{\"a\":" +
                                        std::string(50'000, '[') + "}}\n");
  const Measured ran = measure({"report", "--run", folder_.file("run"), "--memory", "200M"});
  EXPECT_THAT(ran.status, AnyOf(0, 2)) << ran.err;
  EXPECT_LE(ran.peak_bytes, 200'000'000);
}

TEST_F(Hostile, a_record_of_200_megabytes) {
  small_byte_bpe(folder_);
  const std::string data = holes("data.jsonl",
                                 R"({"prompt":"a","completion":"b"})"
                                 "\n{\"prompt\":\"",
                                 200'000'000);
  const Measured ran =
      measure({"data", "--tokenizer", folder_.file("tokenizer.json"), "--data", data, "--memory", "200M"});
  EXPECT_THAT(ran.status, AnyOf(0, 2, 3)) << ran.err;
  EXPECT_LE(ran.peak_bytes, 200'000'000);
}

// What a file calls things never reaches the terminal as it is.
TEST_F(Hostile, names_do_not_act_on_the_terminal) {
  const std::string evil =
      "\x1b]0;owned\a\x1b[2J\xc2\x9b"
      "31m\xe2\x80\xae";
  Bytes gguf;
  gguf.gguf_header(3, 1, 1).key_string("general.architecture", evil).gguf_tensor(evil, 4, 0, 0, 0).pad(32);
  const std::string path = folder_.write("evil.gguf", gguf.text() + std::string(16, '\0'));
  small_byte_bpe(folder_);
  const std::string tokenizer = folder_.file("tokenizer.json");
  const std::string data =
      folder_.write("evil.jsonl",
                    "{\"\\u001b[2J\":1,\"prompt\":\"a\",\"completion\":\"b\"}\n{\"messages\":[{\"role\":\"\\u001b[2J\","
                    "\"content\":\"a\"}]}\n");
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"inspect", path},
        {"inspect", path, "--tensors"},
        {"generate", "--model", path, "--prompt", "a"},
        {"finetune", "--model", path, "--data", data, "--out", folder_.file("run")},
        {"data", "--tokenizer", tokenizer, "--data", data}}) {
    const Ran ran = run_thimble(arguments);
    for (const char* byte : {"\x1b", "\a", "\xc2\x9b", "\xe2\x80\xae"}) {
      EXPECT_THAT(ran.err, Not(HasSubstr(byte))) << arguments[0];
      EXPECT_THAT(ran.out, Not(HasSubstr(byte))) << arguments[0];
    }
  }
}

TEST_F(Hostile, every_command_takes_the_flag) {
  for (const char* command : {"tokenize", "inspect", "pull", "report", "render", "data", "convert", "prune", "quantize",
                              "eval", "generate"}) {
    const Ran ran = run_thimble({command, "--memory", "many"});
    EXPECT_EQ(ran.status, 2) << command;
    EXPECT_THAT(ran.err, Not(HasSubstr("there is no flag"))) << command;
  }
  EXPECT_THAT(run_thimble({"inspect", "--memory", "many", "--cpu"}).err, HasSubstr("--memory: expected a size"));
}

}  // namespace
}  // namespace thimble
