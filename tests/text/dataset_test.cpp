#include "text/dataset.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <set>

#include "small_tokenizer.h"
#include "text/infilled.h"
#include "text/mismatched.h"

// Counts allocations of 4 KiB or more; AddressSanitizer brings its own operator new.
static int64_t large_allocations = 0;
#ifndef __SANITIZE_ADDRESS__
[[gnu::noinline]] void* operator new(size_t size) {
  large_allocations += size >= 4096;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#endif

namespace thimble {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string trained_text(const Tokenizer& tokenizer, const Example& example) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < example.ids.size(); ++i) {
    if (example.trained[i]) ids.push_back(example.ids[i]);
  }
  return tokenizer.decode(ids);
}

struct Shape {
  std::string record, whole, trained;
};

TEST(Dataset, EveryShapeOfRecord) {
  const std::string head = "<|im_start|>system\nBe good.<|im_end|>\n<|im_start|>user\n";
  const std::vector<Shape> shapes = {
      {R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})",
       head + "a<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n", "b<|im_end|>"},
      {R"({"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"}]})",
       head + "a<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n", "b<|im_end|>"},
      {R"({"instruction":"a","input":"c","output":"b"})", head + "a\nc<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n",
       "b<|im_end|>"},
      {R"({"prompt":"a ","completion":"b"})", "a b</s>", "b</s>"},
      {R"({"question":"a","answer":" b"})", "a b</s>", " b</s>"},
      {R"({"text":"a\u00e9\nb"})", "a\u00e9\nb</s>", "a\u00e9\nb</s>"},
  };
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder, kChatMl);
  std::string lines, array = "[";
  for (const Shape& shape : shapes) {
    lines += shape.record + "\n";
    array += shape.record + " ,\n";
  }
  array.replace(array.size() - 2, 2, "]\n");
  for (const auto& path : {folder.write("a.jsonl", lines), folder.write("a.json", array), folder.write("a", lines)}) {
    auto dataset = Dataset::open(path, *tokenizer, {.strict = true});
    ASSERT_TRUE(dataset) << dataset.error().message;
    ASSERT_EQ((*dataset)->size(), static_cast<int64_t>(shapes.size()));
    EXPECT_FALSE((*dataset)->windows());
    Example example;
    for (size_t i = 0; i < shapes.size(); ++i) {
      ASSERT_TRUE((*dataset)->read(static_cast<int64_t>(i), example));
      EXPECT_EQ(tokenizer->decode(example.ids), shapes[i].whole);
      EXPECT_EQ(trained_text(*tokenizer, example), shapes[i].trained);
    }
    EXPECT_EQ((*dataset)->messages(0)->at(1).content, "b");
    EXPECT_FALSE((*dataset)->messages(5));
  }
}

// Some editors begin a file with a mark of three bytes that is no part of the text.
TEST(Dataset, AByteOrderMarkIsSkipped) {
  const std::string mark = "\xEF\xBB\xBF", line = R"({"text":"abc"})", text = "some words to be cut";
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder, kChatMl);
  const std::vector<std::pair<std::string, std::string>> files = {
      {"a.jsonl", line + "\n"}, {"a.json", "[" + line + "]"}, {"lines", line + "\n"}, {"a.txt", text}, {"text", text}};
  for (const auto& [name, bytes] : files) {
    SCOPED_TRACE(name);
    auto with = Dataset::open(folder.write("with." + name, mark + bytes), *tokenizer, {.context = 8, .strict = true});
    auto without = Dataset::open(folder.write("without." + name, bytes), *tokenizer, {.context = 8, .strict = true});
    ASSERT_TRUE(with) << with.error().message;
    ASSERT_TRUE(without) << without.error().message;
    ASSERT_EQ((*with)->size(), (*without)->size());
    for (int64_t i = 0; i < (*with)->size(); ++i) {
      Example a, b;
      ASSERT_TRUE((*with)->read(i, a));
      ASSERT_TRUE((*without)->read(i, b));
      EXPECT_EQ(a.ids, b.ids);
    }
    EXPECT_EQ((*with)->fingerprint(), (*without)->fingerprint());
  }
}

