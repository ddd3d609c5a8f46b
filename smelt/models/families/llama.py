"""Llama: RMSNorm, rotary positions, SwiGLU and no biases; later sizes share kv heads between query heads.

The layout most tools read, and so the one smelt trains into by default. Scaled rotary (Llama 3.1 and later) is
refused, not ignored.

Ref: LLaMA, arXiv:2302.13971. Ref: Llama 2, arXiv:2307.09288.
"""

from typing import Any

from smelt.models.families.base import (
    Family,
    HfConfig,
    Init,
    Shape,
    hf_from_token_ids,
    refuse_other,
    require,
    token_ids_from_hf,
)
from smelt.models.weights import Ignore, Rule, Rules, Tie, rename
from smelt.nn.spec import AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec, NormSpec, RotarySpec, TokenIds

PER_LAYER = {
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.output",
    "post_attention_layernorm": "feed_forward_norm",
    "mlp.gate_proj": "feed_forward.gate",
    "mlp.up_proj": "feed_forward.up",
    "mlp.down_proj": "feed_forward.down",
}
"""Their names and ours, inside one layer."""


def make(
    shape: Shape,
    *,
    head_dim: int | None = None,
    theta: float = 10_000.0,
    eps: float = 1e-5,
    attention_bias: bool = False,
    feed_forward_bias: bool = False,
    token_ids: TokenIds | None = None,
) -> ModelSpec:
    """Make a spec of these sizes; F defaults to 8/3 D rounded up to a multiple of 32, the head to untied."""
    size, norm = head_dim or shape.dim // shape.num_heads, NormSpec("rms", eps)
    kv_heads, hidden_dim = shape.num_kv_heads or shape.num_heads, shape.hidden_dim or -(-shape.dim * 8 // 3 // 32) * 32
    layer = LayerSpec(
        AttentionSpec(shape.num_heads, kv_heads, size, RotarySpec(size, theta), attention_bias, attention_bias),
        FeedForwardSpec(hidden_dim, "swiglu", feed_forward_bias),
        norm,
    )
    return ModelSpec(
        family="llama",
        vocab_size=shape.vocab_size,
        dim=shape.dim,
        max_seq_len=shape.max_seq_len,
        layers=(layer,) * shape.num_layers,
        norm=norm,
        tied=bool(shape.tied),
        token_ids=token_ids or TokenIds(),
    )


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, {"hidden_act": ("silu",), "rope_scaling": (None,), "pretraining_tp": (1,)})
    rope = config.get("rope_parameters") or {}
    refuse_other(rope, {"rope_type": ("default",), "partial_rotary_factor": (1.0,)}, "rope_parameters.")
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    vocab_size, dim, num_layers, num_heads, hidden_dim = require(config, *names)
    max_seq_len, kv_heads = config.get("max_position_embeddings", 2048), config.get("num_key_value_heads")
    tied = bool(config.get("tie_word_embeddings", False))
    return make(
        Shape(vocab_size, dim, num_layers, num_heads, max_seq_len, kv_heads, hidden_dim, tied),
        head_dim=config.get("head_dim"),
        theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
        eps=config.get("rms_norm_eps", 1e-6),
        attention_bias=bool(config.get("attention_bias", False)),
        feed_forward_bias=bool(config.get("mlp_bias", False)),
        token_ids=token_ids_from_hf(config),
    )


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json, with the rotary base where both older and newer readers look for it."""
    layer = spec.layers[0]
    attention, rotary = layer.attention, layer.attention.rotary
    theta = rotary.theta if rotary else None
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.dim,
        "intermediate_size": layer.feed_forward.hidden_dim,
        "num_hidden_layers": len(spec.layers),
        "num_attention_heads": attention.num_heads,
        "num_key_value_heads": attention.num_kv_heads,
        "head_dim": attention.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": spec.norm.eps,
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "max_position_embeddings": spec.max_seq_len,
        "attention_bias": attention.output_bias,
        "mlp_bias": layer.feed_forward.bias,
        "tie_word_embeddings": spec.tied,
        **hf_from_token_ids(spec.token_ids),
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    head = "lm_head.weight"
    found: list[Rule | Tie | Ignore] = [
        rename("model.embed_tokens.weight", "token_embedding.weight"),
        rename("model.norm.weight", "norm.weight"),
        Tie(head, "model.embed_tokens.weight") if spec.tied else rename(head, "head.weight"),
        Ignore("model.layers.*.self_attn.rotary_emb.inv_freq"),
    ]
    for index, layer in enumerate(spec.layers):
        biased = {"attention": layer.attention.output_bias, "feed_forward": layer.feed_forward.bias}
        for theirs, ours in PER_LAYER.items():
            for kind in ("weight", "bias") if biased.get(ours.split(".")[0]) else ("weight",):
                found.append(rename(f"model.layers.{index}.{theirs}.{kind}", f"blocks.{index}.{ours}.{kind}"))
    return tuple(found)


LLAMA = Family(
    name="llama",
    model_types=("llama",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    init=Init(),
    prefix="model.",
    presets={
        "smelt-nano": make(Shape(512, 64, 2, 2, 128, tied=True)),
        "llama-15m": make(Shape(32_000, 288, 6, 6, 256, hidden_dim=768, tied=True)),
        "llama-110m": make(Shape(32_000, 768, 12, 12, 1024, hidden_dim=2048, tied=True)),
        "tinyllama-1.1b": make(Shape(32_000, 2048, 22, 32, 2048, num_kv_heads=4, hidden_dim=5632)),
        "llama-2-7b": make(Shape(32_000, 4096, 32, 32, 4096, hidden_dim=11_008)),
    },
)
