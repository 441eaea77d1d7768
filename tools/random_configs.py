"""Random config.json of every dense family: sizes, biases, ropes, windows, kinds of layers and the family's own fields,
and fields that belong to other families, which transformers reads in some and overlooks in others."""

import random

FULL, SLIDING = "full_attention", "sliding_attention"
ACTIVATIONS = ["silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu", "relu2", "tanh", "mish"]
USUAL = dict(width="hidden_size", layers="num_hidden_layers", heads="num_attention_heads", kv="num_key_value_heads",
             ffn="intermediate_size", head="head_dim", context="max_position_embeddings", act="hidden_act")
GPT2 = dict(USUAL, width="n_embd", layers="n_layer", heads="n_head", kv="", ffn="n_inner", head="",
            context="n_positions", act="activation_function")
NO_HEAD, EQUAL = dict(USUAL, head=""), dict(USUAL, head="", kv="")
FLAG, SMALL = [True, False], [1e-6, 1e-5, 1e-3, 0.05]
BIASES = dict(attention_bias=FLAG, mlp_bias=FLAG)
RMS, CAPS = dict(rms_norm_eps=SMALL), dict(final_logit_softcapping=[None, 5.0, 30.0], query_pre_attn_scalar=[16, 7, 256])
QWEN = dict(RMS, use_sliding_window=FLAG, max_window_layers=[0, 1, 2, 28])
# names of sizes, own fields with values to draw from, and what else there is: rope, partial, layered (a rope for each
# kind of layer), windows, types (of layers), head (head_dim must be said)
FAMILIES = {
    "llama": (USUAL, dict(RMS, **BIASES), "rope"), "mistral": (USUAL, RMS, "rope windows types"),
    "ministral": (USUAL, RMS, "rope windows types"), "ministral3": (USUAL, RMS, "rope windows growth"),
    "qwen2": (USUAL, QWEN, "rope windows types"), "qwen3": (USUAL, dict(QWEN, attention_bias=FLAG), "rope windows types"),
    "gemma": (USUAL, dict(RMS, attention_bias=FLAG), "rope head"),
    "gemma2": (dict(USUAL, act="hidden_activation"), dict(RMS, **CAPS, attn_logit_softcapping=[None, 5.0, 50.0],
                                                          attention_bias=FLAG), "rope windows types head"),
    "gemma3_text": (dict(USUAL, act="hidden_activation"), dict(RMS, **CAPS, sliding_window_pattern=[2, 3, 6]),
                    "rope layered windows types head"),
    "phi": (NO_HEAD, dict(layer_norm_eps=SMALL, qk_layernorm=FLAG), "rope partial"),
    "phi3": (NO_HEAD, RMS, "rope partial windows"),
    "smollm3": (USUAL, dict(QWEN, **BIASES, no_rope_layer_interval=[2, 3]), "rope windows types"),
    "olmo2": (USUAL, dict(RMS, attention_bias=FLAG), "rope"),
    "olmo3": (USUAL, dict(RMS, attention_bias=FLAG), "rope layered windows types"),
    "granite": (USUAL, dict(RMS, **BIASES, embedding_multiplier=[1.0, 12], residual_multiplier=[0.22, 0.5],
                            attention_multiplier=[0.25, 0.0078], logits_scaling=[8, 0.5]), "rope"),
    "gpt_neox": (EQUAL, dict(layer_norm_eps=SMALL, use_parallel_residual=FLAG, attention_bias=FLAG,
                             rotary_pct=[0.25, 0.5, 1.0], rotary_emb_base=[10000, 1000]), ""),
    "opt": (dict(EQUAL, ffn="ffn_dim", act="activation_function"),
            dict(do_layer_norm_before=FLAG, _remove_final_layer_norm=FLAG, enable_bias=FLAG,
                 layer_norm_elementwise_affine=FLAG, word_embed_proj_dim=[24]), ""),
    "bloom": (dict(EQUAL, layers="n_layer", heads="n_head", ffn="", context="", act=""),
              dict(layer_norm_epsilon=SMALL, apply_residual_connection_post_layernorm=FLAG), ""),
    "gptj": (GPT2, dict(layer_norm_epsilon=SMALL, rotary_dim=[4, 8]), ""),
    "gpt2": (GPT2, dict(layer_norm_epsilon=SMALL, scale_attn_weights=FLAG, scale_attn_by_inverse_layer_idx=FLAG), ""),
    "falcon": (dict(EQUAL, ffn="ffn_hidden_size", act="activation"),
               dict(layer_norm_epsilon=SMALL, new_decoder_architecture=FLAG, multi_query=FLAG, parallel_attn=FLAG,
                    alibi=FLAG, bias=FLAG, num_ln_in_parallel_attn=[1, 2]), "rope"),
    "stablelm": (NO_HEAD, dict(layer_norm_eps=SMALL, use_qkv_bias=FLAG, use_parallel_residual=FLAG), "rope partial"),
    "starcoder2": (NO_HEAD, dict(norm_epsilon=SMALL, use_bias=FLAG), "rope windows"),
    "cohere2": (USUAL, dict(layer_norm_eps=SMALL, logit_scale=[1, 0.3], attention_bias=FLAG,
                            sliding_window_pattern=[2, 3]), "rope windows types"),
    "glm4": (USUAL, dict(RMS, attention_bias=FLAG), "rope partial head"),
    "exaone4": (USUAL, dict(RMS, sliding_window_pattern=[2, 3, 4]), "rope windows types"),
    "nemotron": (USUAL, dict(norm_eps=SMALL, **BIASES), "rope partial"),
}
OF_OTHERS = dict(
    partial_rotary_factor=0.5, sliding_window=7, use_sliding_window=True, attention_bias=True, mlp_bias=True,
    use_qk_norm=True, logit_scale=0.3, attn_logit_softcapping=5.0, final_logit_softcapping=3.0, head_dim=16,
    query_pre_attn_scalar=7, embedding_multiplier=3.0, residual_multiplier=0.3, rope_interleaved=True, alibi=True,
    use_parallel_residual=False, clip_qkv=0.1, scale_attn_weights=False, rotary_pct=0.5, hidden_activation="relu",
    rope_theta=777.0, is_causal=False, attention_chunk_size=4, per_layer_config={"0": {"hidden_act": "relu"}},
    num_attention_heads=2, num_hidden_layers=2, original_max_position_embeddings=16, num_kv_heads=1)