TEST(Dataset, TheFingerprintIsOfWhatIsTrained) {
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder, kChatMl);
  const auto fingerprint = [&](const std::string& name, const std::string& text, const DatasetOptions& options = {}) {
    return (*Dataset::open(folder.write(name, text), *tokenizer, options))->fingerprint();
  };
  const std::string pair = R"({"prompt":"a","completion":"b"})", more = pair + "\n" + pair;
  EXPECT_EQ(fingerprint("a.jsonl", pair), fingerprint("b.jsonl", "\n" + pair + "\nno example\n"));
  EXPECT_NE(fingerprint("a.jsonl", pair), fingerprint("a.jsonl", more));
  EXPECT_NE(fingerprint("a.jsonl", pair), fingerprint("a.jsonl", R"({"prompt":"a","completion":"c"})"));
  EXPECT_NE(fingerprint("a.jsonl", pair), fingerprint("a.jsonl", pair, {.all_tokens = true}));
  EXPECT_EQ(fingerprint("a.txt", "one two three"), fingerprint("b.txt", "one two three"));
  EXPECT_NE(fingerprint("a.txt", "one two three"), fingerprint("a.txt", "one two thref"));
  EXPECT_NE(fingerprint("a.txt", "one two three", {.context = 4}),
            fingerprint("a.txt", "one two three", {.context = 5}));
}

TEST(Dataset, AlpacaPromptWithoutAChatFormat) {
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder);
  auto dataset = Dataset::open(folder.write("a.jsonl", R"({"instruction":"do","output":"ok"})"), *tokenizer, {});
  ASSERT_TRUE(dataset) << dataset.error().message;
  Example example;
  ASSERT_TRUE((*dataset)->read(0, example));
  EXPECT_THAT(tokenizer->decode(example.ids), HasSubstr("### Instruction:\ndo\n\n### Response:ok</s>"));
  EXPECT_EQ(trained_text(*tokenizer, example), "ok</s>");
}

TEST(Dataset, BadLinesAreCountedAndNamed) {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"{\"text\":", "not JSON"},
      {"[1]", "expected a JSON object"},
      {"{}", "found no field"},
      {R"({"foo":1,"bar":2})", "found foo, bar"},
      {R"({"messages":"a"})", "'messages' is not a list"},
      {R"({"messages":[]})", "'messages' is empty"},
      {R"({"messages":[1]})", "message 0: not an object"},
      {R"({"messages":[{"role":"user"}]})", "message 0: the field 'content' is missing"},
      {R"({"messages":[{"role":"user","content":3}]})", "message 0: the field 'content' is not a string"},
      {R"({"prompt":"a"})", "the field 'completion' is missing"},
      {R"({"prompt":1,"completion":"b"})", "the field 'prompt' is not a string"},
      {R"({"text":")" + std::string(2000, 'x') + R"("})", "more than the 1000 that an example may have"},
      {"{\"text\":\"\xff\"}", "the byte 0xFF at its offset 9 is not UTF-8"},
  };
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder, kChatMl);
  for (const auto& [line, expected] : bad) {
    const std::string path = folder.write("a.jsonl", "{\"text\":\"good\"}\n\n" + line + "\n{\"text\":\"good\"}");
    auto dataset = Dataset::open(path, *tokenizer, {.longest_line = 1000});
    ASSERT_TRUE(dataset) << dataset.error().message;
    EXPECT_EQ((*dataset)->size(), 2);
    EXPECT_EQ((*dataset)->report().bad_lines, 1);
    ASSERT_EQ((*dataset)->report().first_errors.size(), 1u);
    EXPECT_THAT((*dataset)->report().first_errors[0], HasSubstr("a.jsonl:3: "));
    EXPECT_THAT((*dataset)->report().first_errors[0], HasSubstr(expected));
    const auto strict = Dataset::open(path, *tokenizer, {.strict = true, .longest_line = 1000});
    ASSERT_FALSE(strict);
    EXPECT_THAT(strict.error().message, HasSubstr(expected));
  }
  EXPECT_THAT(Dataset::open(folder.write("b.json", "[{\"text\":\"a\"}, "), *tokenizer, {}).error().message,
              HasSubstr("ends before its closing ']'"));
  EXPECT_THAT(Dataset::open(folder.write("c.jsonl", ""), *tokenizer, {}).error().message,
              HasSubstr("no usable example"));
}

