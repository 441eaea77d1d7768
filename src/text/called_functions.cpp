#include "text/called_functions.h"

#include <simdjson.h>

#include "text/jinja/from_json.h"
#include "text/parse_json.h"

namespace thimble {
namespace {

namespace dom = simdjson::dom;
using jinja::Value;

Result<Value> call_of(dom::element json) {
  dom::element name, arguments;
  if (json["name"].get(name) != simdjson::SUCCESS || !name.is_string() ||
      json["arguments"].get(arguments) != simdjson::SUCCESS)
    return fail(ErrorCode::invalid_argument, "a function_call has no 'name' and 'arguments'");
  Value called = TRY(jinja::from_json(name, true)), given = TRY(jinja::from_json(arguments, true));
  Value function = TRY(jinja::make_dict({{Value::text("name"), called}, {Value::text("arguments"), given}}));
  return jinja::make_dict({{Value::text("type"), Value::text("function")}, {Value::text("function"), function}});
}

}  // namespace

Result<void> take_function_call(std::string_view value, Message& message) {
  dom::parser parser;
  dom::element json;
  if (parse_json(parser, value).get(json) != simdjson::SUCCESS)
    return fail(ErrorCode::invalid_argument,
                "a function_call is not JSON: expected {{\"name\":...,\"arguments\":...}}");
  std::vector<Value> calls;
  dom::array list;
  if (json.get(list) == simdjson::SUCCESS) {
    for (const dom::element call : list) calls.push_back(TRY(call_of(call)));
  } else {
    calls.push_back(TRY(call_of(json)));
  }
  const Value made = TRY(jinja::make_list(std::move(calls)));
  message.role = "assistant";
  message.content.clear();
  message.whole = TRY(jinja::make_dict({{Value::text("role"), Value::text("assistant")},
                                        {Value::text("content"), Value::text("")},
                                        {Value::text("tool_calls"), made}}));
  return {};
}

}  // namespace thimble
