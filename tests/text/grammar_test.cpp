#include "text/grammar/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "text/grammar/json_schema.h"
#include "text/utf8.h"

namespace thimble {
namespace {

using testing::HasSubstr;

Grammar must_parse(std::string_view gbnf) {
  auto grammar = Grammar::parse(gbnf);
  EXPECT_TRUE(grammar) << grammar.error().message << "\n" << gbnf;
  return std::move(*grammar);
}

bool matches(const Grammar& grammar, std::string_view text) {
  GrammarState state(grammar);
  return state.accept(text) && state.may_end();
}

TEST(Grammar, ReadsWhatItsRulesSay) {
  const Grammar grammar = must_parse(R"(# a comment
root ::= greeting (", " name){1,2} "!"? |
  "bye"
greeting ::= [Hh] "ello" | "gr\u00fc\u00df"
name ::= [^!, ]+
)");
  for (const char* text :
       {"Hello, Ann", "hello, Ann, Bob!", "gr\u00fc\u00df, \u65e5\u672c!", "bye", "Hello, \U0001f600"})
    EXPECT_TRUE(matches(grammar, text)) << text;
  for (const char* text : {"Hello", "Hello, ", "HELLO, A", "Hello, A, B, C", "bye!", "", "Hello, \xff", "Hello, \xc3"})
    EXPECT_FALSE(matches(grammar, text)) << text;
}

TEST(Grammar, TokensMayEndWithinACharacter) {
  const Grammar grammar = must_parse("root ::= [\u00e0-\u00ef\u65e5]{2}");
  GrammarState state(grammar);
  EXPECT_FALSE(state.accept("\xc4"));
  EXPECT_TRUE(state.accept("\xc3"));
  EXPECT_FALSE(state.accept("\x9f"));
  EXPECT_TRUE(state.accept("\xa9\xe6"));
  EXPECT_FALSE(state.may_end());
  EXPECT_TRUE(state.accept("\x97\xa5"));
  EXPECT_TRUE(state.may_end());
  EXPECT_TRUE(state.must_end());
}

// The range of every set is found byte by byte as by the code point.
TEST(Grammar, RangesOfCharactersAreTheirBytes) {
  std::mt19937 random(4);
  constexpr uint32_t kEdges[] = {0x7f,   0x80,    0x7ff,    0x800, 0xd7ff, 0xe000,
                                 0xffff, 0x10000, 0x10ffff, 0x20,  0xfff,  0x1000};
  for (int round = 0; round < 60; ++round) {
    const auto any = [&] {
      const uint32_t code = random() % 2 ? kEdges[random() % 12] : random() % 0x110000;
      return code >= 0xd800 && code <= 0xdfff ? 0xe000u : code;
    };
    const auto [first, last] = std::minmax({any(), any()});
    const bool negated = random() % 2;
    const Grammar grammar =
        must_parse(fmt::format("root ::= [{}\\U{:08x}-\\U{:08x}]", negated ? "^" : "", first, last));
    for (int i = 0; i < 200; ++i) {
      const uint32_t code =
          i < 4 ? std::clamp<uint32_t>((i % 2 ? last : first) + static_cast<uint32_t>(i / 2), 0, 0x10ffff) : any();
      if (code >= 0xd800 && code <= 0xdfff) continue;
      std::string text;
      append_utf8(text, code);
      EXPECT_EQ(matches(grammar, text), negated != (code >= first && code <= last)) << code;
    }
  }
}

// What may come next is the same asked for all tokens at once as for each alone.
TEST(Grammar, AllowedIsWhatIsAccepted) {
  const Grammar grammar = must_parse(gbnf_of_json());
  std::mt19937 random(6);
  std::vector<std::string> texts = {"{",     "}", "\"", ":",      ",",    "[",    "]",   "tru", "e",
                                    "true",  "1", "-",  "12.5e3", " ",    "\n",   "{\"", "\":", "\\",
                                    "\\u00", "a", "ab", "\xc3",   "\xa9", "null", "}}",  "a"};
  std::ranges::sort(texts);
  const std::vector<std::string_view> sorted(texts.begin(), texts.end());
  for (int round = 0; round < 200; ++round) {
    GrammarState state(grammar);
    for (int step = 0; step < 30 && !state.must_end(); ++step) {
      std::vector<size_t> allowed, accepted;
      state.allowed(sorted, [&](size_t i) { allowed.push_back(i); });
      for (size_t i = 0; i < sorted.size(); ++i)
        if (GrammarState copy = state; copy.accept(sorted[i])) accepted.push_back(i);
      ASSERT_EQ(allowed, accepted);
      ASSERT_FALSE(allowed.empty());
      ASSERT_TRUE(state.accept(sorted[allowed[random() % allowed.size()]]));
    }
  }
}

TEST(Grammar, WhatIsWrongIsNamedWithItsLine) {
  const auto message = [](std::string_view gbnf) {
    const auto grammar = Grammar::parse(gbnf);
    return grammar ? std::string("none") : grammar.error().message;
  };
  EXPECT_THAT(message("a ::= \"x\""), HasSubstr("no rule 'root'"));
  EXPECT_THAT(message("root ::= a"), HasSubstr("names the rule 'a'"));
  EXPECT_THAT(message("root ::= \"a\"\n\nroot ::= \"b\""), HasSubstr("line 3: the rule 'root' is defined twice"));
  EXPECT_THAT(message("root ::= root \"a\" | \"b\""), HasSubstr("left recursion"));
  EXPECT_THAT(message("root ::= a* root\na ::= \"x\""), HasSubstr("left recursion"));
  EXPECT_THAT(message("root ::= (\"a\"* )*"), HasSubstr("left recursion"));
  EXPECT_THAT(message("root ::= \"a"), HasSubstr("the closing \""));
  EXPECT_THAT(message("root ::= [a"), HasSubstr("the closing ]"));
  EXPECT_THAT(message("root ::= (\"a\""), HasSubstr("expected )"));
  EXPECT_THAT(message("root ::= \"a\"{3,2}"), HasSubstr("ends before it begins"));
  EXPECT_THAT(message("root ::= \"\\q\""), HasSubstr("no escape"));
  EXPECT_THAT(message("root = \"a\""), HasSubstr("expected ::="));
}

bool allows(const std::string& schema, const std::string& json) {
  const auto gbnf = gbnf_of_json_schema(schema);
  EXPECT_TRUE(gbnf) << gbnf.error().message;
  return matches(must_parse(*gbnf), json);
}

TEST(JsonSchema, AllowsWhatTheSchemaAllows) {
  const std::string person =
      R"({"type":"object","properties":{"name":{"type":"string","minLength":1},"age":{"type":"integer"},
    "tags":{"type":"array","items":{"enum":["a","b",3]},"maxItems":2},"kind":{"const":"x"}},"required":["name","kind"]})";
  for (const char* json :
       {R"({"name":"Ann","kind":"x"})", R"({ "name": "Ann", "age": -3, "tags": ["a", 3], "kind": "x" })",
        R"({"name":"\u00e9\n","tags":[],"kind":"x"})"})
    EXPECT_TRUE(allows(person, json)) << json;
  for (const char* json :
       {R"({"name":"","kind":"x"})", R"({"kind":"x"})", R"({"name":"A","kind":"y"})", R"({"kind":"x","name":"A"})",
        R"({"name":"A","age":1.5,"kind":"x"})", R"({"name":"A","tags":["c"],"kind":"x"})",
        R"({"name":"A","tags":["a","b","a"],"kind":"x"})", R"({"name":"A","kind":"x","more":1})",
        R"({"name":"A","age":01,"kind":"x"})", R"({"name":"A",,"kind":"x"})"})
    EXPECT_FALSE(allows(person, json)) << json;
  const std::string optional =
      R"({"properties":{"a":{"type":"null"},"b":{"type":"boolean"}},"additionalProperties":{"type":"number"}})";
  for (const char* json : {"{}", R"({"a":null})", R"({"b":true})", R"({"b":false,"c":1,"d":2e5})", R"({"c":1})"})
    EXPECT_TRUE(allows(optional, json)) << json;
  for (const char* json : {R"({"a":null,})", R"({,"b":true})", R"({"c":"x"})", R"({"b":true "c":1})"})
    EXPECT_FALSE(allows(optional, json)) << json;
  const std::string tree =
      R"({"$ref":"#/$defs/node","$defs":{"node":{"type":["object","null"],"properties":{"v":{"anyOf":[{"type":"number"},{"type":"string","format":"date"}]},
    "next":{"$ref":"#/$defs/node"}},"required":["v","next"]}}})";
  EXPECT_TRUE(allows(tree, R"({"v":1,"next":{"v":"2026-01-02","next":null}})"));
  EXPECT_FALSE(allows(tree, R"({"v":"2026-13-02","next":null})"));
  EXPECT_TRUE(allows("{}", R"([1,{"a":[true,null,"x"]}])"));
  for (const char* type : {R"("integer")", R"(["integer","null"])"}) {
    const std::string values = fmt::format(R"({{"type":{},"enum":["a",1],"title":"T"}})", type);
    EXPECT_TRUE(allows(values, "1"));
    EXPECT_FALSE(allows(values, R"("a")"));
  }
  EXPECT_TRUE(
      allows(R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false})", R"([1,"a"])"));
  EXPECT_TRUE(allows(R"({"type":"array","items":{"type":"integer"},"minItems":2})", "[1,2,3]"));
  EXPECT_FALSE(allows(R"({"type":"array","items":{"type":"integer"},"minItems":2})", "[1]"));
}

