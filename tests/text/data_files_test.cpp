// What files of data hold, by their content: cases b14, b15, b17, b23, b31 and b41 of the field, and their neighbours.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <cstring>
#include <numeric>

#include "small_tokenizer.h"
#include "temporary_folder.h"
#include "text/dataset.h"
#include "text/datasets.h"

namespace thimble {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::string_view kPairs =
    "{\"prompt\":\"x\",\"completion\":\"y\"}\n{\"prompt\":\"q\",\"completion\":\"r\"}\n";

std::string gzipped(std::string_view text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(text.size() + 1000, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

class DataFiles : public testing::Test {
 protected:
  DataFiles() : tokenizer_(small_byte_bpe(folder_, kChatMl)) {}
  Result<std::unique_ptr<Dataset>> open(const std::string& files, DatasetOptions options = {.context = 256}) {
    return Dataset::open(files, *tokenizer_, options);
  }
  std::unique_ptr<Dataset> of(const std::string& name, std::string_view content,
                              DatasetOptions options = {.context = 256}) {
    auto opened = open(folder_.write(name, std::string(content)), options);
    EXPECT_TRUE(opened) << name << ": " << opened.error().message;
    return opened ? std::move(*opened) : nullptr;
  }
  std::string refusal(const std::string& name, std::string_view content) {
    const auto opened = open(folder_.write(name, std::string(content)));
    EXPECT_FALSE(opened) << name;
    return opened ? "" : opened.error().message;
  }
  std::vector<int32_t> ids(Dataset& data, int64_t index) {
    Example example;
    const auto done = data.read(index, example);
    EXPECT_TRUE(done) << done.error().message;
    return example.ids;
  }
  // The trained tokens, as text.
  std::string learnt(Dataset& data, int64_t index = 0) {
    Example example;
    const auto done = data.read(index, example);
    EXPECT_TRUE(done) << done.error().message;
    std::string text;
    for (size_t i = 0; i < example.ids.size(); ++i)
      if (example.trained[i] && !tokenizer_->is_special(example.ids[i])) text += tokenizer_->bytes(example.ids[i]);
    return text;
  }

  TemporaryFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(DataFiles, TheSameExamplesInEveryForm) {
  const auto expected = of("plain.jsonl", kPairs);
  ASSERT_EQ(expected->size(), 2);
  const std::string table = "prompt,completion\r\nx,y\r\n\"q\",\"r\"\r\n";
  const std::pair<const char*, std::string> files[] = {
      {"a.json", "[{\"prompt\":\"x\",\"completion\":\"y\"},\n {\"prompt\":\"q\",\"completion\":\"r\"}]"},
      {"array.jsonl", "[{\"prompt\":\"x\",\"completion\":\"y\"},\n {\"prompt\":\"q\",\"completion\":\"r\"}]"},
      {"pretty.jsonl",
       "{\n  \"prompt\": \"x\",\n  \"completion\": \"y\"\n}\n{\n  \"prompt\": \"q\",\n  \"completion\": \"r\"\n}\n"},
      {"mark.jsonl", "\xEF\xBB\xBF" + std::string(kPairs)},
      {"b.jsonl.gz", gzipped(kPairs)},
      {"gzip.txt", gzipped(kPairs)},
      {"two.gz", gzipped(kPairs.substr(0, 32)) + gzipped(kPairs.substr(32))},
      {"c.zst", zstd(kPairs)},
      {"two.zst", zstd(kPairs.substr(0, 10)) + zstd(kPairs.substr(10))},
      {"both.gz", gzipped(zstd(kPairs))},
      {"page.zst", zstd(std::string(kPairs) + std::string((64 << 10) - kPairs.size(), '\n'))},  // fills a buffer
      {"d.csv", table},
      {"table.txt", table},
      {"mark.csv", "\xEF\xBB\xBF" + table},
      {"e.tsv", "prompt\tcompletion\nx\ty\nq\tr\n"},
      {"semicolon.csv", "id;prompt;completion\n1;x;y\n2;q;r\n"},
      {"f.csv.gz", gzipped(table)},
  };
  for (const auto& [name, content] : files) {
    SCOPED_TRACE(name);
    const auto data = of(name, content);
    ASSERT_TRUE(data);
    ASSERT_EQ(data->size(), 2);
    for (int64_t i = 0; i < 2; ++i) EXPECT_EQ(ids(*data, i), ids(*expected, i));
    EXPECT_EQ(data->tokens(1), static_cast<int64_t>(ids(*expected, 1).size()));
  }
}

TEST_F(DataFiles, TablesKeepWhatIsQuoted) {
  const auto data = of("a.csv", "prompt,completion\n\"a,\"\"b\"\"\n c\",y\n");
  ASSERT_TRUE(data);
  EXPECT_EQ(data->messages(0)->front().content, "a,\"b\"\n c");
  EXPECT_THAT(refusal("b.csv", "prompt,completion\na,b,c\n"), HasSubstr("row 2 has 3 fields"));
  EXPECT_THAT(refusal("c.csv", "prompt,completion\n\"a,b\n"), HasSubstr("never closed"));
  EXPECT_THAT(refusal("d.csv", "prompt,completion\n\xff,b\n"), HasSubstr("UTF-8"));
  EXPECT_THAT(refusal("e.csv", "frage,antwort\na,b\n"), HasSubstr("found frage, antwort"));
  const auto named =
      of("f.csv", "frage,antwort\na,b\n", {.context = 64, .columns = {{"prompt", "frage"}, {"completion", "antwort"}}});
  ASSERT_TRUE(named);
  EXPECT_EQ(learnt(*named), "b");
}

TEST_F(DataFiles, columns_that_no_record_has_or_nothing_reads_are_noted) {
  const auto notes = [&](const std::string& field, const std::string& column) {
    const auto data = of("a.csv", "frage,antwort,ctx\na,b,c\n",
                         {.context = 64, .columns = {{"prompt", "frage"}, {"completion", "antwort"}, {field, column}}});
    return data ? data->report().notes : std::vector<std::string>{"not opened"};
  };
  const std::vector<std::string> plain = notes("prompt", "frage");
  const auto more = [&](const char* text) {
    std::vector<std::string> all = plain;
    all.emplace_back(text);
    return all;
  };
  EXPECT_EQ(notes("weight", "w"),
            more("--columns weight=w has no effect: no record has 'w' where 'weight' would be read"));
  EXPECT_EQ(notes("colour", "ctx"),
            more("--columns colour=ctx has no effect: no record has 'ctx' where 'colour' would be read"));
  EXPECT_EQ(notes("system", "ctx").size(), plain.size() + 1);  // a plain pair has none
  const auto none =
      open(folder_.write("b.jsonl", R"({"chat":[]})"), {.context = 64, .columns = {{"messages", "talk"}}});
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message, HasSubstr("; --columns messages=talk has no effect: no record has 'talk'"));
}

TEST_F(DataFiles, WhatIsNoTextIsNamed) {
  const std::pair<std::string, const char*> files[] = {
      {std::string("PK\3\4 and so on", 14), "a zip archive"},
      {std::string("PAR1\0\0\0\0PAR1", 12), "a Parquet file"},
      {std::string("\xff\xfe"
                   "a\0b\0",
                   6),
       "UTF-16"},
      {std::string("\xfe\xff\0a\0b", 6), "UTF-16"},
      {std::string("p\0l\0a\0i\0n\0 \0t\0e\0x\0t\0", 20), "UTF-16"},
      {std::string("\xff\xfe\0\0a\0\0\0", 8), "UTF-32"},
      {"BZh91AY", "bzip2"},
      {std::string("\xfd"
                   "7zXZ\0",
                   6),
       "xz"},
      {"\x93NUMPY", "NumPy"},
      {"caf\xe9 au lait", "UTF-8"},
      {std::string("a\0b", 3), "UTF-8"},
      {gzipped(kPairs).substr(0, 30), "ends too early"},
      {zstd(kPairs).substr(0, 20), "damaged"},
  };
  for (const auto& [content, expected] : files) {
    for (const char* name : {"x.txt", "x.jsonl", "x.bin"}) EXPECT_THAT(refusal(name, content), HasSubstr(expected));
  }
  // Beyond what is looked at first.
  EXPECT_THAT(refusal("late.txt", std::string(100'000, 'x') + "\xe9 y"), HasSubstr("offset 100000 is not UTF-8"));
}

TEST_F(DataFiles, SeveralFilesFoldersAndPatterns) {
  const std::string a = folder_.write("set/train-1.jsonl", std::string(kPairs));
  const std::string b = folder_.write("set/train-2.jsonl", "{\"text\":\"abc\"}\n");
  const std::string v =
      folder_.write("set/valid.jsonl", "{\"text\":\"v\"}\n{\"text\":\"w\"}\n{\"text\":\"z\"}\n{\"text\":\"zz\"}\n");
  folder_.write("set/README.md", "about the data");
  const std::string set = a.substr(0, a.rfind('/'));
  EXPECT_EQ((*open(a + "," + b))->size(), 3);
  EXPECT_EQ((*open(a + "\n" + b))->size(), 3);
  EXPECT_EQ((*open(set + "/train-*.jsonl"))->size(), 3);
  EXPECT_EQ((*open(set))->size(), 3);
  EXPECT_EQ((*open(set, {.context = 64, .part = DataPart::evaluate}))->size(), 4);
  const auto joined = *open(a + "," + b);
  const auto second = *open(b);
  EXPECT_EQ(ids(*joined, 2), ids(*second, 0));
  EXPECT_THAT(open(set + "/no*").error().message, HasSubstr("no file has a name of this pattern"));
  EXPECT_THAT(open(a + "," + a).error().message, HasSubstr("named twice"));
  EXPECT_THAT(open(a + "," + set + "/./train-1.jsonl").error().message, HasSubstr("named twice"));
}

// Parts are told by words of names and of folders' names; what is left out is said.
TEST_F(DataFiles, PartsOfAFolderAreToldByWords) {
  const auto set_of = [&](std::string_view name, std::initializer_list<const char*> files) {
    for (const char* file : files) folder_.write(fmt::format("{}/{}", name, file), "{\"text\":\"abc\"}\n");
    return folder_.file(name);
  };
  for (const std::string& set :
       {set_of("folders", {"train/data.jsonl", "test/data.jsonl"}),
        set_of("words", {"alpaca_train.jsonl", "alpaca_test.jsonl", "alpaca-Validation.v2.jsonl", "contest.jsonl"})}) {
    const auto train = open(set), held = open(set, {.part = DataPart::evaluate});
    ASSERT_TRUE(train && held);
    EXPECT_EQ((*train)->size(), 1) << set;
    EXPECT_EQ((*held)->size(), 1) << set;
    EXPECT_THAT((*train)->report().notes, testing::Contains(HasSubstr("1 file is read; left out, by their names: ")));
  }
  const std::string mixed = set_of("mixed", {"a.jsonl", "b.jsonl.gz.json"});
  folder_.write("mixed/notes.txt", "about it");
  folder_.write("mixed/requirements.txt", "torch");
  const auto records = open(mixed);
  ASSERT_TRUE(records);
  EXPECT_EQ((*records)->size(), 2);
  EXPECT_THAT((*records)->report().notes,
              testing::ElementsAre("2 files are read; left out, by their names: " + mixed + "/notes.txt"));
  // Without a part that trains there is no split.
  EXPECT_EQ((*open(set_of("tests", {"test.jsonl", "more.jsonl"})))->size(), 2);
}

TEST_F(DataFiles, WhatIsForChatsIsNotedWithoutOne) {
  DatasetOptions options{.context = 64, .train_on = TrainOn::last};
  options.chat.chosen = "chatml";
  const auto texts = of("texts.jsonl", R"({"text":"abc"})", options);
  ASSERT_TRUE(texts);
  EXPECT_THAT(texts->report().notes, testing::ElementsAre("--train-on last has no effect: there is no chat",
                                                          "--chat-template chatml has no effect: there is no chat"));
  // Where an objective looks at replies, nobody has asked for the last alone.
  const auto pairs = of("pairs.jsonl", R"({"prompt":"a","chosen":"b","rejected":"c"})",
                        {.context = 64, .train_on = TrainOn::last, .term = LossTerm::pair});
  ASSERT_TRUE(pairs);
  EXPECT_THAT(pairs->report().notes, testing::IsEmpty());
  const auto chats =
      of("chats.jsonl", R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})", options);
  ASSERT_TRUE(chats);
  EXPECT_THAT(chats->report().notes, testing::IsEmpty());
}

// Where all is learnt, so is a prompt, but not a record that is not to be.
TEST_F(DataFiles, AllIsLearntOfPromptsToo) {
  const auto all = of("all.jsonl", R"({"prompt":"ab","completion":"c"})", {.context = 64, .train_on = TrainOn::all});
  ASSERT_TRUE(all);
  EXPECT_EQ(learnt(*all), "abc");
  EXPECT_THAT(open(folder_.write("none.jsonl", R"({"prompt":"ab","completion":"c","weight":0})"),
                   {.context = 64, .train_on = TrainOn::all})
                  .error()
                  .message,
              HasSubstr("without anything to learn"));
}

TEST_F(DataFiles, WhatADownloadLeftIsNamed) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n";
  for (const char* name : {"train-0.parquet", "x.jsonl", "x.txt"})
    EXPECT_THAT(refusal(name, pointer), HasSubstr("a pointer of Git LFS"));
  EXPECT_THAT(refusal("x.parquet", "404: Not Found"), HasSubstr("it holds text, as a download does that has failed"));
}

TEST_F(DataFiles, FieldsAreHonouredOrNamed) {
  const auto data = of(
      "alpaca.jsonl",
      R"({"instruction":"say it","input":"","output":"ok","system":"Be brief.","history":[["one?","1"],["two?","2"]]})",
      {.context = 256});
  ASSERT_TRUE(data);
  const auto messages = *data->messages(0);
  ASSERT_EQ(messages.size(), 7u);
  EXPECT_EQ(messages[0].role, "system");
  EXPECT_EQ(messages[0].content, "Be brief.");
  EXPECT_EQ(messages[3].content, "two?");
  EXPECT_EQ(learnt(*data), "12ok");
  const auto weighted = of(
      "weight.jsonl",
      R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"bad","weight":0},{"role":"user","content":"b"},{"role":"assistant","content":"good","weight":1}]})");
  ASSERT_TRUE(weighted);
  EXPECT_EQ(learnt(*weighted), "good");
  const auto train = of(
      "train.jsonl",
      R"({"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"bad","train":false},{"from":"human","value":"b"},{"from":"gpt","value":"good"}]})");
  ASSERT_TRUE(train);
  EXPECT_EQ(learnt(*train), "good");
  const auto twice = of("twice.jsonl", R"({"prompt":"a","completion":"first","completion":"last"})");
  ASSERT_TRUE(twice);
  EXPECT_EQ(learnt(*twice), "last");
  const auto context = of("context.jsonl", R"({"context":"c","question":"q","answer":"a","id":7})");
  ASSERT_TRUE(context);
  EXPECT_EQ(context->report().unused.count("context"), 1u);
  EXPECT_THAT(refusal("label.jsonl", R"({"prompt":"q","completion":"bad","label":false})"), HasSubstr("'label'"));
  EXPECT_THAT(refusal("system.jsonl", R"({"system":"s","prompt":"q","completion":"a"})"), HasSubstr("'system'"));
  EXPECT_THAT(refusal("half.jsonl", R"({"messages":[{"role":"assistant","content":"a","weight":0.5}]})"),
              HasSubstr("'weight'"));
  EXPECT_THAT(refusal("none.jsonl",
                      R"({"weight":0,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})"),
              HasSubstr("without anything to learn"));
}

