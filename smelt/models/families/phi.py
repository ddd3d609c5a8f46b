"""Phi: attention and feed-forward side by side on one normalised input, LayerNorm and biases everywhere, part of each
head turned by rotary positions.

Ref: Textbooks Are All You Need II: phi-1.5, arXiv:2309.05463, 2.1.
"""

from dataclasses import replace
from typing import Any

from smelt.models.families.base import Family, HfConfig, Init, Shape, refuse_other, token_ids_from_hf
from smelt.models.families.layout import NAMES, OUTER, named_rules, read_rotary, read_shape, write_config, write_rotary
from smelt.models.weights import Rules
from smelt.nn.spec import (
    Activation,
    AttentionSpec,
    FeedForwardSpec,
    LayerSpec,
    ModelSpec,
    NormSpec,
    RotarySpec,
)

ACTIVATIONS: dict[str, Activation] = {"gelu_new": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
PHI_NAMES = NAMES | {
    "attention.output": "self_attn.dense",
    "attention.query_norm": "self_attn.q_layernorm",
    "attention.key_norm": "self_attn.k_layernorm",
    "feed_forward.up": "mlp.fc1",
    "feed_forward.down": "mlp.fc2",
}


def make(
    shape: Shape,
    *,
    rotary: RotarySpec | None = None,
    activation: Activation = "gelu_tanh",
    eps: float = 1e-5,
    qk_norm: bool = False,
) -> ModelSpec:
    """Make a spec of these sizes; F defaults to 4 D, half of each head is turned."""
    head_dim, norm = shape.dim // shape.num_heads, NormSpec("layer", eps)
    attention = AttentionSpec(
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads or shape.num_heads,
        head_dim=head_dim,
        rotary=rotary or RotarySpec(head_dim // 2),
        qkv_bias=True,
        output_bias=True,
        qk_norm=norm if qk_norm else None,
    )
    layer = LayerSpec(
        attention, FeedForwardSpec(shape.hidden_dim or 4 * shape.dim, activation, bias=True), norm, "parallel"
    )
    tied = bool(shape.tied)
    return ModelSpec(
        family="phi",
        vocab_size=shape.vocab_size,
        dim=shape.dim,
        max_seq_len=shape.max_seq_len,
        layers=(layer,) * shape.num_layers,
        norm=norm,
        tied=tied,
        head_bias=True,
    )


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, {"hidden_act": tuple(ACTIVATIONS)})
    shape = read_shape(config)
    spec = make(
        shape,
        rotary=read_rotary(config, shape.dim // shape.num_heads, share=0.5),
        activation=ACTIVATIONS[config.get("hidden_act", "gelu_new")],
        eps=config.get("layer_norm_eps", 1e-5),
        qk_norm=bool(config.get("qk_layernorm", False)),
    )
    return replace(spec, token_ids=token_ids_from_hf(config))


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    layer = spec.layers[0]
    return {
        **write_config(spec, "phi", "PhiForCausalLM"),
        **write_rotary(layer.attention.rotary, layer.attention.head_dim),
        "hidden_act": next(name for name, ours in ACTIVATIONS.items() if ours == layer.dense.activation),
        "layer_norm_eps": layer.norm.eps,
        "qk_layernorm": layer.attention.qk_norm is not None,
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    return named_rules(spec, PHI_NAMES, outer=OUTER | {"norm": "model.final_layernorm", "tied_bias": "lm_head.bias"})


PHI = Family(
    name="phi",
    model_types=("phi",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    init=Init(),
    prefix="model.",
    presets={
        "phi-1.5": make(Shape(51_200, 2048, 24, 32, 2048), rotary=RotarySpec(32)),
        "phi-2": make(Shape(51_200, 2560, 32, 32, 2048), rotary=RotarySpec(32)),
    },
)
