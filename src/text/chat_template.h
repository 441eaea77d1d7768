// A model's own chat template: conversations to text, as transformers' apply_chat_template renders them.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/template.h"

namespace thimble {

struct ChatInput {
  jinja::Value messages;          // a list of dictionaries
  jinja::Value tools, documents;  // none where there are none
  std::vector<jinja::Variable> variables;
  bool generation_prompt = false;
  std::string continue_field;  // of the last message, which the text ends in the middle of: "content"; "": none
  bool raw = false;            // messages as they are: nothing dropped or copied
};

struct RenderedChat {
  jinja::Text text;                  // its foreign spans are the conversation's words
  std::vector<jinja::Span> trained;  // bytes of `text` that the assistant has to learn, in order
};

class ChatTemplate {
 public:
  struct Settings {
    std::vector<jinja::Variable> variables;  // special tokens ("bos_token"), and what the user sets
    std::tm date = jinja::today();
  };

  // `name`: of the template in messages, "the model's chat template".
  static Result<ChatTemplate> compile(std::string_view source, std::string name, Settings settings);

  // The message of an error that the template raises is its own; any other says what was being done.
  Result<jinja::Rendering> render(const ChatInput& input) const;
  // What the reply, the message `place`, adds to the conversation before it with its generation prompt, in bytes of the
  // text that ends with it. An error where the earlier text is no beginning of that.
  struct Reply {
    jinja::Rendering rendering;
    jinja::Span span;
  };
  Result<Reply> reply(const ChatInput& input, size_t place) const;
  // The same with what is trained on: {% generation %} says, or else what each reply adds to the conversation before it
  // with its generation prompt. A reply whose earlier text is no beginning of the whole is not in it.
  Result<RenderedChat> render_trained(const ChatInput& input) const;

  const std::string& name() const { return name_; }
  const std::string& source() const { return source_; }
  bool has_generation() const { return template_.has_generation(); }
  bool mentions(std::string_view word) const { return template_.mentions(word); }

 private:
  ChatTemplate(jinja::Template compiled, std::string_view source, std::string name, Settings settings)
      : template_(std::move(compiled)), source_(source), name_(std::move(name)), settings_(std::move(settings)) {}
  Result<jinja::Rendering> render_prepared(const ChatInput& input) const;
  Result<jinja::Rendering> render_to_continue(ChatInput input) const;

  jinja::Template template_;
  std::string source_, name_;
  Settings settings_;
};

}  // namespace thimble
