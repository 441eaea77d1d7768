// pull against a server of its own on 127.0.0.1 (hub_server.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "fetch/hub.h"
#include "program.h"
#include "tiny_files.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class HubServer {
 public:
  HubServer() {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    process_ = ::fork();
    if (process_ == 0) {
      ::dup2(ends[1], 1);
      ::execlp("python3", "python3", THIMBLE_HUB_SERVER, folder_.path().c_str(), nullptr);
      ::_exit(127);
    }
    ::close(ends[1]);
    std::FILE* const port = ::fdopen(ends[0], "r");
    EXPECT_EQ(std::fscanf(port, "%d", &port_), 1) << "python3 did not start";
    std::fclose(port);
  }
  ~HubServer() {
    ::kill(process_, SIGTERM);
    ::waitpid(process_, nullptr, 0);
  }
  // A repository of files; wrong: what goes wrong with it, as hub_server.py takes it.
  void repository(const std::string& name, const std::map<std::string, std::string>& files,
                  const std::string& wrong = "{}") {
    ASSERT_TRUE(make_directories(folder_.file(name)));
    for (const auto& [file, bytes] : files) folder_.write(name + "/" + file, bytes);
    folder_.write(name + ".json", wrong);
  }
  std::string endpoint() const { return fmt::format("http://127.0.0.1:{}", port_); }
  std::string log() const { return file_bytes(folder_.file("log")); }
  Ran pull(const std::string& name, const std::string& to, std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"pull", name, "--endpoint", endpoint(), "--to", to};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_thimble(arguments);
  }

 private:
  TemporaryFolder folder_;
  pid_t process_ = 0;
  int port_ = 0;
};

std::string many_bytes(size_t count) {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) bytes += static_cast<char>(i * 31 + i / 251);
  return bytes;
}

std::map<std::string, std::string> small_model() {
  return {{"config.json", "{}"},
          {"tokenizer.json", "{\"a\": 1}"},
          {"model.safetensors", many_bytes(300000)},
          {"pytorch_model.bin", "not wanted"},
          {"README.md", "not wanted"}};
}

TEST(Pull, fetches_what_a_model_needs) {
  HubServer server;
  TemporaryFolder to;
  server.repository("org/tiny", small_model());
  const Ran ran = server.pull("org/tiny", to.file("m"));
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(file_bytes(to.file("m/model.safetensors")), many_bytes(300000));
  EXPECT_EQ(file_bytes(to.file("m/tokenizer.json")), "{\"a\": 1}");
  EXPECT_FALSE(is_file(to.file("m/pytorch_model.bin")));
  EXPECT_THAT(ran.err, HasSubstr("model.safetensors: fetched, 300000 bytes, SHA-256 verified"));
  EXPECT_THAT(server.log(), HasSubstr("/api/models/org/tiny/revision/main?blobs=true"));
  EXPECT_THAT(server.pull("org/tiny", to.file("m")).err, HasSubstr("model.safetensors: already there"));
}

TEST(Pull, goes_on_after_a_broken_connection) {
  HubServer server;
  TemporaryFolder to;
  server.repository("org/tiny", small_model(), R"({"drop": {"model.safetensors": 100000}})");
  const Ran ran = server.pull("org/tiny", to.file("m"));
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(file_bytes(to.file("m/model.safetensors")), many_bytes(300000));
  EXPECT_THAT(ran.err, HasSubstr("going on from byte 100000"));
  EXPECT_THAT(server.log(), HasSubstr("/org/tiny/resolve/main/model.safetensors bytes=100000-"));
}

TEST(Pull, goes_on_in_another_run) {
  HubServer server;
  TemporaryFolder to;
  server.repository("org/tiny", small_model(), R"({"drop": {"model.safetensors": 100000}})");
  const Ran first = server.pull("org/tiny", to.file("m"), {"--retries", "1"});
  EXPECT_EQ(first.status, 1);
  EXPECT_THAT(first.err, HasSubstr("100000 bytes are kept"));
  EXPECT_FALSE(is_file(to.file("m/model.safetensors")));
  EXPECT_EQ(file_bytes(to.file("m/model.safetensors.part")).size(), 100000u);
  const Ran second = server.pull("org/tiny", to.file("m"));
  ASSERT_EQ(second.status, 0) << second.err;
  EXPECT_THAT(second.err, HasSubstr("fetched the rest"));
  EXPECT_EQ(file_bytes(to.file("m/model.safetensors")), many_bytes(300000));
  EXPECT_FALSE(is_file(to.file("m/model.safetensors.part")));
}

