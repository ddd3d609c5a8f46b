"""DeepSeek-V2: latent attention, a dense layer, then mixtures of small experts with shared ones beside them.

A token's cache is one latent of 512 numbers and a turned key of 64, and the longer context is YaRN's. The lite size
routes a token to the six best of 64 experts; the large one limits the choice to groups of experts, which we do not
have, and is refused by name.

Ref: DeepSeek-V2, arXiv:2405.04434. Ref: DeepSeekMoE, arXiv:2401.06066.
"""

from dataclasses import replace
from typing import Any

from smelt.models.families import llama
from smelt.models.families.base import Family, HfConfig, Init, Shape, refuse_other, require, token_ids_from_hf
from smelt.models.families.latent_layout import latent_names, read_latent, sharpened_scale, write_latent
from smelt.models.families.layout import expert_rules, named_rules, read_shape, write_config
from smelt.models.weights import Rules
from smelt.nn.scaling import RampScaling
from smelt.nn.spec import AttentionSpec, FeedForwardSpec, LatentSpec, ModelSpec, MoESpec, RotarySpec, TokenIds

HONOURED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "pretraining_tp": (1,),
    "mlp_bias": (False,),
    "topk_method": ("greedy",),
    "scoring_func": ("softmax",),
    "norm_topk_prob": (False, None),
    "routed_scaling_factor": (1.0,),
    "moe_layer_freq": (1,),
}
WITHOUT_EFFECT = ("n_group", "topk_group", "aux_loss_alpha", "seq_aux", "ep_size", "head_dim", "qk_head_dim")
SIZES = ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "n_shared_experts")
EXPERTS = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
MIXTURE = {"feed_forward.router": "mlp.gate"} | {
    f"feed_forward.shared.{ours}": f"mlp.shared_experts.{theirs}" for ours, theirs in EXPERTS.items()
}


def make(
    shape: Shape,
    *,
    attention: AttentionSpec | None = None,
    mixture: MoESpec | None = None,
    num_dense: int = 1,
    eps: float = 1e-6,
    token_ids: TokenIds | None = None,
) -> ModelSpec:
    """Make a spec of these sizes; with a mixture, layers from `num_dense` on have it."""
    size, heads = shape.dim // shape.num_heads, shape.num_heads
    if attention is None:
        rotary = RotarySpec(max(2, size // 4 * 2), interleaved=True)
        kv_heads = shape.num_kv_heads or heads
        attention = AttentionSpec(heads, kv_heads, size + rotary.dim, rotary, latent=LatentSpec(4 * size, size))
    spec = llama.make(shape, eps=eps, token_ids=token_ids)
    dense = replace(spec.layers[0], attention=attention)
    layers = [dense] * shape.num_layers
    if mixture is not None:
        layers[num_dense:] = [replace(dense, feed_forward=mixture)] * (shape.num_layers - num_dense)
    return replace(spec, family="deepseek_v2", layers=tuple(layers))


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, HONOURED)
    for name in (*WITHOUT_EFFECT, *SIZES):  # the sizes have none where all layers are dense
        config.get(name)
    shape, num_dense, mixture = read_shape(config), config.get("first_k_dense_replace", 0), None
    if num_dense < shape.num_layers:
        mixture = _mixture(*require(config, *SIZES))
    return make(
        shape,
        attention=read_latent(config, shape.num_heads),
        mixture=mixture,
        num_dense=num_dense,
        eps=config.get("rms_norm_eps", 1e-6),
        token_ids=token_ids_from_hf(config),
    )


def _mixture(num_experts: int, experts_per_token: int, hidden_dim: int, num_shared: int) -> MoESpec:
    shared = FeedForwardSpec(hidden_dim * num_shared, "swiglu")
    return MoESpec(FeedForwardSpec(hidden_dim, "swiglu"), num_experts, experts_per_token, False, shared)


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    mixtures = [layer.feed_forward for layer in spec.layers if isinstance(layer.feed_forward, MoESpec)]
    sizes: tuple[int, ...] = ()
    if mixtures:
        width, shared = mixtures[0].expert.hidden_dim, mixtures[0].shared
        num_shared = 0 if shared is None else shared.hidden_dim // width
        sizes = (mixtures[0].num_experts, mixtures[0].experts_per_token, width, num_shared)
    return {
        **write_config(spec, "deepseek_v2", "DeepseekV2ForCausalLM"),
        **write_latent(spec.layers[0].attention),
        **dict(zip(SIZES, sizes, strict=False)),
        "first_k_dense_replace": len(spec.layers) - len(mixtures),
        "hidden_act": "silu",
        "rms_norm_eps": spec.layers[0].norm.eps,
        "topk_method": "greedy",
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    pattern = "model.layers.{layer}.mlp.experts.{expert}.{name}.weight"
    names = latent_names(spec.layers[0].attention) | MIXTURE
    return (*named_rules(spec, names), *expert_rules(spec, pattern, EXPERTS))


def _lite() -> ModelSpec:
    rotary = RotarySpec(64, interleaved=True, scaling=RampScaling(40.0, 4096, attention_factor=1.0))
    scale = sharpened_scale(192, 0.707, 40.0)
    attention = AttentionSpec(16, 16, 192, rotary, scale=scale, latent=LatentSpec(512, 128))
    shape = Shape(102_400, 2048, 27, 16, 163_840, hidden_dim=10_944)
    ids = TokenIds(100_000, (100_001,))
    return make(shape, attention=attention, mixture=_mixture(64, 6, 1408, 2), token_ids=ids)


DEEPSEEK_V2 = Family(
    name="deepseek_v2",
    model_types=("deepseek_v2",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    init=Init(),
    prefix="model.",
    own_code=True,
    presets={"deepseek-v2-lite": _lite()},
)
