"""Random configurations of PEFT's adapters, and small models of many families for them."""

import random

import torch
from peft.utils import constants

BASE = dict(vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=64,
            bos_token_id=None, eos_token_id=None, pad_token_id=None)
GROUPED = dict(BASE, num_key_value_heads=2)
GPT2 = dict(vocab_size=97, n_embd=64, n_layer=3, n_head=4, n_positions=64, bos_token_id=None, eos_token_id=None)
FAMILIES = {
    "llama": dict(GROUPED, attention_bias=True, mlp_bias=True), "mistral": GROUPED, "qwen2": GROUPED, "qwen3": dict(GROUPED, head_dim=16),
    "gemma": dict(GROUPED, head_dim=16), "gemma2": dict(GROUPED, head_dim=16, query_pre_attn_scalar=16, sliding_window=8),
    "gemma3_text": dict(GROUPED, head_dim=16, query_pre_attn_scalar=16, sliding_window=8), "phi": GROUPED, "phi3": GROUPED,
    "olmo2": GROUPED, "granite": GROUPED, "gpt_neox": BASE, "gpt2": GPT2, "gptj": dict(GPT2, rotary_dim=8),
    "opt": dict(BASE, ffn_dim=96, word_embed_proj_dim=64), "bloom": dict(vocab_size=97, hidden_size=64, n_layer=3, n_head=4),
    "falcon": dict(BASE, new_decoder_architecture=False, multi_query=True, bias=True), "stablelm": GROUPED, "starcoder2": GROUPED,
    "cohere2": GROUPED, "glm4": dict(GROUPED, head_dim=16), "smollm3": GROUPED, "nemotron": GROUPED,
    "mixtral": dict(GROUPED, num_local_experts=3, num_experts_per_tok=2),
}
COMMON = ["llama", "qwen2", "gpt2"]  # families that are drawn more often
FLAG = [True, False]
# PEFT's classes, with what else their configurations may say.
ALPHA = [1, 8, 5, 16, 32, 0]
RANKED = dict(rank_pattern="ranks", alpha_pattern="alphas")
KINDS = {
    "LoraConfig": dict(r=[1, 2, 3, 8], lora_alpha=ALPHA, use_rslora=FLAG, lora_bias=[False, False, True], use_dora=[False, False, True],
                       lora_dropout=[0.0, 0.1], bias=["none", "all", "lora_only"], fan_in_fan_out=FLAG,
                       init_lora_weights=[True, False, "gaussian", "orthogonal", "mica", "eva", "pissa", "olora", "pissa_niter_2"],
                       trainable_token_indices="tokens", layer_replication=[None] * 15 + [[[0, 2], [1, 3]]],
                       ensure_weight_tying=[False, False, True], **RANKED),
    "IA3Config": dict(feedforward_modules="feedforward", fan_in_fan_out=FLAG),
    "VeraConfig": dict(r=[1, 4, 16], projection_prng_key=[0, 7], save_projection=FLAG, d_initial=[0.1, 1.0], vera_dropout=[0.0, 0.1],
                       bias=["none", "all", "vera_only"]),
    "LoHaConfig": dict(r=[1, 2, 4], alpha=ALPHA, use_effective_conv2d=FLAG, rank_dropout=[0.0, 0.1], **RANKED),
    "LoKrConfig": dict(r=[1, 2, 4, 64], alpha=ALPHA, decompose_both=FLAG, decompose_factor=[-1, 2, 4, 8, 5], use_effective_conv2d=FLAG,
                       init_weights=[True, "lycoris"], **RANKED),
    "OFTConfig": dict(r=[0, 4, 6], oft_block_size=[0, 4, 8], block_share=FLAG, use_cayley_neumann=FLAG, num_cayley_neumann_terms=[3, 5],
                      coft=[False, False, False, True], eps=[6e-5, 1e-2, 1.0], bias=["none", "all", "oft_only"]),
    "BOFTConfig": dict(boft_block_size=[4, 8, 0], boft_block_num=[0, 6], boft_n_butterfly_factor=[1, 2], bias=["none", "all", "boft_only"]),
    "AdaLoraConfig": dict(init_r=[3, 6], target_r=[2], lora_alpha=ALPHA, total_step=[10], bias=["none", "all", "lora_only"]),
    "VBLoRAConfig": dict(r=[1, 2, 4], num_vectors=[8, 16], vector_length=[4, 8, 16], topk=[1, 2, 3], bias=["none", "all", "vblora_only"]),
    "LNTuningConfig": dict(),
    "TrainableTokensConfig": dict(token_indices="tokens"),
    "PromptTuningConfig": dict(num_virtual_tokens=[1, 5]),
    "PromptEncoderConfig": dict(num_virtual_tokens=[1, 5], encoder_hidden_size=[16], encoder_reparameterization_type=["MLP", "LSTM"]),
    "PrefixTuningConfig": dict(num_virtual_tokens=[1, 5], prefix_projection=FLAG, encoder_hidden_size=[16]),
}
WITHOUT_LAYERS = ("PromptTuningConfig", "PromptEncoderConfig", "PrefixTuningConfig")
MOVES = {"OFTConfig": 0.05, "BOFTConfig": 0.05, "VBLoRAConfig": 0.3, "PrefixTuningConfig": 0.5, "PromptTuningConfig": 0.5}
METHODS = ["lora", "dora", "lora_plus", "lora_fa", "ia3", "vera", "loha", "lokr", "oft", "boft", "adalora", "vblora", "ln_tuning",
           "trainable_tokens", "prompt_tuning", "prefix_tuning", "pissa", "olora"]


