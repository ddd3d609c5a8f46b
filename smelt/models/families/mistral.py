"""Mistral: Llama's layers with four query heads to a kv head, and in the first release a window of 4,096 tokens.

With a window, a token L layers up still hears of L x window tokens, while memory and work per token stay put.

Ref: Mistral 7B, arXiv:2310.06825.
"""

from dataclasses import replace
from typing import Any

from smelt.models.families import llama
from smelt.models.families.base import Family, HfConfig, Init, Shape, refuse_other, token_ids_from_hf, with_defaults
from smelt.models.families.label_layout import with_labels
from smelt.models.families.layout import named_rules, read_rotary, read_shape, write_config, write_rotary
from smelt.nn.spec import ModelSpec, RotarySpec, TokenIds


def make(
    shape: Shape,
    *,
    head_dim: int | None = None,
    rotary: RotarySpec | None = None,
    eps: float = 1e-5,
    window: int | None = None,
    token_ids: TokenIds | None = None,
) -> ModelSpec:
    """Make a spec of these sizes; the defaults are Llama's."""
    spec = llama.make(shape, head_dim=head_dim, rotary=rotary, eps=eps, token_ids=token_ids)
    layer = replace(spec.layers[0], attention=replace(spec.layers[0].attention, window=window))
    return replace(spec, family="mistral", layers=(layer,) * shape.num_layers)


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, {"hidden_act": ("silu",)})
    shape = read_shape(with_defaults(config, num_key_value_heads=8), max_seq_len=131_072)
    head_dim = config.get("head_dim") or shape.dim // shape.num_heads
    return make(
        shape,
        head_dim=head_dim,
        rotary=read_rotary(config, head_dim),
        eps=config.get("rms_norm_eps", 1e-6),
        window=config.get("sliding_window", 4096),
        token_ids=token_ids_from_hf(config),
    )


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    layer = spec.layers[0]
    return {
        **write_config(spec, "mistral", "MistralForCausalLM"),
        **write_rotary(layer.attention.rotary, layer.attention.head_dim),
        "head_dim": layer.attention.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": layer.norm.eps,
        "sliding_window": layer.attention.window,
    }


_SEVEN = Shape(32_000, 4096, 32, 32, 32_768, 8, 14_336)

MISTRAL = with_labels(
    Family(
        name="mistral",
        model_types=("mistral",),
        make=make,
        spec_from_hf=spec_from_hf,
        hf_from_spec=hf_from_spec,
        rules=named_rules,
        init=Init(),
        prefix="model.",
        presets={
            "mistral-7b": make(_SEVEN, window=4096, token_ids=TokenIds(1, (2,))),
            "mistral-7b-v0.3": make(
                replace(_SEVEN, vocab_size=32_768), rotary=RotarySpec(128, 1e6), token_ids=TokenIds(1, (2,))
            ),
            "mistral-nemo-12b": make(
                Shape(131_072, 5120, 40, 32, 131_072, 8, 14_336),
                head_dim=128,
                rotary=RotarySpec(128, 1e6),
                token_ids=TokenIds(1, (2,)),
            ),
        },
    ),
    "MistralForSequenceClassification",
)
