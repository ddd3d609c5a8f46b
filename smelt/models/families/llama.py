"""Llama: RMSNorm, rotary positions, SwiGLU and no biases; later sizes share kv heads between query heads.

The layout most tools read, and so the one smelt trains into by default. 3.1 and later slow the rotary pairs that go
round rarely within 8,192 tokens; Code Llama raises the base instead; TinyLlama is a small one with four kv heads.

Ref: LLaMA, arXiv:2302.13971. Ref: Llama 2, arXiv:2307.09288. Ref: The Llama 3 Herd of Models, arXiv:2407.21783.
"""

from typing import Any

from smelt.models.families.base import Family, HfConfig, Init, Shape, refuse_other, token_ids_from_hf
from smelt.models.families.label_layout import with_labels
from smelt.models.families.layout import named_rules, read_rotary, read_shape, write_config, write_rotary
from smelt.nn.scaling import WavelengthScaling
from smelt.nn.spec import AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec, NormSpec, RotarySpec, TokenIds


def make(
    shape: Shape,
    *,
    head_dim: int | None = None,
    rotary: RotarySpec | None = None,
    eps: float = 1e-5,
    attention_bias: bool = False,
    feed_forward_bias: bool = False,
    token_ids: TokenIds | None = None,
) -> ModelSpec:
    """Make a spec of these sizes; F defaults to 8/3 D rounded up to a multiple of 32, the head to untied."""
    size, norm = head_dim or shape.dim // shape.num_heads, NormSpec("rms", eps)
    kv_heads, hidden_dim = shape.num_kv_heads or shape.num_heads, shape.hidden_dim or -(-shape.dim * 8 // 3 // 32) * 32
    layer = LayerSpec(
        AttentionSpec(shape.num_heads, kv_heads, size, rotary or RotarySpec(size), attention_bias, attention_bias),
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
    refuse_other(config, {"hidden_act": ("silu",), "pretraining_tp": (1,)})
    shape = read_shape(config)
    head_dim = config.get("head_dim") or shape.dim // shape.num_heads
    return make(
        shape,
        head_dim=head_dim,
        rotary=read_rotary(config, head_dim),
        eps=config.get("rms_norm_eps", 1e-6),
        attention_bias=bool(config.get("attention_bias", False)),
        feed_forward_bias=bool(config.get("mlp_bias", False)),
        token_ids=token_ids_from_hf(config),
    )


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    layer = spec.layers[0]
    return {
        **write_config(spec, "llama", "LlamaForCausalLM"),
        **write_rotary(layer.attention.rotary, layer.attention.head_dim),
        "head_dim": layer.attention.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": layer.norm.eps,
        "attention_bias": layer.attention.output_bias,
        "mlp_bias": layer.dense.bias,
    }


def _first(dim: int, num_layers: int, num_heads: int, hidden_dim: int, max_seq_len: int = 2048) -> ModelSpec:
    return make(Shape(32_000, dim, num_layers, num_heads, max_seq_len, hidden_dim=hidden_dim), eps=1e-6)


def _second(dim: int, num_layers: int, num_heads: int, hidden_dim: int, num_kv_heads: int | None = None) -> ModelSpec:
    return make(Shape(32_000, dim, num_layers, num_heads, 4096, num_kv_heads, hidden_dim))


def _code(dim: int, num_layers: int, num_heads: int, hidden_dim: int, vocab_size: int = 32_016) -> ModelSpec:
    shape = Shape(vocab_size, dim, num_layers, num_heads, 16_384, 8 if num_heads == 64 else None, hidden_dim)
    return make(shape, rotary=RotarySpec(dim // num_heads, 1e6))


def _third(dim: int, num_layers: int, num_heads: int, hidden_dim: int, max_seq_len: int, factor: float) -> ModelSpec:
    scaling = WavelengthScaling(factor, 8192) if factor > 1 else None
    rotary = RotarySpec(dim // num_heads, 500_000.0, scaling=scaling)
    shape = Shape(128_256, dim, num_layers, num_heads, max_seq_len, 8, hidden_dim, tied=dim < 4096)
    return make(shape, rotary=rotary, token_ids=TokenIds(128_000, (128_001,)))


LLAMA = with_labels(
    Family(
        name="llama",
        model_types=("llama",),
        make=make,
        spec_from_hf=spec_from_hf,
        hf_from_spec=hf_from_spec,
        rules=named_rules,
        init=Init(),
        prefix="model.",
        presets={
            "smelt-nano": make(Shape(512, 64, 2, 2, 128, tied=True)),
            "llama-15m": make(Shape(32_000, 288, 6, 6, 256, hidden_dim=768, tied=True)),
            "llama-110m": make(Shape(32_000, 768, 12, 12, 1024, hidden_dim=2048, tied=True)),
            "tinyllama-1.1b": make(Shape(32_000, 2048, 22, 32, 2048, num_kv_heads=4, hidden_dim=5632)),
            "llama-7b": _first(4096, 32, 32, 11_008),
            "llama-13b": _first(5120, 40, 40, 13_824),
            "llama-33b": _first(6656, 60, 52, 17_920),
            "llama-65b": _first(8192, 80, 64, 22_016),
            "llama-2-7b": _second(4096, 32, 32, 11_008),
            "llama-2-13b": _second(5120, 40, 40, 13_824),
            "llama-2-70b": _second(8192, 80, 64, 28_672, 8),
            "codellama-7b": _code(4096, 32, 32, 11_008),
            "codellama-13b": _code(5120, 40, 40, 13_824),
            "codellama-34b": _code(8192, 48, 64, 22_016, 32_000),
            "llama-3-8b": _third(4096, 32, 32, 14_336, 8192, 1.0),
            "llama-3-70b": _third(8192, 80, 64, 28_672, 8192, 1.0),
            "llama-3.1-8b": _third(4096, 32, 32, 14_336, 131_072, 8.0),
            "llama-3.1-70b": _third(8192, 80, 64, 28_672, 131_072, 8.0),
            "llama-3.1-405b": _third(16_384, 126, 128, 53_248, 131_072, 8.0),
            "llama-3.2-1b": _third(2048, 16, 32, 8192, 131_072, 32.0),
            "llama-3.2-3b": _third(3072, 28, 24, 8192, 131_072, 32.0),
        },
    ),
    "LlamaForSequenceClassification",
)
