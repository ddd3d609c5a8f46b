"""ChatGLM-6B, the first release: a context read both ways and an answer, each with a position of its own.

Half of each head is turned by the position in the context, half by that in the answer. The residual is what the norm
makes of the stream, times sqrt(2 L). A prompt ends with a blank, [gMASK], and the token that begins the answer; half
of the published vocabularies of 150,528 tokens were images, later files have 130,528. Query, key and value lie in one
matrix, head by head. Later releases share its model_type, but none of its layout: these are the `chatglm` family.

Ref: GLM, arXiv:2103.10360, 2.1-2.2. Ref: GLM-130B, arXiv:2210.02414, 2.1.
"""

import math
from dataclasses import replace
from typing import Any

from smelt.core.errors import CheckpointError
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
from smelt.models.weights import Rule, Rules
from smelt.nn.spec import (
    AttentionSpec,
    ContextSpec,
    FeedForwardSpec,
    LayerSpec,
    ModelSpec,
    NormSpec,
    RotarySpec,
    TokenIds,
)

HONOURED: dict[str, tuple[Any, ...]] = {
    "position_encoding_2d": (True,),
    "quantization_bit": (0,),
    "pre_seq_len": (None,),
    "prefix_projection": (False,),
}
NAMES = {
    "attention_norm": "input_layernorm",
    "attention.output": "attention.dense",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.up": "mlp.dense_h_to_4h",
    "feed_forward.down": "mlp.dense_4h_to_h",
}
FUSED = {"attention.query_key_value": ("attention.query", "attention.key", "attention.value")}
OUTER = {
    "token_embedding": "transformer.word_embeddings",
    "blocks": "transformer.layers",
    "norm": "transformer.final_layernorm",
    "head": "lm_head",
}


def make(shape: Shape, *, eps: float = 1e-5, context: ContextSpec | None = None) -> ModelSpec:
    """Make a spec of these sizes; F defaults to 4 D, and the blanks and the beginning are the last three tokens."""
    last, size = shape.vocab_size - 1, shape.dim // shape.num_heads
    context = context or ContextSpec(last, (max(last - 1, 0), max(last - 2, 0)))
    attention = AttentionSpec(
        shape.num_heads, shape.num_kv_heads or shape.num_heads, size, RotarySpec(size, axes=2), True, True
    )
    norm = NormSpec("layer", eps)
    feed_forward = FeedForwardSpec(shape.hidden_dim or 4 * shape.dim, "gelu_tanh", bias=True)
    scale = math.sqrt(2 * shape.num_layers)
    layer = LayerSpec(attention, feed_forward, norm, "scaled", residual_scale=scale)
    return ModelSpec(
        family="chatglm6b",
        vocab_size=shape.vocab_size,
        dim=shape.dim,
        max_seq_len=shape.max_seq_len,
        layers=(layer,) * shape.num_layers,
        norm=norm,
        tied=True if shape.tied is None else shape.tied,
        token_ids=TokenIds(context.begin_id),
        context=context,
    )


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, HONOURED)
    names = ("vocab_size", "hidden_size", "num_layers", "num_attention_heads", "max_sequence_length")
    vocab_size, dim, num_layers, num_heads, max_seq_len = require(config, *names)
    (hidden_dim,) = require(config, "inner_hidden_size")
    begin, blank, mask = (_token_id(config, name) for name in ("bos_token_id", "gmask_token_id", "mask_token_id"))
    tied = bool(config.get("tie_word_embeddings", True))
    shape = Shape(vocab_size, dim, num_layers, num_heads, max_seq_len, hidden_dim=hidden_dim, tied=tied)
    spec = make(shape, eps=config.get("layernorm_epsilon", 1e-5), context=ContextSpec(begin, (blank, mask)))
    return replace(spec, token_ids=replace(token_ids_from_hf(config), begin=config.get("begin_token_id", begin)))


def _token_id(config: HfConfig, name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or not 0 <= value < config["vocab_size"]:
        raise CheckpointError(f"config.json: {name} = {value!r}", accepted="the id of a token of the vocabulary")
    return value


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    layer, context = spec.layers[0], spec.context or ContextSpec(0, (0, 0))
    return {
        "architectures": ["ChatGLMForConditionalGeneration"],
        "model_type": "chatglm",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.dim,
        "inner_hidden_size": layer.dense.hidden_dim,
        "num_layers": len(spec.layers),
        "num_attention_heads": layer.attention.num_heads,
        "max_sequence_length": spec.max_seq_len,
        "layernorm_epsilon": layer.norm.eps,
        "position_encoding_2d": True,
        "tie_word_embeddings": spec.tied,
        **hf_from_token_ids(spec.token_ids),
        "bos_token_id": context.begin_id,  # what their code looks for; what texts begin with may be another
        "begin_token_id": spec.token_ids.begin,
        "gmask_token_id": context.blank_ids[0],
        "mask_token_id": context.blank_ids[-1],
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    heads, fused = spec.layers[0].attention.num_heads, tuple(FUSED)
    found = named_rules(spec, NAMES, outer=OUTER, fused=FUSED)
    return tuple(
        replace(rule, groups=heads) if isinstance(rule, Rule) and fused[0] in rule.theirs[0] else rule for rule in found
    )


PUBLISHED = make(Shape(130_528, 4096, 28, 32, 2048), context=ContextSpec(130_004, (130_001, 130_000)))

CHATGLM6B = Family(
    name="chatglm6b",
    model_types=("chatglm",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    init=Init(),
    own_code=True,
    mark="position_encoding_2d",
    presets={"chatglm-6b": replace(PUBLISHED, token_ids=TokenIds(130_004, (130_005,), 3))},
)
