#include "files/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "binary_files.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

TEST(Safetensors, reads_what_others_write) {
  TemporaryFolder folder;
  const std::string header =
      R"({"__metadata__":{"format":"pt","note":"x"},"b":{"dtype":"I64","shape":[1],"data_offsets":[12,20]},)"
      R"("a":{"dtype":"F32","shape":[3,1],"data_offsets":[0,12]},"none":{"dtype":"BF16","shape":[0],"data_offsets":[12,12]},)"
      R"("scalar":{"dtype":"U8","shape":[],"data_offsets":[20,21]}}   )";
  const auto file = SafetensorsFile::open(folder.write("a.safetensors", safetensors_bytes(header, 21)));
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(file->entries().size(), 4u);
  EXPECT_EQ(file->metadata().at("note"), "x");
  const SafetensorsEntry* a = file->find("a");
  ASSERT_TRUE(a);
  EXPECT_EQ(a->shape, (Shape{3, 1}));
  EXPECT_EQ(a->codec, &kF32);
  EXPECT_EQ(a->offset, 8 + header.size());
  EXPECT_EQ(a->bytes, 12u);
  EXPECT_EQ(file->find("b")->codec, nullptr);
  EXPECT_EQ(file->find("c"), nullptr);
}

TEST(Safetensors, what_is_written_is_read) {
  TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  const SafetensorsTensor tensors[] = {{"x", "F32", {2, 3}}, {"na\"me", "BF16", {5}}, {"id", "I32", {1}}};
  auto writer = SafetensorsWriter::create(path, tensors);
  ASSERT_TRUE(writer) << writer.error().message;
  std::string data(2 * 3 * 4 + 5 * 2 + 4, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i);
  const auto bytes = std::as_bytes(std::span(data));
  ASSERT_TRUE(writer->write(bytes.first(7)));
  EXPECT_THAT(writer->finish().error().message, HasSubstr("never came"));
  ASSERT_TRUE(writer->write(bytes.subspan(7)));
  EXPECT_FALSE(writer->write(bytes.first(1)));
  ASSERT_TRUE(writer->finish());

  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->metadata().at("format"), "pt");
  const SafetensorsEntry* named = file->find("na\"me");
  ASSERT_TRUE(named);
  EXPECT_EQ(named->codec, &kBf16);
  std::string read(named->bytes, '\0');
  ASSERT_TRUE(file->file().read(named->offset, std::as_writable_bytes(std::span(read))));
  EXPECT_EQ(read, data.substr(24, 10));
}

TEST(SafetensorsWriter, refuses_what_it_can_not_write) {
  TemporaryFolder folder;
  const auto refusal = [&](std::vector<SafetensorsTensor> tensors) {
    return SafetensorsWriter::create(folder.file("a"), tensors).error().message;
  };
  EXPECT_THAT(refusal({{"x", "Q4", {1}}}), HasSubstr("no such dtype"));
  EXPECT_THAT(refusal({{"x", "F32", {1}}, {"x", "F32", {1}}}), HasSubstr("twice"));
  EXPECT_THAT(refusal({{"x", "F32", {int64_t{1} << 40, int64_t{1} << 40}}}), HasSubstr("too large"));
}

}  // namespace
}  // namespace thimble
