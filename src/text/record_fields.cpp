#include "text/record_fields.h"

#include <algorithm>
#include <map>
#include <set>

namespace thimble {

namespace dom = simdjson::dom;

namespace {

// Holds nothing that could have a meaning: null, "", [] or {}.
bool is_empty(const dom::element& value) {
  std::string_view text;
  dom::array list;
  dom::object object;
  if (value.is_null()) return true;
  if (value.get(text) == simdjson::SUCCESS) return text.empty();
  if (value.get(list) == simdjson::SUCCESS) return list.begin() == list.end();
  return value.get(object) == simdjson::SUCCESS && object.begin() == object.end();
}

// true and false, 1 and 0, or one of them as text, which is all that tables have.
std::optional<bool> yes_or_no(const dom::element& value) {
  bool flag = false;
  double number = 0;
  std::string_view text;
  if (value.get(flag) == simdjson::SUCCESS) return flag;
  if (value.get(number) == simdjson::SUCCESS && (number == 0 || number == 1)) return number == 1;
  if (value.get(text) != simdjson::SUCCESS) return std::nullopt;
  for (const std::string_view yes : {"true", "True", "TRUE", "1"})
    if (text == yes) return true;
  for (const std::string_view no : {"false", "False", "FALSE", "0"})
    if (text == no) return false;
  return std::nullopt;
}

}  // namespace

RecordFields::RecordFields(const dom::object& object, std::string where, std::span<const Column> columns)
    : object_(object), where_(std::move(where)), columns_(columns) {}

std::string_view RecordFields::column_of(std::string_view field) const {
  const auto found = std::ranges::find(columns_, field, &Column::field);
  return found == columns_.end() ? field : std::string_view(found->column);
}

std::optional<dom::element> RecordFields::find(std::string_view field) {
  const std::string_view name = column_of(field);
  if (std::ranges::find(asked_, name) == asked_.end()) asked_.push_back(name);
  return value_of(name);
}

std::optional<dom::element> RecordFields::value_of(std::string_view name) const {
  std::optional<dom::element> last;
  for (const auto item : object_)
    if (item.key == name) last = item.value;
  return last && last->is_null() ? std::nullopt : last;
}

Result<std::string_view> RecordFields::text(std::string_view field) {
  const auto value = find(field);
  if (!value) return fail(ErrorCode::invalid_argument, "{}the field '{}' is missing", where_, column_of(field));
  std::string_view text;
  if (value->get(text) != simdjson::SUCCESS)
    return fail(ErrorCode::invalid_argument, "{}the field '{}' is not a string", where_, column_of(field));
  return text;
}

Result<std::string_view> RecordFields::text_or(std::string_view field, std::string_view otherwise) {
  return has(field) ? text(field) : Result<std::string_view>(otherwise);
}

Result<dom::array> RecordFields::list(std::string_view field) {
  const auto value = find(field);
  dom::array list;
  if (!value || value->get(list) != simdjson::SUCCESS)
    return fail(ErrorCode::invalid_argument, "{}the field '{}' is {}", where_, column_of(field),
                value ? "not a list" : "missing");
  return list;
}

Result<std::optional<bool>> RecordFields::learnt(std::string_view field) {
  const auto value = find(field);
  if (!value) return std::nullopt;
  if (const auto said = yes_or_no(*value)) return said;
  return fail(ErrorCode::unsupported,
              "{}the field '{}' should be 0 or 1: a reply is learnt or not; other weights are not done", where_,
              column_of(field));
}

Result<bool> RecordFields::verdict(std::string_view field) {
  const auto value = find(field);
  if (!value) return fail(ErrorCode::invalid_argument, "{}the field '{}' is missing", where_, column_of(field));
  if (const auto said = yes_or_no(*value)) return *said;
  return fail(ErrorCode::invalid_argument, "{}the field '{}' should be true or false", where_, column_of(field));
}

std::vector<std::pair<std::string_view, dom::element>> RecordFields::entries() const {
  std::vector<std::pair<std::string_view, dom::element>> out;
  std::map<std::string_view, size_t> places;
  for (const auto item : object_) {
    const auto [place, fresh] = places.try_emplace(item.key, out.size());
    if (fresh)
      out.emplace_back(item.key, item.value);
    else
      out[place->second].second = item.value;
  }
  std::erase_if(out, [](const auto& entry) { return entry.second.is_null(); });
  return out;
}

std::vector<std::string_view> RecordFields::unused() const {
  std::vector<std::string_view> names;
  std::set<std::string_view> seen(asked_.begin(), asked_.end());
  for (const auto item : object_)
    if (!is_empty(item.value) && seen.insert(item.key).second) names.push_back(item.key);
  return names;
}

bool RecordFields::took(const Column& column) const {
  if (std::ranges::find(asked_, column.column) == asked_.end()) return false;
  return std::ranges::any_of(object_, [&](const auto& item) { return item.key == column.column; });
}

std::string RecordFields::names() const {
  std::string found;
  for (const auto item : object_) found += fmt::format("{}{}", found.empty() ? "" : ", ", item.key);
  return found.empty() ? "no field" : found.substr(0, 200);
}

}  // namespace thimble