TEST(Dataset, LongAndUntrainedExamplesAreCounted) {
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder, kChatMl);
  const std::string path = folder.write("a.jsonl", R"({"text":"xyz"}
{"text":"qwrtzuiopsdfg"}
{"messages":[{"role":"user","content":"x"}]}
)");
  auto dataset = Dataset::open(path, *tokenizer, {.context = 4});
  ASSERT_TRUE(dataset) << dataset.error().message;
  EXPECT_EQ((*dataset)->report().examples, 1);
  EXPECT_EQ((*dataset)->report().too_long, 2);
  dataset = Dataset::open(path, *tokenizer, {.context = 512, .bos = true});
  EXPECT_EQ((*dataset)->report().untrained, 1);
  Example example;
  ASSERT_TRUE((*dataset)->read(0, example));
  EXPECT_THAT(example.ids, ElementsAre(270, 'x', 'y', 'z', 271));
}

std::string prompt_text(const Tokenizer& tokenizer, const Example& example) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < example.ids.size(); ++i)
    if (!example.trained[i]) ids.push_back(example.ids[i]);
  return tokenizer.decode(ids);
}

TEST(Dataset, JudgedRepliesAreRecordsWithLabelsOrTheTwoOfAPair) {
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder, kChatMl);
  const std::string path = folder.write("judged.jsonl",
                                        R"({"prompt":"a ","completion":"b","label":true}
{"prompt":"c ","completion":"d","label":false}
{"prompt":"e ","chosen":"f","rejected":"g"}
{"prompt":[{"role":"user","content":"h"}],"completion":[{"role":"assistant","content":"i"}],"label":0}
{"prompt":"j ","completion":"k"}
{"prompt":"l ","completion":"m","label":"good"}
)");
  auto data = Dataset::open(path, *tokenizer, {.context = 64, .term = LossTerm::reply});
  ASSERT_TRUE(data) << data.error().message;
  const std::vector<std::pair<std::string, float>> expected = {
      {"b</s>", 1}, {"d</s>", -1}, {"f</s>", 1}, {"g</s>", -1}, {"i<|im_end|>", -1}};
  ASSERT_EQ((*data)->size(), std::ssize(expected));
  for (size_t i = 0; i < expected.size(); ++i) {
    Example example;
    ASSERT_TRUE((*data)->read(static_cast<int64_t>(i), example));
    EXPECT_EQ(trained_text(*tokenizer, example), expected[i].first);
    EXPECT_EQ(example.label, expected[i].second) << i;
    EXPECT_EQ(std::ssize(example.ids), (*data)->tokens(static_cast<int64_t>(i)));
  }
  const DatasetReport& report = (*data)->report();
  EXPECT_EQ(report.unpaired, 1);
  EXPECT_EQ(report.wanted, 2);
  EXPECT_EQ(report.bad_lines, 2);
  EXPECT_THAT(report.first_errors, ElementsAre(HasSubstr("'label' is missing"), HasSubstr("true or false")));
}

