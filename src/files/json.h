// Small JSON files from outside: parsed without exceptions, nesting bounded, every field checked before it is used.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>  // its definitions cost a source seconds of compiling: who looks into values includes them
#include <string>
#include <string_view>
#include <utility>

#include "core/result.h"

namespace thimble {

using Json = nlohmann::json;

// A value as a member of what many sources see but few look into. Copies are deep; what was moved from may only be
// assigned to.
template <class Value>
class JsonBox {
 public:
  JsonBox();  // null
  JsonBox(Value value);
  JsonBox(const JsonBox& other);
  JsonBox(JsonBox&& other) noexcept;
  JsonBox& operator=(JsonBox other) noexcept;
  ~JsonBox();

  Value& operator*() { return *value_; }
  const Value& operator*() const { return *value_; }
  Value* operator->() { return value_.get(); }
  const Value* operator->() const { return value_.get(); }

 private:
  std::unique_ptr<Value> value_;
};

// `source` names the file in messages.
Result<Json> parse_json(std::string_view text, const std::string& source);
// The same, with the fields of objects in the order of the text.
Result<nlohmann::ordered_json> parse_ordered_json(std::string_view text, const std::string& source);
Result<Json> read_json_file(const std::string& path, uint64_t limit_bytes = 8u << 20);

// As json.dump(2) with a final newline, but invalid UTF-8 is replaced, not thrown over.
std::string json_text(const nlohmann::ordered_json& json);

// The fields of one object. T is bool, int64_t, double or std::string; null counts as absent.
class JsonFields {
 public:
  // `object` must outlive this.
  static Result<JsonFields> of(const Json& object, std::string source);

  const Json& json() const { return *object_; }
  const std::string& source() const { return source_; }
  // nullptr when absent.
  const Json* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }

  template <class T>
  Result<T> get(std::string_view key) const;
  template <class T>
  Result<T> get_or(std::string_view key, T otherwise) const {
    return has(key) ? get<T>(key) : Result<T>(std::move(otherwise));
  }
  // An object within this one.
  Result<JsonFields> object(std::string_view key) const;

 private:
  JsonFields(const Json& object, std::string source) : object_(&object), source_(std::move(source)) {}
  const Json* object_;
  std::string source_;
};

}  // namespace thimble
