// The cases met in the field (../shared/cases), one test each by its id: check.py runs the commands of cases.tsv and
// says whether what came is right. Skipped where the cases are not beside the project.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

const std::string kFolder = THIMBLE_CASES;

std::vector<std::string> ids() {
  std::vector<std::string> found;
  std::ifstream file(kFolder + "/cases.tsv");
  std::string line;
  std::getline(file, line);  // names of columns
  while (std::getline(file, line))
    if (const size_t tab = line.find('\t'); tab != std::string::npos && tab > 0) found.push_back(line.substr(0, tab));
  if (found.empty()) found.push_back("none");
  return found;
}

// Asked for what is read since: the cases want gzip and zstd refused, by name.
bool is_read_since(const std::string& id) { return id == "b17b" || id == "b17f" || id == "b17g"; }

// Starts a second run 0.7 s after one of a thousand tiny steps, which may have ended by then.
bool depends_on_speed(const std::string& id) { return id == "x05"; }

class FieldCases : public testing::TestWithParam<std::string> {};

TEST_P(FieldCases, is_right) {
  if (GetParam() == "none") GTEST_SKIP() << "there are no cases in " << kFolder;
  if (is_read_since(GetParam()))
    GTEST_SKIP() << "compressed data is read (tests/text/data_files_test.cpp), the case wants it refused";
  if (depends_on_speed(GetParam()))
    GTEST_SKIP() << "Finetune.a_second_run_into_a_folder_in_use_is_refused tests the same without a clock";
  const std::string command = "python3 " + kFolder + "/check.py " + THIMBLE_PROGRAM + " " + GetParam() + " 2>&1";
  FILE* const pipe = popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string output;
  char buffer[4096];
  for (size_t count; (count = fread(buffer, 1, sizeof buffer, pipe)) > 0;) output.append(buffer, count);
  EXPECT_EQ(pclose(pipe), 0) << output;
}

INSTANTIATE_TEST_SUITE_P(, FieldCases, testing::ValuesIn(ids()), [](const auto& info) { return info.param; });

}  // namespace
