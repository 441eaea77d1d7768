#include "report/samples.h"

#include <nlohmann/json.hpp>

#include "files/json.h"
#include "report/run_log.h"

namespace thimble {
namespace {

constexpr size_t kShown = 12;
constexpr size_t kLongestLine = 64 << 10, kLongestText = 2000;

struct Reply {
  std::string prompt, expected, output;
};

struct Replies {
  std::vector<Reply> shown;
  int64_t count = 0, known = 0, exact = 0;
};

std::string field(const Json& json, std::string_view key) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_string()) return "";
  return found->get<std::string>();
}

std::string shortened(const std::string& text) {
  if (text.size() <= kLongestText) return text;
  size_t end = kLongestText;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not within a character
  return text.substr(0, end) + " …";
}

Result<Replies> read_replies(const std::string& path) {
  Replies out;
  int64_t number = 0;
  std::string error;
  CHECK_OK(for_each_line(path, kLongestLine, [&](std::string_view line) {
    ++number;
    if (line.empty() || !error.empty()) return;
    const Json json = parse_json(line, path).value_or(Json());
    if (!json.is_object() || !json.contains("reply") || !json["reply"].is_string()) {
      error =
          fmt::format("{}:{}: expected a JSON object with a string 'reply' (and 'prompt', 'reference')", path, number);
      return;
    }
    Reply sample{field(json, "prompt"), field(json, "reference"), field(json, "reply")};
    ++out.count;
    if (!sample.expected.empty()) ++out.known, out.exact += sample.expected == sample.output;
    if (out.shown.size() < kShown) out.shown.push_back(std::move(sample));
  }));
  if (!error.empty()) return fail(ErrorCode::corrupt, "{}", error);
  if (out.count == 0) return fail(ErrorCode::invalid_argument, "{}: there are no samples in it", path);
  return out;
}

void entry(Page& page, const char* name, const std::string& text, bool right) {
  if (!text.empty())
    page.print("<dt>{}</dt><dd{}><pre>{}</pre></dd>", name, right ? " class=\"right\"" : "", escaped(shortened(text)));
}

}  // namespace

Result<void> check_samples(const std::vector<std::string>& files) {
  if (files.size() > 2)
    return fail(ErrorCode::invalid_argument, "--samples: expected one or two files, before and after; found {}",
                files.size());
  for (const std::string& file : files) TRY(read_replies(file));
  return {};
}

void write_samples(Page& page, const std::vector<std::string>& files) {
  if (files.empty()) return;
  std::vector<Replies> replies;
  for (const std::string& file : files)
    if (auto read = read_replies(file)) replies.push_back(std::move(*read));
  if (replies.size() != files.size()) return;
  page.print("<h2>Samples</h2>\n");
  static constexpr const char* kNames[] = {"before", "after"};
  const auto name = [&](size_t i) { return replies.size() == 1 ? "reply" : kNames[i]; };
  for (size_t i = 0; i < replies.size(); ++i)
    if (replies[i].known > 0)
      page.print("<p class=\"soft\" style=\"margin:0\">{}: {} of {} exactly as expected</p>\n", name(i),
                 replies[i].exact, replies[i].known);
  for (size_t s = 0; s < replies[0].shown.size(); ++s) {
    const Reply& first = replies[0].shown[s];
    page.print("<div class=\"card sample\"><dl>");
    entry(page, "prompt", first.prompt, false);
    entry(page, "expected", first.expected, false);
    for (size_t i = 0; i < replies.size(); ++i) {
      if (s >= replies[i].shown.size() || replies[i].shown[s].prompt != first.prompt) continue;
      const Reply& sample = replies[i].shown[s];
      entry(page, name(i), sample.output.empty() ? "(nothing)" : sample.output,
            !sample.expected.empty() && sample.expected == sample.output);
    }
    page.print("</dl></div>\n");
  }
}

}  // namespace thimble
