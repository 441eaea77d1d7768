#!/usr/bin/env python3
"""Writes tests/text/tokenizer_goldens.jsonl: what `tokenizers` makes of texts with small tokenizers of every kind.

usage: python tools/tokenizer_goldens.py        (needs tokenizers 0.23; no model, no network)

One line a tokenizer: {"name", "json": the tokenizer.json, "cases": [[text, ids with special tokens, decoded], ...]}.
Decoded texts are left out (null) where a byte that is not UTF-8 would become U+FFFD there.
"""
import base64, json, os, random, struct
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = ("the quick brown fox jumps over the lazy dog . it's been 12 or 345 days , don't you think ? we're here ! "
          "tokenizers cut words into pieces and models read pieces of words ; unbelievable reading , readers read . "
          "Größe naïve café élan Ωmega привет мир 日本語 東京 한국어 emoji 🎉 e\u0301 x² ½ ___ a_b snake_case CamelCase HTTP ").split(" ")
TEXTS = ["", " ", "hello", "the quick brown fox", "  leading and  double   spaces  ", "tab\tnew\nline\r\nend\n", "don't we're it's I'm 've",
         "Größe naïve café e\u0301lan ÉCOLE İstanbul", "日本語 東京タワー mixed日本text", "한국어 \u1100\u1161\u11a8", "emoji 🎉🎉 👨‍👩‍👧 ok", "x² ½ 12345 ３４ ①②",
         "zero\u200bwidth\u00a0nbsp\u3000ideographic\ufeffbom", "ctrl\x01\x7f\x85next", "snake_case CamelCase HTTPServer a-b-c", "Ω ﬁ ﬃ ㌔ ｱｲｳ Å",
         "[MASK] the [CLS]x [SEP]", "<s>the</s> dog <mask>  read", "unbelievable readings re-read!?", "▁the ▁▁ fox", "\u0301x a\u0301\u0323b", "...,,;;!!", "a" * 120,
         "fooBar foobar FOO foo foo1 1foo _foo", "привет МИР", "\r\n\r\n x \u2028 y", "end with space ", "\U00020000\U0001f1e9\U0001f1ea q\u0307\u0323", "don't do not 's", "\u00ad soft\u00adhyphen"]
WORDS = CORPUS + ["\n", "\t", "  ", "é", "e\u0301", "ﬁ", "🎉", "▁", "<s>", "[MASK]", "foo", "１", "日", "\u00a0", "İ", "'s", "...", "\u200d", "x" * 30]

def texts(seed):
    rng = random.Random(seed)
    return TEXTS + ["".join(rng.choice(WORDS) + rng.choice(["", " ", " ", "  "]) for _ in range(rng.randint(1, 12))) for _ in range(20)]

def trained(model, trainer, normalizer=None, pre=None):
    t = Tokenizer(model)
    if normalizer: t.normalizer = normalizer
    if pre: t.pre_tokenizer = pre
    t.train_from_iterator([" ".join(CORPUS)] * 3, trainer)
    return t