TEST(Dataset, TablesHaveVerdictsAsText) {
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder, kChatMl);
  const std::string path = folder.write("judged.csv", "prompt,completion,label\na,b,True\nc,d,false\n");
  auto data = Dataset::open(path, *tokenizer, {.context = 64, .term = LossTerm::reply});
  ASSERT_TRUE(data) << data.error().message;
  EXPECT_EQ((*data)->size(), 2);
  EXPECT_EQ((*data)->report().wanted, 1);
}

TEST(Dataset, PromptsGetTheRepliesOfOthers) {
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder, kChatMl);
  const auto replies = [&](const std::string& lines, int64_t context) {
    auto data = Dataset::open(folder.write("data.jsonl", lines), *tokenizer, {.context = 64, .term = LossTerm::reply});
    EXPECT_TRUE(data) << data.error().message;
    auto mismatched = Mismatched::open(**data, context);
    EXPECT_TRUE(mismatched) << mismatched.error().message;
    std::vector<std::string> out;
    for (int64_t i = 0; i < (*data)->size(); ++i) {
      const Example& pair = **mismatched->read(i);
      EXPECT_LE(std::ssize(pair.ids), context);
      out.push_back(prompt_text(*tokenizer, pair) + "|" + trained_text(*tokenizer, pair));
    }
    return out;
  };
  const std::string single = R"({"prompt":"a ","completion":"b","label":true}
{"prompt":"cc ","completion":"d","label":false}
{"prompt":"e ","completion":"fff","label":true}
)";
  EXPECT_THAT(replies(single, 64), ElementsAre("a |fff</s>", "cc |b</s>", "e |d</s>"));
  EXPECT_THAT(replies(single, 4), ElementsAre("a |ff", "cc |b", "e |d</s>")) << "the end is cut off";
  const std::string pairs = R"({"prompt":"a ","chosen":"b","rejected":"c"}
{"prompt":"d ","chosen":"e","rejected":"f"}
)";
  EXPECT_THAT(replies(pairs, 64), ElementsAre("a |e</s>", "a |f</s>", "d |b</s>", "d |c</s>"));
}

TEST(Dataset, LabelsAreNamesOrNumbers) {
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder, kChatMl);
  const std::string names = folder.write("names.jsonl",
                                         R"({"text":"a","label":"no"}
{"sentence":"b","text_pair":"c","label":"maybe"}
{"text":"d"}
{"messages":[{"role":"user","content":"e"}],"label":"no"}
)");
  const auto labels = labels_in(names, {});
  ASSERT_TRUE(labels) << labels.error().message;
  EXPECT_THAT(labels->names, ElementsAre("maybe", "no"));
  DatasetOptions options{.context = 64, .term = LossTerm::text, .labels = *labels};
  auto data = Dataset::open(names, *tokenizer, options);
  ASSERT_TRUE(data) << data.error().message;
  const std::vector<std::pair<std::string, float>> expected = {
      {"a", 1}, {"bc", 0}, {"<|im_start|>system\nBe good.<|im_end|>\n<|im_start|>user\ne<|im_end|>\n", 1}};
  ASSERT_EQ((*data)->size(), std::ssize(expected));
  for (size_t i = 0; i < expected.size(); ++i) {
    Example example;
    ASSERT_TRUE((*data)->read(static_cast<int64_t>(i), example));
    EXPECT_EQ(tokenizer->decode(example.ids), expected[i].first);
    EXPECT_EQ(example.label, expected[i].second);
  }
  EXPECT_THAT((*data)->report().first_errors, ElementsAre(HasSubstr("'label' is missing")));
  // Of classes with names, true and false name none, while a number is the class's.
  data = Dataset::open(folder.write("verdicts.jsonl", R"({"text":"a","label":true}
{"text":"a","label":1}
)"),
                       *tokenizer, options);
  ASSERT_TRUE(data) << data.error().message;
  EXPECT_THAT((*data)->report().first_errors, ElementsAre(HasSubstr("the label true is none of the 2")));

  const auto numbered = labels_in(folder.write("numbers.csv", "text,label\na,0\nb,3\nc,1\n"), {});
  ASSERT_TRUE(numbered) << numbered.error().message;
  EXPECT_THAT(numbered->names, ElementsAre("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"));
  options.labels = *numbered;
  data = Dataset::open(folder.write("others.jsonl", R"({"text":"a","label":2}
{"text":"a","label":"LABEL_3"}
{"text":"a","label":true}
{"text":"a","label":4}
{"text":"a","label":"no"}
{"text":"","label":1}
)"),
                       *tokenizer, options);
  ASSERT_TRUE(data) << data.error().message;
  EXPECT_EQ((*data)->size(), 3);
  EXPECT_THAT((*data)->report().first_errors,
              ElementsAre(HasSubstr("the label 4 is none of the 4"), HasSubstr("\"no\""), HasSubstr("empty text")));
}