TEST(JsonSchema, WhatIsNotDoneIsNamed) {
  const auto message = [](const std::string& schema) {
    const auto gbnf = gbnf_of_json_schema(schema);
    return gbnf ? std::string("none") : gbnf.error().message;
  };
  EXPECT_THAT(message(R"({"type":"integer","minimum":3})"), HasSubstr("'minimum' is not supported"));
  EXPECT_THAT(message(R"({"type":"string","pattern":"a"})"), HasSubstr("'pattern' is not supported"));
  EXPECT_THAT(message(R"({"type":"string","format":"email"})"), HasSubstr("the format 'email'"));
  EXPECT_THAT(message(R"({"$ref":"other.json"})"), HasSubstr("'$ref' to other.json"));
  EXPECT_THAT(message(R"({"$ref":"#/$defs/x"})"), HasSubstr("leads nowhere"));
  EXPECT_THAT(message(R"({"type":"thing"})"), HasSubstr("no type 'thing'"));
  EXPECT_THAT(message(R"({"properties":{"a":{}},"required":["b"]})"), HasSubstr("'required' names \"b\""));
  EXPECT_THAT(message("{"), HasSubstr("not valid JSON"));
  // What would narrow it beside these.
  EXPECT_THAT(message(R"({"properties":{"a":{}},"anyOf":[{"required":["a"]}]})"),
              HasSubstr("'properties' beside 'anyOf'"));
  EXPECT_THAT(message(R"({"$ref":"#/$defs/x","minLength":5,"$defs":{"x":{}}})"),
              HasSubstr("'minLength' beside '$ref'"));
  EXPECT_THAT(message(R"({"enum":["a"],"maxLength":3})"), HasSubstr("'maxLength' beside 'enum'"));
  EXPECT_THAT(message(R"({"type":"string","format":"date","maxLength":3})"), HasSubstr("'maxLength' beside 'format'"));
  EXPECT_THAT(message(R"({"type":"integer","enum":["a",null]})"), HasSubstr("no value of [\"a\",null] is of the type"));
}

}  // namespace
}  // namespace thimble