def char_map():
    """A precompiled character map with a few entries, as SentencePiece builds it (a Darts-clone double array)."""
    entries = sorted({"ﬁ": "fi", "ﬃ": "ffi", "Ω": "Ω", "Å": "Å", "\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "e\u0301": "é", "１": "1", "ｱ": "ア", "\u200b": "", "㌔": "キロ"}.items(), key=lambda kv: kv[0].encode())
    blob, values = b"", {}
    for key, to in entries:
        values[key.encode()] = len(blob); blob += to.encode() + b"\0"
    tree = {}
    for key, value in values.items():
        node = tree
        for byte in key: node = node.setdefault(byte, {})
        node[None] = value
    units = {0: 0}; used = {0}
    def place(node, at):
        labels = [0 if label is None else label for label in node]
        offset = next(o for o in range(1, 1 << 20) if all((at ^ o ^ l) not in used for l in labels) and (at ^ o) >= 0)
        has_leaf = None in node
        units[at] = units.get(at, 0) | (offset << 10) | ((1 << 8) if has_leaf else 0)
        for label in labels: used.add(at ^ offset ^ label)
        for label, child in node.items():
            where = at ^ offset ^ (0 if label is None else label)
            if label is None: units[where] = (1 << 31) | child
            else: units[where] = label; place(child, where)
    place(tree, 0)
    array = struct.pack("<%dI" % (max(units) + 256), *[units.get(i, 0) for i in range(max(units) + 256)])
    return base64.b64encode(struct.pack("<I", len(array)) + array + blob).decode()

def made():
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    bert_trainer = lambda: trainers.WordPieceTrainer(vocab_size=260, special_tokens=special, show_progress=False, limit_alphabet=120)
    for name, options in (("bert_uncased", {}), ("bert_cased", {"lowercase": False}), ("bert_accents", {"strip_accents": False}), ("bert_plain", {"clean_text": False, "handle_chinese_chars": False})):
        t = trained(models.WordPiece(unk_token="[UNK]"), bert_trainer(), normalizers.BertNormalizer(**options), pre_tokenizers.BertPreTokenizer())
        t.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
        t.decoder = decoders.WordPiece()
        yield name, t
    t = trained(models.WordPiece(unk_token="[UNK]"), bert_trainer(), normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), pre_tokenizers.Whitespace())
    t.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1)); t.decoder = decoders.WordPiece(cleanup=False)
    t.add_tokens([AddedToken("fooBar", normalized=True), AddedToken("foo", single_word=True, normalized=False), AddedToken("dog", lstrip=True, rstrip=True)])
    yield "word_piece_added", t
    uni = lambda **o: trainers.UnigramTrainer(vocab_size=150, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], unk_token="<unk>", show_progress=False, **o)
    t = trained(models.Unigram(), uni(), normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]), pre_tokenizers.Metaspace())
    t.decoder = decoders.Metaspace(); t.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    yield "t5", t
    t2 = Tokenizer.from_str(t.to_str()); j = json.loads(t.to_str())
    j["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": char_map()}, {"type": "Strip", "strip_left": False, "strip_right": True}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]}
    yield "t5_charsmap", Tokenizer.from_str(json.dumps(j))
    j["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}]}
    j["post_processor"] = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": True, "add_prefix_space": True}
    for token in j["added_tokens"]: token["lstrip"] = token["content"] == "<mask>"
    yield "xlm_r", Tokenizer.from_str(json.dumps(j))
    for scheme, split in (("first", True), ("never", True), ("always", False)):
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split); t.decoder = decoders.Metaspace(prepend_scheme=scheme, split=split)
        yield "unigram_%s_%s" % (scheme, split), Tokenizer.from_str(t.to_str())
    j = json.loads(t.to_str()); j["model"]["byte_fallback"] = True; j["model"]["vocab"] += [["<0x%02X>" % b, -20.0] for b in range(256)]
    j["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    j["decoder"] = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    yield "unigram_bytes", Tokenizer.from_str(json.dumps(j))
    bpe = lambda **o: trainers.BpeTrainer(vocab_size=200, show_progress=False, **o)
    t = trained(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"), bpe(special_tokens=["<unk>", "<s>", "</s>"], end_of_word_suffix="</w>", limit_alphabet=60),
                normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]), pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]))
    t.decoder = decoders.BPEDecoder(); yield "clip_words", t
    t = trained(models.BPE(unk_token="<unk>", continuing_subword_prefix="##", fuse_unk=True), bpe(special_tokens=["<unk>"], continuing_subword_prefix="##", limit_alphabet=50), normalizers.NFD(), pre_tokenizers.Whitespace())
    yield "bpe_prefix", t
    t = trained(models.BPE(), bpe(special_tokens=["<s>", "</s>", "<mask>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), ), None, pre_tokenizers.ByteLevel(add_prefix_space=True)); t.model.dropout = None
    t.decoder = decoders.ByteLevel(); t.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0)); yield "roberta", t
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    for name, pre in (("digits_prefix", [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=True)]),
                      ("split_prefix", [pre_tokenizers.Split(Regex(r"\d{1,3}"), "isolated"), pre_tokenizers.Split(" ", "merged_with_next"), pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)]),
                      ("onig", [pre_tokenizers.Split(Regex(r"[\p{L}&&[^\p{Han}]]+|\w+|[^\s\w]+|\s+"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
                      ("contiguous", [pre_tokenizers.Split(Regex(r"[aeiou]"), "contiguous"), pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
                      ("removed", [pre_tokenizers.Split(Regex(r"[aeiou]"), "removed"), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
                      ("invert", [pre_tokenizers.Split(Regex(r"[a-z]+"), "merged_with_previous", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])):
        t = trained(models.BPE(), bpe(special_tokens=["<s>", "</s>"], initial_alphabet=alphabet), None, pre_tokenizers.Sequence(pre)); t.decoder = decoders.ByteLevel(); yield name, t
    t = trained(models.BPE(), bpe(special_tokens=["<s>"], initial_alphabet=alphabet), normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Strip(), normalizers.ByteLevel()])); t.decoder = decoders.ByteLevel(); yield "byte_normalizer", t
    t = trained(models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False), normalizers.Lowercase(), pre_tokenizers.Sequence([pre_tokenizers.CharDelimiterSplit("_"), pre_tokenizers.Whitespace()])); yield "word_level", t
    t = trained(models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False), None, pre_tokenizers.FixedLength(length=3)); yield "fixed_length", t
    t = trained(models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False), normalizers.Prepend("_"), pre_tokenizers.Punctuation("merged_with_previous")); yield "punctuation", t
    llama = [("<unk>", 0), ("<s>", 1), ("</s>", 2)] + [("<0x%02X>" % b, 3 + b) for b in range(256)]
    base = trained(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True), trainers.BpeTrainer(vocab_size=460, show_progress=False, special_tokens=[t for t, _ in llama], limit_alphabet=60),
                   normalizers.Sequence([normalizers.Replace(" ", "▁")]), pre_tokenizers.Split(" ", "merged_with_previous"))
    j = json.loads(base.to_str()); j["added_tokens"] = [a for a in j["added_tokens"] if not a["content"].startswith("<0x")]
    j["decoder"] = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]}
    j["post_processor"] = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    yield "gemma", Tokenizer.from_str(json.dumps(j))
    j["post_processor"]["single"] = [{"SpecialToken": {"id": "two", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]; j["post_processor"]["special_tokens"] = {"two": {"id": "two", "ids": [2, 1], "tokens": ["</s>", "<s>"]}}
    j["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}; j["normalizer"] = None
    j["decoder"]["decoders"].append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    yield "llama_two_first", Tokenizer.from_str(json.dumps(j))
    # Llama 2's normalizers: an added token that is normalized is one behind a space alone.
    j = json.loads(base.to_str()); j["added_tokens"] = [a for a in j["added_tokens"] if not a["content"].startswith("<0x")]; j["pre_tokenizer"] = None
    j["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    j["decoder"] = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    t = Tokenizer.from_str(json.dumps(j)); t.add_tokens([AddedToken("fooBar", normalized=True), AddedToken("foo", normalized=True, single_word=True), AddedToken("▁the", normalized=False), AddedToken("dog", normalized=False, lstrip=True)])
    yield "llama_legacy_added", t
    t = trained(models.BPE(), bpe(special_tokens=["<s>"], initial_alphabet=alphabet), None, pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\b\w"), "isolated"), pre_tokenizers.Split(Regex(r"[\u4e00-\u9fa5]+|\Bx"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])); t.decoder = decoders.ByteLevel(); yield "word_bounds", t
    t = trained(models.Unigram(), uni(), None, pre_tokenizers.Metaspace()); t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip(content=" ", left=1, right=0), decoders.Fuse(), decoders.Strip(content="t", left=1, right=0)]); yield "strip_each", t
    t = trained(models.BPE(), bpe(special_tokens=["<s>"], initial_alphabet=alphabet), normalizers.Replace(Regex(r"[^\p{L}\n]+$"), "_"), pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"^\s"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])); t.decoder = decoders.ByteLevel(); yield "line_ends", t
    j = json.loads(trained(models.BPE(unk_token="<unk>", continuing_subword_prefix="##"), bpe(special_tokens=["<unk>"], continuing_subword_prefix="##", limit_alphabet=30), None, pre_tokenizers.Whitespace()).to_str())
    j["model"]["byte_fallback"] = True
    for b in range(256): j["model"]["vocab"].setdefault("<0x%02X>" % b, len(j["model"]["vocab"]))
    yield "prefix_bytes", Tokenizer.from_str(json.dumps(j))

with open(os.path.join(os.path.dirname(__file__), "..", "tests", "text", "tokenizer_goldens.jsonl"), "w") as out:
    for name, t in made():
        t.no_padding(); t.no_truncation(); cases = []
        for text in texts(name):
            ids = t.encode(text).ids; back = t.decode(ids, skip_special_tokens=False)
            cases.append([text, ids, None if "\ufffd" in back else back])
        j = json.loads(t.to_str())
        if j["model"].get("dropout") == 0: j["model"]["dropout"] = None
        out.write(json.dumps({"name": name, "json": j, "cases": cases}, ensure_ascii=False) + "\n")
