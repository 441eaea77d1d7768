#include "text/grammar/json_schema.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "files/json.h"

namespace thimble {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kBasics = R"(ws ::= | " " | "\n" [ \t]{0,20}
char ::= [^"\\\x00-\x1f\x7f] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})
string ::= "\"" char* "\""
integer ::= "-"? ([0-9] | [1-9] [0-9]{0,15})
number ::= integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})?
boolean ::= "true" | "false"
null ::= "null"
value ::= object | array | string | number | boolean | null
object ::= "{" ws (string ws ":" ws value (ws "," ws string ws ":" ws value)*)? ws "}"
array ::= "[" ws (value (ws "," ws value)*)? ws "]"
)";

struct Format {
  std::string_view name, expression;
};
constexpr std::array kFormats{
    Format{"date", R"([0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [1-2] [0-9] | "3" [0-1]))"},
    Format{
        "time",
        R"(([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{3})? ("Z" | [-+] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]))"},
    Format{
        "date-time",
        R"([0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [1-2] [0-9] | "3" [0-1]) "T" ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{3})? ("Z" | [-+] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]))"},
    Format{"uuid", R"([0-9a-fA-F]{8} "-" [0-9a-fA-F]{4} "-" [0-9a-fA-F]{4} "-" [0-9a-fA-F]{4} "-" [0-9a-fA-F]{12})"},
};

// Keywords that say nothing about what is allowed.
constexpr auto kAnnotations = std::to_array<std::string_view>(
    {"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated",
     "readOnly", "writeOnly", "strict", "name", "propertyOrdering"});
// Those that are read where they are needed.
constexpr auto kRead = std::to_array<std::string_view>(
    {"$ref", "type", "enum", "const", "properties", "required", "additionalProperties", "items", "prefixItems",
     "minItems", "maxItems", "minLength", "maxLength", "format", "anyOf", "oneOf"});

// Text that stands for itself in GBNF.
std::string literal(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n')
      out += "\\n";
    else if (static_cast<unsigned char>(c) < 0x20)
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      out += c;
  }
  return out + "\"";
}

class Converter {
 public:
  explicit Converter(const OrderedJson& root) : root_(root) {}

  Result<std::string> run() {
    const std::string expression = TRY(expression_of(root_, 0));
    return fmt::format("root ::= {}\n{}{}", expression, rules_, kBasics);
  }

 private:
  static constexpr int kDeepest = 64;
  using Schema = OrderedJson;

  Failure unsupported(std::string_view what) const {
    return fail(ErrorCode::unsupported, "the JSON schema: {} is not supported; leave it out, or write a grammar", what);
  }
  Failure wrong(std::string_view what) const { return fail(ErrorCode::invalid_argument, "the JSON schema: {}", what); }

  // An expression for what a schema allows, in parentheses where it is more than a name.
  Result<std::string> expression_of(const Schema& schema, int depth) {
    if (depth > kDeepest) return wrong(fmt::format("it lies more than {} deep", kDeepest));
    if (schema.is_boolean()) return schema.get<bool>() ? Result<std::string>("value") : unsupported("false");
    if (!schema.is_object()) return wrong("a schema is neither an object nor true");
    for (const auto& [key, value] : schema.items())
      if (std::ranges::find(kRead, key) == kRead.end() && std::ranges::find(kAnnotations, key) == kAnnotations.end())
        return unsupported(fmt::format("'{}'", key));
    for (const char* key : {"$ref", "anyOf", "oneOf", "const", "enum"})
      if (schema.contains(key)) CHECK_OK(check_alone(schema, key));
    if (schema.contains("$ref")) return reference(schema["$ref"]);
    for (const char* key : {"anyOf", "oneOf"})
      if (schema.contains(key)) return any_of(schema[key], key, depth);
    if (schema.contains("const")) return enumeration(Schema::array({schema["const"]}), schema);
    if (schema.contains("enum")) return enumeration(schema["enum"], schema);
    if (!schema.contains("type")) return untyped(schema, depth);
    const Schema& type = schema["type"];
    if (type.is_string()) return typed(schema, type.get<std::string>(), depth);
    if (!type.is_array() || type.empty()) return wrong("'type' is neither a name nor a list of names");
    std::string all;
    for (const Schema& one : type) {
      if (!one.is_string()) return wrong("'type' holds what is no name");
      all += fmt::format("{}{}", all.empty() ? "" : " | ", TRY(typed(schema, one.get<std::string>(), depth)));
    }
    return "(" + all + ")";
  }

  Result<std::string> untyped(const Schema& schema, int depth) {
    if (schema.contains("properties")) return typed(schema, "object", depth);
    if (schema.contains("items") || schema.contains("prefixItems")) return typed(schema, "array", depth);
    for (const char* key : {"format", "minLength", "maxLength"})
      if (schema.contains(key)) return typed(schema, "string", depth);
    return std::string("value");
  }

