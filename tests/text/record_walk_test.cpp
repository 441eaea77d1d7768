// Every field that the documentation of TRL, axolotl, LLaMA-Factory and OpenAI names in a record of text is honoured,
// harmless for the reason given, or refused by name. What is documented: TRL's dataset formats and types, axolotl's
// dataset formats, LLaMA-Factory's data/README, OpenAI's fine-tuning guide.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "small_tokenizer.h"
#include "text/dataset.h"

namespace thimble {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Key;

// A template that shows all that it is given.
constexpr const char* kShowing =
    "{% if tools %}[tools {{ tools|map(attribute='function.name')|join(' ') }}]{% endif %}"
    "{% if mood is defined %}[mood {{ mood }}]{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}{{ part.text }}{% endfor %}{% "
    "endif %}"
    "{% for call in m.tool_calls or [] %}[call {{ call.function.name }} {{ call.function.arguments|tojson }}]{% endfor "
    "%}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

enum class Meaning { honoured, harmless, refused };
using enum Meaning;

struct Walk {
  const char* of;  // whose field, and which
  const char* record;
  Meaning meaning;
  const char* says;      // honoured: what is learnt; harmless: the field that is named; refused: part of the message
  const char* why = "";  // harmless: the reason; honoured: what else stands in the text
  LossTerm term = LossTerm::token;
  std::vector<Column> columns = {};
};

const std::vector<Walk>& walks() {
  static const std::vector<Walk> all = {
      // TRL: language modeling, prompt-only, prompt-completion, preference, unpaired preference, stepwise supervision.
      {"TRL text", R"({"text":"abc"})", honoured, "abc</s>"},
      {"TRL messages", R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})", honoured,
       "b<|im_end|>"},
      {"TRL prompt, completion", R"({"prompt":"a ","completion":"b"})", honoured, "b</s>", "a b"},
      {"TRL prompt, completion of messages",
       R"({"prompt":[{"role":"user","content":"a"}],"completion":[{"role":"assistant","content":"b"}]})", honoured,
       "b<|im_end|>", "user\na"},
      {"TRL prompt only", R"({"prompt":"a"})", refused, "'completion' is missing"},
      {"TRL chosen, rejected", R"({"prompt":"a ","chosen":"b","rejected":"c"})", honoured, "b</s>", "a b"},
      {"TRL implicit prompt",
       R"({"chosen":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"rejected":[{"role":"user","content":"a"},{"role":"assistant","content":"c"}]})",
       honoured, "b<|im_end|>", "user\na"},
      {"TRL label", R"({"prompt":"a ","completion":"b","label":true})", honoured, "b</s>", "a b", LossTerm::reply},
      {"TRL label, of another objective", R"({"prompt":"a ","completion":"b","label":false})", refused, "'label'"},
      {"TRL tools",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"tools":[{"type":"function","function":{"name":"look"}}]})",
       honoured, "b<|im_end|>", "[tools look]"},
      {"TRL chat_template_kwargs",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"chat_template_kwargs":{"mood":"fine"}})",
       honoured, "b<|im_end|>", "[mood fine]"},
      {"TRL tool_calls",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"f","arguments":{"x":1}}}]}]})",
       honoured, "[call f {\"x\": 1}]<|im_end|>"},
      {"TRL images", R"({"prompt":"a ","completion":"b","images":["a.png"]})", refused, "'images'"},
      {"TRL image", R"({"prompt":"a ","completion":"b","image":"a.png"})", refused, "'image'"},
      {"TRL completions, labels", R"({"prompt":"a","completions":["b"],"labels":[true]})", refused,
       "'completion' is missing"},
      {"TRL input_ids", R"({"input_ids":[1,2],"completion_mask":[0,1]})", refused, "found input_ids, completion_mask"},
      {"TRL margin", R"({"prompt":"a ","chosen":"b","rejected":"c","margin":0.5})", refused, "'margin'", "",
       LossTerm::pair},
      {"TRL margin, of the chosen reply alone", R"({"prompt":"a ","chosen":"b","rejected":"c","margin":0.5})", harmless,
       "margin", "the chosen reply is learnt whatever the other is worth"},
      {"TRL input_ids beside the text", R"({"text":"abc","input_ids":[1,2]})", refused, "'input_ids'"},
      {"TRL completion_mask", R"({"prompt":"a ","completion":"b","completion_mask":[0,1]})", refused,
       "'completion_mask'"},
      {"TRL assistant_masks", R"({"text":"abc","assistant_masks":[0,1]})", refused, "'assistant_masks'"},
      {"labels of tokens", R"({"text":"abc","labels":[-100,1]})", refused, "'labels'"},
      {"loss_mask", R"({"text":"abc","loss_mask":[0,1]})", refused, "'loss_mask'"},
      {"loss_weight", R"({"text":"abc","loss_weight":0.5})", refused, "'loss_weight'"},
      {"ms-swift loss_scale",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","loss_scale":0.5}]})", refused,
       "'loss_scale'"},
      // axolotl.
      {"axolotl alpaca", R"({"instruction":"a","input":"n","output":"b"})", honoured, "b<|im_end|>", "user\na\nn"},
      {"axolotl alpaca_w_system", R"({"instruction":"a","input":"","output":"b","system":"S"})", honoured,
       "b<|im_end|>", "system\nS"},
      {"axolotl completion", R"({"text":"abc"})", honoured, "abc</s>"},
      {"axolotl alpaca_chat.load_qa", R"({"question":"a ","answer":"b"})", honoured, "b</s>", "a b"},
      {"axolotl openorca", R"({"system_prompt":"S","question":"a ","answer":"b"})", refused, "--columns system="},
      {"axolotl openorca, named",
       R"({"system_prompt":"S","task":"a","answer":"b"})",
       honoured,
       "b<|im_end|>",
       "system\nS",
       LossTerm::token,
       {{"system", "system_prompt"}, {"instruction", "task"}, {"output", "answer"}}},
      {"axolotl metharme", R"({"prompt":"a","generation":"b"})", refused, "'completion' is missing"},
      {"axolotl oasst", R"({"INSTRUCTION":"a","RESPONSE":"b"})", refused, "found INSTRUCTION, RESPONSE"},
      {"axolotl summarizetldr", R"({"article":"a","summary":"b"})", refused, "found article, summary"},
      {"axolotl jeopardy", R"({"question":"a","category":"c","answer":"b"})", harmless, "category",
       "the question stands without it, and it is told"},
      {"axolotl reflection", R"({"instruction":"a","input":"","output":"b","reflection":"r","corrected":"c"})",
       harmless, "corrected", "the first output is learnt, and both fields are told"},
      {"axolotl input_output", R"({"segments":[{"label":true,"text":"a"}]})", refused, "found segments"},
      {"axolotl train",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","train":false},{"role":"user","content":"c"},{"role":"assistant","content":"d","train":true}]})",
       honoured, "d<|im_end|>"},
      {"axolotl training",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","training":false},{"role":"user","content":"c"},{"role":"assistant","content":"d"}]})",
       honoured, "d<|im_end|>"},
      {"ms-swift loss",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","loss":false},{"role":"user","content":"c"},{"role":"assistant","content":"d"}]})",
       honoured, "d<|im_end|>"},
      {"axolotl train_on_eot",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","train_on_eot":false}]})",
       refused, "'train_on_eot'"},
      {"Mistral prefix",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","prefix":true}]})", refused,
       "'prefix'"},
      {"axolotl train_detail",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","train_detail":[{"begin_offset":0,"end_offset":0,"train":false}]}]})",
       refused, "'train_detail'"},
      {"axolotl weight of a turn",
       R"({"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b","weight":0},{"from":"human","value":"c"},{"from":"gpt","value":"d"}]})",
       honoured, "d<|im_end|>"},
      {"axolotl chatml.intel", R"({"system":"S","question":"a","chosen":"b","rejected":"c"})", refused, "'system'"},
      {"axolotl chatml.argilla", R"({"instruction":"a","chosen_response":"b","rejected_response":"c"})", refused,
       "'output' is missing"},
      {"axolotl chatml.ultra",
       R"({"prompt":"a","chosen":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"rejected":[{"role":"user","content":"a"},{"role":"assistant","content":"c"}]})",
       honoured, "b<|im_end|>", "user\na"},
      {"axolotl orpo", R"({"prompt":"a ","chosen":"b","rejected":"c","system":""})", honoured, "b</s>"},
      // LLaMA-Factory.
      {"LLaMA-Factory history", R"({"instruction":"c","output":"d","history":[["a","b"]]})", honoured,
       "b<|im_end|>d<|im_end|>", "user\na"},
      {"LLaMA-Factory alpaca preference", R"({"instruction":"a","input":"n","chosen":"b","rejected":"c"})", honoured,
       "b<|im_end|>", "user\na\nn"},
      {"LLaMA-Factory alpaca KTO", R"({"instruction":"a","output":"b","kto_tag":true})", honoured, "b<|im_end|>",
       "user\na", LossTerm::reply},
      {"LLaMA-Factory alpaca KTO, of another objective", R"({"instruction":"a","output":"b","kto_tag":false})", refused,
       "'kto_tag'"},
      {"LLaMA-Factory pre-training", R"({"text":"abc"})", honoured, "abc</s>"},
      {"LLaMA-Factory tools as text",
       R"({"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"}],"tools":"[{\"type\":\"function\",\"function\":{\"name\":\"look\"}}]"})",
       honoured, "b<|im_end|>", "[tools look]"},
      {"LLaMA-Factory function_call, observation",
       R"({"conversations":[{"from":"human","value":"a"},{"from":"function_call","value":"{\"name\":\"f\",\"arguments\":{\"x\":1}}"},{"from":"observation","value":"3"},{"from":"gpt","value":"b"}]})",
       honoured, "[call f {\"x\": 1}]<|im_end|>b<|im_end|>", "tool\n3"},
      {"LLaMA-Factory two calls",
       R"({"conversations":[{"from":"human","value":"a"},{"from":"function_call","value":"[{\"name\":\"f\",\"arguments\":{}},{\"name\":\"g\",\"arguments\":{}}]"}]})",
       honoured, "[call f {}][call g {}]<|im_end|>"},
      {"LLaMA-Factory function_call that is none",
       R"({"conversations":[{"from":"human","value":"a"},{"from":"function_call","value":"look it up"}]})", refused,
       "is not JSON"},
      {"LLaMA-Factory sharegpt preference",
       R"({"conversations":[{"from":"human","value":"a"}],"chosen":{"from":"gpt","value":"b"},"rejected":{"from":"gpt","value":"c"}})",
       honoured, "b<|im_end|>", "user\na"},
      {"LLaMA-Factory images", R"({"instruction":"<image>a","output":"b","images":["a.png"]})", refused, "'images'"},
      {"LLaMA-Factory videos", R"({"instruction":"<video>a","output":"b","videos":["a.mp4"]})", refused, "'videos'"},
      {"LLaMA-Factory audios", R"({"instruction":"<audio>a","output":"b","audios":["a.wav"]})", refused, "'audios'"},
      {"LLaMA-Factory images, none", R"({"instruction":"a","output":"b","images":[]})", honoured, "b<|im_end|>"},
      // OpenAI.
      {"OpenAI weight",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":0},{"role":"user","content":"c"},{"role":"assistant","content":"d","weight":1}]})",
       honoured, "d<|im_end|>"},
      {"OpenAI weight of a half",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":0.5}]})", refused,
       "'weight'"},
      {"OpenAI name", R"({"messages":[{"role":"user","content":"a","name":"Eva"},{"role":"assistant","content":"b"}]})",
       honoured, "b<|im_end|>"},  // the template decides whether it shows
      {"an image beside a message",
       R"({"messages":[{"role":"user","content":"a","images":["a.png"]},{"role":"assistant","content":"b"}]})", refused,
       "'images'"},
      {"OpenAI image_url",
       R"({"messages":[{"role":"user","content":[{"type":"image_url","text":"a"}]},{"role":"assistant","content":"b"}]})",
       refused, "of type 'image_url'"},
      {"trainable, of a turn",
       R"({"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b","trainable":false}]})", harmless,
       "messages.trainable", "nobody documents it, and it is told"},
      {"kwargs that are none",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"kwargs":"x"})", refused,
       "'kwargs' is not an object"},
      {"a variable that the template does not have",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"kwargs":{"x":1}})", harmless,
       "kwargs.x", "it changes nothing, and it is told"},
      {"two prompts", R"({"instruction":"i","question":"a ","answer":"b"})", harmless, "instruction",
       "it is no part of the question, and it is told"},
      {"a text and a half of a pair", R"({"text":"abc","chosen":"c"})", harmless, "chosen",
       "the text is learnt, and the field is told"},
      {"ultrafeedback",
       R"({"prompt":"a","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"chosen":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"rejected":[{"role":"user","content":"a"},{"role":"assistant","content":"c"}]})",
       harmless, "messages", "the chats of both replies are whole"},
      {"OpenAI roles in capitals", R"({"messages":[{"role":"User","content":"a"},{"role":"Assistant","content":"b"}]})",
       refused, "'User' is no role"},
      {"two system messages",
       R"({"messages":[{"role":"system","content":"s"},{"role":"system","content":"t"},{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})",
       honoured, "b<|im_end|>", "system\nt"},
      {"a system message among the messages and one beside them",
       R"({"system":"s","messages":[{"role":"system","content":"t"},{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})",
       refused, "one beside them"},
      {"OpenAI parts of content",
       R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","content":"b"}]})",
       honoured, "b<|im_end|>", "user\na"},
      {"OpenAI parallel_tool_calls",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"parallel_tool_calls":false})",
       harmless, "parallel_tool_calls", "it steers how the service samples, not what is learnt"},
      {"OpenAI functions",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"functions":[{"name":"f"}]})",
       refused, "'functions'"},
      {"OpenAI function_call",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","function_call":{"name":"f","arguments":"{}"}}]})",
       refused, "function_call"},
      {"OpenAI preference",
       R"({"input":{"messages":[{"role":"user","content":"a"}]},"preferred_output":[{"role":"assistant","content":"b"}],"non_preferred_output":[{"role":"assistant","content":"c"}]})",
       refused, "found input, preferred_output, non_preferred_output"},
      {"OpenAI prompt, completion (legacy)", R"({"prompt":"a ->","completion":" b\n"})", honoured, " b\n</s>"},
      // Texts with labels, as GLUE and its like have them.
      {"labelled text", R"({"text":"a","label":1})", honoured, "", "a", LossTerm::text},
      {"labelled sentence", R"({"sentence":"a","label":0,"idx":3})", harmless, "idx", "a number of the record",
       LossTerm::text},
      {"labelled text_pair", R"({"text":"a","text_pair":"b","label":0})", honoured, "", "ab", LossTerm::text},
      {"GLUE sentence1, sentence2", R"({"sentence1":"a","sentence2":"b","label":1})", refused,
       "found sentence1, sentence2", "", LossTerm::text},
      {"GLUE question, sentence", R"({"question":"a","sentence":"b","label":1})", refused, "'question'", "",
       LossTerm::text},
      {"GLUE question, sentence, named",
       R"({"question":"a","sentence":"b","label":1})",
       honoured,
       "",
       "ab",
       LossTerm::text,
       {{"text", "question"}, {"text_pair", "sentence"}}},
      {"labelled float", R"({"text":"a","label":0.5})", refused, "label", "", LossTerm::text},
      // Of many files.
      {"id", R"({"id":7,"instruction":"a","output":"b"})", harmless, "id", "a number of the record"},
      {"source", R"({"text":"abc","source":"web"})", harmless, "source", "it says where the record is from"},
  };
  return all;
}

