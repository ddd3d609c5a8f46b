"""Gemma 3: Gemma 2 with norms of queries and keys in place of bounded scores, five layers with a window to one without.

Layers with a window turn with the old base of 10,000; the others with a million and, in the larger sizes, frequencies
divided by eight.

Ref: Gemma 3 Technical Report, arXiv:2503.19786.
"""

from dataclasses import replace
from typing import Any

from smelt.models.families import gemma
from smelt.models.families.base import Family, HfConfig, Init, Shape, refuse_other, with_defaults
from smelt.models.families.gemma2 import SANDWICH
from smelt.models.families.layout import named_rules, read_rotary, read_windows, rope_parameters, write_windows
from smelt.models.weights import Rules
from smelt.nn.scaling import LinearScaling
from smelt.nn.spec import ModelSpec, RotarySpec, TokenIds

LOCAL, WHOLE = "sliding_attention", "full_attention"


def make(shape: Shape, *, head_dim: int | None = None, window: int = 512) -> ModelSpec:
    """Make a spec of these sizes; scores are divided by the root of the head size."""
    size = head_dim or shape.dim // shape.num_heads
    windows = tuple(None if (index + 1) % 6 == 0 else window for index in range(shape.num_layers))
    return _layered(gemma.make(shape, head_dim=size), windows, RotarySpec(size), RotarySpec(size, 1e6), size)


def _layered(
    spec: ModelSpec, windows: tuple[int | None, ...], local: RotarySpec, whole: RotarySpec, scalar: float
) -> ModelSpec:
    layer, kind = spec.layers[0], replace(spec.layers[0].attention, qk_norm=spec.norm, scale=scalar**-0.5)
    layers = [
        replace(
            layer,
            attention=replace(kind, window=window, rotary=whole if window is None else local),
            placement="sandwich",
        )
        for window in windows
    ]
    return replace(spec, family="gemma3", layers=tuple(layers))


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    uncapped = {"attn_logit_softcapping": (None,), "final_logit_softcapping": (None,)}
    refuse_other(config, uncapped | {"use_bidirectional_attention": (None, False)})
    head_dim, num_layers = config.get("head_dim", 256), config["num_hidden_layers"]
    patterns = config.get("sliding_window_pattern"), config.get("_sliding_window_pattern"), 6
    every = next(pattern for pattern in patterns if pattern)
    usual = [LOCAL if (index + 1) % every else WHOLE for index in range(num_layers)]
    windows = read_windows(with_defaults(config, sliding_window=4096), num_layers, usual)
    local, whole = _read_rotaries(config, head_dim)
    scalar = config.get("query_pre_attn_scalar", 256)
    return _layered(gemma.spec_from_hf(config, whole), windows, local, whole, scalar)


def _read_rotaries(config: HfConfig, head_dim: int) -> tuple[RotarySpec, RotarySpec]:
    """Read the rotary positions of layers with a window and of those without, as newer or older files have them."""
    rope = config.get("rope_parameters") or {}
    local = {"rope_theta": config.get("rope_local_base_freq"), "rope_parameters": rope.get(LOCAL)}
    whole = {"rope_theta": config.get("rope_theta"), "rope_parameters": rope.get(WHOLE) or config.get("rope_scaling")}
    return read_rotary(local, head_dim), read_rotary(whole, head_dim, theta=1e6)


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    attention = spec.layers[0].attention
    found = {layer.attention.window is None: layer.attention.rotary for layer in spec.layers}
    local = found.get(False) or RotarySpec(attention.head_dim)
    whole = found.get(True) or RotarySpec(attention.head_dim, 1e6)
    return {
        **gemma.hf_from_spec(spec),
        **write_windows(spec),
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "rope_theta": whole.theta,
        "rope_local_base_freq": local.theta,
        "rope_parameters": {
            LOCAL: rope_parameters(local, attention.head_dim),
            WHOLE: rope_parameters(whole, attention.head_dim),
        },
        "query_pre_attn_scalar": round((attention.scale or 1.0) ** -2),
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    return named_rules(spec, SANDWICH)


def _published(*sizes: int, head_dim: int = 256, scalar: int = 256) -> ModelSpec:
    dim, num_layers, num_heads, kv_heads, hidden_dim = sizes
    is_large = dim > 2000
    vocab_size, max_seq_len = (262_208, 131_072) if is_large else (262_144, 32_768)
    shape = Shape(vocab_size, dim, num_layers, num_heads, max_seq_len, kv_heads, hidden_dim)
    windows = tuple(layer.attention.window for layer in make(shape, window=1024 if is_large else 512).layers)
    whole = RotarySpec(head_dim, 1e6, scaling=LinearScaling(8.0) if is_large else None)
    spec = gemma.make(shape, head_dim=head_dim, token_ids=TokenIds(2, (1,), 0))
    return _layered(spec, windows, RotarySpec(head_dim), whole, scalar)


GEMMA3 = Family(
    name="gemma3",
    model_types=("gemma3_text",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    init=Init(),
    prefix="model.",
    presets={
        "gemma-3-270m": _published(640, 18, 4, 1, 2048),
        "gemma-3-1b": _published(1152, 26, 4, 1, 6912),
        "gemma-3-4b": _published(2560, 34, 8, 4, 10_240),
        "gemma-3-12b": _published(3840, 48, 16, 8, 15_360),
        "gemma-3-27b": _published(5376, 62, 32, 16, 21_504, head_dim=128, scalar=168),
    },
)