TEST_F(DataFiles, PreferencePairs) {
  const char* const records[] = {
      R"({"prompt":"q","chosen":"good","rejected":"bad"})",
      R"({"prompt":[{"role":"user","content":"q"}],"chosen":[{"role":"assistant","content":"good"}],"rejected":[{"role":"assistant","content":"bad"}]})",
      R"({"chosen":[{"role":"user","content":"q"},{"role":"assistant","content":"good"}],"rejected":[{"role":"user","content":"q"},{"role":"assistant","content":"bad"}]})",
      R"({"conversations":[{"from":"human","value":"q"}],"chosen":{"from":"gpt","value":"good"},"rejected":{"from":"gpt","value":"bad"}})",
  };
  // A chat that is repeated, in the prompt or beside, is not said twice.
  const char* const again[] = {
      R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"good"}],"prompt":"q","chosen":[{"role":"user","content":"q"},{"role":"assistant","content":"good"}],"rejected":[{"role":"user","content":"q"},{"role":"assistant","content":"bad"}]})",
      R"({"prompt":[{"role":"user","content":"q"}],"chosen":[{"role":"user","content":"q"},{"role":"assistant","content":"good"}],"rejected":[{"role":"user","content":"q"},{"role":"assistant","content":"bad"}]})",
  };
  const std::vector<int32_t> once = ids(*of("once.jsonl", records[2]), 0);
  for (const char* record : again) {
    const auto data = of("again.jsonl", record);
    ASSERT_TRUE(data);
    EXPECT_EQ(ids(*data, 0), once) << record;
  }
  for (const char* record : records) {
    SCOPED_TRACE(record);
    const auto data = of("pairs.jsonl", record);
    ASSERT_TRUE(data);
    EXPECT_EQ(data->report().pairs, 1);
    EXPECT_EQ(learnt(*data), "good");
    Example rejected;
    ASSERT_TRUE(data->read_rejected(0, rejected));
    std::string text;
    for (size_t i = 0; i < rejected.ids.size(); ++i)
      if (rejected.trained[i] && !tokenizer_->is_special(rejected.ids[i])) text += tokenizer_->bytes(rejected.ids[i]);
    EXPECT_EQ(text, "bad");
  }
  EXPECT_THAT(refusal("half.jsonl", R"({"prompt":"q","chosen":"good"})"),
              HasSubstr("the field 'rejected' is missing, which goes with 'chosen'"));
  EXPECT_THAT(refusal("half.jsonl", R"({"prompt":"q","rejected":"bad"})"),
              HasSubstr("the field 'chosen' is missing, which goes with 'rejected'"));
  EXPECT_THAT(refusal("half.jsonl", R"({"chosen":[{"role":"user","content":"q"}]})"),
              HasSubstr("the field 'rejected' is missing"));
}

