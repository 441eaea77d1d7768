// Importance matrices as llama.cpp writes them, in both forms, and files that only look like them.
#include "files/imatrix.h"

#include <gmock/gmock.h>

#include <cmath>

#include "binary_files.h"
#include "files/gguf_writer.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class T>
void put(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put_text(std::string& to, std::string_view text) {
  put(to, static_cast<int32_t>(text.size()));
  to += text;
}

struct LegacyEntry {
  std::string name;
  int32_t calls;
  std::vector<float> values;
};

std::string legacy(const std::vector<LegacyEntry>& entries, bool tail = true) {
  std::string out;
  put(out, static_cast<int32_t>(entries.size()));
  for (const LegacyEntry& entry : entries) {
    put_text(out, entry.name);
    put(out, entry.calls);
    put(out, static_cast<int32_t>(entry.values.size()));
    for (const float value : entry.values) put(out, value);
  }
  if (tail) put(out, int32_t{7}), put_text(out, "text.txt");
  return out;
}

std::vector<float> read(const Imatrix& imatrix, std::string_view name, size_t columns, int64_t which = 0,
                        int64_t among = 1) {
  std::vector<float> to(columns);
  const auto done = imatrix.read(name, which, among, to);
  EXPECT_TRUE(done) << done.error().message;
  return to;
}

constexpr const char* kUp = "blk.0.ffn_up.weight";

TEST(Imatrix, legacy_values_are_means_times_calls) {
  const TemporaryFolder folder;
  const std::vector<LegacyEntry> entries = {{kUp, 4, {4, 8, 2}}, {"blk.0.attn_q.weight", 0, {3, 5}}};
  for (const bool tail : {true, false}) {
    const std::string path = folder.write("legacy.dat", legacy(entries, tail));
    EXPECT_TRUE(Imatrix::recognises(path));
    const auto imatrix = Imatrix::open(path);
    ASSERT_TRUE(imatrix) << imatrix.error().message;
    EXPECT_TRUE(imatrix->legacy());
    EXPECT_EQ(imatrix->chunks(), tail ? 7 : 0);
    EXPECT_THAT(read(*imatrix, kUp, 3), ElementsAre(1, 2, 0.5f));
    EXPECT_THAT(read(*imatrix, "blk.0.attn_q.weight", 2), ElementsAre(3, 5));  // as they are
  }
}

struct GgufEntry {
  std::string name;
  Shape shape;
  std::vector<float> numbers;
};

std::string write_gguf(const TemporaryFolder& folder, const std::vector<GgufEntry>& tensors,
                       const std::string& type = "imatrix") {
  std::string path = folder.file("imatrix.gguf");
  GgufWriter writer;
  writer.add_string("general.type", type);
  writer.add_integer("imatrix.chunk_count", uint32_t{12});
  StringList sets;
  sets.push_back("wiki.txt");
  writer.add_strings("imatrix.datasets", sets);
  for (const GgufEntry& tensor : tensors) EXPECT_TRUE(writer.add_tensor(tensor.name, 0, tensor.shape));
  EXPECT_TRUE(writer.start(path));
  for (const GgufEntry& tensor : tensors) EXPECT_TRUE(writer.write(std::as_bytes(std::span(tensor.numbers))));
  EXPECT_TRUE(writer.finish());
  return path;
}

TEST(Imatrix, gguf_sums_are_divided_by_their_counts) {
  const TemporaryFolder folder;
  const std::string path = write_gguf(folder, {{std::string(kUp) + ".in_sum2", {1, 3}, {4, 8, 2}},
                                               {std::string(kUp) + ".counts", {1, 1}, {4}},
                                               {"blk.0.ffn_gate_exps.weight.in_sum2", {2, 2}, {1, 2, 3, 4}},
                                               {"blk.0.ffn_gate_exps.weight.counts", {2, 1}, {2, 0}}});
  EXPECT_TRUE(Imatrix::recognises(path));
  const auto imatrix = Imatrix::open(path);
  ASSERT_TRUE(imatrix) << imatrix.error().message;
  EXPECT_EQ(imatrix->chunks(), 12);
  EXPECT_THAT(imatrix->datasets(), ElementsAre("wiki.txt"));
  EXPECT_THAT(read(*imatrix, kUp, 3), ElementsAre(1, 2, 0.5f));
  EXPECT_THAT(read(*imatrix, kUp, 3, 1, 3), ElementsAre(1, 2, 0.5f));  // q, k and v in one read the same
  EXPECT_THAT(read(*imatrix, "blk.0.ffn_gate_exps.weight", 2, 0, 2), ElementsAre(0.5f, 1));
  EXPECT_THAT(read(*imatrix, "blk.0.ffn_gate_exps.weight", 2, 1, 2), ElementsAre(1, 1));  // an expert without tokens
}

TEST(Imatrix, of_another_model_is_refused) {
  const TemporaryFolder folder;
  const auto imatrix = Imatrix::open(folder.write("legacy.dat", legacy({{kUp, 4, {4, 8, 2}}})));
  std::vector<float> to(4);
  EXPECT_THAT(imatrix->read(kUp, 0, 1, to).error().message, HasSubstr("3 values"));
  EXPECT_THAT(imatrix->read("blk.1.ffn_up.weight", 0, 1, to).error().message, HasSubstr("has nothing of"));
}

TEST(Imatrix, hostile_files_are_refused) {
  const TemporaryFolder folder;
  const auto refused = [](const std::string& path) {
    const auto imatrix = Imatrix::open(path);
    return imatrix ? "" : imatrix.error().message;
  };
  const std::string good = legacy({{kUp, 4, {4, 8, 2}}});
  for (size_t cut = 0; cut + 1 < good.size(); ++cut) {
    const std::string why = refused(folder.write("cut.dat", good.substr(0, cut)));
    const bool whole = cut == good.size() - 16 || cut == good.size() - 12;  // of the tail, or of the data's name in it
    EXPECT_EQ(why == "", whole) << cut;
  }
  std::string many = good;
  many[3] = '\x7f';
  EXPECT_THAT(refused(folder.write("many.dat", many)), HasSubstr("the number of entries"));
  EXPECT_THAT(refused(folder.write("twice.dat", legacy({{kUp, 1, {1}}, {kUp, 1, {1}}}))), HasSubstr("there twice"));
  EXPECT_THAT(refused(write_gguf(folder, {{"a", {1, 1}, {1}}}, "model")), HasSubstr("expected 'imatrix'"));
  EXPECT_THAT(refused(write_gguf(folder, {{"a", {1, 1}, {1}}})), HasSubstr("without entries"));
  EXPECT_THAT(refused(write_gguf(folder, {{"a.in_sum2", {1, 1}, {1}}})), HasSubstr("needs a tensor 'a.counts'"));
  EXPECT_FALSE(Imatrix::recognises(folder.write("text.txt", "some text, longer than a number")));
  EXPECT_FALSE(Imatrix::recognises(folder.write("none", "")));
  for (const float bad : {-1.0f, std::nanf(""), INFINITY}) {
    const auto imatrix = Imatrix::open(folder.write("bad.dat", legacy({{kUp, 1, {1, bad}}})));
    std::vector<float> to(2);
    EXPECT_THAT(imatrix->read(kUp, 0, 1, to).error().message, HasSubstr("expected mean squares"));
  }
  std::vector<float> to(2);
  for (const float bad : {-5.0f, std::nanf(""), INFINITY}) {
    const auto imatrix =
        Imatrix::open(write_gguf(folder, {{"a.in_sum2", {1, 2}, {1, 2}}, {"a.counts", {1, 1}, {bad}}}));
    EXPECT_THAT(imatrix->read("a", 0, 1, to).error().message, HasSubstr("has the count"));
  }
  for (const int calls : {0, 4}) {
    const auto imatrix = Imatrix::open(folder.write("zeros.dat", legacy({{kUp, calls, {0, 0}}})));
    EXPECT_THAT(imatrix->read(kUp, 0, 1, to).error().message, HasSubstr("zeros alone"));
  }
}

}  // namespace
}  // namespace thimble
