"""Qwen3: Llama's layers with a norm on every query and key head instead of biases, heads wider than D / H.

Ref: Qwen3 Technical Report, arXiv:2505.09388.
"""

from dataclasses import replace
from typing import Any

from smelt.models.families import llama
from smelt.models.families.base import Family, HfConfig, Init, Shape, refuse_other, token_ids_from_hf
from smelt.models.families.label_layout import with_labels
from smelt.models.families.layout import (
    named_rules,
    read_rotary,
    read_shape,
    read_windows,
    write_config,
    write_rotary,
    write_windows,
)
from smelt.nn.spec import ModelSpec, RotarySpec, TokenIds


def make(shape: Shape, *, head_dim: int | None = None, theta: float = 1e6) -> ModelSpec:
    """Make a spec of these sizes."""
    size = head_dim or shape.dim // shape.num_heads
    return _with_norms(llama.make(shape, head_dim=size, rotary=RotarySpec(size, theta), eps=1e-6))


def _with_norms(spec: ModelSpec, windows: tuple[int | None, ...] | None = None) -> ModelSpec:
    layer = spec.layers[0]
    layers = [
        replace(layer, attention=replace(layer.attention, qk_norm=layer.norm, window=window))
        for window in windows or (None,) * len(spec.layers)
    ]
    return replace(spec, family="qwen3", layers=tuple(layers))


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, {"hidden_act": ("silu",)})
    shape = read_shape(config, max_seq_len=32_768)
    head_dim = config.get("head_dim", 128)
    spec = llama.make(
        shape,
        head_dim=head_dim,
        rotary=read_rotary(config, head_dim),
        eps=config.get("rms_norm_eps", 1e-6),
        attention_bias=bool(config.get("attention_bias", False)),
        token_ids=token_ids_from_hf(config),
    )
    return _with_norms(spec, read_windows(config, shape.num_layers))


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    layer = spec.layers[0]
    return {
        **write_config(spec, "qwen3", "Qwen3ForCausalLM"),
        **write_rotary(layer.attention.rotary, layer.attention.head_dim),
        **write_windows(spec),
        "head_dim": layer.attention.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": layer.norm.eps,
        "attention_bias": layer.attention.output_bias,
    }


def published(*sizes: int, tied: bool = False) -> ModelSpec:
    """Make a spec of D, L, H, K and F with what all published sizes share."""
    dim, num_layers, num_heads, kv_heads, hidden_dim = sizes
    shape = Shape(151_936, dim, num_layers, num_heads, 40_960, kv_heads, hidden_dim, tied)
    return replace(make(shape, head_dim=128), token_ids=TokenIds(151_643, (151_645,), 151_643))


QWEN3 = with_labels(
    Family(
        name="qwen3",
        model_types=("qwen3",),
        make=make,
        spec_from_hf=spec_from_hf,
        hf_from_spec=hf_from_spec,
        rules=named_rules,
        init=Init(),
        prefix="model.",
        presets={
            "qwen3-0.6b": published(1024, 28, 16, 8, 3072, tied=True),
            "qwen3-1.7b": published(2048, 28, 16, 8, 6144, tied=True),
            "qwen3-4b": published(2560, 36, 32, 8, 9728, tied=True),
            "qwen3-8b": published(4096, 36, 32, 8, 12_288),
            "qwen3-14b": published(5120, 40, 40, 8, 17_408),
            "qwen3-32b": published(5120, 64, 64, 8, 25_600),
        },
    ),
    "Qwen3ForSequenceClassification",
)