class Draw:
    def __init__(self, seed, only=None):
        self.seed, self.random = seed, random.Random(seed)
        family = self.pick(COMMON if self.often(0.3) else sorted(FAMILIES))
        self.model = dict(FAMILIES[family], model_type=family, tie_word_embeddings=self.often(0.4))
        lora = ["LoraConfig"] if self.often(0.4) else sorted(KINDS)
        self.kind = self.pick([kind for kind in only or lora])
        self.adapter, self.names = {"task_type": "CAUSAL_LM"}, []
        self.half, self.lead = self.often(0.1), 0

    def pick(self, values):
        return self.random.choice(list(values))

    def often(self, chance=0.5):
        return self.random.random() < chance

    def some(self, values, most=4):
        values = sorted(values)
        return self.random.sample(values, self.random.randint(1, min(most, len(values))))

    def label(self):
        return "dora" if self.adapter and isinstance(self.adapter, dict) and self.adapter.get("use_dora") else self.kind.removesuffix("Config")

    def text(self):
        return f"{self.model['model_type']}{' tied' if self.model['tie_word_embeddings'] else ''} {self.adapter}"

    def targets(self, names, ends):
        """Layers by one of the ways in which target_modules says them."""
        way = self.random.random()
        if way < 0.55:
            return self.some(ends)
        if way < 0.7:
            return self.some(names, 6)
        if way < 0.8:
            return r".*\.(?:[0-1])\..*(" + "|".join(self.some(ends)) + ")"
        if way < 0.85:
            return self.some({name.split(".", 1)[1] for name in names}, 3)  # ends of more than a part
        method = {"LoraConfig": "LORA", "AdaLoraConfig": "ADALORA"}.get(self.kind, self.kind.removesuffix("Config").upper())
        return None if way > 0.93 and self.has_default(method) else "all-linear"

    def has_default(self, method):
        """Whether PEFT knows layers for the family where a configuration names none."""
        mapping = getattr(constants, f"TRANSFORMERS_MODELS_TO_{method}_TARGET_MODULES_MAPPING", {})
        return self.model["model_type"] in mapping

    def layers_of(self, model):
        """Draws what needs the names of the model's layers."""
        modules = [(name, module) for name, module in model.named_modules() if name]
        is_linear = lambda m: isinstance(m, torch.nn.Linear) or type(m).__name__ == "Conv1D"
        linear = [n for n, m in modules if is_linear(m) and any(c.isdigit() for c in n)]
        tables = [n for n, m in modules if isinstance(m, torch.nn.Embedding)][:1]
        norms = [n for n, m in modules if "norm" in type(m).__name__.lower()]
        end = lambda names: {name.rsplit(".", 1)[-1] for name in names}
        layers = list(linear)
        if self.kind == "LoraConfig":
            layers += tables * self.often(0.3) + [n for n, m in modules if is_linear(m) and n not in linear] * self.often(0.2)
        for field, values in KINDS[self.kind].items():
            if isinstance(values, list) and self.often(0.5):
                self.adapter[field] = self.pick(values)
            elif values in ("ranks", "alphas") and self.often(0.3):
                keys = self.some(end(linear) | {self.pick(linear), r".*\.1\..*" + self.pick(sorted(end(linear)))}, 3)
                self.adapter[field] = {key: self.random.randint(1, 6) for key in keys}
            elif values == "tokens" and (self.kind == "TrainableTokensConfig" or self.often(0.12)):
                tokens = self.random.sample(range(97), 5)
                table = tables[0].rsplit(".", 1)[-1]
                self.adapter[field] = {table: tokens} if self.kind == "LoraConfig" and self.often() else tokens
        self.sizes()
        if self.kind in WITHOUT_LAYERS:
            self.lead = self.adapter.setdefault("num_virtual_tokens", 3)
        elif self.kind == "LNTuningConfig":
            self.adapter["target_modules"] = self.some(end(norms)) if self.often(0.7) or not self.has_default("LNTUNING") else None
        elif self.kind == "TrainableTokensConfig":
            self.adapter["target_modules"] = [tables[0].rsplit(".", 1)[-1]]
        else:
            self.choose(layers, end, norms, tables)
        if "feedforward_modules" in KINDS[self.kind]:
            named = self.adapter["target_modules"]
            self.adapter["feedforward_modules"] = self.some(named, 2) if isinstance(named, list) and self.often(0.7) else []
            if named is None:
                del self.adapter["feedforward_modules"]
        self.converts = str(self.adapter.get("init_lora_weights")).startswith(("pissa", "olora")) and not self.adapter.get("use_dora") and self.often()
        self.half &= self.kind != "VBLoRAConfig"  # of equal logits torch takes any
        self.moves = MOVES.get(self.kind, 0.1)

    def choose(self, layers, end, norms, tables):
        targets = self.targets(layers, end(layers))
        self.adapter["target_modules"] = targets
        if not isinstance(targets, str) and self.often(0.2) and self.kind not in ("IA3Config",):
            self.adapter["layers_to_transform"] = self.pick([[0], [0, 2], 1])
            if self.often(0.3):
                self.adapter["layers_pattern"] = self.pick(["layers", "h", ["layers", "h"]])
        if self.often(0.15):
            self.adapter["exclude_modules"] = self.pick([self.some(end(layers), 1), [self.pick(layers)], r".*\.0\..*"])
        if self.often(0.15):
            free = [n for n in layers + norms + tables + ["lm_head"] if not isinstance(targets, list) or n.rsplit(".", 1)[-1] not in targets]
            self.adapter["modules_to_save"] = self.some(end(free) | {"mlp"}, 2) if free else None

    def sizes(self):
        a = self.adapter
        if self.kind == "OFTConfig":
            a.setdefault("r", 0)
            a["oft_block_size"] = 0 if a["r"] else a.get("oft_block_size") or 4
        if self.kind == "LoraConfig" and a.get("lora_bias"):
            a["init_lora_weights"] = True
        if self.kind == "BOFTConfig" and a.get("boft_block_num"):
            a["boft_block_size"] = 0
        if self.kind == "VBLoRAConfig":
            a.setdefault("vector_length", 8), a.setdefault("num_vectors", 16)
        if self.kind == "AdaLoraConfig":
            a.setdefault("total_step", 10)
        if a.get("alpha", 1) == 0 and self.often(0.7) or a.get("lora_alpha", 1) == 0 and self.often(0.7):
            a.pop("alpha", None), a.pop("lora_alpha", None)

    def before_save(self, adapted):
        """Ranks that AdaLoRA has taken."""
        if self.kind != "AdaLoraConfig" or self.often(0.4):
            return
        pattern = {}
        for name, parameter in adapted.named_parameters():
            if ".lora_E." in name:
                kept = [self.often(0.7) for _ in range(parameter.shape[0])]
                kept[0] |= not any(kept) and self.often(0.9)
                parameter.data[[i for i, k in enumerate(kept) if not k]] = 0
                pattern[name.removeprefix("base_model.model.")] = kept
        adapted.peft_config["default"].rank_pattern = pattern


