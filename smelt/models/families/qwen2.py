"""Qwen2 and 2.5: Llama's layers with biases on query, key and value alone, and a base of a million.

A file may give the layers from some depth on a window.

Ref: Qwen2 Technical Report, arXiv:2407.10671.
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


def make(
    shape: Shape,
    *,
    rotary: RotarySpec | None = None,
    eps: float = 1e-6,
    windows: tuple[int | None, ...] | None = None,
    token_ids: TokenIds | None = None,
) -> ModelSpec:
    """Make a spec of these sizes; `windows` has one for each layer."""
    spec = llama.make(shape, rotary=rotary, eps=eps, token_ids=token_ids)
    layer = spec.layers[0]
    layers = [
        replace(layer, attention=replace(layer.attention, qkv_bias=True, window=window))
        for window in windows or (None,) * shape.num_layers
    ]
    return replace(spec, family="qwen2", layers=tuple(layers))


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, {"hidden_act": ("silu",)})
    shape = read_shape(config, max_seq_len=32_768)
    return make(
        shape,
        rotary=read_rotary(config, shape.dim // shape.num_heads),
        eps=config.get("rms_norm_eps", 1e-6),
        windows=read_windows(config, shape.num_layers),
        token_ids=token_ids_from_hf(config),
    )


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    layer = spec.layers[0]
    return {
        **write_config(spec, "qwen2", "Qwen2ForCausalLM"),
        **write_rotary(layer.attention.rotary, layer.attention.head_dim),
        **write_windows(spec),
        "hidden_act": "silu",
        "rms_norm_eps": layer.norm.eps,
    }


def _published(
    dim: int,
    num_layers: int,
    num_heads: int,
    kv_heads: int,
    hidden_dim: int,
    *,
    tied: bool = False,
    vocab: int = 152_064,
) -> ModelSpec:
    shape = Shape(vocab, dim, num_layers, num_heads, 32_768, kv_heads, hidden_dim, tied)
    return make(shape, rotary=RotarySpec(dim // num_heads, 1e6), token_ids=TokenIds(151_643, (151_645,), 151_643))


QWEN2 = with_labels(
    Family(
        name="qwen2",
        model_types=("qwen2",),
        make=make,
        spec_from_hf=spec_from_hf,
        hf_from_spec=hf_from_spec,
        rules=named_rules,
        init=Init(),
        prefix="model.",
        presets={
            "qwen2.5-0.5b": _published(896, 24, 14, 2, 4864, tied=True, vocab=151_936),
            "qwen2.5-1.5b": _published(1536, 28, 12, 2, 8960, tied=True, vocab=151_936),
            "qwen2.5-3b": _published(2048, 36, 16, 2, 11_008, tied=True, vocab=151_936),
            "qwen2.5-7b": _published(3584, 28, 28, 4, 18_944),
            "qwen2.5-14b": _published(5120, 48, 40, 8, 13_824),
            "qwen2.5-32b": _published(5120, 64, 40, 8, 27_648),
            "qwen2.5-72b": _published(8192, 80, 64, 8, 29_568),
        },
    ),
    "Qwen2ForSequenceClassification",
)
