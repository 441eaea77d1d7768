// report.html from an event log: self-contained, escaped, thinned, and forgiving of what a crash leaves.
#include "report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/page.h"
#include "report/run_log.h"
#include "text/small_tokenizer.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string step_line(int64_t step, double loss) {
  return fmt::format(
      "{{\"event\":\"step\",\"step\":{},\"steps\":9000,\"loss\":{},\"learning_rate\":0.1,\"grad_norm\":1,\"tokens\":"
      "512,\"tokens_per_second\":100,"
      "\"seconds\":5.12,\"peak_rss_bytes\":{}}}\n",
      step, loss, 100'000'000 + step);
}

constexpr const char* kHead =
    R"({"event":"recipe","settings":{"model":"<script>alert(1)</script>","data":"a&b.jsonl","rank":8,"bos":false,"target":["q_proj","v_proj"]}})"
    "\n"
    R"({"event":"plan","planned_peak_bytes":200000000,"budget_bytes":300000000,"predicted_step_seconds":4,"numerics_hash":"abc","ledger":[{"name":"runtime","bytes":200000000,"home":"<i>here</i>"}],"choices":["so"]})"
    "\n"
    R"({"event":"memory","step":0,"name":"forward: linear <x>","runtime":1000000,"weights":2000000})"
    "\n"
    R"({"event":"memory","step":1,"name":"backward: linear y","runtime":1000000,"weights":2000000,"kept activations":5})"
    "\n";

TEST(Report, is_one_page_with_everything_escaped) {
  const TemporaryFolder folder;
  folder.write("events.jsonl", std::string(kHead) + step_line(1, 2.5) + step_line(2, 1.5) +
                                   "{\"event\":\"eval\",\"step\":2,\"nll\":1.25}\n");
  folder.write("before.jsonl", R"({"prompt":"p <b>","reference":"r","reply":"wrong & </pre>"})"
                               "\n");
  folder.write("after.jsonl", R"({"prompt":"p <b>","reference":"r","reply":"r"})"
                              "\n");
  const auto written = write_report(folder.path(), {folder.path() + "/before.jsonl", folder.path() + "/after.jsonl"});
  ASSERT_TRUE(written) << written.error().message;
  const std::string html = *read_text_file(folder.path() + "/report.html");
  for (const char* unsafe : {"<script", "<i>here", "<x>", "p <b>", "a&b", "http:", "https:", "src=", "@import", "url("})
    EXPECT_THAT(html, Not(HasSubstr(unsafe)));
  for (const char* part : {"&lt;script&gt;", "a&amp;b.jsonl", "2.500 → 1.500", "q_proj, v_proj",
                           "wrong &amp; &lt;/pre&gt;", "before: 0 of 1", "after: 1 of 1", "class=\"right\"", "</html>"})
    EXPECT_THAT(html, HasSubstr(part));
}

TEST(Report, long_runs_are_thinned) {
  const TemporaryFolder folder;
  std::string text = kHead;
  for (int64_t step = 1; step <= 9000; ++step) text += step_line(step, 1.0 / static_cast<double>(step));
  folder.write("events.jsonl", text);
  const RunLog log = *read_run_log(folder.path() + "/events.jsonl");
  EXPECT_LE(log.points.size(), kLogPoints);
  EXPECT_GE(log.points.size(), kLogPoints / 2);
  EXPECT_EQ(log.points.front().step, 1);
  for (size_t i = 2; i < log.points.size(); ++i)
    ASSERT_EQ(log.points[i].step - log.points[i - 1].step, log.points[1].step - log.points[0].step);
  EXPECT_EQ(log.last.step, 9000);
  EXPECT_EQ(log.peak_rss_bytes, 100'009'000);
  ASSERT_TRUE(write_report(folder.path()));
  EXPECT_LT(InputFile::open(folder.path() + "/report.html")->size(), 400'000u);
}

// Killed at step 4 with a line half written, resumed from the checkpoint of step 2.
TEST(Report, a_resumed_run_counts_steps_once) {
  const TemporaryFolder folder;
  const std::string path = folder.write(
      "events.jsonl", std::string(kHead) + step_line(1, 4) + step_line(2, 3) + step_line(3, 9) + "{\"event\":\"st");
  {
    auto file = AppendFile::open(path, true);
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->write(step_line(3, 2)));
  }
  const RunLog log = *read_run_log(path);
  ASSERT_EQ(log.points.size(), 3u);
  EXPECT_EQ(log.points[2].loss, 2);
  EXPECT_EQ(log.unreadable, 1);
  ASSERT_TRUE(AppendFile::open(path, false));
  EXPECT_EQ(InputFile::open(path)->size(), 0u);
}

TEST(Report, hostile_logs_do_no_harm) {
  const TemporaryFolder folder;
  for (const char* text :
       {"", "\n\n", "[]\n", "{}\n", "null\n", "{\"event\":5}\n", "{\"event\":\"plan\"}\n",
        "{\"event\":\"plan\",\"ledger\":[1,{}],\"planned_peak_bytes\":\"x\"}\n",
        "{\"event\":\"step\",\"step\":1e300,\"loss\":null}\n", "{\"event\":\"step\",\"step\":-5,\"loss\":-1e300}\n",
        "{\"event\":\"recipe\",\"settings\":{\"a\":{\"b\":[[]]}}}\n", "{\"event\":\"memory\",\"weights\":-5}\n",
        "{\"event\":\"eval\",\"step\":3,\"nll\":1e308}\n{\"event\":\"step\",\"step\":1,\"loss\":1e38}\n"}) {
    SCOPED_TRACE(text);
    folder.write("events.jsonl", text);
    EXPECT_TRUE(write_report(folder.path()));
  }
  const auto missing = write_report(folder.path() + "/nowhere");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("events.jsonl"));
  folder.write("bad.jsonl", "{\"prompt\":\"x\"}\n");
  const auto bad = write_report(folder.path(), {folder.path() + "/bad.jsonl"});
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().message, HasSubstr("bad.jsonl:1"));
}

TEST(RoundTicks, are_round_and_inside) {
  EXPECT_EQ(round_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(round_ticks(0, 300, 3), (std::vector<double>{0, 100, 200, 300}));
  for (double high : {1e-9, 0.37, 5.0, 12345.0, 1e12})
    for (double tick : round_ticks(0, high, 4)) EXPECT_LE(tick, high * (1 + 1e-9));
}

}  // namespace
}  // namespace thimble
