// The fields of one JSON object of a data set: of a name that stands there twice the last counts, as everywhere; null
// is absent; what was asked for is remembered, so that what was not can be told.
#pragma once

#include <simdjson.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "text/dataset.h"

namespace thimble {

class RecordFields {
 public:
  using Element = simdjson::dom::element;

  // `where` begins messages ("message 2: "). `columns`: names of the user's for fields; none within messages.
  RecordFields(const simdjson::dom::object& object, std::string where, std::span<const Column> columns = {});

  // Nothing when absent or null.
  std::optional<Element> find(std::string_view field);
  // Does not count as asking for it: who only wants to know has not read it.
  bool has(std::string_view field) const { return value_of(column_of(field)).has_value(); }
  Result<std::string_view> text(std::string_view field);  // missing is an error
  Result<std::string_view> text_or(std::string_view field, std::string_view otherwise);
  Result<simdjson::dom::array> list(std::string_view field);  // missing is an error
  // 0 and 1, true and false, or one of them as text; another number is refused, for examples are learnt or not.
  Result<std::optional<bool>> learnt(std::string_view field);

  // Yes or no: true and false, 1 and 0, or one of them as text, which is all that tables have; missing is an error.
  Result<bool> verdict(std::string_view field);

  // All fields but those that are null; of a name that stands there twice the last.
  std::vector<std::pair<std::string_view, Element>> entries() const;

  // Names that were never asked for and hold something.
  std::vector<std::string_view> unused() const;
  bool took(const Column& column) const;  // it was asked for, and is there
  std::string names() const;              // of all fields, for messages
  const std::string& where() const { return where_; }

 private:
  std::string_view column_of(std::string_view field) const;
  std::optional<Element> value_of(std::string_view name) const;

  simdjson::dom::object object_;
  std::string where_;
  std::span<const Column> columns_;
  std::vector<std::string_view> asked_;
};

}  // namespace thimble
