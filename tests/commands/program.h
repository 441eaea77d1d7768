// Runs the thimble binary as a user would.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "files/file.h"
#include "isa_flag.h"
#include "temporary_folder.h"

namespace thimble {

struct Ran {
  int status = -1;  // exit code; -1 when it was killed
  std::string out, err;
};

inline std::string quoted(const std::string& text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

// With --isa where the tests were asked for a level and the command has the flag.
inline std::vector<std::string> on_level(std::vector<std::string> arguments) {
  constexpr std::array kComputing = {"finetune", "train",   "plan",      "eval",  "generate",
                                     "chat",     "convert", "calibrate", "prune", "quantize"};
  if (!isa_flag().empty() && !arguments.empty() &&
      std::find(kComputing.begin(), kComputing.end(), arguments[0]) != kComputing.end())
    arguments.insert(arguments.end(), {"--isa", isa_flag()});
  return arguments;
}

// input: standard input. before: what the shell does first, "ulimit -f 100".
inline Ran run_thimble(const std::vector<std::string>& arguments, const std::string& input = "",
                       const std::string& before = "") {
  TemporaryFolder folder;
  std::string command = before + (before.empty() ? "" : "; ") + quoted(THIMBLE_PROGRAM);
  for (const std::string& argument : on_level(arguments)) command += " " + quoted(argument);
  folder.write("in", input);
  command += " <" + folder.file("in") + " >" + folder.file("out") + " 2>" + folder.file("err");
  const int status = std::system(command.c_str());
  Ran ran;
  if (WIFEXITED(status)) ran.status = WEXITSTATUS(status);
  ran.out = file_bytes(folder.file("out"));
  ran.err = file_bytes(folder.file("err"));
  // tools/check_bare.sh looks for it in what a test says.
  if (ran.err.find("/proc/meminfo cannot be read") != std::string::npos) std::fputs(ran.err.c_str(), stderr);
  return ran;
}

// A process whose standard input stays open.
class Waiting {
 public:
  explicit Waiting(const std::vector<std::string>& arguments) {
    int input[2];
    EXPECT_EQ(::pipe(input), 0);
    process_ = ::fork();
    if (process_ == 0) {
      const int error = ::open(folder_.file("err").c_str(), O_CREAT | O_WRONLY, 0600);
      const int out = ::open(folder_.file("out").c_str(), O_CREAT | O_WRONLY, 0600);
      ::dup2(input[0], 0), ::dup2(out, 1), ::dup2(error, 2);
      ::close(input[1]);
      std::vector<char*> argv = {const_cast<char*>(THIMBLE_PROGRAM)};
      const std::vector<std::string> all = on_level(arguments);
      for (const std::string& argument : all) argv.push_back(const_cast<char*>(argument.c_str()));
      argv.push_back(nullptr);
      ::execv(THIMBLE_PROGRAM, argv.data());
      ::_exit(127);
    }
    ::close(input[0]);
    input_ = input[1];
  }
  ~Waiting() {
    ::close(input_);
    if (process_ > 0) ::kill(process_, SIGKILL), ::waitpid(process_, nullptr, 0);
  }

  void interrupt() const { ::kill(process_, SIGINT); }
  void type(const std::string& text) const {
    EXPECT_EQ(::write(input_, text.data(), text.size()), ssize_t(text.size()));
  }
  std::string output() const { return file_bytes(folder_.file("out")); }
  std::string errors() const { return file_bytes(folder_.file("err")); }
  // Until "out" or "err" holds `text`; false after 20 seconds.
  bool says(const std::string& stream, const std::string& text) const {
    for (int i = 0; i < 400; ++i) {
      if (file_bytes(folder_.file(stream)).find(text) != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return false;
  }
  int exit_code() {
    int status = 0;
    ::waitpid(std::exchange(process_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  TemporaryFolder folder_;
  pid_t process_ = -1;
  int input_ = -1;
};

}  // namespace thimble