TEST(Pull, begins_again_where_the_server_gives_no_ranges) {
  HubServer server;
  TemporaryFolder to;
  server.repository("org/tiny", small_model(),
                    R"({"no_ranges": true, "drop": {"model.safetensors": 100000}, "redirect": true})");
  const Ran ran = server.pull("org/tiny", to.file("m"));
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(file_bytes(to.file("m/model.safetensors")), many_bytes(300000));
}

TEST(Pull, tries_again_when_the_server_is_busy) {
  HubServer server;
  TemporaryFolder to;
  server.repository("org/tiny", small_model(), R"({"fail_first": 503})");
  EXPECT_EQ(server.pull("org/tiny", to.file("m")).status, 0);
}

TEST(Pull, refuses_a_wrong_hash) {
  HubServer server;
  TemporaryFolder to;
  server.repository("org/tiny", small_model(), R"({"wrong_hash": "model.safetensors"})");
  const Ran ran = server.pull("org/tiny", to.file("m"));
  EXPECT_EQ(ran.status, 1);
  EXPECT_THAT(ran.err, HasSubstr("expected SHA-256"));
  EXPECT_FALSE(is_file(to.file("m/model.safetensors")));
  EXPECT_FALSE(is_file(to.file("m/model.safetensors.part")));
}

TEST(Pull, refuses_more_than_was_announced) {
  HubServer server;
  TemporaryFolder to;
  server.repository("org/tiny", small_model(), R"({"short_size": "model.safetensors"})");
  const Ran ran = server.pull("org/tiny", to.file("m"), {"--retries", "1"});
  EXPECT_EQ(ran.status, 1);
  EXPECT_FALSE(is_file(to.file("m/model.safetensors")));
}

// A name must not lead out of the folder, whatever the server says.
TEST(Pull, refuses_hostile_names) {
  for (const char* name :
       {"../escape.json", "/etc/escape.json", "a/../../escape.json", "a\\\\b.json", "a//b.json", "x\\u0000.json"}) {
    SCOPED_TRACE(name);
    HubServer server;
    TemporaryFolder to;
    server.repository("org/tiny", small_model(),
                      fmt::format(R"({{"extra": [{{"rfilename": "{}", "size": 3}}]}})", name));
    const Ran ran = server.pull("org/tiny", to.file("deep/m"));
    EXPECT_EQ(ran.status, 1);
    EXPECT_THAT(ran.err, HasSubstr("no safe name"));
    EXPECT_FALSE(is_directory(to.file("deep")));
  }
}

TEST(Pull, chooses_a_gguf) {
  HubServer server;
  TemporaryFolder to;
  server.repository("org/quantised", {{"a-q4_1.gguf", "four"}, {"a-q8_0.gguf", "eight"}});
  const Ran unclear = server.pull("org/quantised", to.file("m"));
  EXPECT_EQ(unclear.status, 2);
  EXPECT_THAT(unclear.err, HasSubstr("a-q4_1.gguf, a-q8_0.gguf; choose one with --file"));
  const Ran named = server.pull("org/quantised", to.file("m"), {"--file", "a-q8_0.gguf"});
  ASSERT_EQ(named.status, 0) << named.err;
  EXPECT_EQ(named.out, to.file("m/a-q8_0.gguf") + "\n");
  EXPECT_FALSE(is_file(to.file("m/a-q4_1.gguf")));
  EXPECT_THAT(server.pull("org/quantised", to.file("m"), {"--file", "b-q8_0.gguf"}).err,
              HasSubstr("the nearest are a-q8_0.gguf"));
}

TEST(Pull, says_what_is_wrong_with_a_name) {
  HubServer server;
  TemporaryFolder to;
  EXPECT_EQ(server.pull("../x", to.file("m")).status, 2);
  EXPECT_EQ(server.pull("a/b/c", to.file("m")).status, 2);
  EXPECT_EQ(run_thimble({"pull", "org/x", "--endpoint", "ftp://127.0.0.1"}).status, 2);
  const Ran absent = server.pull("org/absent", to.file("m"));
  EXPECT_EQ(absent.status, 1);
  EXPECT_THAT(absent.err, HasSubstr("answers 404"));
}

TEST(Hub, shards_come_with_their_index) {
  const std::vector<HubFile> files = {{"config.json"},
                                      {"model.safetensors.index.json"},
                                      {"model-00001-of-00002.safetensors"},
                                      {"model-00002-of-00002.safetensors"},
                                      {"consolidated.safetensors"}};
  EXPECT_EQ((*pick_files(files, {}, "org/x")).size(), 4u);
}

TEST(Hub, parts_of_addresses_are_encoded) {
  const auto repository = HubRepository::parse("http://h/", "org/x", "refs/pr/1");
  EXPECT_EQ(repository->file_url("a b/c#.json"), "http://h/org/x/resolve/refs%2Fpr%2F1/a%20b/c%23.json");
}

