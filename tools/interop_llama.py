"""llama.cpp's logits, by the functions of its own header: the library inside the package xllamacpp exports them."""

import ctypes
import os

import numpy
import xllamacpp

F32, NO_FLASH_ATTENTION = 0, 0
REST = ("rest", ctypes.c_ubyte * 512)  # what follows the named fields; structures are passed by value, larger does no harm


class ContextParams(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in (
        "n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_outputs_max", "n_outputs_max_per_seq", "n_threads",
        "n_threads_batch", "ctx_type", "rope_scaling_type", "pooling_type", "attention_type")] + [
        ("flash_attn_type", ctypes.c_int32)] + [(name, ctypes.c_float) for name in (
            "rope_freq_base", "rope_freq_scale", "yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast",
            "yarn_beta_slow")] + [
        ("yarn_orig_ctx", ctypes.c_uint32), ("defrag_thold", ctypes.c_float), ("cb_eval", ctypes.c_void_p),
        ("cb_eval_user_data", ctypes.c_void_p), ("type_k", ctypes.c_int32), ("type_v", ctypes.c_int32), REST]


class ModelParams(ctypes.Structure):
    _fields_ = [REST]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
                ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
                ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
POINTER, INT = ctypes.c_void_p, ctypes.c_int32
FUNCTIONS = {  # name: result, arguments
    "llama_log_set": (None, LOG, POINTER), "llama_backend_init": (None,),
    "llama_model_default_params": (ModelParams,), "llama_context_default_params": (ContextParams,),
    "llama_model_load_from_file": (POINTER, ctypes.c_char_p, ModelParams),
    "llama_init_from_model": (POINTER, POINTER, ContextParams), "llama_free": (None, POINTER),
    "llama_model_free": (None, POINTER), "llama_model_get_vocab": (POINTER, POINTER), "llama_vocab_n_tokens": (INT, POINTER),
    "llama_adapter_lora_init": (POINTER, POINTER, ctypes.c_char_p),
    "llama_set_adapters_lora": (INT, POINTER, ctypes.POINTER(POINTER), ctypes.c_size_t, ctypes.POINTER(ctypes.c_float)),
    "llama_tokenize": (INT, POINTER, ctypes.c_char_p, INT, ctypes.POINTER(INT), INT, ctypes.c_bool, ctypes.c_bool),
    "llama_get_memory": (POINTER, POINTER), "llama_memory_clear": (None, POINTER, ctypes.c_bool),
    "llama_batch_init": (Batch, INT, INT, INT), "llama_batch_free": (None, Batch), "llama_decode": (INT, POINTER, Batch),
    "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), POINTER, INT), "llama_vocab_is_eog": (ctypes.c_bool, POINTER, INT),
}


def library():
    found = ctypes.CDLL(os.path.join(os.path.dirname(xllamacpp.__file__), "xllamacpp.abi3.so"))
    for name, (result, *arguments) in FUNCTIONS.items():
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    p = found.llama_context_default_params()
    defaults = (p.n_batch, p.n_ubatch, p.flash_attn_type, p.yarn_ext_factor, p.defrag_thold, p.type_k, p.type_v)
    if defaults != (2048, 512, -1, -1.0, -1.0, 1, 1):
        raise RuntimeError(f"xllamacpp {xllamacpp.__version__} has its context's parameters in another order than"
                           f" 2026.10.11549: defaults read as {defaults}")
    return found


class LlamaCpp:
    """A model, with keys and values in f32 and attention without the flash kernel; weights are as the file has them."""

    def __init__(self, path, context, lora=None, threads=1):
        self.lib, self.said = library(), []
        self.listener = LOG(lambda level, text, _: self.said.append(text.decode(errors="replace").strip()))
        self.lib.llama_log_set(self.listener, None)
        self.lib.llama_backend_init()
        self.model = self.need(self.lib.llama_model_load_from_file(path.encode(), self.lib.llama_model_default_params()),
                               f"load {path}")
        settings = self.lib.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = settings.n_outputs_max = context
        settings.n_outputs_max_per_seq = context
        settings.n_threads = settings.n_threads_batch = threads
        settings.type_k = settings.type_v = F32
        settings.flash_attn_type = NO_FLASH_ATTENTION
        self.context = self.need(self.lib.llama_init_from_model(self.model, settings), "make a context")
        self.vocabulary = self.lib.llama_model_get_vocab(self.model)
        self.size = self.lib.llama_vocab_n_tokens(self.vocabulary)
        if lora:
            adapter = self.need(self.lib.llama_adapter_lora_init(self.model, lora.encode()), f"load {lora}")
            self.lib.llama_set_adapters_lora(self.context, ctypes.byref(POINTER(adapter)), 1, ctypes.byref(ctypes.c_float(1)))

    def need(self, pointer, what):
        if not pointer:
            raise RuntimeError(f"llama.cpp does not {what}: {' '.join(self.said[-6:])[-300:]}")
        return pointer

    def close(self):
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)

    def tokens(self, text, special=True, parse=True):
        """special: with what the tokenizer adds; parse: control tokens in the text are taken as such."""
        data = text.encode()
        room = (INT * (len(data) + 8))()
        return room[:self.lib.llama_tokenize(self.vocabulary, data, len(data), room, len(room), special, parse)]

    def ends(self, token):
        return self.lib.llama_vocab_is_eog(self.vocabulary, token)

    def forget(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def decode(self, ids, position):
        """Logits [n, vocabulary] of ids that stand at position, position + 1, ... behind what the cache holds."""
        batch = self.lib.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(token), position + i, 1, 1
            batch.seq_id[i][0] = 0
        status = self.lib.llama_decode(self.context, batch)
        self.lib.llama_batch_free(batch)
        if status != 0:
            raise RuntimeError(f"llama.cpp's llama_decode answers {status}: {' '.join(self.said[-3:])[-300:]}")
        rows = [self.lib.llama_get_logits_ith(self.context, i) for i in range(len(ids))]
        return numpy.stack([numpy.ctypeslib.as_array(row, (self.size,)).copy() for row in rows])

    def logits(self, ids, prompt=None):
        """Logits [n, vocabulary]: the first `prompt` ids at once (all of them without it), the others one by one."""
        self.forget()
        first = len(ids) if prompt is None else prompt
        return numpy.concatenate([self.decode(ids[:first], 0), *(self.decode(ids[i:i + 1], i) for i in range(first, len(ids)))])
