// thimble render: every golden rendering of real chat templates, and its own errors.
#include <gmock/gmock.h>
#include <simdjson.h>

#include <map>
#include <nlohmann/json.hpp>

#include "commands/program.h"
#include "shared_data.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

std::vector<std::string> split(const std::string& text, char mark) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end = text.find(mark); end != std::string::npos; begin = end + 1, end = text.find(mark, begin))
    parts.push_back(text.substr(begin, end - begin));
  if (begin < text.size()) parts.push_back(text.substr(begin));
  return parts;
}

using Goldens = std::map<std::pair<std::string, std::string>, Json>;

Goldens read_goldens(const std::string& path) {
  Goldens goldens;
  for (const std::string& line : split(file_bytes(path), '\n')) {
    Json golden = Json::parse(line);
    const std::pair key(golden["template"].get<std::string>(), golden["case"].get<std::string>());
    goldens[key] = std::move(golden);
  }
  return goldens;
}

void expect_golden(const Json& got, const Json& golden, const Json* mask) {
  const std::string where = golden["template"].get<std::string>() + ", " + golden["case"].get<std::string>();
  ASSERT_EQ(got["ok"], golden["ok"]) << where << ": " << got.dump() << golden.dump();
  if (golden["ok"]) {
    EXPECT_EQ(got["text"], golden["text"]) << where;
    if (mask) EXPECT_EQ(got["trained"], (*mask)["spans"]) << where;
  } else if (golden["kind"] == "raise_exception") {
    EXPECT_EQ(got["error"], golden["error"]) << where;
  }
}

TEST(Render, EveryGoldenOfRealTemplates) {
  NEED_SHARED_DATA(manifest, "chat_templates/MANIFEST.tsv");
  NEED_SHARED_DATA(cases, "chat_templates/cases.json");
  NEED_SHARED_DATA(golden, "chat_templates/golden.jsonl");
  NEED_SHARED_DATA(masked, "chat_templates/generation_mask.jsonl");
  const Goldens goldens = read_goldens(golden), masks = read_goldens(masked);
  const std::vector<std::string> rows = split(file_bytes(manifest), '\n');
  const std::vector<std::string> columns = split(rows[0], '\t');
  size_t checked = 0;
  for (size_t row = 1; row < rows.size(); ++row) {
    const std::vector<std::string> fields = split(rows[row], '\t');
    const auto field = [&](std::string_view name) {
      return fields.at(static_cast<size_t>(std::find(columns.begin(), columns.end(), name) - columns.begin()));
    };
    const std::string name = field("name"), folder = cases.substr(0, cases.rfind('/'));
    std::vector<std::string> arguments = {
        "render", "--json", "--date",          "2026-01-02",
        "--data", cases,    "--chat-template", folder + "/templates/" + name + ".jinja"};
    for (const auto& [column, flag] : {std::pair("bos", "--bos-token"), std::pair("eos", "--eos-token")}) {
      if (field(column) != "null") arguments.insert(arguments.end(), {flag, Json::parse(field(column))});
    }
    const Json extra = Json::parse(field("extra"));
    for (const auto& [key, value] : extra.items())
      arguments.insert(arguments.end(), {"--template-var", key + "=" + value.dump()});
    const Ran ran = run_thimble(arguments);
    ASSERT_EQ(ran.status, 0) << ran.err;
    for (const std::string& line : split(ran.out, '\n')) {
      const Json got = Json::parse(line);
      const std::pair key(name, got["id"].get<std::string>());
      const auto mask = masks.find(key);
      expect_golden(got, goldens.at(key), mask == masks.end() ? nullptr : &mask->second);
      ++checked;
    }
  }
  EXPECT_EQ(checked, goldens.size());
}

TEST(Render, PrintsTextsAndSaysWhatIsWrong) {
  TemporaryFolder folder;
  const std::string data = folder.write(
      "chats.jsonl",
      "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"add_generation_prompt\": true}\n"
      "{\"id\": \"b\", \"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": "
      "\"é\"}]}\n");
  EXPECT_EQ(run_thimble({"render", "--chat-template", "chatml", "--data", data}).out,
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n\n<|im_start|>user\na<|im_end|>\n<|im_start|>"
            "assistant\né<|im_end|>\n");
  EXPECT_EQ(run_thimble({"render", "--chat-template", "phi4", "--data", data, "--json"}).out,
            "{\"id\":0,\"ok\":true,\"text\":\"<|im_start|>user<|im_sep|>hi<|im_end|><|im_start|>assistant<|im_sep|>\","
            "\"trained\":[]}\n{\"id\":\"b\",\"ok\":true,\"text\":\"<|im_start|>user<|im_sep|>a<|im_end|><|im_start|>"
            "assistant<|im_sep|>é<|im_end|>\",\"trained\":[[68,79]]}\n");
  const std::string raises = folder.write("raises.jinja", "{{ messages }}{{ raise_exception('no ' + word) }}");
  const Ran failed =
      run_thimble({"render", "--chat-template", raises, "--data", data, "--template-var", "word=\"way\""});
  EXPECT_EQ(failed.status, 2);
  EXPECT_THAT(failed.err, HasSubstr("conversation \"b\": no way"));
  EXPECT_THAT(run_thimble({"render", "--chat-template", raises, "--data", data, "--template-var", "word=way"}).err,
              HasSubstr("a text stands in quotes"));
  EXPECT_THAT(run_thimble({"render", "--chat-template", raises, "--data", data, "--date", "2026-02-30"}).err,
              HasSubstr("--date"));
  EXPECT_THAT(run_thimble({"render", "--data", data}).err, HasSubstr("--chat-template"));
}

}  // namespace
}  // namespace thimble
