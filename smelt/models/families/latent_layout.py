"""How published files write latent attention: its sizes, its names, and a long context that sharpens all scores.

YaRN sharpens through cosines and sines, which here turn only a part of each head. So these files leave the rotation as
it is (`mscale` over `mscale_all_dim`, which is 1) and multiply all scores by (0.1 mscale_all_dim ln(factor) + 1)^2.
"""

import math
from collections import ChainMap
from dataclasses import replace
from typing import Any

from smelt.core.errors import CheckpointError
from smelt.models.families.base import HfConfig, refuse_other, require
from smelt.models.families.layout import NAMES, read_rotary, write_rotary
from smelt.nn.scaling import RampScaling
from smelt.nn.spec import AttentionSpec, LatentSpec

LATENT_NAMES = NAMES | {
    "attention.query_down": "self_attn.q_a_proj",
    "attention.query_norm": "self_attn.q_a_layernorm",
    "attention.kv_down": "self_attn.kv_a_proj_with_mqa",
    "attention.kv_norm": "self_attn.kv_a_layernorm",
    "attention.kv_up": "self_attn.kv_b_proj",
}
"""Our names of the parts of a layer and the published ones; where queries have a narrow vector, see `latent_names`."""


def latent_names(attention: AttentionSpec) -> dict[str, str]:
    """Return the names of the parts of a layer; queries are the second of two matrices where they have a rank."""
    is_narrow = attention.latent is not None and attention.latent.query_rank is not None
    return LATENT_NAMES | ({"attention.query": "self_attn.q_b_proj"} if is_narrow else {})


def read_latent(config: HfConfig, num_heads: int) -> AttentionSpec:
    """Read attention; raises CheckpointError on sizes that are not there and settings that we cannot honour."""
    refuse_other(config, {"num_key_value_heads": (None, num_heads)})
    names = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    rank, plain, turned, value = require(config, *names)
    query_rank = None if config.get("q_lora_rank") is None else require(config, "q_lora_rank")[0]
    parameters = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    in_rotary, share = (parameters.pop(name, 0) or 0 for name in ("mscale", "mscale_all_dim"))
    refuse_other({"mscale": in_rotary}, {"mscale": (share,)}, "rope_parameters.")
    given = ChainMap({"rope_parameters": parameters, "rope_scaling": None}, config)  # type: ignore[arg-type]
    rotary, scale = read_rotary(given, turned, interleaved=True), None
    if share and isinstance(rotary.scaling, RampScaling):
        scale = sharpened_scale(plain + turned, share, rotary.scaling.factor)
        rotary = replace(rotary, scaling=replace(rotary.scaling, attention_factor=1.0))
    bias, latent = bool(config.get("attention_bias", False)), LatentSpec(rank, value, query_rank)
    return AttentionSpec(num_heads, num_heads, plain + turned, rotary, bias, bias, scale=scale, latent=latent)


def sharpened_scale(head_dim: int, share: float, factor: float) -> float:
    """Return what scores are multiplied by in a context longer by the factor."""
    return float((0.1 * share * math.log(factor) + 1) ** 2 / math.sqrt(head_dim))


def write_latent(attention: AttentionSpec) -> dict[str, Any]:
    """Write attention's fields; raises CheckpointError where it is not latent."""
    latent, rotary = attention.latent, attention.rotary
    if latent is None or rotary is None:
        raise CheckpointError("this layout has latent attention, the model has not", accepted="latent attention")
    found = write_rotary(rotary, rotary.dim)
    if attention.scale is not None and isinstance(rotary.scaling, RampScaling):
        root = math.sqrt(attention.scale * math.sqrt(attention.head_dim))
        share = round((root - 1) / (0.1 * math.log(rotary.scaling.factor)), 6)
        for name in ("rope_parameters", "rope_scaling"):
            kept = {key: value for key, value in found[name].items() if key != "attention_factor"}
            found[name] = {**kept, "mscale": share, "mscale_all_dim": share}
    return {
        **found,
        "kv_lora_rank": latent.kv_rank,
        "q_lora_rank": latent.query_rank,
        "qk_nope_head_dim": attention.head_dim - rotary.dim,
        "qk_rope_head_dim": rotary.dim,
        "v_head_dim": latent.value_dim,
        "attention_bias": attention.output_bias,
    }
