#include "files/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace thimble {
namespace {

using ::testing::HasSubstr;

TEST(Json, says_where_it_is_wrong) {
  EXPECT_THAT(parse_json("{\"a\": 1,,}", "x.json").error().message,
              HasSubstr("x.json: it is not valid JSON at byte 9"));
  EXPECT_THAT(parse_json("", "x").error().message, HasSubstr("not valid JSON"));
  EXPECT_THAT(parse_json("{\"a\": 1e999}", "x").error().message, HasSubstr("not valid JSON"));
  EXPECT_THAT(parse_json("{\"a\": \"\xff\"}", "x").error().message, HasSubstr("not valid JSON"));
}

TEST(Json, bounds_its_depth) {
  for (const char* open : {"[", "{\"a\":"}) {
    std::string bomb;
    for (int i = 0; i < 1'000'000; ++i) bomb += open;
    EXPECT_THAT(parse_json(bomb, "bomb").error().message, HasSubstr("nested more than 64 deep"));
  }
}

TEST(JsonFields, checks_kinds) {
  const Json json =
      *parse_json(R"({"i": 3, "f": 2.5, "s": "x", "b": true, "n": null, "big": 18446744073709551615})", "c");
  const auto fields = *JsonFields::of(json, "c");
  EXPECT_EQ(*fields.get<int64_t>("i"), 3);
  EXPECT_EQ(*fields.get<double>("i"), 3.0);
  EXPECT_EQ(*fields.get<double>("f"), 2.5);
  EXPECT_EQ(*fields.get<std::string>("s"), "x");
  EXPECT_TRUE(*fields.get<bool>("b"));
  EXPECT_EQ(*fields.get_or<int64_t>("n", 7), 7);
  EXPECT_EQ(fields.get<int64_t>("f").error().message, "reading c: 'f' should be an integer, found 2.5");
  EXPECT_EQ(fields.get<std::string>("i").error().message, "reading c: 'i' should be a string, found 3");
  EXPECT_FALSE(fields.get<int64_t>("big"));
  EXPECT_FALSE(fields.get<bool>("i"));
  EXPECT_THAT(fields.get<int64_t>("n").error().message, HasSubstr("'n' is missing"));
  EXPECT_FALSE(JsonFields::of(Json::array(), "c"));
}

}  // namespace
}  // namespace thimble
