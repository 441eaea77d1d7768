#include "text/chat.h"

#include <gmock/gmock.h>

#include "small_tokenizer.h"

namespace thimble {
namespace {

using testing::HasSubstr;

struct Case {
  std::string format, source;
  std::vector<std::string> specials;
  std::string expected, trained;
};

const std::vector<Message> kMessages = {{"system", "Sys"}, {"user", " Hi "}, {"assistant", "Yo"}, {"user", "<s>"}};

TEST(Chat, FormatsAsTheirTemplates) {
  const std::vector<Case> cases = {
      {"chatml",
       kChatMl,
       {"<|im_start|>", "<|im_end|>"},
       "<|im_start|>system\nSys<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n"
       "<|im_start|>user\n<s><|im_end|>\n<|im_start|>assistant\n",
       "Yo<|im_end|>"},
      {"llama3",
       "{{ bos_token }}<|start_header_id|><|end_header_id|><|eot_id|>",
       {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
       "<s><|start_header_id|>system<|end_header_id|>\n\nSys<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|"
       "eot_id|>"
       "<|start_header_id|>assistant<|end_header_id|>\n\nYo<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n<s><|"
       "eot_id|>"
       "<|start_header_id|>assistant<|end_header_id|>\n\n",
       "Yo<|eot_id|>"},
      {"zephyr",
       "<|system|><|user|>{{ eos_token }}<|assistant|>",
       {},
       "<|system|>\nSys</s>\n<|user|>\n Hi </s>\n<|assistant|>\nYo</s>\n<|user|>\n<s></s>\n<|assistant|>\n",
       "Yo</s>"},
      {"gemma",
       "{{ bos_token }}<start_of_turn><end_of_turn>",
       {"<start_of_turn>", "<end_of_turn>"},
       "<s><start_of_turn>user\nSys\n\nHi<end_of_turn>\n<start_of_turn>model\nYo<end_of_turn>\n<start_of_turn>user\n<s>"
       "<end_of_turn>\n<start_of_turn>model\n",
       "Yo<end_of_turn>"},
      {"llama2",
       "{{ bos_token }}[INST] <<SYS>> [/INST]",
       {},
       "<s>[INST] <<SYS>>\nSys\n<</SYS>>\n\nHi [/INST] Yo </s><s>[INST] <s> [/INST]",
       " Yo </s>"},
      {"mistral-v3",
       R"({{- bos_token }}{{- "[INST] " + system_message + "[INST] " + "[/INST]" }}{{- " " + eos_token }})",
       {"[INST]", "[/INST]"},
       "<s>[INST]  Hi [/INST] Yo</s>[INST] Sys\n\n<s>[/INST]",
       " Yo</s>"},
      {"mistral-v1",
       "{{- bos_token }}{{- ' [INST] ' + message['content'] + ' [/INST]' }}{{- ' ' + eos_token}}",
       {},
       "<s> [INST] Sys\n\n Hi  [/INST] Yo</s> [INST] <s> [/INST]",
       " Yo</s>"},
      {"mistral-spaced",
       "{{ bos_token }}{{ '[INST] ' + message['content'] + ' [/INST]' }}{{ message['content'] + eos_token + ' ' }}",
       {},
       "<s>[INST] Sys\n\n Hi  [/INST]Yo</s> [INST] <s> [/INST]",
       "Yo</s>"},
      {"mistral",
       "{{ bos_token }}{{ '[INST] ' + message['content'] + ' [/INST]' }}{{ message['content'] + eos_token}}",
       {},
       "<s>[INST] Sys\n\n Hi  [/INST]Yo</s>[INST] <s> [/INST]",
       "Yo</s>"},
  };
  for (const Case& item : cases) {
    TemporaryFolder folder;
    SmallByteBpe small;
    small.specials = item.specials;
    small.specials.insert(small.specials.end(), {"<s>", "</s>"});
    auto tokenizer = small_byte_bpe(folder, item.source, small);
    const auto format = chat_format(*tokenizer);
    ASSERT_TRUE(format) << format.error().message;
    EXPECT_EQ(name(**format), item.format);
    EXPECT_EQ(render(**format, *tokenizer, kMessages, true).value(), item.expected);
    std::vector<int32_t> ids, words;
    std::vector<uint8_t> trained;
    ASSERT_TRUE(encode_chat(**format, *tokenizer, kMessages, true, ids, trained));
    ASSERT_EQ(ids.size(), trained.size());
    EXPECT_EQ(tokenizer->decode(ids), item.expected);
    int specials = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (trained[i]) words.push_back(ids[i]);
      specials += ids[i] == *tokenizer->bos();
    }
    EXPECT_EQ(tokenizer->decode(words), item.trained) << item.format;
    for (const std::string& special : item.specials) {
      const auto once = std::count(ids.begin(), ids.end(), *tokenizer->find(special));
      EXPECT_GT(once, 0) << special << " is a token, not text";
    }
    const bool bos = item.source.find("bos_token") != std::string::npos;
    EXPECT_EQ(specials, !bos ? 0 : item.format == "llama2" ? 2 : 1) << "the user's <s> is no token";
  }
}

TEST(Chat, DefaultSystemMessageIsTheTemplates) {
  TemporaryFolder folder;
  for (const auto& [source, expected] : std::vector<std::pair<std::string, std::string>>{
           {kChatMl, "<|im_start|>system\nBe good.<|im_end|>\n"},
           {"{{- \"<|im_start|>system\\nIt\\'s 1.<|im_end|>\\n\" }}", "<|im_start|>system\nIt's 1.<|im_end|>\n"},
           {"{{ '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>' }}", ""}}) {
    auto tokenizer = small_byte_bpe(folder, source);
    const std::vector<Message> messages = {{"user", "x"}};
    EXPECT_EQ(render(*chat_format(*tokenizer).value(), *tokenizer, messages, false).value(),
              expected + "<|im_start|>user\nx<|im_end|>\n");
  }
}

TEST(Chat, UnknownTemplatesAndRolesAreRefused) {
  TemporaryFolder folder;
  EXPECT_THAT(chat_format(*small_byte_bpe(folder)).error().message,
              HasSubstr("has no chat template; known formats are chatml"));
  EXPECT_THAT(chat_format(*small_byte_bpe(folder, "{{ x }}")).error().message, HasSubstr("of another kind"));
  auto tokenizer = small_byte_bpe(folder, kChatMl);
  const std::vector<Message> messages = {{"tool", "x"}};
  EXPECT_THAT(render(*chat_format(*tokenizer).value(), *tokenizer, messages, true).error().message,
              HasSubstr("message 0 has the role 'tool'"));
}

}  // namespace
}  // namespace thimble
