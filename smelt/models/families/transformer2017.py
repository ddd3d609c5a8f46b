"""The transformer of 2017: an encoder and a decoder, post-norm, ReLU, sinusoidal positions, one matrix of tokens.

Files are in the layout of Marian, whose models are the same network: all sines stand before all cosines, as in the
authors' code, and the vocabulary has a bias, which the paper has not; `head_bias` in config.json, a field of ours, says
so where there is none.

Ref: Attention Is All You Need, arXiv:1706.03762, 3 and table 3. Ref: Marian, arXiv:1804.00344.
"""

import math
from dataclasses import replace
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
from smelt.models.families.layout import named_rules, with_decoder
from smelt.models.weights import Ignore, Rules, Tie, row
from smelt.nn.spec import Activation, AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec, NormSpec

ACTIVATIONS: dict[str, Activation] = {"relu": "relu", "swish": "silu", "silu": "silu", "gelu": "gelu"}
PARTS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
NAMES = {
    **{f"attention.{ours}": f"self_attn.{theirs}" for ours, theirs in PARTS.items()},
    **{f"cross.{ours}": f"encoder_attn.{theirs}" for ours, theirs in PARTS.items()},
    "attention_norm": "self_attn_layer_norm",
    "cross_norm": "encoder_attn_layer_norm",
    "feed_forward_norm": "final_layer_norm",
    "feed_forward.up": "fc1",
    "feed_forward.down": "fc2",
}


def make(
    shape: Shape,
    *,
    activation: Activation = "relu",
    scaled: bool = True,
    head_bias: bool = False,
    num_decoder_layers: int | None = None,
) -> ModelSpec:
    """Make a spec of these sizes; F defaults to 4 D, and embeddings are multiplied by sqrt(D)."""
    num_heads, size = shape.num_heads, shape.dim // shape.num_heads
    attention = AttentionSpec(num_heads, shape.num_kv_heads or num_heads, size, qkv_bias=True, output_bias=True)
    feed_forward = FeedForwardSpec(shape.hidden_dim or 4 * shape.dim, activation, bias=True)
    layer = LayerSpec(replace(attention, causal=False), feed_forward, NormSpec("layer", 1e-5), "post")
    encoder = ModelSpec(
        family="transformer2017",
        vocab_size=shape.vocab_size,
        dim=shape.dim,
        max_seq_len=shape.max_seq_len,
        layers=(layer,) * shape.num_layers,
        norm=None,
        positions="sinusoidal_halves",
        embedding_scale=math.sqrt(shape.dim) if scaled else None,
        language_head=False,
    )
    tied = shape.tied is not False
    return with_decoder(encoder, num_decoder_layers or shape.num_layers, tied=tied, head_bias=head_bias)


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    names = ("vocab_size", "d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "decoder_layers")
    vocab_size, dim, num_layers, num_heads, hidden_dim, num_decoder_layers = require(config, *names)
    refuse_other(
        config,
        {
            "activation_function": tuple(ACTIVATIONS),
            "decoder_vocab_size": (None, vocab_size),
            "decoder_attention_heads": (num_heads,),
            "decoder_ffn_dim": (hidden_dim,),
            "num_hidden_layers": (num_layers,),
            "is_encoder_decoder": (True,),
            "share_encoder_decoder_embeddings": (True,),
            "static_position_embeddings": (True,),
            "tie_word_embeddings": (True,),
        },
    )
    spec = make(
        Shape(vocab_size, dim, num_layers, num_heads, config.get("max_position_embeddings", 1024), None, hidden_dim),
        activation=ACTIVATIONS[config.get("activation_function", "gelu")],
        scaled=bool(config.get("scale_embedding", False)),
        head_bias=bool(config.get("head_bias", True)),
        num_decoder_layers=num_decoder_layers,
    )
    return replace(spec, token_ids=token_ids_from_hf(config))


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    layer = spec.layers[0]
    both = {"attention_heads": layer.attention.num_heads, "ffn_dim": layer.dense.hidden_dim}
    return {
        "architectures": ["MarianMTModel"],
        "model_type": "marian",
        "is_encoder_decoder": True,
        "vocab_size": spec.vocab_size,
        "decoder_vocab_size": spec.vocab_size,
        "d_model": spec.dim,
        "encoder_layers": len(spec.encoder.layers) if spec.encoder else 0,
        "decoder_layers": len(spec.layers),
        **{f"{network}_{name}": value for network in ("encoder", "decoder") for name, value in both.items()},
        "max_position_embeddings": spec.max_seq_len,
        "activation_function": next(name for name, ours in ACTIVATIONS.items() if ours == layer.dense.activation),
        "scale_embedding": spec.embedding_scale is not None,
        "head_bias": spec.head_bias,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        **hf_from_token_ids(spec.token_ids),
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec; positions are computed, and a bias of zeros that nothing trains is left out."""
    outer = {"token_embedding": "model.shared", "head": "lm_head", "blocks": "model.decoder.layers"}
    return (
        *named_rules(spec, NAMES, outer={"blocks": "model.encoder.layers"}, network="encoder."),
        *named_rules(spec, NAMES, outer=outer, network="decoder."),
        row("final_logits_bias", "decoder.tied_bias") if spec.head_bias else Ignore("final_logits_bias"),
        *(Tie(f"model.{network}.embed_tokens.weight", "model.shared.weight") for network in ("encoder", "decoder")),
        Ignore("model.*.embed_positions.weight"),
    )


TRANSFORMER2017 = Family(
    name="transformer2017",
    model_types=("marian",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    init=Init(linear_std=1.0, scale_residual=False, by_fan_in=True),
    presets={
        "transformer-base": make(Shape(37_000, 512, 6, 8, 512)),
        "transformer-big": make(Shape(37_000, 1024, 6, 16, 512)),
    },
)