class Draw:
    def __init__(self, family, seed):
        self.random = random.Random(f"{family} {seed}")
        self.names, own, parts = FAMILIES[family]
        self.parts = parts.split()
        self.config = {"model_type": family}
        self.sizes()
        for key, values in own.items():
            if self.often():
                self.config[key] = self.pick(values)
        if "windows" in self.parts and self.often():
            self.config["sliding_window"] = self.pick([None, 0, 1, 5, 8, 16, 500])
        if "types" in self.parts and self.often():
            self.config["layer_types"] = [self.pick([FULL, SLIDING]) for _ in range(self.config[self.names["layers"]])]
        if "rope" in self.parts:
            self.ropes()
        for key in self.random.sample(sorted(OF_OTHERS), 2 if self.often(0.4) else 0):
            self.config.setdefault(key, OF_OTHERS[key])

    def pick(self, values):
        return self.random.choice(list(values))

    def often(self, chance=0.6):
        return self.random.random() < chance

    def sizes(self):
        heads, self.head_dim = self.pick([1, 2, 3, 4, 5, 6, 8]), self.pick([8, 12, 16, 20, 24, 32])
        values = dict(heads=heads, layers=self.pick(range(1, 7)), ffn=self.pick([17, 32, 48, 100]),
                      context=self.pick([32, 64, 100, 128]), act=self.pick(ACTIVATIONS[:8] if self.often(0.9) else ACTIVATIONS),
                      kv=self.pick([k for k in range(1, heads + 1) if heads % k == 0]), width=heads * self.head_dim)
        if self.names["head"] and ("head" in self.parts or self.often()):
            values.update(head=self.head_dim, width=self.pick([heads * self.head_dim, 40, 64]))
        self.config.update({self.names[what]: value for what, value in values.items() if self.names[what]})
        if not self.names["head"] or "head" not in values:
            self.head_dim = values["width"] // heads
        self.config.update(vocab_size=self.pick([97, 128, 258]), bos_token_id=None, eos_token_id=None, pad_token_id=None)
        if self.often():
            self.config["tie_word_embeddings"] = self.pick(FLAG)

    def rope(self, part, old=False):
        kind = self.pick(["default", "linear", "dynamic", "llama3", "yarn", "longrope"])
        rope = {self.pick(["type", "rope_type"]) if old else "rope_type": kind}
        if kind != "default":
            rope["factor"] = self.pick([1.0, 1.5, 2.0, 4.0, 8])
        if kind in ("llama3", "yarn", "longrope") and self.often(0.8):
            rope["original_max_position_embeddings"] = self.pick([16, 24, 32])
        if kind == "llama3":
            rope.update(low_freq_factor=self.pick([0.5, 1.0]), high_freq_factor=self.pick([2.0, 4.0, 8]))
        more = dict(beta_fast=[16, 32, 64.0], beta_slow=[0.5, 1, 2], attention_factor=[0.8, 1.0, 1.3], mscale=[0, 0.707, 1.0],
                    mscale_all_dim=[0, 0.5, 1.0], truncate=FLAG) if kind == "yarn" else {}
        rope.update({key: self.pick(values) for key, values in more.items() if self.often(0.3)})
        if kind == "longrope":
            half = max(1, int(self.head_dim * part) // 2)
            for key in ("short_factor", "long_factor"):
                rope[key] = [1 + i * self.random.random() for i in range(half)]
        if "growth" in self.parts and self.often(0.8):
            rope["llama_4_scaling_beta"] = self.pick([0.1, 0.3])
        return rope

    def ropes(self):
        part = self.pick([0.25, 0.5, 0.75]) if "partial" in self.parts and self.often() else None
        if part and self.often(0.5):
            self.config["partial_rotary_factor"] = part
        turned = part if part else 0.5 if "partial" in self.parts else 1
        if self.often(0.5):
            self.config["rope_theta"] = self.pick([10000.0, 500000.0, 1000])
        if self.often(0.5):
            self.config["rope_scaling"] = self.rope(turned, old=True) if self.often(0.8) else None
        if self.often(0.5):
            new = lambda: dict(self.rope(turned), rope_theta=self.pick([10000.0, 999.0]))
            nested = "layered" in self.parts and self.often(0.7)
            self.config["rope_parameters"] = {FULL: new(), SLIDING: new()} if nested else new()
            if part and "partial_rotary_factor" not in self.config:
                self.config["rope_parameters"]["partial_rotary_factor"] = part