class Walked : public testing::TestWithParam<size_t> {};

TEST_P(Walked, is_honoured_harmless_or_refused) {
  const Walk& walk = walks()[GetParam()];
  SCOPED_TRACE(walk.of);
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder, kShowing);
  DatasetOptions options{.context = 512, .columns = walk.columns, .term = walk.term};
  if (walk.term == LossTerm::text) options.labels.names = {"no", "yes"};
  const auto data = Dataset::open(folder.write("a.jsonl", walk.record), *tokenizer, options);
  if (walk.meaning == refused) {
    ASSERT_FALSE(data);  // of one record nothing is left
    EXPECT_THAT(data.error().message, HasSubstr(walk.says));
    return;
  }
  ASSERT_TRUE(data) << data.error().message;
  const DatasetReport& report = (*data)->report();
  EXPECT_THAT(report.first_errors, testing::IsEmpty());
  ASSERT_GT((*data)->size(), 0);
  if (walk.meaning == harmless) {
    EXPECT_THAT(report.unused, Contains(Key(walk.says)));
    EXPECT_STRNE(walk.why, "");
    return;
  }
  EXPECT_THAT(report.unused, testing::IsEmpty());
  Example example;
  ASSERT_TRUE((*data)->read(0, example));
  std::vector<int32_t> learnt;
  for (size_t i = 0; i < example.ids.size(); ++i)
    if (example.trained[i]) learnt.push_back(example.ids[i]);
  EXPECT_EQ(tokenizer->decode(learnt), walk.says);
  EXPECT_THAT(tokenizer->decode(example.ids), HasSubstr(walk.why));
}

INSTANTIATE_TEST_SUITE_P(Records, Walked, testing::Range<size_t>(0, walks().size()));

}  // namespace
}  // namespace thimble
