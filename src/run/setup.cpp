#include "run/setup.h"

#include <algorithm>

#include "core/count.h"
#include "core/cpus.h"
#include "core/warnings.h"
#include "text/json_output.h"

namespace thimble {

int thread_count(int64_t asked) { return asked > 0 ? static_cast<int>(asked) : usable_cpus(); }

Result<std::unique_ptr<Tokenizer>> tokenizer_of(const std::string& tokenizer, const ModelSource& model) {
  auto opened = Tokenizer::open(tokenizer.empty() ? model.path() : tokenizer);
  if (!opened && tokenizer.empty()) return missing_tokenizer(opened.error());
  return opened;
}

Result<std::unique_ptr<Tokenizer>> open_tokenizer(const std::string& tokenizer, const ModelSource& model) {
  auto opened = TRY(tokenizer_of(tokenizer, model));
  const int64_t rows = model.architecture().vocab, tokens = opened->vocab_size();
  if (tokens > rows)
    warn(
        fmt::format("{}: the tokenizer has {} tokens, the model {} rows: '{}' (id {}){} cannot be used; train with "
                    "--method full, or convert --add-rows, to give them rows",
                    tokenizer.empty() ? model.path() : tokenizer, tokens, rows,
                    opened->bytes(static_cast<int32_t>(rows)), rows, tokens - rows > 1 ? " and those after it" : ""));
  return opened;
}

Result<SpecialIds> special_ids(const Tokenizer* tokenizer, const std::string& model) {
  if (tokenizer && tokenizer->usable())
    return SpecialIds{.bos = tokenizer->bos(), .eos = {tokenizer->ends().begin(), tokenizer->ends().end()}};
  const std::string config = is_directory(model) ? model + "/config.json" : model;
  if (!config.ends_with(".json") || !is_file(config)) return SpecialIds{};
  return special_ids_from_config(config);
}

Result<Multiply> choose_multiply(const std::string& multiply, const std::string& precision, const Machine& machine) {
  if (multiply == "bf16" && !multiplies(Multiply::bf16))
    return fail(ErrorCode::unsupported,
                "--multiply bf16: this CPU has no bf16 products (AVX512-BF16); take auto or f32");
  if (multiply == "bf16") return Multiply::bf16;
  if (multiply == "int8") return Multiply::int8;
  return multiply == "f32" || precision == "f32" ? Multiply::f32 : faster_multiply(machine);
}

Result<void> set_data_options(const std::vector<std::string>& columns, const std::string& truncate,
                              DatasetOptions& options) {
  for (const std::string& text : columns) {
    const size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == text.size())
      return fail(ErrorCode::invalid_argument, "--columns: expected field=column, prompt=frage say; found '{}'", text);
    const std::string field = text.substr(0, equals);
    std::erase_if(options.columns, [&](const Column& before) { return before.field == field; });  // a recipe's
    options.columns.push_back({field, text.substr(equals + 1)});
  }
  options.truncate = truncate == "left"    ? Truncate::left
                     : truncate == "right" ? Truncate::right
                     : truncate == "split" ? Truncate::split
                                           : Truncate::leave_out;
  return {};
}

Result<void> check_bos(bool asked, const Tokenizer& tokenizer) {
  if (!asked || !tokenizer.usable() || tokenizer.bos()) return {};
  return fail(ErrorCode::invalid_argument, "--bos: the tokenizer has no beginning-of-sequence token");
}

