"""Gemma 2: Gemma with norms before and behind each part, bounded scores and logits, and every other layer on a window.

Ref: Gemma 2, arXiv:2408.00118.
"""

from dataclasses import replace
from typing import Any

from smelt.models.families import gemma
from smelt.models.families.base import Family, HfConfig, Init, Shape, refuse_other, with_defaults
from smelt.models.families.layout import NAMES, named_rules, read_windows, write_windows
from smelt.models.weights import Rules
from smelt.nn.spec import LayerSpec, ModelSpec, TokenIds

SANDWICH = NAMES | {
    "attention_out_norm": "post_attention_layernorm",
    "feed_forward_norm": "pre_feedforward_layernorm",
    "feed_forward_out_norm": "post_feedforward_layernorm",
}


def make(
    shape: Shape,
    *,
    head_dim: int | None = None,
    window: int = 4096,
    scalar: float | None = None,
    score_cap: float | None = 50.0,
    logit_cap: float | None = 30.0,
) -> ModelSpec:
    """Make a spec of these sizes; scores are divided by the root of `scalar`, C if None."""
    spec = gemma.make(shape, head_dim=head_dim)
    windows = [window if index % 2 == 0 else None for index in range(shape.num_layers)]
    return _sandwiched(spec, windows, scalar or spec.layers[0].attention.head_dim, score_cap, logit_cap)


def _sandwiched(
    spec: ModelSpec, windows: list[int | None], scalar: float, score_cap: float | None, logit_cap: float | None
) -> ModelSpec:
    layers: list[LayerSpec] = []
    for layer, window in zip(spec.layers, windows, strict=True):
        attention = replace(layer.attention, window=window, scale=scalar**-0.5, softcap=score_cap)
        layers.append(replace(layer, attention=attention, placement="sandwich"))
    return replace(spec, family="gemma2", layers=tuple(layers), logit_softcap=logit_cap)


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, {"use_bidirectional_attention": (None, False)})
    spec, num_layers = gemma.spec_from_hf(config), config["num_hidden_layers"]
    usual = ["full_attention" if index % 2 else "sliding_attention" for index in range(num_layers)]
    windows = read_windows(with_defaults(config, sliding_window=4096), num_layers, usual)
    caps = config.get("attn_logit_softcapping", 50.0), config.get("final_logit_softcapping", 30.0)
    return _sandwiched(spec, list(windows), config.get("query_pre_attn_scalar", 256), *caps)


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    attention = spec.layers[0].attention
    scale = attention.scale or attention.head_dim**-0.5
    return {
        **gemma.hf_from_spec(spec),
        **write_windows(spec),
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "query_pre_attn_scalar": round(scale**-2),
        "attn_logit_softcapping": attention.softcap,
        "final_logit_softcapping": spec.logit_softcap,
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    return named_rules(spec, SANDWICH)


def _published(*sizes: int, scalar: float | None = None) -> ModelSpec:
    dim, num_layers, num_heads, kv_heads, hidden_dim, head_dim = sizes
    shape = Shape(256_000, dim, num_layers, num_heads, 8192, kv_heads, hidden_dim)
    return replace(make(shape, head_dim=head_dim, scalar=scalar), token_ids=TokenIds(2, (1,), 0))


GEMMA2 = Family(
    name="gemma2",
    model_types=("gemma2",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    init=Init(),
    prefix="model.",
    presets={
        "gemma-2-2b": _published(2304, 26, 8, 4, 9216, 256),
        "gemma-2-9b": _published(3584, 42, 16, 8, 14_336, 256),
        "gemma-2-27b": _published(4608, 46, 32, 16, 36_864, 128, scalar=144),
    },
)
