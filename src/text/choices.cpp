#include "text/choices.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/split.h"
#include "files/decompress.h"
#include "files/json.h"
#include "text/json_records.h"

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

Result<std::string> text_of(const Json& object, const char* key, const std::string& where) {
  const Json* const text = first_of(object, {key});
  if (text && text->is_string()) return text->get<std::string>();
  return fail(ErrorCode::corrupt, "{}: expected `{}`, a string", where, key);
}

std::string letter(size_t i) { return std::string(1, static_cast<char>('A' + i % 26)); }

// A list of strings or of {label, text}, or ARC's {"text": [...], "label": [...]}.
Result<Choices> listed_choices(const Json& list, const std::string& where) {
  Choices out;
  const auto add = [&](const Json* text, const Json* label) {
    if (!text || !text->is_string() || (label && !label->is_string())) return false;
    out.texts.push_back(text->get<std::string>());
    out.labels.push_back(label ? label->get<std::string>() : letter(out.labels.size()));
    return true;
  };
  bool right = list.is_array() || list.is_object();
  if (list.is_object()) {
    const Json *const texts = first_of(list, {"text"}), *const labels = first_of(list, {"label"});
    right = texts && texts->is_array() && (!labels || (labels->is_array() && labels->size() == texts->size()));
    for (size_t i = 0; right && i < texts->size(); ++i) right = add(&(*texts)[i], labels ? &(*labels)[i] : nullptr);
  }
  for (size_t i = 0; right && list.is_array() && i < list.size(); ++i) {
    const Json& choice = list[i];
    right = choice.is_object() ? add(first_of(choice, {"text"}), first_of(choice, {"label"})) : add(&choice, nullptr);
  }
  if (right) return out;
  return fail(ErrorCode::corrupt, "{}: expected `choices`, a list of strings or of {{label, text}}", where);
}

Result<Choices> named_choices(const Json& object, std::initializer_list<const char*> keys, const std::string& where) {
  Choices out;
  for (const char* key : keys) {
    out.texts.push_back(TRY(text_of(object, key, where)));
    out.labels.push_back(letter(out.labels.size()));
  }
  return out;
}

Result<size_t> answer_of(const Json* value, const Choices& choices, const std::string& where) {
  std::vector<size_t> meant;
  const auto count = choices.texts.size();
  if (value && value->is_number_integer()) {
    const auto index = value->get<int64_t>();
    if (index >= 0 && index < static_cast<int64_t>(count)) return static_cast<size_t>(index);
  } else if (value && value->is_boolean() && count == 2) {
    return value->get<bool>() ? 1 : 0;
  } else if (value && value->is_string()) {
    const auto text = value->get<std::string>();
    for (const auto* names : {&choices.labels, &choices.texts})
      if (const auto found = std::ranges::find(*names, text); found != names->end())
        meant.push_back(static_cast<size_t>(found - names->begin()));
    size_t index = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
    const bool number = error == std::errc{} && end == text.data() + text.size() && index < count;
    const bool label = std::ranges::find(choices.labels, text) != choices.labels.end();
    if (number && !label) meant.push_back(index);  // ARC's labels may be numbers from 1
    if (std::ranges::any_of(meant, [&](size_t one) { return one != meant.front(); }))
      return fail(ErrorCode::corrupt,
                  "{}: the answer '{}' is ambiguous: it is the label, text or index of more than one choice; give its "
                  "index as a number",
                  where, text);
    if (!meant.empty()) return meant.front();
  }
  return fail(ErrorCode::corrupt,
              "{}: expected `answer`, `label` or `answerKey`: the index, label or text of one of {} choices, found {}",
              where, count, value ? value->dump(-1, ' ', true, Json::error_handler_t::replace) : "nothing");
}

constexpr const char* kAnswers[] = {"answer", "label", "answerKey", "correct_answer"};

// By the first of the fields that may say it, and where others say one too, the same.
Result<size_t> answer_in(const Json& line, const Json* beside, const Choices& choices, const std::string& where) {
  std::optional<size_t> answer;
  for (const char* const key : kAnswers) {
    const Json* const value = first_of(line, {key});
    if (!value) continue;
    const auto one = answer_of(value, choices, where);
    if (!answer && !one) return Failure(one.error());
    if (answer && one && *one != *answer)
      return fail(ErrorCode::corrupt, "{}: its fields name two answers: choice {} and, by `{}`, choice {}", where,
                  *answer, key, *one);
    if (!answer) answer = *one;
  }
  return answer ? *answer : answer_of(beside, choices, where);
}

