// Chat templates: compiled, and rendered with a short conversation.
#include <array>

#include "fuzz_file.h"
#include "text/chat_template.h"
#include "text/jinja/from_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble;
  const std::string_view source = text_of(data, size);
  static const simdjson::padded_string kMessages =
      std::string_view(R"([{"role":"system","content":"s"},{"role":"user","content":"u"},)"
                       R"({"role":"assistant","content":"a"}])");
  const auto alone = jinja::Template::compile(source);
  if (!alone) return 0;
  simdjson::dom::parser parser;
  ChatInput input;
  if (const auto messages = jinja::from_json(parser.parse(kMessages).value_unsafe(), true)) input.messages = *messages;
  // Those that run up to the bounds take a thousand times as long as others and find nothing more.
  bool raised = false;
  const auto variables = std::to_array<jinja::Variable>({{"messages", input.messages}});
  if (!alone->render(variables, {.steps = 20'000, .longest_text = 1 << 20}, &raised) && !raised) return 0;
  const auto chat = ChatTemplate::compile(source, "the template", {});
  if (!chat) return 0;
  (void)chat->render(input);
  (void)chat->render_trained(input);
  return 0;
}
