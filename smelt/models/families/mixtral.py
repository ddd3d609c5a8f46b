"""Mixtral: Mistral's attention, and in place of the feed-forward part eight experts of which a token takes two.

A token goes through 13 of 47 billion parameters. The two weights are the softmax over the two scores alone, which is
the softmax over all, renormalised.

Ref: Mixtral of Experts, arXiv:2401.04088.
"""

from dataclasses import replace
from typing import Any

from smelt.models.families import mistral
from smelt.models.families.base import Family, HfConfig, Init, Shape, refuse_other, require, with_defaults
from smelt.models.families.layout import NAMES, expert_rules, named_rules
from smelt.models.weights import Rules
from smelt.nn.spec import ModelSpec, MoESpec, RotarySpec, TokenIds

ROUTER = {"feed_forward.router": "block_sparse_moe.gate"}
EXPERTS = {"gate": "w1", "up": "w3", "down": "w2"}


def make(shape: Shape, *, num_experts: int = 8, experts_per_token: int = 2) -> ModelSpec:
    """Make a spec of these sizes; the defaults are Mistral's."""
    return _with_experts(mistral.make(shape), num_experts, experts_per_token)


def _with_experts(spec: ModelSpec, num_experts: int, experts_per_token: int) -> ModelSpec:
    layer = spec.layers[0]
    mixture = MoESpec(layer.dense, num_experts, experts_per_token)
    return replace(spec, family="mixtral", layers=(replace(layer, feed_forward=mixture),) * len(spec.layers))


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, {"router_jitter_noise": (0.0, None)})
    usual = {"sliding_window": None, "rope_theta": 1e6, "rms_norm_eps": 1e-5, "num_local_experts": 8}
    config = with_defaults(config, num_experts_per_tok=2, **usual)
    num_experts, taken = require(config, "num_local_experts", "num_experts_per_tok")
    return _with_experts(mistral.spec_from_hf(config), num_experts, taken)


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    mixture = spec.layers[0].feed_forward
    experts = (mixture.num_experts, mixture.experts_per_token) if isinstance(mixture, MoESpec) else (None, None)
    return {
        **mistral.hf_from_spec(spec),
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": experts[0],
        "num_experts_per_tok": experts[1],
        "output_router_logits": False,
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    pattern = "model.layers.{layer}.block_sparse_moe.experts.{expert}.{name}.weight"
    return (*named_rules(spec, NAMES | ROUTER), *expert_rules(spec, pattern, EXPERTS))


def _published(dim: int, num_layers: int, num_heads: int, hidden_dim: int, vocab: int, max_seq_len: int) -> ModelSpec:
    shape = Shape(vocab, dim, num_layers, num_heads, max_seq_len, 8, hidden_dim)
    return _with_experts(mistral.make(shape, rotary=RotarySpec(128, 1e6), token_ids=TokenIds(1, (2,))), 8, 2)


MIXTRAL = Family(
    name="mixtral",
    model_types=("mixtral",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    init=Init(),
    prefix="model.",
    presets={
        "mixtral-nano": make(Shape(512, 64, 2, 4, 128, 2, 96), num_experts=4),
        "mixtral-8x7b": _published(4096, 32, 32, 14_336, 32_000, 32_768),
        "mixtral-8x22b": _published(6144, 56, 48, 16_384, 32_768, 65_536),
    },
)