  Result<std::string> typed(const Schema& schema, const std::string& type, int depth) {
    if (type == "object") return object(schema, depth);
    if (type == "array") return array(schema, depth);
    if (type == "string") return string(schema);
    for (const char* basic : {"integer", "number", "boolean", "null"})
      if (type == basic) return std::string(basic);
    return wrong(fmt::format("there is no type '{}'", type));
  }

  Result<std::string> any_of(const Schema& list, const char* key, int depth) {
    if (!list.is_array() || list.empty()) return wrong(fmt::format("'{}' is no list of schemas", key));
    std::string all;
    for (const Schema& one : list)
      all += fmt::format("{}{}", all.empty() ? "" : " | ", TRY(expression_of(one, depth + 1)));
    return "(" + all + ")";
  }

  // What one of these says is the whole: what would narrow it further is not worked out. A type beside values is.
  Result<void> check_alone(const Schema& schema, std::string_view keyword) const {
    const bool values = keyword == "const" || keyword == "enum";
    for (const auto& [key, value] : schema.items()) {
      const bool annotation = std::ranges::find(kAnnotations, key) != kAnnotations.end();
      if (key != keyword && !annotation && !(values && key == "type"))
        return unsupported(fmt::format("'{}' beside '{}'", key, keyword));
    }
    return {};
  }

  static bool is_of(const Schema& value, const Schema& type) {
    if (type.is_array()) return std::ranges::any_of(type, [&](const Schema& one) { return is_of(value, one); });
    if (type == "integer")
      return value.is_number_integer() ||
             (value.is_number_float() && value.get<double>() == std::floor(value.get<double>()));
    if (type == "number") return value.is_number();
    return type == value.type_name();
  }

  // The values of a list that are of the schema's type.
  Result<std::string> enumeration(const Schema& list, const Schema& schema) {
    if (!list.is_array() || list.empty()) return wrong("'enum' is no list of values");
    std::string all;
    for (const Schema& value : list)
      if (!schema.contains("type") || is_of(value, schema["type"]))
        all += fmt::format("{}{}", all.empty() ? "" : " | ", literal(value.dump()));
    if (all.empty()) return wrong(fmt::format("no value of {} is of the type {}", list.dump(), schema["type"].dump()));
    return "(" + all + ")";
  }

  // A rule of its own for each place, so that a schema may come to itself.
  Result<std::string> reference(const Schema& ref) {
    if (!ref.is_string()) return wrong("'$ref' is no text");
    const auto path = ref.get<std::string>();
    if (const auto known = references_.find(path); known != references_.end()) return known->second;
    if (!path.starts_with("#")) return unsupported(fmt::format("'$ref' to {}", path));
    if (path.size() > 1 && path[1] != '/') return unsupported(fmt::format("'$ref' to {}", path));
    const Schema* target = &root_;
    for (size_t at = 1; at < path.size();) {
      const size_t end = std::min(path.find('/', at + 1), path.size());
      const std::string key = path.substr(at + 1, end - at - 1);
      if (!target->is_object() || !target->contains(key)) return wrong(fmt::format("'$ref' {} leads nowhere", path));
      target = &(*target)[key];
      at = end;
    }
    const std::string name = fmt::format("ref{}", references_.size());
    references_[path] = name;
    const std::string expression = TRY(expression_of(*target, 0));
    rules_ += fmt::format("{} ::= {}\n", name, expression);
    return name;
  }