void report_data(Events& events, const std::string& path, const DatasetReport& report) {
  for (const std::string& error : report.first_errors) events.note("warning: " + error);
  const int64_t more = report.bad_lines - static_cast<int64_t>(report.first_errors.size());
  if (more > 0) events.note(fmt::format("warning: and {} more", counted(more, "bad line")));
  std::string text = fmt::format("{}: {}", path, counted(report.examples, "example"));
  if (report.bad_lines > 0) text += fmt::format(", {} left out", counted(report.bad_lines, "bad line"));
  if (report.too_long > 0) text += fmt::format(", {} longer than the context left out", report.too_long);
  if (report.untrained > 0) text += fmt::format(", {} without anything to learn left out", report.untrained);
  if (report.by_reply > 0)
    text += fmt::format(", {} made into an example for each reply, as the template rewrites earlier turns",
                        counted(report.by_reply, "chat"));
  if (report.dropped_tokens > 0)
    text += fmt::format(", {} of the last, shorter window dropped", counted(report.dropped_tokens, "token"));
  if (report.truncated > 0) text += fmt::format(", {} longer than the context cut", report.truncated);
  if (report.pairs > 0)
    text += fmt::format(", of which {} the chosen reply is learnt", counted(report.pairs, "preference pair"));
  if (report.unpaired > 0) text += fmt::format(", {} made into two replies each", counted(report.unpaired, "pair"));
  if (report.wanted > 0) text += fmt::format(", {} of them wanted", report.wanted);
  events.note(text);
  for (const std::string& note : report.notes) events.note("note: " + note);
  std::string unused;
  for (const auto& [field, count] : report.unused)
    unused += fmt::format("{}{} ({})", unused.empty() ? "" : ", ", field, count);
  if (!unused.empty()) events.note("warning: fields without effect: " + unused);
}

std::string unused_json(const DatasetReport& report) {
  std::string fields;
  for (const auto& [field, count] : report.unused)
    fields += fmt::format("{}{}:{}", fields.empty() ? "" : ",", json_string(field), count);
  return fmt::format("{{{}}}", fields);
}

std::string data_json(const std::string& path, const DatasetReport& report) {
  const auto list = [](const std::vector<std::string>& texts) {
    std::string out;
    for (const std::string& text : texts) out += fmt::format("{}{}", out.empty() ? "" : ",", json_string(text));
    return out;
  };
  return fmt::format(
      "\"data\":{},\"examples\":{},\"bad_lines\":{},\"too_long\":{},\"untrained\":{},\"truncated\":{},"
      "\"unused_fields\":{},\"first_errors\":[{}],\"notes\":[{}]",
      json_string(path), report.examples, report.bad_lines, report.too_long, report.untrained, report.truncated,
      unused_json(report), list(report.first_errors), list(report.notes));
}

int64_t budget_or_free(int64_t asked) { return asked > 0 ? asked : free_memory_bytes() / 5 * 4; }

Result<void> check_budget(int64_t asked, const ControlGroups& groups) {
  if (resident_bytes() < 0 || (asked <= 0 && free_memory_bytes() < 0))
    return fail(
        ErrorCode::unsupported,
        "planning: /proc/self/status and /proc/meminfo cannot be read, which say what this process takes and what "
        "is free; mount /proc");
  const int64_t limit = group_memory(groups).limit_bytes;
  if (limit < 0 || asked <= limit) return {};
  return fail(ErrorCode::over_budget,
              "--memory {}: the control group of this process may take {}, and is killed beyond that; give at most "
              "--memory {}M",
              megabytes(asked), megabytes(limit), limit / 1'000'000);
}

Result<void> include_start(const PlanBudget& budget) {
  const int64_t start = peak_resident_bytes();
  budget.ledger.planned_bytes = std::max(budget.ledger.planned_bytes, start);
  if (start <= budget.budget_bytes) return {};
  const int64_t least = whole_megabytes(start + kRuntimeVaries);
  return Failure(Error{ErrorCode::over_budget,
                       fmt::format("starting the program, reading the data and planning took {}; give --memory {}M",
                                   megabytes(start), least / 1'000'000),
                       least});
}

Failure refused_within(int64_t budget_bytes, const Error& error) {
  return Failure(
      Error{error.code,
            fmt::format("the plan does not fit: --memory {} was given, {}", megabytes(budget_bytes), error.message),
            error.least_bytes});
}

}  // namespace thimble
