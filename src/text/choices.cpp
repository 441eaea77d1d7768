#include "text/choices.h"

#include <algorithm>
#include <charconv>

#include "files/file.h"
#include "files/json.h"

namespace thimble {
namespace {

constexpr uint64_t kMostBytes = 64u << 20;

struct Choices {
  std::vector<std::string> texts, labels;
};

const Json* first_of(const Json& object, std::initializer_list<const char*> keys) {
  for (const char* key : keys)
    if (const auto found = object.find(key); found != object.end() && !found->is_null()) return &*found;
  return nullptr;
}

Result<Choices> choices_of(const Json& object, const std::string& where) {
  Choices out;
  const auto wrong = [&] {
    return fail(ErrorCode::corrupt,
                "{}: expected `choices`, a list of strings or of {{label, text}}, or `sol1` and `sol2`", where);
  };
  if (const Json* const list = first_of(object, {"choices"})) {
    if (!list->is_array()) return wrong();
    for (const Json& choice : *list) {
      const Json* const text = choice.is_object() ? first_of(choice, {"text"}) : &choice;
      const Json* const label = choice.is_object() ? first_of(choice, {"label"}) : nullptr;
      if (!text || !text->is_string() || (label && !label->is_string())) return wrong();
      out.texts.push_back(text->get<std::string>());
      out.labels.push_back(label ? label->get<std::string>()
                                 : std::string(1, static_cast<char>('A' + out.labels.size() % 26)));
    }
  } else {
    for (const char* key : {"sol1", "sol2"}) {
      const Json* const text = first_of(object, {key});
      if (!text || !text->is_string()) return wrong();
      out.texts.push_back(text->get<std::string>());
      out.labels.push_back(out.labels.empty() ? "A" : "B");
    }
  }
  if (out.texts.size() < 2)
    return fail(ErrorCode::corrupt, "{}: a question needs two choices or more, found {}", where, out.texts.size());
  return out;
}

Result<size_t> answer_of(const Json* value, const Choices& choices, const std::string& where) {
  int64_t index = -1;
  if (value && value->is_number_integer()) index = value->get<int64_t>();
  if (value && value->is_string()) {
    const auto text = value->get<std::string>();
    std::from_chars(text.data(), text.data() + text.size(), index);
    for (const auto* names : {&choices.labels, &choices.texts}) {
      const auto found = std::find(names->begin(), names->end(), text);
      if (found == names->end()) continue;
      index = found - names->begin();
      break;
    }
  }
  if (index < 0 || index >= static_cast<int64_t>(choices.texts.size()))
    return fail(
        ErrorCode::corrupt,
        "{}: expected `answer`, `label` or `answerKey`: the index, label or text of one of {} choices, found {}", where,
        choices.texts.size(), value ? value->dump(-1, ' ', true, Json::error_handler_t::replace) : "nothing");
  return static_cast<size_t>(index);
}

// `beside` is the line of the file of labels, or nullptr.
Result<ChoiceQuestion> question_of(const Json& line, const Json* beside, const std::string& where) {
  if (!line.is_object()) return fail(ErrorCode::corrupt, "{}: expected a JSON object", where);
  const Json* const text = first_of(line, {"prompt", "question", "goal"});
  const Json* const nested = text && text->is_object() ? text : nullptr;
  const Json* const stem = nested ? first_of(*nested, {"stem", "text"}) : text;
  if (!stem || !stem->is_string())
    return fail(ErrorCode::corrupt, "{}: expected `prompt`, `question` or `goal`, a string", where);
  const Choices choices = TRY(choices_of(nested && !line.contains("choices") ? *nested : line, where));
  ChoiceQuestion question;
  const bool raw = line.contains("prompt");
  question.prompt = raw ? stem->get<std::string>() : fmt::format("Question: {}\nAnswer:", stem->get<std::string>());
  const bool spaced =
      question.prompt.empty() || std::string_view(" \n\t").find(question.prompt.back()) != std::string_view::npos;
  for (const std::string& choice : choices.texts)
    question.choices.push_back(spaced || choice.starts_with(' ') ? choice : " " + choice);
  const Json* const inside = first_of(line, {"answer", "label", "answerKey"});
  question.answer = TRY(answer_of(inside ? inside : beside, choices, where));
  return question;
}

// Lines of the labels beside PIQA's questions; none when there is no such file.
Result<std::vector<Json>> labels_beside(const std::string& path) {
  std::vector<Json> out;
  const std::string labels = path.substr(0, path.rfind('.')) + "-labels.lst";
  if (!is_file(labels)) return out;
  const std::string text = TRY(read_text_file(labels, kMostBytes));
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    out.push_back(TRY(
        parse_json(std::string_view(text).substr(begin, end - begin), fmt::format("{}:{}", labels, out.size() + 1))));
    begin = end + 1;
  }
  return out;
}

}  // namespace

Result<std::vector<ChoiceQuestion>> read_choices(const std::string& path, int64_t limit) {
  const std::string text = TRY(read_text_file(path, kMostBytes));
  const std::vector<Json> labels = TRY(labels_beside(path));
  std::vector<ChoiceQuestion> out;
  int64_t line = 0;
  for (size_t begin = 0; begin < text.size() && (limit == 0 || static_cast<int64_t>(out.size()) < limit);) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view record = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++line;
    if (record.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", path, line);
    const Json json = TRY(parse_json(record, where));
    const auto at = static_cast<size_t>(line - 1);
    out.push_back(TRY(question_of(json, at < labels.size() ? &labels[at] : nullptr, where)));
  }
  if (out.empty()) return fail(ErrorCode::invalid_argument, "{}: there are no questions in it", path);
  return out;
}

}  // namespace thimble
