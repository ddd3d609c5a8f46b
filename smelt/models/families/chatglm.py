"""ChatGLM2 and 3: GLM-4's layers under the names of their own code, with every fused matrix kept whole in the file.

Their files name that code in `auto_map`; it is never run, this family takes its place.

Ref: GLM-130B, arXiv:2210.02414. Ref: ChatGLM: From GLM-130B to GLM-4 All Tools, arXiv:2406.12793.
"""

from dataclasses import replace
from typing import Any

from smelt.models.families import glm
from smelt.models.families.base import (
    Family,
    HfConfig,
    Init,
    Shape,
    hf_from_token_ids,
    refuse_other,
    require,
    token_ids_from_hf,
)
from smelt.models.families.layout import named_rules
from smelt.models.weights import Rules
from smelt.nn.spec import ModelSpec, RotarySpec, TokenIds

HONOURED: dict[str, tuple[Any, ...]] = {
    "rmsnorm": (True,),
    "original_rope": (True,),
    "post_layer_norm": (True,),
    "multi_query_attention": (True,),
    "add_bias_linear": (False,),
    "apply_residual_connection_post_layernorm": (False,),
    "fp32_residual_connection": (False,),
    "quantization_bit": (0,),
    "pre_seq_len": (None,),
    "prefix_projection": (False,),
    # How its code computes the very same.
    "apply_query_key_layer_scaling": (True, False),
    "attention_softmax_in_fp32": (True, False),
    "bias_dropout_fusion": (True, False),
}
NAMES = {
    "attention_norm": "input_layernorm",
    "attention.output": "self_attention.dense",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.down": "mlp.dense_4h_to_h",
}
FUSED = {
    "self_attention.query_key_value": ("attention.query", "attention.key", "attention.value"),
    "mlp.dense_h_to_4h": ("feed_forward.gate", "feed_forward.up"),
}
OUTER = {
    "token_embedding": "transformer.embedding.word_embeddings",
    "blocks": "transformer.encoder.layers",
    "norm": "transformer.encoder.final_layernorm",
    "head": "transformer.output_layer",
}


def make(shape: Shape, *, eps: float = 1e-5, bias: bool = True, ratio: float = 1.0) -> ModelSpec:
    """Make a spec of these sizes; `ratio` multiplies the rotary base for longer contexts."""
    size = shape.dim // shape.num_heads
    rotary = RotarySpec(size // 2, 10_000.0 * ratio, interleaved=True)
    return replace(glm.make(shape, rotary=rotary, eps=eps, bias=bias), family="chatglm")


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, HONOURED)
    names = ("padded_vocab_size", "hidden_size", "num_layers", "num_attention_heads", "seq_length")
    vocab_size, dim, num_layers, num_heads, max_seq_len = require(config, *names)
    kv_heads, hidden_dim = require(config, "multi_query_group_num", "ffn_hidden_size")
    refuse_other(config, {"kv_channels": (dim // num_heads,), "vocab_size": (vocab_size,)})
    tied = bool(config.get("tie_word_embeddings", False))
    shape = Shape(vocab_size, dim, num_layers, num_heads, max_seq_len, kv_heads, hidden_dim, tied)
    eps, bias = config.get("layernorm_epsilon", 1e-5), bool(config.get("add_qkv_bias", False))
    spec = make(shape, eps=eps, bias=bias, ratio=float(config.get("rope_ratio", 1.0)))
    return replace(spec, token_ids=token_ids_from_hf(config))


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    attention, theta = spec.layers[0].attention, 10_000.0
    rotary = attention.rotary or RotarySpec(attention.head_dim // 2)
    return {
        "architectures": ["ChatGLMModel"],
        "model_type": "chatglm",
        "padded_vocab_size": spec.vocab_size,
        "hidden_size": spec.dim,
        "ffn_hidden_size": spec.layers[0].dense.hidden_dim,
        "num_layers": len(spec.layers),
        "num_attention_heads": attention.num_heads,
        "kv_channels": attention.head_dim,
        "multi_query_attention": True,
        "multi_query_group_num": attention.num_kv_heads,
        "seq_length": spec.max_seq_len,
        "layernorm_epsilon": spec.layers[0].norm.eps,
        "add_qkv_bias": attention.qkv_bias,
        "add_bias_linear": False,
        "rope_ratio": rotary.theta / theta,
        **dict.fromkeys(("rmsnorm", "original_rope", "post_layer_norm"), True),
        "tie_word_embeddings": spec.tied,
        **hf_from_token_ids(spec.token_ids),
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    return named_rules(spec, NAMES, outer=OUTER, fused=FUSED)


def _published(max_seq_len: int, ratio: float = 1.0) -> ModelSpec:
    spec = make(Shape(65_024, 4096, 28, 32, max_seq_len, 2, 13_696), ratio=ratio)
    return replace(spec, token_ids=TokenIds(None, (2,), 0))


CHATGLM = Family(
    name="chatglm",
    model_types=("chatglm",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    init=Init(),
    own_code=True,
    presets={
        "chatglm2-6b": _published(32_768),
        "chatglm3-6b": _published(8192),
        "chatglm3-6b-32k": _published(32_768, 50.0),
    },
)
