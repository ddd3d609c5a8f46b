"""The from-scratch note's model: sinusoidal positions, ReLU feed-forward, biases except on query, key and value.

It teaches: every part is the plainest of its kind, and the untied head with its 100,256 rows holds a third of the
parameters. No other library knows this layout, so its checkpoints use our own parameter names and model_type.

Ref: Attention Is All You Need, arXiv:1706.03762.
"""

from typing import Any

import torch

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
from smelt.models.transformer import Transformer
from smelt.models.weights import Rules, rename
from smelt.nn.spec import AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec, NormSpec, TokenIds


def make(shape: Shape, *, eps: float = 1e-5, token_ids: TokenIds | None = None) -> ModelSpec:
    """Make a spec of these sizes; F defaults to 4 D, the head is untied with a bias unless the shape ties it."""
    norm, tied = NormSpec("layer", eps), bool(shape.tied)
    layer = LayerSpec(
        attention=AttentionSpec(
            shape.num_heads, shape.num_kv_heads or shape.num_heads, shape.dim // shape.num_heads, output_bias=True
        ),
        feed_forward=FeedForwardSpec(shape.hidden_dim or 4 * shape.dim, "relu", bias=True),
        norm=norm,
    )
    return ModelSpec(
        family="novel",
        vocab_size=shape.vocab_size,
        dim=shape.dim,
        max_seq_len=shape.max_seq_len,
        layers=(layer,) * shape.num_layers,
        norm=norm,
        positions="sinusoidal",
        tied=tied,
        head_bias=not tied,
        token_ids=token_ids or TokenIds(),
    )


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, {"hidden_act": ("relu",)})
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
    vocab_size, dim, num_layers, num_heads, max_seq_len = require(config, *names)
    shape = Shape(
        vocab_size,
        dim,
        num_layers,
        num_heads,
        max_seq_len,
        num_kv_heads=config.get("num_key_value_heads"),
        hidden_dim=config.get("intermediate_size"),
        tied=bool(config.get("tie_word_embeddings", False)),
    )
    return make(shape, eps=config.get("layer_norm_eps", 1e-5), token_ids=token_ids_from_hf(config))


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    layer = spec.layers[0]
    return {
        "architectures": ["NovelForCausalLM"],
        "model_type": "novel",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.dim,
        "intermediate_size": layer.dense.hidden_dim,
        "num_hidden_layers": len(spec.layers),
        "num_attention_heads": layer.attention.num_heads,
        "num_key_value_heads": layer.attention.num_kv_heads,
        "hidden_act": "relu",
        "layer_norm_eps": layer.norm.eps,
        "max_position_embeddings": spec.max_seq_len,
        "tie_word_embeddings": spec.tied,
        **hf_from_token_ids(spec.token_ids),
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec: every parameter under its own name."""
    with torch.device("meta"):
        return tuple(rename(name, name) for name, _ in Transformer(spec).named_parameters())


NOVEL = Family(
    name="novel",
    model_types=("novel",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    init=Init(embedding_std=1.0, linear_std=None, scale_residual=False),
    presets={"novel-140m": make(Shape(100_256, 512, 12, 8, 1024))},
)
