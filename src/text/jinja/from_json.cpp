#include "text/jinja/from_json.h"

namespace thimble::jinja {
namespace {

namespace dom = simdjson::dom;

Result<Value> convert(dom::element json, bool foreign, uint32_t depth) {
  if (depth > kDeepest) return wrong(fmt::format("JSON is nested more than {} deep", kDeepest));
  switch (json.type()) {
    case dom::element_type::NULL_VALUE:
      return Value();
    case dom::element_type::BOOL:
      return Value(json.get_bool().value_unsafe());
    case dom::element_type::INT64:
      return Value(int64_t{json.get_int64().value_unsafe()});
    case dom::element_type::UINT64:
      return wrong("an integer in the JSON is beyond 64 bits with a sign");
    case dom::element_type::DOUBLE:
      return Value(json.get_double().value_unsafe());
    case dom::element_type::STRING:
      return Value(make_text(json.get_string().value_unsafe(), foreign));
    case dom::element_type::ARRAY: {
      dom::array array;
      if (json.get(array) != simdjson::SUCCESS) break;
      std::vector<Value> items;
      for (const dom::element item : array) items.push_back(TRY(convert(item, foreign, depth + 1)));
      return make_list(std::move(items));
    }
    case dom::element_type::OBJECT: {
      dom::object object;
      if (json.get(object) != simdjson::SUCCESS) break;
      std::vector<Dict::Entry> entries;
      for (const auto field : object)
        entries.emplace_back(Value(make_text(field.key, foreign)), TRY(convert(field.value, foreign, depth + 1)));
      return make_dict(std::move(entries));
    }
  }
  return Value();
}

}  // namespace

Result<Value> from_json(dom::element json, bool foreign) { return convert(json, foreign, 1); }

}  // namespace thimble::jinja
