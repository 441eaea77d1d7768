// Options of techniques: what `--set` takes for them, and what the tables declare.
#include "methods/option.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "methods/cache_policy.h"
#include "methods/decoder.h"
#include "methods/estimator.h"
#include "methods/keeper.h"
#include "methods/objective.h"
#include "methods/optimizer.h"
#include "methods/rewrite.h"
#include "methods/selector.h"
#include "methods/transform.h"

namespace thimble {
namespace {

using Kind = Option::Kind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Option kOptions[] = {{"rate", 0.5, 0, 1, ""},
                               whole_number("count", 3, 1, 1'000'000'000, ""),
                               zero_or_one("ahead", 0, ""),
                               {"ids", 0, 0, 100, "", Kind::whole_numbers},
                               {"parts", 0, 0, 0, "", Kind::words}};

std::string refusal(std::string_view name, std::string_view value) {
  OptionValues options(kOptions);
  const auto set = options.set("o", name, value);
  return set ? "" : set.error().message;
}

TEST(Option, takes_numbers_of_its_kind_within_its_bounds) {
  OptionValues options(kOptions);
  for (const auto& [name, value] :
       {std::pair{"rate", "0.25"}, {"count", "1e3"}, {"ahead", "1"}, {"ids", "7|0|100"}, {"parts", "a|b"}})
    ASSERT_TRUE(options.set("o", name, std::string_view(value))) << name;
  EXPECT_EQ(options["rate"], 0.25);
  EXPECT_EQ(options["count"], 1000);
  EXPECT_THAT(options.list("ids"), ElementsAre(7, 0, 100));
  EXPECT_THAT(options.words("parts"), ElementsAre("a", "b"));
  EXPECT_EQ(options.text(), "rate=0.25 count=1000 ahead=1 ids=7|0|100 parts=a|b");
  EXPECT_EQ(refusal("count", "2.5"), "--set o.count: expected a whole number, found 2.5");
  EXPECT_EQ(refusal("ahead", "0.5"), "--set o.ahead: expected a whole number, found 0.5");
  EXPECT_EQ(refusal("ids", "1|2.5"), "--set o.ids: expected a whole number, found 2.5");
  EXPECT_THAT(refusal("count", "0"), HasSubstr("expected 1 to 1000000000, found 0"));
  EXPECT_THAT(refusal("ids", "101"), HasSubstr("expected 0 to 100, found 101"));
  for (const char* value : {"nan", "inf", "-inf", "2x", ""}) EXPECT_NE(refusal("count", value), "") << value;
  for (const char* value : {"nan", "inf"}) EXPECT_NE(refusal("rate", value), "") << value;
}

std::vector<std::pair<std::string_view, std::span<const Option>>> all_options() {
  std::vector<std::pair<std::string_view, std::span<const Option>>> out;
  const auto add = [&](const auto& table) {
    for (const auto* entry : table) out.emplace_back(entry->name, entry->options);
  };
  add(rewrites()), add(optimizers()), add(wrappers()), add(objectives()), add(estimators()), add(decoders());
  add(cache_policies()), add(keepers()), add(selectors()), add(transforms());
  return out;
}

// An optimizer's options are those of its socket too.
TEST(Option, is_given_by_one_of_its_owners_names) {
  OptionValues values(kOptions);
  ASSERT_TRUE(values.set("optimizer", "rate", "0.5"));
  EXPECT_TRUE(values.set("optimizer", "rate", "0.25"));
  const auto other = values.set("adamw", "rate", "0.5");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().message, "--set adamw.rate: --set optimizer.rate says the same; leave one of them out");
  EXPECT_EQ(values["rate"], 0.25);
}

TEST(Option, of_every_technique_begins_within_its_bounds) {
  for (const auto& [owner, options] : all_options())
    for (const Option& option : options) {
      SCOPED_TRACE(fmt::format("{}.{}", owner, option.name));
      if (option.is_list()) continue;
      OptionValues values(options);
      EXPECT_TRUE(values.set(owner, option.name, option.initial));
      EXPECT_EQ(option.kind == Kind::whole && values.set(owner, option.name, option.least + 0.5), false);
    }
}

// What an adapter's file has as an integer or as true and false is whole here.
TEST(Option, is_of_the_kind_that_peft_has) {
  using Field = PeftField::Kind;
  for (const Rewrite* rewrite : rewrites())
    for (const PeftField& field : rewrite->form.fields) {
      SCOPED_TRACE(fmt::format("{}.{}", rewrite->name, field.option));
      const auto option = std::ranges::find(rewrite->options, field.option, &Option::name);
      ASSERT_NE(option, rewrite->options.end());
      EXPECT_EQ(option->kind, field.kind == Field::list     ? Kind::whole_numbers
                              : field.kind == Field::number ? Kind::number
                                                            : Kind::whole);
    }
}

// What counts layers, ranks, steps or tokens is whole, whoever has it.
TEST(Option, that_counts_is_whole) {
  for (const auto& [owner, options] : all_options())
    for (const Option& option : options)
      for (const std::string_view name : {"rank", "layers", "interval", "period", "iterations", "tokens", "bits",
                                          "blocks", "batches", "directions", "sinks", "nesterov", "key"})
        if (option.name == name) EXPECT_NE(option.kind, Kind::number) << owner << "." << name;
}

}  // namespace
}  // namespace thimble
