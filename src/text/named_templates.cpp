// Chat templates in common use, written for thimble: --chat-template NAME. A model's own template comes first; these
// are for models that have none, and for trying another.
#include <array>

#include "text/model_template.h"

namespace thimble {
namespace {

constexpr std::string_view kChatMl = R"({%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\n' }}
{%- endif -%})";

constexpr std::string_view kLlama3 = R"({{- bos_token -}}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif -%})";

constexpr std::string_view kGemma = R"({{- bos_token -}}
{%- set opening = namespace(text='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' and loop.first -%}
{%- set opening.text = message.content + '\n\n' -%}
{%- elif message.role == 'user' -%}
{{ '<start_of_turn>user\n' + opening.text + message.content | trim + '<end_of_turn>\n' }}
{%- set opening.text = '' -%}
{%- elif message.role == 'assistant' -%}
{{ '<start_of_turn>model\n' + message.content | trim + '<end_of_turn>\n' }}
{%- else -%}
{{ raise_exception('gemma: message ' ~ loop.index0 ~ ' has the role ' ~ message.role ~ ', expected user or assistant, and system at the start') }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<start_of_turn>model\n' }}
{%- endif -%})";

constexpr std::string_view kZephyr = R"({%- for message in messages -%}
{{ '<|' + message.role + '|>\n' + message.content + eos_token + '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|assistant|>\n' }}
{%- endif -%})";

constexpr std::string_view kLlama2 = R"({%- set opening = namespace(text='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' and loop.first -%}
{%- set opening.text = '<<SYS>>\n' + message.content + '\n<</SYS>>\n\n' -%}
{%- elif message.role == 'user' -%}
{{ bos_token + '[INST] ' + (opening.text + message.content) | trim + ' [/INST]' }}
{%- set opening.text = '' -%}
{%- elif message.role == 'assistant' -%}
{{ ' ' + message.content | trim + ' ' + eos_token }}
{%- else -%}
{{ raise_exception('llama2: message ' ~ loop.index0 ~ ' has the role ' ~ message.role ~ ', expected user or assistant, and system at the start') }}
{%- endif -%}
{%- endfor -%})";

constexpr std::string_view kMistral = R"({{- bos_token -}}
{%- set opening = namespace(text='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' and loop.first -%}
{%- set opening.text = message.content + '\n\n' -%}
{%- elif message.role == 'user' -%}
{{ '[INST] ' + opening.text + message.content + ' [/INST]' }}
{%- set opening.text = '' -%}
{%- elif message.role == 'assistant' -%}
{{ message.content + eos_token }}
{%- else -%}
{{ raise_exception('mistral: message ' ~ loop.index0 ~ ' has the role ' ~ message.role ~ ', expected user or assistant, and system at the start') }}
{%- endif -%}
{%- endfor -%})";

constexpr std::string_view kMistralV3 = R"({{- bos_token -}}
{%- set opening = namespace(text='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' and loop.first -%}
{%- set opening.text = message.content + '\n\n' -%}
{%- elif message.role == 'user' -%}
{%- set last = loop.last or (loop.nextitem.role == 'assistant' and loop.revindex0 == 1) -%}
{{ '[INST] ' + (opening.text if last else '') + message.content + '[/INST]' }}
{%- elif message.role == 'assistant' -%}
{{ ' ' + message.content | trim + eos_token }}
{%- else -%}
{{ raise_exception('mistral-v3: message ' ~ loop.index0 ~ ' has the role ' ~ message.role ~ ', expected user or assistant, and system at the start') }}
{%- endif -%}
{%- endfor -%})";

constexpr std::string_view kPhi3 = R"({%- for message in messages -%}
{{ '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|assistant|>\n' }}
{%- endif -%})";

constexpr std::string_view kPhi4 = R"({%- for message in messages -%}
{{ '<|im_start|>' + message.role + '<|im_sep|>' + message.content + '<|im_end|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant<|im_sep|>' }}
{%- endif -%})";

// For models without tokens of their own for it: Taori et al. 2023, Stanford Alpaca, in turns.
constexpr std::string_view kAlpaca = R"({%- for message in messages -%}
{%- if message.role == 'system' -%}
{{ message.content + '\n\n' }}
{%- elif message.role == 'user' -%}
{{ '### Instruction:\n' + message.content + '\n\n' }}
{%- else -%}
{{ '### Response:\n' + message.content + eos_token + '\n\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '### Response:\n' }}
{%- endif -%})";

constexpr std::array kTemplates = std::to_array<NamedTemplate>({
    {"alpaca", kAlpaca},
    {"chatml", kChatMl, "<|im_start|>"},
    {"gemma", kGemma, "<start_of_turn>"},
    {"llama2", kLlama2},
    {"llama3", kLlama3, "<|start_header_id|>"},
    {"mistral", kMistral},
    {"mistral-v3", kMistralV3, "[INST]"},
    {"phi3", kPhi3, "<|end|>"},
    {"phi4", kPhi4, "<|im_sep|>"},
    {"zephyr", kZephyr},
});

}  // namespace

std::span<const NamedTemplate> named_templates() { return kTemplates; }

}  // namespace thimble