int64_t characters(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

// Whitespace at the end of a prompt belongs to what follows, as lm-evaluation-harness tokenizes it, and a space stands
// between the two. With a prompt of the user's own (`as_given`) only where neither brings one.
Choice choice_after(std::string prompt, const std::string& text, bool as_given = false) {
  const size_t end = prompt.find_last_not_of(" \t\n\r");
  const size_t kept = end == std::string::npos ? 0 : end + 1;
  const std::string moved = prompt.substr(kept);
  prompt.resize(kept);
  const bool spaced = as_given && (!moved.empty() || prompt.empty() || text.starts_with(' '));
  return {std::move(prompt), moved + (spaced ? "" : " ") + text, characters(text)};
}

// WikiHow's marks, as lm-evaluation-harness takes them out of HellaSwag.
std::string without_marks(std::string text) {
  text = std::string(trimmed(text));
  constexpr std::string_view kTitle = " [title]";
  for (size_t at; (at = text.find(kTitle)) != std::string::npos;) text.replace(at, kTitle.size(), ". ");
  for (size_t open; (open = text.find('[')) != std::string::npos;) {
    const size_t close = text.find(']', open);
    if (close == std::string::npos) break;
    text.erase(open, close - open + 1);
  }
  std::string single;  // two spaces become one, once
  for (size_t i = 0; i < text.size(); ++i) {
    single += text[i];
    if (text[i] == ' ' && i + 1 < text.size() && text[i + 1] == ' ') ++i;
  }
  return single;
}

std::string capitalised(std::string text) {
  for (size_t i = 0; i < text.size(); ++i)
    text[i] = static_cast<char>(i == 0 ? std::toupper(static_cast<unsigned char>(text[i]))
                                       : std::tolower(static_cast<unsigned char>(text[i])));
  return text;
}

// A question put in words, before its choices are appended.
struct Put {
  std::string prompt;
  Choices choices;
};

Result<Put> put_hellaswag(const Json& line, const std::string& where) {
  Put put;
  std::string context;
  if (line.contains("ctx_a") && line.contains("ctx_b"))
    context = TRY(text_of(line, "ctx_a", where)) + " " + capitalised(TRY(text_of(line, "ctx_b", where)));
  else
    context = TRY(text_of(line, "ctx", where));
  const std::string activity =
      line.contains("activity_label") ? TRY(text_of(line, "activity_label", where)) + ": " : "";
  put.prompt = without_marks(activity + context);
  put.choices = TRY(listed_choices(line["endings"], where));
  for (std::string& text : put.choices.texts) text = without_marks(std::move(text));
  return put;
}

Result<Put> put_boolq(const Json& line, const std::string& where) {
  return Put{fmt::format("{}\nQuestion: {}?\nAnswer:", TRY(text_of(line, "passage", where)),
                         TRY(text_of(line, "question", where))),
             {{"no", "yes"}, {"A", "B"}}};
}

Result<Put> put_mmlu(const Json& line, const std::string& where) {
  const Choices given = TRY(listed_choices(line["choices"], where));
  std::string subject = TRY(text_of(line, "subject", where));
  std::ranges::replace(subject, '_', ' ');
  Put put{fmt::format("The following are multiple choice questions (with answers) about {}.\n\n{}\n", subject,
                      trimmed(TRY(text_of(line, "question", where)))),
          {}};
  for (size_t i = 0; i < given.texts.size(); ++i) {
    put.prompt += fmt::format("{}. {}\n", letter(i), given.texts[i]);
    put.choices.texts.push_back(letter(i));
    put.choices.labels.push_back(letter(i));
  }
  put.prompt += "Answer:";
  return put;
}

Result<Put> put_sciq(const Json& line, const std::string& where) {
  std::string support = line.contains("support") ? TRY(text_of(line, "support", where)) : "";
  support.erase(0, support.find_first_not_of(" \t\r\n"));
  Put put;
  put.prompt = fmt::format("{}\nQuestion: {}\nAnswer:", support, TRY(text_of(line, "question", where)));
  put.choices = TRY(named_choices(line, {"distractor1", "distractor2", "distractor3", "correct_answer"}, where));
  return put;
}

Result<Put> put_plainly(const Json& line, const std::string& where) {
  const Json* const text = first_of(line, {"prompt", "question", "goal", "question_stem"});
  const Json* const nested = text && text->is_object() ? text : nullptr;
  const Json* const stem = nested ? first_of(*nested, {"stem", "text"}) : text;
  if (!stem || !stem->is_string())
    return fail(ErrorCode::corrupt, "{}: expected `prompt`, `question` or `goal`, a string", where);
  const bool raw = line.contains("prompt") || line.contains("question_stem");
  Put put;
  put.prompt = raw ? stem->get<std::string>() : fmt::format("Question: {}\nAnswer:", stem->get<std::string>());
  const Json& holder = nested && !line.contains("choices") ? *nested : line;
  if (const Json* const list = first_of(holder, {"choices", "options"}))
    put.choices = TRY(listed_choices(*list, where));
  else if (line.contains("sol1"))
    put.choices = TRY(named_choices(line, {"sol1", "sol2"}, where));
  else
    return fail(ErrorCode::corrupt,
                "{}: expected `choices` (or `options`), a list of strings or of {{label, text}}, or `sol1` and `sol2`",
                where);
  return put;
}

// A shape of the field, known by fields that stand in each of its records and others that stand in none.
struct Shape {
  std::vector<const char*> fields, absent;
  bool puts_context;  // a passage or support, as its benchmark does; before the question otherwise
  Result<Put> (*put)(const Json& line, const std::string& where);
};
const Shape kShapes[] = {
    {{"endings"}, {}, false, put_hellaswag},
    {{"passage", "question"}, {"choices", "options"}, true, put_boolq},
    {{"question", "subject", "choices"}, {}, false, put_mmlu},
    {{"question", "correct_answer", "distractor3"}, {}, true, put_sciq},
    {{}, {}, false, put_plainly},
};

// Each option in the place of "_" makes a prompt; what follows is the same for both, and is what is scored.
Result<ChoiceQuestion> winogrande(const Json& line, const std::string& where) {
  const std::string sentence = TRY(text_of(line, "sentence", where));
  const size_t blank = sentence.find('_');
  if (blank == std::string::npos) return fail(ErrorCode::corrupt, "{}: `sentence` has no '_'", where);
  const Choices options = TRY(named_choices(line, {"option1", "option2"}, where));
  const std::string rest(trimmed(std::string_view(sentence).substr(blank + 1)));
  ChoiceQuestion question;
  for (const std::string& option : options.texts)
    question.choices.push_back(choice_after(sentence.substr(0, blank) + option, rest));
  const Json* const answer = first_of(line, {"answer"});
  if (!answer || (*answer != "1" && *answer != "2" && *answer != 1 && *answer != 2))
    return fail(ErrorCode::corrupt, "{}: expected `answer`, 1 or 2", where);
  question.answer = *answer == "2" || *answer == 2 ? 1 : 0;
  return question;
}

// What some shape reads, and what says only which question it is.
constexpr auto kKnown = std::to_array<std::string_view>({"prompt",
                                                         "question",
                                                         "goal",
                                                         "question_stem",
                                                         "choices",
                                                         "options",
                                                         "sol1",
                                                         "sol2",
                                                         "endings",
                                                         "ctx",
                                                         "ctx_a",
                                                         "ctx_b",
                                                         "passage",
                                                         "context",
                                                         "support",
                                                         "subject",
                                                         "sentence",
                                                         "option1",
                                                         "option2",
                                                         "answer",
                                                         "label",
                                                         "answerKey",
                                                         "correct_answer",
                                                         "activity_label",
                                                         "id",
                                                         "ind",
                                                         "idx",
                                                         "qID",
                                                         "qid",
                                                         "question_id",
                                                         "source_id",
                                                         "split",
                                                         "split_type",
                                                         "distractor1",
                                                         "distractor2",
                                                         "distractor3"});

void count_unused(const Json& line, std::map<std::string, int64_t>& unused) {
  constexpr size_t kMost = 64;
  for (const auto& [key, value] : line.items()) {
    const bool empty = value.is_null() || value == "" || (value.is_structured() && value.empty());
    if (!empty && std::ranges::find(kKnown, key) == kKnown.end() && (unused.size() < kMost || unused.contains(key)))
      ++unused[key];
  }
}

// `beside` is the line of the file of labels, or nullptr.
Result<ChoiceQuestion> question_of(const Json& line, const Json* beside, const std::string& where,
                                   ChoiceQuestions& all) {
  if (!line.is_object()) return fail(ErrorCode::corrupt, "{}: expected a JSON object", where);
  if (line.contains("sentence") && line.contains("option1")) return winogrande(line, where);
  const auto has = [&](const char* field) { return first_of(line, {field}) != nullptr; };
  const auto shape = std::ranges::find_if(kShapes, [&](const Shape& one) {
    return std::ranges::all_of(one.fields, has) && std::ranges::none_of(one.absent, has);
  });
  Put put = TRY(shape->put(line, where));
  if (put.choices.texts.size() < 2)
    return fail(ErrorCode::corrupt, "{}: a question needs two choices or more, found {}", where,
                put.choices.texts.size());
  for (const char* const field : {"passage", "context", "support"}) {
    if (shape->puts_context) break;
    const Json* const before = first_of(line, {field});
    if (!before || !before->is_string() || before->get_ref<const std::string&>().empty()) continue;
    put.prompt = fmt::format("{}\n{}", trimmed(before->get_ref<const std::string&>()), put.prompt);
    const std::string note = fmt::format("the field '{}' stands before each question that has one", field);
    if (std::ranges::find(all.notes, note) == all.notes.end()) all.notes.push_back(note);
  }
  ChoiceQuestion question;
  question.answer = TRY(answer_in(line, beside, put.choices, where));
  for (const std::string& text : put.choices.texts)
    question.choices.push_back(choice_after(put.prompt, text, line.contains("prompt")));
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

Result<ChoiceQuestions> read_choices(const std::string& path, int64_t limit) {
  InputFile file = TRY(InputFile::open(path));
  const FileKind* kind = TRY(file_kind(file));
  if (kind->form == FileKind::gzip || kind->form == FileKind::zstd) {
    file = TRY(decompress(file, *kind));
    kind = TRY(file_kind(file));
  }
  if (kind->form != FileKind::text) return refuse_kind(path, *kind);
  const std::vector<Json> labels = TRY(labels_beside(path));
  ChoiceQuestions all;
  std::map<std::string, int64_t> unused;
  std::string text;
  int64_t place = 0;
  const auto visit = [&](const JsonRecord& record) -> Result<void> {
    if (limit > 0 && static_cast<int64_t>(all.questions.size()) >= limit) return {};
    if (record.length > kMostBytes)
      return fail(ErrorCode::corrupt, "{}:{}: a question of {} bytes", path, record.line, record.length);
    text.resize(record.length);
    CHECK_OK(file.read(record.offset, std::as_writable_bytes(std::span(text))));
    const std::string where = fmt::format("{}:{}", path, record.line);
    const auto at = static_cast<size_t>(place++);
    const Json json = TRY(parse_json(text, where));
    if (json.is_object()) count_unused(json, unused);
    all.questions.push_back(TRY(question_of(json, at < labels.size() ? &labels[at] : nullptr, where, all)));
    return {};
  };
  std::string head(std::min<uint64_t>(file.size(), 64), '\0');
  CHECK_OK(file.read(0, std::as_writable_bytes(std::span(head))));
  const size_t first = head.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  const bool array = first != std::string::npos && head[first] == '[';
  CHECK_OK(array ? for_each_element(file, visit) : for_each_line(file, visit));
  if (all.questions.empty()) return fail(ErrorCode::invalid_argument, "{}: there are no questions in it", path);
  std::string fields;
  for (const auto& [field, count] : unused)
    fields += fmt::format("{}{} ({})", fields.empty() ? "" : ", ", field, count);
  if (!fields.empty()) all.notes.push_back("fields without effect: " + fields);
  return all;
}

}  // namespace thimble
