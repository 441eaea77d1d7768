#include "report/run_log.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "files/json.h"

namespace thimble {
namespace {

const std::string kEvents = "events.jsonl";

constexpr size_t kLongestLine = 64 << 10;

double number(const Json& json, std::string_view key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_number() ? found->get<double>() : 0;
}
int64_t integer(const Json& json, std::string_view key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
}
std::string text(const Json& json, std::string_view key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

// A series of steps of which every stride-th is kept, so that it never grows beyond kLogPoints.
template <class Point>
class Thinned {
 public:
  explicit Thinned(std::vector<Point>& points) : points_(points) { points_.reserve(kLogPoints); }

  void add(const Point& point) {
    while (!points_.empty() && points_.back().step >= point.step) points_.pop_back();
    if (seen_++ % stride_ != 0) return;
    if (points_.size() == kLogPoints) {
      for (size_t i = 0; i < kLogPoints / 2; ++i) points_[i] = points_[2 * i];
      points_.resize(kLogPoints / 2);
      stride_ *= 2;
    }
    points_.push_back(point);
  }

 private:
  std::vector<Point>& points_;
  size_t seen_ = 0, stride_ = 1;
};

class Reader {
 public:
  explicit Reader(RunLog& log) : log_(log), points_(log.points), evals_(log.evals) {}

  void line(std::string_view line) {
    if (line.empty()) return;
    const Json json = parse_json(line, kEvents).value_or(Json());
    if (!json.is_object()) {
      ++log_.unreadable;
      return;
    }
    const std::string event = text(json, "event");
    if (event == "recipe") recipe(json);
    if (event == "plan") plan(json);
    if (event == "memory") memory(json);
    if (event == "step") step(json);
    if (event == "eval")
      evals_.add({.step = integer(json, "step"),
                  .nll = number(json, "nll"),
                  .perplexity = number(json, "perplexity"),
                  .tokens = integer(json, "tokens"),
                  .labels = labels(json)});
  }

 private:
  static LabelledTexts labels(const Json& json) {
    return {.numbers = json.contains("squared_error"),
            .texts = integer(json, "texts"),
            .accuracy = number(json, "accuracy"),
            .squared_error = number(json, "squared_error"),
            .pearson = number(json, "pearson")};
  }
  void recipe(const Json& json) {
    log_.settings.clear();
    const auto found = json.find("settings");
    if (found == json.end() || !found->is_object()) return;
    for (const auto& [key, value] : found->items()) {
      const bool unset =
          value == Json("") || value == Json(0) || value == Json(0.0) || value == Json(false) || value.empty();
      std::string list;
      if (value.is_array())
        for (const Json& one : value)
          list += (list.empty() ? "" : ", ") + (one.is_string() ? one.get<std::string>() : one.dump());
      if (!unset)
        log_.settings.emplace_back(key, value.is_array()    ? list
                                        : value.is_string() ? value.get<std::string>()
                                                            : value.dump());
    }
  }

  void plan(const Json& json) {
    Ledger& l = log_.ledger;
    l = {};
    log_.profile.clear();
    l.planned_bytes = integer(json, "planned_peak_bytes");
    l.budget_bytes = integer(json, "budget_bytes");
    l.step_seconds = number(json, "predicted_step_seconds");
    l.numerics_hash = text(json, "numerics_hash");
    if (const auto items = json.find("ledger"); items != json.end() && items->is_array())
      for (const Json& item : *items)
        if (item.is_object()) l.items.push_back({text(item, "name"), integer(item, "bytes"), text(item, "home")});
    if (const auto choices = json.find("choices"); choices != json.end() && choices->is_array())
      for (const Json& choice : *choices)
        if (choice.is_string()) l.choices.push_back(choice.get<std::string>());
  }

  void memory(const Json& json) {
    if (log_.profile.size() == kLogPoints) return;
    ProfilePoint point{.name = text(json, "name"), .step = static_cast<int>(integer(json, "step"))};
    for (size_t i = 0; i < kHeldNames.size(); ++i) point.bytes[i] = std::max<int64_t>(0, integer(json, kHeldNames[i]));
    log_.profile.push_back(std::move(point));
  }

  void step(const Json& json) {
    StepEvent& e = log_.last;
    e = {.step = integer(json, "step"),
         .steps = integer(json, "steps"),
         .loss = number(json, "loss"),
         .learning_rate = number(json, "learning_rate"),
         .grad_norm = number(json, "grad_norm"),
         .tokens_per_second = number(json, "tokens_per_second"),
         .seconds = number(json, "seconds"),
         .tokens = integer(json, "tokens"),
         .peak_rss_bytes = integer(json, "peak_rss_bytes")};
    log_.peak_rss_bytes = std::max(log_.peak_rss_bytes, e.peak_rss_bytes);
    points_.add({static_cast<int>(e.step), static_cast<float>(e.loss), static_cast<float>(e.learning_rate),
                 static_cast<float>(e.grad_norm), static_cast<float>(e.tokens_per_second),
                 static_cast<float>(e.seconds)});
  }

  RunLog& log_;
  Thinned<RunPoint> points_;
  Thinned<EvalEvent> evals_;
};

}  // namespace

Result<void> for_each_line(const std::string& path, size_t longest, const std::function<void(std::string_view)>& line) {
  const InputFile file = TRY(InputFile::open(path));
  std::string current;
  char buffer[4096];
  for (uint64_t at = 0; at < file.size();) {
    const size_t count = std::min<uint64_t>(sizeof buffer, file.size() - at);
    CHECK_OK(file.read(at, std::as_writable_bytes(std::span(buffer, count))));
    at += count;
    for (std::string_view rest(buffer, count); !rest.empty();) {
      const size_t end = rest.find('\n');
      const std::string_view piece = rest.substr(0, end);
      current.append(piece.substr(0, longest - std::min(longest, current.size())));
      if (end == std::string_view::npos) break;
      line(current);
      current.clear();
      rest.remove_prefix(end + 1);
    }
  }
  if (!current.empty()) line(current);
  return {};
}

Result<void> drop_events_after(const std::string& path, int64_t step, int64_t evaluated) {
  if (!is_file(path)) return {};
  auto kept = TRY(OutputFile::create(path));
  Result<void> written;
  CHECK_OK(for_each_line(path, kLongestLine, [&](std::string_view line) {
    const Json json = parse_json(line, kEvents).value_or(Json());
    if (!json.is_object()) return;
    const std::string event = text(json, "event");
    if (event == "done" || event == "stopped" || event == "error") return;
    if (((event == "step" || event == "divergence") && integer(json, "step") > step) ||
        (event == "eval" && integer(json, "step") > evaluated))
      return;
    if (written) written = kept.write(std::string(line) + "\n");
  }));
  CHECK_OK(written);
  return kept.commit();
}

Result<RunLog> read_run_log(const std::string& path) {
  RunLog log;
  Reader reader(log);
  CHECK_OK(for_each_line(path, kLongestLine, [&](std::string_view line) { reader.line(line); }));
  return log;
}

double median_seconds(const RunLog& log) {
  std::vector<float> seconds;
  for (const RunPoint& p : log.points) seconds.push_back(p.seconds);
  if (seconds.empty()) return 0;
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

}  // namespace thimble