TEST(Dataset, MiddlesAreMovedToTheEnd) {
  TemporaryFolder folder;
  SmallByteBpe small;
  for (const char* token : {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"}) small.specials.push_back(token);
  auto tokenizer = small_byte_bpe(folder, "", small);
  std::string lines;
  for (int i = 0; i < 200; ++i) lines += "{\"text\":\"abcdefghijkl" + std::to_string(i) + "\"}\n";
  const std::string path = folder.write("texts.jsonl", lines);
  const auto open = [&] { return std::move(*Dataset::open(path, *tokenizer, {.context = 64, .texts = true})); };
  const auto tokens = infill_tokens(*tokenizer, tokenizer->vocab_size());
  ASSERT_TRUE(tokens);
  const Infilling how{.tokens = *tokens, .rate = 0.75, .suffix_first = 0.5, .seed = 4, .eos = tokenizer->eos()};
  const auto plain = open(), moved = infilled(open(), how), again = infilled(open(), how);
  EXPECT_EQ(moved->fingerprint(), again->fingerprint());
  EXPECT_NE(moved->fingerprint(), plain->fingerprint());
  int whole = 0, prefix_first = 0, suffix_first = 0;
  std::set<size_t> middles;
  for (int64_t i = 0; i < plain->size(); ++i) {
    Example before, after, same;
    ASSERT_TRUE(plain->read(i, before) && moved->read(i, after) && again->read(i, same));
    EXPECT_EQ(after.ids, same.ids);
    EXPECT_EQ(std::ssize(after.ids), moved->tokens(i));
    EXPECT_EQ(after.trained, std::vector<uint8_t>(after.ids.size(), 1));
    const std::string text = tokenizer->decode(before.ids), found = tokenizer->decode(after.ids);
    if (found == text) {
      ++whole;
      continue;
    }
    const std::string pre = "<fim_prefix>", suf = "<fim_suffix>", mid = "<fim_middle>", end = "</s>";
    ASSERT_TRUE(found.starts_with(pre) && found.ends_with(end)) << found;
    const size_t at_suf = found.find(suf), at_mid = found.find(mid);
    const std::string prefix = found.substr(pre.size(), at_suf - pre.size()),
                      suffix = found.substr(at_suf + suf.size(), at_mid - at_suf - suf.size()),
                      rest = found.substr(at_mid + mid.size(), found.size() - at_mid - mid.size() - end.size());
    EXPECT_EQ(prefix + rest + suffix + end, text) << found;
    middles.insert(rest.size());
    (prefix.empty() ? suffix_first : prefix_first) += 1;
  }
  EXPECT_NEAR(whole, 50, 20);
  EXPECT_NEAR(prefix_first, 70, 25);
  EXPECT_NEAR(suffix_first, 80, 25);
  EXPECT_GT(middles.size(), 8u);
  EXPECT_FALSE(infill_tokens(*small_byte_bpe(folder), 1 << 20)) << "a tokenizer without such tokens";
  const auto refused = infill_tokens(*tokenizer, std::max({tokens->prefix, tokens->suffix, tokens->middle}));
  ASSERT_FALSE(refused) << "a model without rows for them";
  EXPECT_THAT(refused.error().message, testing::HasSubstr("none for token"));
  const auto chats = Dataset::open(folder.write("chats.jsonl", R"({"prompt":"a","completion":"b"})"
                                                               "\n"),
                                   *tokenizer, {.context = 64, .texts = true});
  ASSERT_FALSE(chats);
  EXPECT_THAT(chats.error().message, HasSubstr("learns from texts"));
}

TEST(Dataset, TextWindows) {
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder);
  std::string text;
  for (int i = 0; i < 20000; ++i) text += fmt::format("{}{}", "bcdfg  \n\n.1"[i % 11], i % 97 == 0 ? "hello" : "");
  text += std::string(30000, 'a');  // a piece longer than a chunk
  const auto all = must_encode(*tokenizer, text);
  const std::string path = folder.write("a.txt", text);
  for (const bool bos : {false, true}) {
    auto dataset = Dataset::open(path, *tokenizer, {.context = 64, .bos = bos});
    ASSERT_TRUE(dataset) << dataset.error().message;
    const auto take = static_cast<int64_t>(bos ? 63 : 64), count = static_cast<int64_t>(all.size());
    EXPECT_TRUE((*dataset)->windows());
    ASSERT_EQ((*dataset)->size(), count / take);
    EXPECT_EQ((*dataset)->report().dropped_tokens, count % take);
    Example example;
    for (int64_t i = (*dataset)->size() - 1; i >= 0; --i) {
      ASSERT_TRUE((*dataset)->read(i, example));
      std::vector<int32_t> expected(all.begin() + i * take, all.begin() + (i + 1) * take);
      if (bos) expected.insert(expected.begin(), 270);
      ASSERT_EQ(example.ids, expected);
    }
  }
  auto dataset = Dataset::open(folder.write("b.txt", "xyz"), *tokenizer, {.context = 64});
  ASSERT_TRUE(dataset);
  EXPECT_EQ((*dataset)->size(), 1);
  EXPECT_FALSE(Dataset::open(folder.write("c.txt", ""), *tokenizer, {}));
}

class Packing : public testing::Test {
 protected:
  void open(const std::string& lines) {
    tokenizer_ = small_byte_bpe(folder_);
    auto dataset = Dataset::open(folder_.write("a.jsonl", lines), *tokenizer_, {.context = 8});
    ASSERT_TRUE(dataset) << dataset.error().message;
    dataset_ = std::move(*dataset);
  }
  TemporaryFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Dataset> dataset_;
};

TEST_F(Packing, WholeExamplesInOrder) {
  open("{\"prompt\":\"x\",\"completion\":\"y\"}\n{\"text\":\"qrs\"}\n{\"text\":\"zx\"}");  // 3, 4 and 3 tokens
  Packer packer(*dataset_, 2, 8, 1, false);
  Rows rows;
  ASSERT_TRUE(packer.next(rows));
  EXPECT_THAT(rows.ids, ElementsAre('x', 'y', 271, 'q', 'r', 's', 271, 0, 'z', 'x', 271, 0, 0, 0, 0, 0));
  EXPECT_THAT(rows.targets, ElementsAre('y', 271, -1, 'r', 's', 271, -1, -1, 'x', 271, -1, -1, -1, -1, -1, -1));
  EXPECT_THAT(rows.positions, ElementsAre(0, 1, 2, 0, 1, 2, 3, 0, 0, 1, 2, 0, 0, 0, 0, 0));
  EXPECT_THAT(rows.starts, ElementsAre(0, 0, 0, 3, 3, 3, 3, 7, 8, 8, 8, 11, 12, 13, 14, 15));
  EXPECT_EQ(rows.predicted, 7);
  EXPECT_EQ(packer.state(), (Packer::State{1, 0}));
  ASSERT_TRUE(packer.next(rows));  // the epoch is over: nothing is seen twice in a step
  EXPECT_EQ(rows.windows, 0);
  EXPECT_EQ(rows.predicted, 0);
  packer.begin_step();
  ASSERT_TRUE(packer.next(rows));
  EXPECT_EQ(rows.windows, 2);
  EXPECT_EQ(rows.predicted, 7);
}

// Rows of virtual tokens before every document: they take room, shift positions, and the last may predict the text.
TEST_F(Packing, LeavesRoomForVirtualTokens) {
  open("{\"prompt\":\"x\",\"completion\":\"y\"}\n{\"text\":\"qrs\"}\n{\"text\":\"zx\"}");  // 3, 4 and 3 tokens
  for (const bool predicts : {true, false}) {
    Packer packer(*dataset_, 2, 8, 1, false, {2, predicts});
    Rows rows;
    ASSERT_TRUE(packer.next(rows));
    EXPECT_THAT(rows.ids, ElementsAre(0, 0, 'x', 'y', 271, 0, 0, 0, 0, 0, 'q', 'r', 's', 271, 0, 0));
    EXPECT_THAT(rows.targets,
                ElementsAre(-1, -1, 'y', 271, -1, -1, -1, -1, -1, predicts ? 'q' : -1, 'r', 's', 271, -1, -1, -1));
    EXPECT_THAT(rows.positions, ElementsAre(0, 1, 2, 3, 4, 0, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0));
    EXPECT_THAT(rows.starts, ElementsAre(0, 0, 0, 0, 0, 5, 6, 7, 8, 8, 8, 8, 8, 8, 14, 15));
    EXPECT_EQ(rows.predicted, predicts ? 6 : 5);
    EXPECT_EQ(packer.windows(0), 3);
  }
  Packer tight(*dataset_, 1, 8, 1, false, {5, true});
  Rows rows;
  ASSERT_TRUE(tight.next(rows));
  tight.begin_step();
  EXPECT_FALSE(tight.next(rows)) << "4 tokens and 5 rows do not fit";
}

TEST_F(Packing, ShufflesBySeedAndResumes) {
  std::string lines;
  for (int i = 0; i < 50; ++i) lines += fmt::format("{{\"text\":\"q{}\"}}\n", i);
  open(lines);
  Packer a(*dataset_, 1, 8, 5, true), b(*dataset_, 1, 8, 5, true), other(*dataset_, 1, 8, 6, true);
  std::vector<int32_t> first, different;
  Rows rows, again;
  for (int step = 0; step < 60; ++step) {
    ASSERT_TRUE(other.next(rows));
    different.insert(different.end(), rows.ids.begin(), rows.ids.end());
    const auto state = a.state();
    a.begin_step();
    other.begin_step();
    ASSERT_TRUE(a.next(rows));
    first.insert(first.end(), rows.ids.begin(), rows.ids.end());
    ASSERT_TRUE(b.restore(state));
    ASSERT_TRUE(b.next(again));
    EXPECT_EQ(again.ids, rows.ids);
  }
  EXPECT_NE(first, different);
  EXPECT_GE(a.state().epoch, 2);
}

// Case b03 of the field, and its kind: every example once an epoch, whatever batch and accumulation, in as many windows
// as were counted.
TEST_F(Packing, AnEpochHoldsEveryExampleExactlyOnce) {
  std::string lines;
  for (int i = 0; i < 23; ++i)
    lines += fmt::format("{{\"text\":\"{}\"}}\n", std::string(1 + i % 6, static_cast<char>('a' + i)));
  open(lines);
  for (const bool shuffle : {false, true})
    for (const int64_t batch : {1, 3, 8})
      for (const int64_t accumulate : {1, 4, 64}) {
        Packer packer(*dataset_, batch, 8, 5, shuffle);
        for (int64_t epoch = 0; epoch < 3; ++epoch) {
          std::vector<int32_t> seen;
          int64_t windows = 0;
          while (packer.state().epoch == epoch) {
            packer.begin_step();
            for (int64_t i = 0; i < accumulate; ++i) {
              Rows rows;
              ASSERT_TRUE(packer.next(rows));
              windows += rows.windows;
              for (size_t row = 0; row < rows.ids.size(); ++row)
                if (rows.positions[row] == 0 && rows.targets[row] >= 0) seen.push_back(rows.ids[row]);
            }
          }
          std::sort(seen.begin(), seen.end());
          ASSERT_EQ(seen.size(), 23u) << batch << " x " << accumulate;
          EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
          EXPECT_EQ(windows, packer.windows(epoch));
        }
      }
}

// So that steps can be counted in either order.
TEST_F(Packing, WindowsOfTextMakeAsManyBatchesInAnyOrder) {
  tokenizer_ = small_byte_bpe(folder_);
  const auto text = Dataset::open(folder_.write("a.txt", std::string(1000, 'x')), *tokenizer_, {.context = 8});
  ASSERT_TRUE(text) << text.error().message;
  for (int64_t batch : {1, 3, 7}) {
    const auto batches = [&](bool shuffled) {
      Packer packer(**text, batch, 8, 5, shuffled);
      Rows rows;
      int64_t count = 0;
      for (; packer.state().epoch == 0; ++count) EXPECT_TRUE(packer.next(rows));
      return count;
    };
    EXPECT_EQ(batches(true), batches(false));
    EXPECT_EQ(batches(false), ((*text)->size() + batch - 1) / batch);
  }
}

TEST_F(Packing, RefusesAPlaceThatTheDataDoesNotHave) {
  open("{\"text\":\"a\"}\n{\"text\":\"b\"}\n");
  for (const bool shuffle : {false, true}) {
    Packer packer(*dataset_, 1, 8, 5, shuffle);
    for (const Packer::State wrong : {Packer::State{0, 2}, {0, -1}, {-1, 0}, {INT64_MAX, 1}, {0, INT64_MAX}}) {
      const auto restored = packer.restore(wrong);
      ASSERT_FALSE(restored) << wrong.epoch << ", " << wrong.next;
      EXPECT_THAT(restored.error().message, HasSubstr("has 2 examples"));
    }
    Rows rows;
    EXPECT_TRUE(packer.restore({7, 1}));
    EXPECT_TRUE(packer.next(rows));
  }
}

// Of pairs and texts. A chat is rendered anew whenever it is read, which takes memory of its size for a moment.
TEST_F(Packing, AllocatesNothingLargeOnceOpen) {
  std::string lines;
  for (int i = 1; i < 40; ++i) {
    lines += R"({"prompt":")" + std::string(static_cast<size_t>(200 * i), 'x') + R"(","completion":")" +
             std::string(static_cast<size_t>(8200 - 200 * i), 'y') + "\"}\n";
  }
  tokenizer_ = small_byte_bpe(folder_, kChatMl);
  dataset_ = Dataset::open(folder_.write("a.jsonl", lines), *tokenizer_, {.context = 9000}).value();
  const std::string text = std::string(50000, 'q') + lines;
  auto windows = Dataset::open(folder_.write("a.txt", text), *tokenizer_, {.context = 2000}).value();
  Packer packer(*dataset_, 1, 9000, 1, true), text_packer(*windows, 1, 2000, 1, true);
  Rows rows, text_rows;
  ASSERT_TRUE(packer.next(rows));
  ASSERT_TRUE(text_packer.next(text_rows));
  const int64_t before = large_allocations;
  for (int step = 0; step < 100; ++step) {
    ASSERT_TRUE(packer.next(rows));
    ASSERT_TRUE(text_packer.next(text_rows));
  }
  EXPECT_EQ(large_allocations, before);
}

}  // namespace
}  // namespace thimble
