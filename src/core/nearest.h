// Names in tables, and "did you mean": the names closest to a wrong one.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace thimble {

// Levenshtein distance.
inline size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

// Up to three names, nearest first, joined by ", ".
template <class Names>
std::string nearest_names(std::string_view wrong, const Names& names) {
  std::vector<std::string_view> sorted(std::begin(names), std::end(names));
  std::stable_sort(sorted.begin(), sorted.end(), [&](std::string_view a, std::string_view b) {
    return edit_distance(wrong, a) < edit_distance(wrong, b);
  });
  std::string out;
  for (size_t i = 0; i < std::min<size_t>(3, sorted.size()); ++i) out += (i ? ", " : "") + std::string(sorted[i]);
  return out;
}

// The entry of a socket's table with this name; the error names the flag that asked for it.
template <class Entry>
Result<const Entry*> find_named(std::string_view flag, std::string_view kind, std::span<const Entry* const> table,
                                std::string_view name) {
  std::vector<std::string_view> names;
  for (const Entry* entry : table) {
    if (entry->name == name) return entry;
    names.push_back(entry->name);
  }
  return fail(ErrorCode::invalid_argument, "{}: there is no {} '{}'; the nearest are {}", flag, kind, name,
              nearest_names(name, names));
}

}  // namespace thimble
