"""GPT-3: GPT-2 with a context of 2,048, and every other layer on a locally banded window.

Nobody published its weights or the width of its bands, so the layout is GPT-2's with the windows written down, and 256
is the band of the open models that followed it. Table 2.1 prints 24 heads of 128 for the width of 2,048, and a width of
5,140 for 40 heads of 128: 16 heads and 5,120 are what gives the sizes it names.

Ref: Language Models are Few-Shot Learners, arXiv:2005.14165, 2.1. Ref: Sparse Transformers, arXiv:1904.10509.
"""

from dataclasses import replace
from typing import Any

from smelt.models.families import gpt2
from smelt.models.families.base import Family, HfConfig, Init, Shape
from smelt.models.families.layout import read_windows, write_windows
from smelt.nn.spec import ModelSpec, TokenIds


def make(shape: Shape, *, window: int = 256) -> ModelSpec:
    """Make a spec of these sizes, dense layers first; F defaults to 4 D."""
    windows = tuple(window if index % 2 else None for index in range(shape.num_layers))
    return _with_windows(gpt2.make(shape), windows)


def _with_windows(spec: ModelSpec, windows: tuple[int | None, ...]) -> ModelSpec:
    layer = spec.layers[0]
    layers = [replace(layer, attention=replace(layer.attention, window=window)) for window in windows]
    return replace(spec, family="gpt3", layers=tuple(layers))


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    spec = gpt2.spec_from_hf(config)
    return _with_windows(spec, read_windows(config, len(spec.layers)))


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    found = {**gpt2.hf_from_spec(spec), **write_windows(spec)}
    return {**found, "architectures": ["GPT3LMHeadModel"], "model_type": "gpt3"}


def _published(dim: int, num_layers: int, num_heads: int) -> ModelSpec:
    spec = make(Shape(50_257, dim, num_layers, num_heads, 2048))
    return replace(spec, token_ids=TokenIds(50_256, (50_256,)))


GPT3 = Family(
    name="gpt3",
    model_types=("gpt3",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=gpt2.rules,
    init=Init(position_std=0.01),
    prefix="transformer.",
    presets={
        "gpt3-125m": _published(768, 12, 12),
        "gpt3-350m": _published(1024, 24, 16),
        "gpt3-760m": _published(1536, 24, 16),
        "gpt3-1.3b": _published(2048, 24, 16),
        "gpt3-2.7b": _published(2560, 32, 32),
        "gpt3-6.7b": _published(4096, 32, 32),
        "gpt3-13b": _published(5120, 40, 40),
        "gpt3-175b": _published(12_288, 96, 96),
    },
)
