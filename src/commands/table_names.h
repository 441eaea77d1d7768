// Names of a socket's entries, for help.
#pragma once

#include <string>

namespace thimble {

template <class Table>
std::string names_of(Table table) {
  std::string out;
  for (const auto* entry : table) out += (out.empty() ? "" : ", ") + std::string(entry->name);
  return out;
}

}  // namespace thimble
