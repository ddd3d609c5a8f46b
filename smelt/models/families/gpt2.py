"""GPT-2: LayerNorm, learned positions, GELU (tanh form) or ReLU, biases everywhere, and a head tied to the embedding.

Published weights fuse query, key and value in one matrix and store every matrix transposed (Conv1D); both are undone
here. The projections into the residual stream start smaller by sqrt(2 L).

Ref: Language Models are Unsupervised Multitask Learners (2019), 2.3.
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
from smelt.models.families.label_layout import with_labels
from smelt.models.families.layout import conv_rules
from smelt.models.weights import Ignore, Rules, Tie, rename
from smelt.nn.spec import Activation, AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec, NormSpec, TokenIds

ACTIVATIONS: dict[str, Activation] = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}

HONOURED = {
    "activation_function": tuple(ACTIVATIONS),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
"""Fields of config.json with one meaning here; any other value is refused."""


def make(
    shape: Shape, *, activation: Activation = "gelu_tanh", eps: float = 1e-5, token_ids: TokenIds | None = None
) -> ModelSpec:
    """Make a spec of these sizes; F defaults to 4 D, the head is tied unless the shape says otherwise."""
    norm, heads = NormSpec("layer", eps), shape.num_heads
    kv_heads, head_dim = shape.num_kv_heads or heads, shape.dim // heads
    layer = LayerSpec(
        attention=AttentionSpec(heads, kv_heads, head_dim, qkv_bias=True, output_bias=True),
        feed_forward=FeedForwardSpec(shape.hidden_dim or 4 * shape.dim, activation, bias=True),
        norm=norm,
    )
    return ModelSpec(
        family="gpt2",
        vocab_size=shape.vocab_size,
        dim=shape.dim,
        max_seq_len=shape.max_seq_len,
        layers=(layer,) * shape.num_layers,
        norm=norm,
        positions="learned",
        tied=shape.tied is not False,
        token_ids=token_ids or TokenIds(),
    )


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, HONOURED)
    vocab_size, dim, num_layers, num_heads = require(config, "vocab_size", "n_embd", "n_layer", "n_head")
    shape = Shape(
        vocab_size,
        dim,
        num_layers,
        num_heads,
        max_seq_len=config.get("n_positions", 1024),
        hidden_dim=config.get("n_inner"),
        tied=bool(config.get("tie_word_embeddings", True)),
    )
    return make(
        shape,
        activation=ACTIVATIONS[config.get("activation_function", "gelu_new")],
        eps=config.get("layer_norm_epsilon", 1e-5),
        token_ids=token_ids_from_hf(config),
    )


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    layer = spec.layers[0]
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": spec.vocab_size,
        "n_positions": spec.max_seq_len,
        "n_embd": spec.dim,
        "n_layer": len(spec.layers),
        "n_head": layer.attention.num_heads,
        "n_inner": layer.dense.hidden_dim,
        "activation_function": "relu" if layer.dense.activation == "relu" else "gelu_new",
        "layer_norm_epsilon": layer.norm.eps,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        "tie_word_embeddings": spec.tied,
        **hf_from_token_ids(spec.token_ids),
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    return (
        rename("transformer.wte.weight", "token_embedding.weight"),
        rename("transformer.wpe.weight", "position_embedding.weight"),
        rename("transformer.ln_f.weight", "norm.weight"),
        rename("transformer.ln_f.bias", "norm.bias"),
        *_head_rules(spec),
        Ignore("transformer.h.*.attn.bias"),
        Ignore("transformer.h.*.attn.masked_bias"),
        *conv_rules(spec),
    )


def _head_rules(spec: ModelSpec) -> Rules:
    if not spec.language_head:
        return ()
    return (Tie("lm_head.weight", "transformer.wte.weight") if spec.tied else rename("lm_head.weight", "head.weight"),)


def _published(dim: int, num_layers: int, num_heads: int) -> ModelSpec:
    return make(Shape(50_257, dim, num_layers, num_heads, 1024), token_ids=TokenIds(50_256, (50_256,)))


GPT2 = with_labels(
    Family(
        name="gpt2",
        model_types=("gpt2",),
        make=make,
        spec_from_hf=spec_from_hf,
        hf_from_spec=hf_from_spec,
        rules=rules,
        init=Init(position_std=0.01),
        prefix="transformer.",
        presets={
            "smelt-town": make(Shape(2048, 128, 2, 4, 256), activation="relu"),
            "gpt2-124m": _published(768, 12, 12),
            "gpt2-355m": _published(1024, 24, 16),
            "gpt2-774m": _published(1280, 36, 20),
            "gpt2-1.5b": _published(1600, 48, 25),
        },
    ),
    "GPT2ForSequenceClassification",
    of_tokens="classifier",
)