// The other commands must not carry libcurl in their budget.
TEST(Module, is_not_a_part_of_the_program) {
  const std::string libraries = [] {
    TemporaryFolder folder;
    EXPECT_EQ(std::system(fmt::format("ldd {} >{}", quoted(THIMBLE_PROGRAM), folder.file("out")).c_str()), 0);
    return file_bytes(folder.file("out"));
  }();
  EXPECT_THAT(libraries, HasSubstr("libc.so"));
  EXPECT_THAT(libraries, Not(HasSubstr("curl")));
  EXPECT_THAT(libraries, Not(HasSubstr("crypto")));
}

// A hub of a test's own: its server, its cache, and a tiny model on it.
class HubModel : public ::testing::Test {
 protected:
  HubModel() {
    const std::string hf = tiny_.folder.file("hf");
    EXPECT_EQ(run_thimble({"convert", "--model", tiny_.gguf, "--to", "safetensors", "--out", hf}).status, 0);
    std::map<std::string, std::string> files;
    for (const char* name : {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"})
      files[name] = file_bytes(hf + "/" + name);
    server_.repository("org/tiny", files);
    server_.repository("org/tiny-GGUF", {{"tiny-Q4_0.gguf", "not wanted"}, {"tiny-F32.gguf", file_bytes(tiny_.gguf)}});
  }
  std::string environment(const std::string& more = "") const {
    return "export HF_HOME=" + cache_.path() + " HF_ENDPOINT=" + server_.endpoint() + "; unset HF_HUB_CACHE HF_TOKEN" +
           more;
  }
  Ran tokenize(const std::string& model, const std::string& more = "") const {
    return run_thimble({"tokenize", "--model", model, "--text", "ab", "--json"}, "", environment(more));
  }
  size_t requests() const {
    const std::string log = server_.log();
    return static_cast<size_t>(std::count(log.begin(), log.end(), '\n'));
  }

  HubServer server_;
  TinyFiles tiny_;
  TemporaryFolder cache_;
};

TEST_F(HubModel, is_fetched_once_into_the_hubs_cache) {
  const Ran first = tokenize("org/tiny");
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(first.out, "[257]\n");
  const std::string commit = file_bytes(cache_.file("hub/models--org--tiny/refs/main"));
  EXPECT_EQ(commit.size(), 40u);
  EXPECT_TRUE(is_file(cache_.file("hub/models--org--tiny/snapshots/" + commit + "/model.safetensors")));
  EXPECT_THAT(server_.log(), HasSubstr("/resolve/" + commit + "/"));  // not a branch, which moves
  const size_t asked = requests();
  const Ran again = tokenize("org/tiny", " ; export HF_HUB_OFFLINE=1");
  EXPECT_EQ(again.out, first.out) << again.err;
  EXPECT_EQ(requests(), asked);
}

TEST_F(HubModel, a_file_is_chosen_by_its_name_or_the_end_of_it) {
  for (const char* name : {"org/tiny-GGUF:F32", "org/tiny-GGUF:tiny-F32.gguf", "org/tiny-GGUF:f32"}) {
    const Ran ran = tokenize(name);
    EXPECT_EQ(ran.status, 0) << ran.err;
    EXPECT_EQ(ran.out, "[257]\n");
  }
  EXPECT_FALSE(
      is_file(cache_.file("hub/models--org--tiny-GGUF/snapshots/0123456789abcdef0123456789abcdef01234567/"
                          "tiny-Q4_0.gguf")));
  const Ran none = tokenize("org/tiny-GGUF:Q9");
  EXPECT_EQ(none.status, 2);
  EXPECT_THAT(none.err, HasSubstr("has no such file"));
}

TEST_F(HubModel, that_is_nowhere_is_an_error_of_its_kind) {
  const Ran offline = tokenize("org/none", " ; export HF_HUB_OFFLINE=1");
  EXPECT_EQ(offline.status, 2);
  EXPECT_THAT(offline.err, HasSubstr("HF_HUB_OFFLINE is set"));
  EXPECT_NE(tokenize("org/none").status, 0);
  // What looks like a path of this machine is one.
  const Ran path = tokenize(tiny_.folder.path() + "/none");
  EXPECT_THAT(path.err, HasSubstr("No such file"));
  EXPECT_THAT(server_.log(), Not(HasSubstr("thimble-test")));
}

TEST_F(HubModel, the_token_comes_from_the_environment) {
  const Ran odd = tokenize("org/tiny", " ; export HF_TOKEN='two words'");
  EXPECT_EQ(odd.status, 2);
  EXPECT_THAT(odd.err, HasSubstr("expected one access token"));
}

}  // namespace
}  // namespace thimble
