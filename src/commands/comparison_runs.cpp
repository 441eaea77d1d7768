// Running a comparison: every run in a folder called by the hash of what decides it.
#include <xxhash.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "commands/comparison.h"
#include "commands/own_process.h"
#include "files/file.h"
#include "files/json.h"
#include "methods/optimizer.h"
#include "report/run_log.h"
#include "run/interrupt.h"
#include "run/recipe.h"

namespace thimble {
namespace {

constexpr const char* kResultFile = "/result.json";

// Content of the files that flags name, so that other data make another run.
Result<uint64_t> hash_of_file(const std::string& path, uint64_t seed) {
  const InputFile file = TRY(InputFile::open(path));
  std::vector<std::byte> buffer(1 << 20);
  XXH3_state_t* const state = XXH3_createState();
  if (!state) throw std::bad_alloc();
  XXH3_64bits_reset_withSeed(state, seed);
  Result<void> read;
  for (uint64_t at = 0; at < file.size() && read; at += buffer.size()) {
    const auto part = std::span(buffer).first(std::min<uint64_t>(buffer.size(), file.size() - at));
    read = file.read(at, part);
    if (read) XXH3_64bits_update(state, part.data(), part.size());
  }
  const uint64_t hash = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  CHECK_OK(read);
  return hash;
}

std::string yaml_of(const Flags& flags) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  for (const auto& [name, values] : flags) {
    out << YAML::Key << name << YAML::Value;
    if (values.size() == 1) {
      out << YAML::DoubleQuoted << values.front();
      continue;
    }
    out << YAML::BeginSeq;
    for (const std::string& value : values) out << YAML::DoubleQuoted << value;
    out << YAML::EndSeq;
  }
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

Result<std::string> hash_of_run(const std::string& command, const Flags& flags) {
  const std::string text = fmt::format("{} {} {}", THIMBLE_VERSION, command, yaml_of(flags));
  uint64_t hash = XXH3_64bits(text.data(), text.size());
  for (const auto& [name, values] : flags)
    for (const std::string& value : values)
      for (const std::string& path : {value, value + "/config.json"})  // of a folder, what its model is like
        if (is_file(path)) hash = TRY(hash_of_file(path, hash));
  return fmt::format("{:016x}", hash);
}

Result<RunResult> result_of(const std::string& folder) {
  const RunLog log = TRY(read_run_log(folder + kEventsFile));
  if (log.points.empty()) return fail(ErrorCode::corrupt, "{}{}: there are no steps in it", folder, kEventsFile);
  RunResult result{.peak_bytes = log.peak_rss_bytes, .planned_bytes = log.ledger.planned_bytes};
  for (const RunPoint& point : log.points)
    result.learning_rate = std::max(result.learning_rate, static_cast<double>(point.learning_rate));
  result.seconds = median_seconds(log);
  const size_t tenth = std::max<size_t>(1, log.points.size() / 10);
  const auto last = std::span(log.points).last(tenth);
  result.loss = std::accumulate(last.begin(), last.end(), 0.0,
                                [](double sum, const RunPoint& p) { return sum + static_cast<double>(p.loss); }) /
                static_cast<double>(tenth);
  if (!log.evals.empty()) {
    const EvalEvent& last_eval = log.evals.back();
    result.loss = last_eval.nll;
    if (last_eval.labels.texts > 0 && !last_eval.labels.numbers) result.accuracy = last_eval.labels.accuracy;
  }
  for (const LedgerItem& item : log.ledger.items) {
    if (item.name == "optimizer states") result.states_bytes = item.bytes;
    if (item.name == "kept activations") result.kept_bytes = item.bytes;
  }
  return result;
}

// What the process said when it failed: its error, or the last line that is no event.
std::string last_words(const std::string& path) {
  std::string last = "it ended without a word";
  (void)for_each_line(path, 4096, [&](std::string_view line) {
    const Json event = line.starts_with('{') ? parse_json(line, "event").value_or(Json()) : Json();
    if (event.is_object() && event.value("event", "") == "error")
      last = event.value("message", last);
    else if (!line.empty() && !line.starts_with('{'))
      last = line;
  });
  return last;
}

// Rates of such a variant are factors of what it finds: short tries, in which that is not found yet, prefer large ones.
bool finds_rate(const Variant& variant) {
  const auto found = variant.flags.find("optimizer");
  if (found == variant.flags.end() || found->second.size() != 1) return false;
  const Result<OptimizerStack> stack = optimizer_stack_named(found->second.front());
  return stack && stack->optimizer->finds_rate;
}

class Runner {
 public:
  Runner(const Comparison& comparison, const std::string& folder, const std::function<void(const std::string&)>& tell)
      : comparison_(comparison), folder_(folder), tell_(tell) {}

