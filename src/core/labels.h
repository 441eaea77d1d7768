// What a model may say of a text as a whole: one of some classes, or a number.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace thimble {

struct Labels {
  enum class Kind : uint8_t { classes, number };
  Kind kind = Kind::classes;
  std::vector<std::string> names;  // of the classes, by their ids; of a number, its own

  int64_t count() const { return static_cast<int64_t>(names.size()); }
  bool operator==(const Labels&) const = default;
};

constexpr int64_t kMostLabels = 1 << 16;

// As transformers calls a class that has no name.
inline std::string plain_label(int64_t id) { return "LABEL_" + std::to_string(id); }

}  // namespace thimble