TEST_F(DataFiles, ExamplesLongerThanTheContext) {
  const std::string line = R"({"text":"bcdfgijkmn"})";  // eleven tokens with the end
  const auto with = [&](Truncate truncate) { return DatasetOptions{.context = 5, .truncate = truncate}; };
  EXPECT_FALSE(open(folder_.write("a.jsonl", line), with(Truncate::leave_out)));
  EXPECT_EQ(learnt(*of("a.jsonl", line, with(Truncate::left))), "jkmn");
  EXPECT_EQ(learnt(*of("a.jsonl", line, with(Truncate::right))), "bcdfg");
  const auto split = of("a.jsonl", line, with(Truncate::split));
  ASSERT_EQ(split->size(), 3);
  EXPECT_EQ(split->report().truncated, 1);
  int64_t predicted = 0;  // each token but the first once
  for (int64_t i = 0; i < split->size(); ++i) predicted += split->tokens(i) - 1;
  EXPECT_EQ(predicted, 10);
}

TEST_F(DataFiles, APartIsHeldOut) {
  std::string lines;
  for (int i = 0; i < 40; ++i) lines += fmt::format("{{\"text\":\"{}\"}}\n", i);
  std::shared_ptr<Dataset> all = of("a.jsonl", lines);
  const auto parts = split_dataset(all, 0.1, 3), again = split_dataset(all, 0.1, 3), other = split_dataset(all, 0.1, 4);
  ASSERT_TRUE(parts);
  EXPECT_EQ(parts->train->size(), 36);
  EXPECT_EQ(parts->held_out->size(), 4);
  EXPECT_EQ(parts->held_out->fingerprint(), again->held_out->fingerprint());
  EXPECT_NE(parts->held_out->fingerprint(), other->held_out->fingerprint());
  std::vector<std::string> seen;
  for (Dataset* part : {parts->train.get(), parts->held_out.get()})
    for (int64_t i = 0; i < part->size(); ++i) seen.push_back(learnt(*part, i));
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
  EXPECT_EQ(seen.size(), 40u);
}

