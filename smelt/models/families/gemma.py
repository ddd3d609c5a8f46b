"""Gemma: norms that store their weight less one, embeddings times sqrt(D), GEGLU, a tied head, wide heads.

Ref: Gemma, arXiv:2403.08295.
"""

import math
from typing import Any

from smelt.models.families.base import Family, HfConfig, Init, Shape, refuse_other, token_ids_from_hf
from smelt.models.families.layout import named_rules, read_rotary, read_shape, write_config, write_rotary
from smelt.nn.spec import AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec, NormSpec, RotarySpec, TokenIds

ACTIVATION = "gelu_pytorch_tanh"


def make(
    shape: Shape,
    *,
    head_dim: int | None = None,
    rotary: RotarySpec | None = None,
    eps: float = 1e-6,
    bias: bool = False,
    token_ids: TokenIds | None = None,
) -> ModelSpec:
    """Make a spec of these sizes; F defaults to 8 D, the head is tied unless the shape says otherwise."""
    size, norm = head_dim or shape.dim // shape.num_heads, NormSpec("rms", eps, unit_offset=True)
    kv_heads = shape.num_kv_heads or shape.num_heads
    layer = LayerSpec(
        AttentionSpec(shape.num_heads, kv_heads, size, rotary or RotarySpec(size), bias, bias),
        FeedForwardSpec(shape.hidden_dim or 8 * shape.dim, "geglu"),
        norm,
    )
    return ModelSpec(
        family="gemma",
        vocab_size=shape.vocab_size,
        dim=shape.dim,
        max_seq_len=shape.max_seq_len,
        layers=(layer,) * shape.num_layers,
        norm=norm,
        tied=shape.tied is not False,
        embedding_scale=math.sqrt(shape.dim),
        token_ids=token_ids or TokenIds(),
    )


def spec_from_hf(config: HfConfig, rotary: RotarySpec | None = None) -> ModelSpec:
    """Read a config.json, rotary positions too unless given; raises CheckpointError on what we cannot honour."""
    accepted = {"hidden_activation": (ACTIVATION, None), "use_bidirectional_attention": (None, False)}
    # The first files say "gelu" and mean the tanh form; Gemma never had another.
    refuse_other(config, accepted | {"hidden_act": (ACTIVATION, "gelu")})
    head_dim = config.get("head_dim", 256)
    return make(
        read_shape(config, tied=True, max_seq_len=8192),
        head_dim=head_dim,
        rotary=rotary or read_rotary(config, head_dim),
        eps=config.get("rms_norm_eps", 1e-6),
        bias=bool(config.get("attention_bias", False)),
        token_ids=token_ids_from_hf(config),
    )


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    layer = spec.layers[0]
    return {
        **write_config(spec, "gemma", "GemmaForCausalLM"),
        **write_rotary(layer.attention.rotary, layer.attention.head_dim),
        "head_dim": layer.attention.head_dim,
        "hidden_act": ACTIVATION,
        "hidden_activation": ACTIVATION,
        "rms_norm_eps": layer.norm.eps,
        "attention_bias": layer.attention.output_bias,
    }


_IDS = TokenIds(2, (1,), 0)

GEMMA = Family(
    name="gemma",
    model_types=("gemma",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=named_rules,
    init=Init(),
    prefix="model.",
    presets={
        "gemma-2b": make(Shape(256_000, 2048, 18, 8, 8192, 1, 16_384), head_dim=256, token_ids=_IDS),
        "gemma-7b": make(Shape(256_000, 3072, 28, 16, 8192, 16, 24_576), head_dim=256, token_ids=_IDS),
    },
)