  // Invalid where the run failed: what it said.
  Result<RunResult> run(const Variant& variant, const std::string& what, Flags flags, int64_t seed) {
    flags["seed"] = {std::to_string(seed)};
    const std::string out = folder_ + "/" + TRY(hash_of_run(comparison_.command, flags));
    const std::string label = fmt::format("{}: {}, {}", comparison_.name, variant.name, what);
    if (is_file(out + kResultFile)) {
      const RunResult known = TRY(result_of(out));
      tell_(fmt::format("{}: loss {:.4f} (made before)", label, known.loss));
      return known;
    }
    CHECK_OK(make_directories(out));
    CHECK_OK(write_text_file(out + "/run.yaml", yaml_of(flags)));
    std::vector<std::string> words = {comparison_.command, "--config", out + "/run.yaml", "--out", out, "--json"};
    if (is_file(out + "/checkpoint.safetensors")) words.emplace_back("--resume");
    tell_(label);
    const OwnProcess process = TRY(run_thimble(words, out + "/output.txt", true));
    if (interrupted() || process.status == 130)
      return fail(ErrorCode::cancelled, "stopped; the same command goes on from here");
    if (process.status != 0) return fail(ErrorCode::invalid_argument, "{}", last_words(out + "/output.txt"));
    const RunResult result = TRY(result_of(out));
    CHECK_OK(write_text_file(out + kResultFile, fmt::format("{{\"variant\":{},\"loss\":{:.9g}}}\n",
                                                            Json(variant.name).dump(), result.loss)));
    tell_(fmt::format("{}: loss {:.4f}, {:.3g} s a step", label, result.loss, result.seconds));
    return result;
  }

  Result<Outcome> run(const Variant& variant) {
    Outcome outcome{.variant = variant.name};
    const Result<void> done = run(variant, outcome);
    if (!done && done.error().code == ErrorCode::cancelled) return Failure(done.error());
    if (!done) outcome.failed = done.error().message;
    if (!done) tell_(fmt::format("{}: {}: not run: {}", comparison_.name, variant.name, outcome.failed));
    return outcome;
  }

 private:
  Result<void> run(const Variant& variant, Outcome& outcome) {
    Flags best = variant.flags;
    if (comparison_.rates.size() > 1 && !finds_rate(variant)) CHECK_OK(try_rates(variant, outcome, best));
    for (const int64_t seed : comparison_.seeds)
      outcome.runs.push_back(TRY(run(variant, fmt::format("seed {}", seed), best, seed)));
    outcome.learning_rate = outcome.runs.front().learning_rate;
    return {};
  }

  // The variant's own rate is what a run without --lr takes; the others are multiples of it.
  Result<void> try_rates(const Variant& variant, Outcome& outcome, Flags& best) {
    Flags shorter = variant.flags;
    const auto steps = variant.flags.find("steps");
    if (steps == variant.flags.end() || steps->second.size() != 1)
      return fail(ErrorCode::invalid_argument,
                  "trying rates needs `steps` among the flags: one number, of which a part is tried");
    const double whole = std::strtod(steps->second.front().c_str(), nullptr);
    shorter["steps"] = {fmt::format("{}", std::max(1.0, std::round(whole * comparison_.part)))};
    const auto attempt = [&](const Flags& flags, double rate) {
      return run(variant, fmt::format("rate x {:g}", rate), flags, comparison_.seeds.front());
    };
    const RunResult own = TRY(attempt(shorter, 1));
    double least = HUGE_VAL;
    for (const double rate : comparison_.rates) {
      Flags flags = shorter;
      if (rate != 1) flags["lr"] = {fmt::format("{:.9g}", own.learning_rate * rate)};
      const Result<RunResult> result = rate == 1 ? Result<RunResult>(own) : attempt(flags, rate);
      if (!result && result.error().code == ErrorCode::cancelled) return Failure(result.error());
      if (!result) continue;  // it may run away at this rate
      outcome.tries.push_back(*result);
      if (!(result->loss < least)) continue;
      least = result->loss;
      if (rate != 1) best["lr"] = flags["lr"];
      if (rate == 1) best = variant.flags;
    }
    return {};
  }

  const Comparison& comparison_;
  const std::string& folder_;
  const std::function<void(const std::string&)>& tell_;
};

}  // namespace

double Outcome::mean_loss() const {
  double sum = 0;
  for (const RunResult& run : runs) sum += run.loss;
  return runs.empty() ? NAN : sum / static_cast<double>(runs.size());
}

std::optional<double> Outcome::mean_accuracy() const {
  double sum = 0;
  for (const RunResult& run : runs) {
    if (!run.accuracy) return std::nullopt;
    sum += *run.accuracy;
  }
  return runs.empty() ? std::nullopt : std::optional(sum / static_cast<double>(runs.size()));
}

double Outcome::deviation() const {
  if (runs.size() < 2) return 0;
  const double mean = mean_loss();
  double squares = 0;
  for (const RunResult& run : runs) squares += (run.loss - mean) * (run.loss - mean);
  return std::sqrt(squares / static_cast<double>(runs.size() - 1));
}

Result<Outcomes> run_comparison(const Comparison& comparison, const std::string& folder,
                                const std::function<void(const std::string& line)>& tell) {
  Runner runner(comparison, folder, tell);
  Outcomes outcomes{&comparison, {}};
  for (const Variant& variant : comparison.variants) outcomes.variants.push_back(TRY(runner.run(variant)));
  return outcomes;
}

}  // namespace thimble