std::string ids_file(std::string_view dtype, const std::vector<int64_t>& ids, int64_t rows) {
  const size_t width = dtype == "I64" ? 8 : 4;
  std::string header = fmt::format(R"({{"ids":{{"dtype":"{}","shape":[{},{}],"data_offsets":[0,{}]}}}})", dtype, rows,
                                   static_cast<int64_t>(ids.size()) / rows, ids.size() * width);
  std::string out(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(out.data(), &length, 8);
  out += header;
  for (const int64_t id : ids) out.append(reinterpret_cast<const char*>(&id), width);
  return out;
}

TEST_F(DataFiles, TokenIdsNeedNoTokenizer) {
  const auto none = missing_tokenizer({ErrorCode::invalid_argument, "there is no tokenizer"});
  for (const char* dtype : {"I32", "I64"}) {
    const std::string path = folder_.write("ids.safetensors", ids_file(dtype, {1, 2, 3, 4, 5, 6}, 2));
    const auto data = Dataset::open(path, *none, {.context = 3, .rows = 7});
    ASSERT_TRUE(data) << data.error().message;
    EXPECT_EQ((*data)->size(), 2);
    EXPECT_TRUE((*data)->windows());
    EXPECT_THAT(ids(**data, 1), ElementsAre(4, 5, 6));
    EXPECT_EQ(*token_window_length(path), 3);
    EXPECT_THAT(Dataset::open(path, *none, {.context = 2}).error().message, HasSubstr("give --context 3"));
    EXPECT_THAT(Dataset::open(path, *none, {.context = 3, .rows = 6}).error().message, HasSubstr("largest id is 6"));
  }
  const std::string text = folder_.write("a.jsonl", std::string(kPairs));
  EXPECT_THAT(Dataset::open(text, *none, {}).error().message, HasSubstr("there is no tokenizer"));
  const std::string negative = folder_.write("negative.safetensors", ids_file("I32", {1, -2}, 1));
  EXPECT_THAT(Dataset::open(negative, *none, {.context = 2}).error().message, HasSubstr("no token id"));
}

}  // namespace
}  // namespace thimble
