#!/usr/bin/env python3
"""Makes tests/models/config_fields.json: the fields of config.json of every family, with transformers' defaults.

    pip install transformers
    tools/config_fields.py > tests/models/config_fields.json
"""

import inspect
import json

from transformers import CONFIG_MAPPING, PretrainedConfig

FAMILIES = ("llama mistral ministral ministral3 qwen2 qwen3 gpt2 gemma gemma2 gemma3_text phi phi3 smollm3 olmo2 olmo3 "
            "granite gpt_neox opt bloom gptj falcon stablelm starcoder2 cohere2 glm4 exaone4 nemotron mixtral olmoe qwen3_moe").split()


def fields(family):
    made = CONFIG_MAPPING[family]().to_dict()
    named = inspect.signature(CONFIG_MAPPING[family].__init__).parameters
    made.update({name: None for name in named if name not in made and name not in ("self", "kwargs", "args")})
    return {name: made[name] for name in sorted(made)}


if __name__ == "__main__":
    print("{")
    print(",\n".join(f'"{family}": {json.dumps(fields(family))}' for family in FAMILIES))
    print("}")
