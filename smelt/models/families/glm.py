"""GLM-4: Llama's layers with biases on query, key and value, two kv heads, and half of each head turned, interleaved.

The releases of 2025 (model_type glm4) add norms behind both parts. Published files keep gate and up in one matrix.

Ref: ChatGLM: From GLM-130B to GLM-4 All Tools, arXiv:2406.12793.
"""

from dataclasses import replace
from typing import Any, Literal

from smelt.models.families import llama
from smelt.models.families.base import Family, HfConfig, Init, Shape, refuse_other, token_ids_from_hf
from smelt.models.families.layout import NAMES, named_rules, read_rotary, read_shape, write_config, write_rotary
from smelt.models.weights import Rules
from smelt.nn.spec import ModelSpec, RotarySpec, TokenIds

Name = Literal["glm", "glm4"]
FUSED = {"mlp.gate_up_proj": ("feed_forward.gate", "feed_forward.up")}
SANDWICH = {"attention_out_norm": "post_self_attn_layernorm", "feed_forward_out_norm": "post_mlp_layernorm"}
ENDS = (151_329, 151_336, 151_338)


def make(
    shape: Shape,
    name: Name = "glm",
    *,
    head_dim: int | None = None,
    rotary: RotarySpec | None = None,
    eps: float = 1.5625e-07,
    bias: bool = True,
    token_ids: TokenIds | None = None,
) -> ModelSpec:
    """Make a spec of these sizes."""
    size = head_dim or shape.dim // shape.num_heads
    rotary = rotary or RotarySpec(size // 2, interleaved=True)
    spec = llama.make(shape, head_dim=size, rotary=rotary, eps=eps, token_ids=token_ids)
    layer = spec.layers[0]
    layer = replace(layer, attention=replace(layer.attention, qkv_bias=bias))
    if name == "glm4":
        layer = replace(layer, placement="sandwich")
    return replace(spec, family=name, layers=(layer,) * shape.num_layers)


def spec_from_hf(config: HfConfig, name: Name = "glm") -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, {"hidden_act": ("silu",)})
    shape = read_shape(config, max_seq_len=131_072)
    head_dim = config.get("head_dim") or shape.dim // shape.num_heads
    return make(
        shape,
        name,
        head_dim=head_dim,
        rotary=read_rotary(config, head_dim, share=0.5, interleaved=True),
        eps=config.get("rms_norm_eps", 1.5625e-07),
        bias=bool(config.get("attention_bias", name == "glm")),
        token_ids=token_ids_from_hf(config),
    )


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    layer, architecture = spec.layers[0], "GlmForCausalLM" if spec.family == "glm" else "Glm4ForCausalLM"
    return {
        **write_config(spec, spec.family, architecture),
        **write_rotary(layer.attention.rotary, layer.attention.head_dim),
        "head_dim": layer.attention.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": layer.norm.eps,
        "attention_bias": layer.attention.qkv_bias,
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    names = {ours: theirs for ours, theirs in (NAMES | SANDWICH).items() if ours not in FUSED["mlp.gate_up_proj"]}
    return named_rules(spec, names, fused=FUSED)


def _published(name: Name, shape: Shape, theta: float = 10_000.0) -> ModelSpec:
    rotary, ids = RotarySpec(64, theta, interleaved=True), TokenIds(None, ENDS, ENDS[0])
    eps, bias = (1.5625e-07, True) if name == "glm" else (1e-5, False)
    return make(shape, name, head_dim=128, rotary=rotary, eps=eps, bias=bias, token_ids=ids)


GLM = Family(
    name="glm",
    model_types=("glm",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    init=Init(),
    prefix="model.",
    presets={
        "glm-4-9b": _published("glm", Shape(151_552, 4096, 40, 32, 8192, 2, 13_696)),
        "glm-4-9b-chat": _published("glm", Shape(151_552, 4096, 40, 32, 131_072, 2, 13_696), 5e6),
    },
)
GLM4 = replace(
    GLM,
    name="glm4",
    model_types=("glm4",),
    make=lambda shape: make(shape, "glm4"),
    spec_from_hf=lambda config: spec_from_hf(config, "glm4"),
    presets={
        "glm-4-9b-0414": _published("glm4", Shape(151_552, 4096, 40, 32, 32_768, 2, 13_696)),
        "glm-4-32b-0414": _published("glm4", Shape(151_552, 6144, 61, 48, 32_768, 8, 23_040)),
    },
)
