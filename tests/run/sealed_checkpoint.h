// Checkpoints as a stranger would make them: changed, with hashes that fit the change.
#pragma once

#include <gtest/gtest.h>
#include <xxhash.h>

#include <limits>
#include <string>

#include "run/checkpoint_files.h"
#include "temporary_folder.h"

namespace thimble {

// Writes `text`, of a checkpoint whose header was changed without becoming longer or shorter, with the right hashes.
inline void write_sealed(const std::string& path, std::string text) {
  std::ofstream(path, std::ios::binary) << text;
  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file) << file.error().message;
  const uint64_t data = file->entries().front().offset, end = file->entries().back().offset;
  BlockHashes header(std::numeric_limits<int64_t>::max()), blocks;
  header.add(std::as_bytes(std::span(text).first(data)));
  blocks.add(std::as_bytes(std::span(text).subspan(data, end - data)));
  std::vector<uint64_t> hashes = header.finish();
  for (const uint64_t hash : blocks.finish()) hashes.push_back(hash);
  hashes.push_back(XXH3_64bits(hashes.data(), hashes.size() * 8));
  ASSERT_EQ(text.size() - end, hashes.size() * 8);
  text.replace(end, hashes.size() * 8, reinterpret_cast<const char*>(hashes.data()), hashes.size() * 8);
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace thimble
