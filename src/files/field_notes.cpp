#include "files/field_notes.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/warnings.h"

namespace thimble {

const FieldNote* find_note(std::span<const FieldNote> notes, std::string_view field) {
  const auto found = std::ranges::find_if(notes, [&](const FieldNote& note) {
    if (!note.field.ends_with('*')) return note.field == field;
    return field.starts_with(note.field.substr(0, note.field.size() - 1));
  });
  return found == notes.end() ? nullptr : &*found;
}

bool is_neutral(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_number() && (value == 0 || value == 1)) ||
         ((value.is_array() || value.is_object() || value.is_string()) && value.empty());
}

Result<void> check_fields(const Json& object, std::span<const FieldNote> notes, const std::string& source,
                          std::string_view prefix) {
  std::string not_done;
  const auto add = [&](const std::string& field, std::string_view why) {
    not_done += fmt::format("{}'{}{}' ({})", not_done.empty() ? "" : ", ", prefix, field, why);
  };
  for (const auto& [field, value] : object.items()) {
    const FieldNote* const note = find_note(notes, field);
    if (is_neutral(value) || (note && note->meaning <= FieldMeaning::harmless)) continue;
    if (note && note->meaning == FieldMeaning::refused)
      return fail(ErrorCode::unsupported, "reading {}: '{}{}' is set, which is not supported: {}", source, prefix,
                  field, note->why);
    add(field, note ? note->why : "unknown");
  }
  if (!not_done.empty()) warn(fmt::format("{} asks for what is not done here: {}", source, not_done));
  return {};
}

Json metadata_under(const GgufFile& gguf, std::string_view prefix) {
  Json fields = Json::object();
  const auto json = [](const auto& value) -> Json {
    if constexpr (std::is_same_v<std::decay_t<decltype(value)>, GgufArray>)
      return value.count == 0 ? Json::array() : Json::array({value.count});
    else
      return value;
  };
  for (const GgufValue& value : gguf.values())
    if (value.key.starts_with(prefix)) fields[value.key.substr(prefix.size())] = std::visit(json, value.value);
  return fields;
}

}  // namespace thimble
