// Runs the thimble binary as a user would.
#pragma once

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "files/file.h"
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

// input: standard input.
inline Ran run_thimble(const std::vector<std::string>& arguments, const std::string& input = "") {
  TemporaryFolder folder;
  std::string command = quoted(THIMBLE_PROGRAM);
  for (const std::string& argument : arguments) command += " " + quoted(argument);
  folder.write("in", input);
  command += " <" + folder.file("in") + " >" + folder.file("out") + " 2>" + folder.file("err");
  const int status = std::system(command.c_str());
  Ran ran;
  if (WIFEXITED(status)) ran.status = WEXITSTATUS(status);
  ran.out = file_bytes(folder.file("out"));
  ran.err = file_bytes(folder.file("err"));
  return ran;
}

}  // namespace thimble
