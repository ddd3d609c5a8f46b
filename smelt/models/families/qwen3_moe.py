"""Qwen3-MoE: Qwen3's attention, and 128 small experts of which a token takes eight; some layers may stay dense.

Ref: Qwen3 Technical Report, arXiv:2505.09388.
"""

from dataclasses import replace
from typing import Any

from smelt.models.families import qwen3
from smelt.models.families.base import Family, HfConfig, Init, Shape, refuse_other, require, with_defaults
from smelt.models.families.layout import NAMES, expert_rules, named_rules
from smelt.models.weights import Rules
from smelt.nn.spec import FeedForwardSpec, LayerSpec, ModelSpec, MoESpec

EXPERTS = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}


def make(shape: Shape, *, num_experts: int = 8, experts_per_token: int = 2) -> ModelSpec:
    """Make a spec whose layers are all mixtures; `hidden_dim` is the width of one expert."""
    return _with_experts(qwen3.make(shape), num_experts, experts_per_token)


def _with_experts(spec: ModelSpec, num_experts: int, experts_per_token: int) -> ModelSpec:
    mixture = MoESpec(spec.layers[0].dense, num_experts, experts_per_token)
    layers = (replace(spec.layers[0], feed_forward=mixture),) * len(spec.layers)
    return replace(spec, family="qwen3_moe", layers=layers)


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, {"use_sliding_window": (False,)})
    config = with_defaults(config, num_experts=config.get("num_local_experts", 128), num_experts_per_tok=8)
    num_experts, taken, hidden_dim = require(config, "num_experts", "num_experts_per_tok", "moe_intermediate_size")
    expert = FeedForwardSpec(hidden_dim, "swiglu")
    mixture = MoESpec(expert, num_experts, taken, bool(config.get("norm_topk_prob", False)))
    dense, every = config.get("mlp_only_layers") or [], config.get("decoder_sparse_step", 1)
    spec = qwen3.spec_from_hf(with_defaults(config, head_dim=config["hidden_size"] // config["num_attention_heads"]))

    def with_experts(index: int, layer: LayerSpec) -> LayerSpec:
        is_dense = index in dense or (index + 1) % every
        return layer if is_dense else replace(layer, feed_forward=mixture)

    layers = tuple(with_experts(index, layer) for index, layer in enumerate(spec.layers))
    return replace(spec, family="qwen3_moe", layers=layers)


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    dense = [index for index, layer in enumerate(spec.layers) if isinstance(layer.feed_forward, FeedForwardSpec)]
    [mixture] = {layer.feed_forward for layer in spec.layers if isinstance(layer.feed_forward, MoESpec)}
    return {
        **qwen3.hf_from_spec(spec),
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "intermediate_size": spec.layers[dense[0] if dense else 0].dense.hidden_dim,
        "mlp_only_layers": dense,
        "decoder_sparse_step": 1,
        "num_experts": mixture.num_experts,
        "num_experts_per_tok": mixture.experts_per_token,
        "moe_intermediate_size": mixture.expert.hidden_dim,
        "norm_topk_prob": mixture.normalized,
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    pattern = "model.layers.{layer}.mlp.experts.{expert}.{name}.weight"
    names = NAMES | {"feed_forward.router": "mlp.gate"}
    return (*named_rules(spec, names), *expert_rules(spec, pattern, EXPERTS))


QWEN3_MOE = Family(
    name="qwen3_moe",
    model_types=("qwen3_moe",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    init=Init(),
    prefix="model.",
    presets={
        "qwen3-30b-a3b": _with_experts(qwen3.published(2048, 48, 32, 4, 768), 128, 8),
        "qwen3-235b-a22b": _with_experts(qwen3.published(4096, 94, 64, 4, 1536), 128, 8),
    },
)