def methods_of(seed, only=None):
    """Flags of a technique of thimble's whose adapters PEFT reads."""
    draw = random.Random(f"method {seed}")
    method = draw.choice(only or METHODS)
    flags = ["--method", method]
    if method in ("lora", "dora", "lora_plus", "loha", "lokr", "vera", "pissa", "olora"):
        flags += ["--rank", str(draw.choice([1, 2, 5]))]
    if method == "lora" and draw.random() < 0.5:
        flags += ["--set", f"lora.rslora={draw.randint(0, 1)}", "--set", f"lora.bias={draw.randint(0, 1)}"]
    if method == "lokr":
        flags += ["--set", f"lokr.decompose_both={draw.randint(0, 1)}"]
    if method == "oft":
        flags += ["--set", f"oft.block_size={draw.choice([4, 8])}", "--set", f"oft.constrained={draw.randint(0, 1)}", "--set", "oft.eps=0.01"]
    if method == "vblora":
        flags += ["--set", "vblora.vector_length=8", "--set", "vblora.vectors=16"]
    if method == "trainable_tokens":
        flags += ["--set", "trainable_tokens.tokens=3|9|50"]
    if method in ("prompt_tuning", "prefix_tuning"):
        flags += ["--set", f"{method}.tokens=8"]
    return flags
