// Chat templates: compiled, and rendered with a short conversation.
#include "fuzz_file.h"
#include "text/chat_template.h"
#include "text/jinja/from_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble;
  const auto chat = ChatTemplate::compile(text_of(data, size), "the template", {});
  if (!chat) return 0;
  static const simdjson::padded_string kMessages =
      std::string_view(R"([{"role":"system","content":"s"},{"role":"user","content":"u"},)"
                       R"({"role":"assistant","content":"a"}])");
  simdjson::dom::parser parser;
  ChatInput input;
  if (const auto messages = jinja::from_json(parser.parse(kMessages).value_unsafe(), true)) input.messages = *messages;
  (void)chat->render(input);
  (void)chat->render_trained(input);
  return 0;
}