  Result<int64_t> count(const Schema& schema, const char* key, int64_t otherwise) const {
    if (!schema.contains(key)) return otherwise;
    const Schema& value = schema[key];
    if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() > 2000)
      return wrong(fmt::format("'{}' is {}, expected 0 to 2000", key, value.dump()));
    return value.get<int64_t>();
  }
  static std::string repeated(int64_t least, int64_t most) {
    return most < 0 ? fmt::format("{{{},}}", least) : fmt::format("{{{},{}}}", least, most);
  }

  Result<std::string> string(const Schema& schema) {
    if (schema.contains("format")) {
      for (const char* key : {"minLength", "maxLength"})
        if (schema.contains(key)) return unsupported(fmt::format("'{}' beside 'format'", key));
      const auto name = schema["format"].is_string() ? schema["format"].get<std::string>() : std::string();
      const auto format = std::ranges::find(kFormats, name, &Format::name);
      if (format == kFormats.end()) return unsupported(fmt::format("the format '{}'", name));
      return fmt::format("(\"\\\"\" {} \"\\\"\")", format->expression);
    }
    if (!schema.contains("minLength") && !schema.contains("maxLength")) return std::string("string");
    const int64_t least = TRY(count(schema, "minLength", 0)), most = TRY(count(schema, "maxLength", -1));
    if (most >= 0 && most < least) return wrong("'maxLength' is less than 'minLength'");
    return fmt::format("(\"\\\"\" char{} \"\\\"\")", repeated(least, most));
  }

  Result<std::string> array(const Schema& schema, int depth) {
    std::string first;
    if (schema.contains("prefixItems")) {
      for (const Schema& item : schema["prefixItems"])
        first += fmt::format("{}{}", first.empty() ? "" : " ws \",\" ws ", TRY(expression_of(item, depth + 1)));
      const bool more = schema.contains("items") && !(schema["items"].is_boolean() && !schema["items"].get<bool>());
      if (more || schema.contains("minItems") || schema.contains("maxItems"))
        return unsupported("'prefixItems' together with items, minItems or maxItems");
      return fmt::format("(\"[\" ws {} ws \"]\")", first);
    }
    const std::string item = schema.contains("items") ? TRY(expression_of(schema["items"], depth + 1)) : "value";
    const int64_t least = TRY(count(schema, "minItems", 0)), most = TRY(count(schema, "maxItems", -1));
    if (most >= 0 && most < least) return wrong("'maxItems' is less than 'minItems'");
    if (most == 0) return std::string("(\"[\" ws \"]\")");
    const std::string rest =
        fmt::format("(ws \",\" ws {}){}", item, repeated(std::max<int64_t>(0, least - 1), most < 0 ? -1 : most - 1));
    return least > 0 ? fmt::format("(\"[\" ws {} {} ws \"]\")", item, rest)
                     : fmt::format("(\"[\" ws ({} {})? ws \"]\")", item, rest);
  }

  Result<std::string> object(const Schema& schema, int depth) {
    if (!schema.contains("properties") && !schema.contains("additionalProperties")) return std::string("object");
    std::vector<std::string> members;
    std::vector<bool> required;
    if (schema.contains("properties")) {
      if (!schema["properties"].is_object()) return wrong("'properties' is no object");
      for (const auto& [key, value] : schema["properties"].items()) {
        members.push_back(
            fmt::format("{} ws \":\" ws {}", literal(Schema(key).dump()), TRY(expression_of(value, depth + 1))));
        required.push_back(is_required(schema, key));
      }
    }
    if (schema.contains("required") && schema["required"].is_array())
      for (const Schema& key : schema["required"])
        if (!key.is_string() || !schema.contains("properties") ||
            !schema["properties"].contains(key.get<std::string>()))
          return wrong(fmt::format("'required' names {}, which is no property", key.dump()));
    std::string others;
    if (schema.contains("additionalProperties")) {
      const Schema& more = schema["additionalProperties"];
      if (!more.is_boolean() || more.get<bool>())
        others = fmt::format("string ws \":\" ws {}", TRY(expression_of(more, depth + 1)));
    }
    return fmt::format("(\"{{\" ws {} ws \"}}\")", members_of(members, required, others));
  }

  static bool is_required(const Schema& schema, const std::string& key) {
    if (!schema.contains("required") || !schema["required"].is_array()) return false;
    return std::ranges::any_of(schema["required"], [&](const Schema& name) { return name == key; });
  }

  // Rules for what may follow the member before: with a comma where there was one, without at the beginning.
  std::string members_of(const std::vector<std::string>& members, const std::vector<bool>& required,
                         const std::string& others) {
    const size_t base = objects_++;
    const auto name = [&](size_t i, bool after) { return fmt::format("obj{}-{}{}", base, i, after ? "c" : "f"); };
    for (size_t i = 0; i <= members.size(); ++i)
      for (const bool after : {false, true}) {
        const std::string comma = after ? "ws \",\" ws " : "";
        std::string body;
        if (i == members.size()) {
          body = others.empty() ? "\"\"" : fmt::format("({}{} (ws \",\" ws {})*)?", comma, others, others);
        } else {
          body = fmt::format("{}{} {}", comma, members[i], name(i + 1, true));
          if (!required[i]) body += " | " + name(i + 1, after);
        }
        rules_ += fmt::format("{} ::= {}\n", name(i, after), body);
      }
    return name(0, false);
  }

  const OrderedJson& root_;
  std::string rules_;
  std::map<std::string, std::string> references_;
  size_t objects_ = 0;
};

}  // namespace

std::string gbnf_of_json() { return fmt::format("root ::= object\n{}", kBasics); }

Result<std::string> gbnf_of_json_schema(std::string_view schema) {
  const OrderedJson json = TRY(parse_ordered_json(schema, "the JSON schema"));
  return Converter(json).run();
}

}  // namespace thimble
