// The Jinja engine beside jinja2 itself: goldens made by tools/jinja_goldens.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <fstream>
#include <iterator>
#include <string>

#include "files/file.h"
#include "text/jinja/from_json.h"
#include "text/jinja/template.h"

namespace thimble::jinja {
namespace {

using ::testing::HasSubstr;

std::tm day() {
  std::tm date{};
  date.tm_year = 126, date.tm_mon = 0, date.tm_mday = 2, date.tm_wday = 5, date.tm_yday = 1;
  return date;
}

std::vector<Variable> variables_of(simdjson::dom::object object, bool foreign = false) {
  std::vector<Variable> variables;
  for (const auto field : object)
    variables.emplace_back(std::string(field.key), from_json(field.value, foreign).value());
  return variables;
}

Result<Rendering> render(std::string_view source, std::span<const Variable> variables = {},
                         RenderOptions options = {}) {
  options.date = day();
  const auto compiled = Template::compile(source);
  if (!compiled) return Failure(compiled.error());
  return compiled->render(variables, options);
}

TEST(Jinja, RendersWhatJinja2Renders) {
  const std::string file = read_text_file(THIMBLE_TESTS_FOLDER "/text/jinja_goldens.jsonl").value();
  simdjson::dom::parser first_parser, parser;
  std::vector<Variable> variables;
  size_t begin = 0, checked = 0, wrong = 0;
  for (size_t end = file.find('\n'); end != std::string::npos; begin = end + 1, end = file.find('\n', begin)) {
    const simdjson::padded_string line(std::string_view(file).substr(begin, end - begin));
    if (begin == 0) {
      simdjson::dom::object object;
      ASSERT_EQ(first_parser.parse(line).at_key("variables").get(object), simdjson::SUCCESS);
      variables = variables_of(object);
      continue;
    }
    simdjson::dom::element golden;
    ASSERT_EQ(parser.parse(line).get(golden), simdjson::SUCCESS);
    const std::string_view source = golden["source"].get_string().value();
    bool raised = false;
    const auto compiled = Template::compile(source);
    const auto got =
        compiled ? compiled->render(variables, {.date = day()}, &raised) : Result<Rendering>(Failure(compiled.error()));
    ++checked;
    const bool ok = golden["ok"].get_bool().value();
    std::string_view message;
    const bool raises = !ok && golden["raised"].get(message) == simdjson::SUCCESS;
    const bool same = got.has_value() == ok && (ok ? got->text.bytes == golden["text"].get_string().value() : true) &&
                      raised == raises && (!raises || got.error().message == message);
    if (same) continue;
    ++wrong;
    ADD_FAILURE() << source << "\n  expected " << (ok ? golden["text"].get_string().value() : "an error")
                  << "\n  found    " << (got ? got->text.bytes : "error: " + got.error().message);
  }
  EXPECT_GT(checked, 4000u);
  EXPECT_EQ(wrong, 0u);
}

TEST(Jinja, IsBoundedInStepsBytesAndDepth) {
  for (const char* source :
       {"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% set x = namespace(t='aaaaaaaa') %}{% for i in range(60) %}{% set x.t = x.t ~ x.t %}{% endfor %}",
        "{{ 'a' * 9000000000 }}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set x = namespace(l=[]) %}{% for i in range(9999) %}{% set x.l = [x.l] %}{% endfor %}"}) {
    EXPECT_FALSE(render(source)) << source;
  }
  EXPECT_FALSE(Template::compile("{{ " + std::string(100000, '(')));
  EXPECT_FALSE(Template::compile("{{ " + std::string(100000, '-') + "1 }}"));
}

// In kB.
int64_t peak_resident() {
  std::ifstream status("/proc/self/status");
  const std::string text{std::istreambuf_iterator<char>(status), {}};
  const size_t at = text.find("VmHWM:");
  return at == std::string::npos ? -1 : std::stoll(text.substr(at + 6));
}

TEST(Jinja, RefusesARepetitionBeforeItIsMade) {
  const int64_t before = peak_resident();
  EXPECT_THAT(render("{{ 'a' * 600000000 }}").error().message, HasSubstr("makes a text of more than 67108864 bytes"));
  EXPECT_LT(peak_resident() - before, 100 << 10) << "half a gigabyte was made";
}

TEST(Jinja, KnowsWhichBytesAreTheConversations) {
  const std::vector<Variable> variables{{"u", Value(make_text("<x>", true))}};
  const auto made = render("{{ u }}a{{ (u ~ 'b')|upper }}{{ u.replace('x', 'y') }}{{ [u]|tojson }}", variables);
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->text.bytes, "<x>a<X>B<y>[\"<x>\"]");
  const std::vector<Span> foreign{{0, 3}, {4, 7}, {8, 9}, {10, 11}, {13, 16}};
  EXPECT_EQ(made->text.foreign, foreign);
}

}  // namespace
}  // namespace thimble::jinja
