"""GPT-1: the transformer's own norms, behind each part and on the stream, so no norm at the end; otherwise GPT-2.

Its "gelu" is the tanh form.

Ref: Improving Language Understanding by Generative Pre-Training (2018), 4.1.
"""

from dataclasses import replace
from typing import Any

from smelt.models.families import gpt2
from smelt.models.families.base import (
    Family,
    HfConfig,
    Init,
    Shape,
    refuse_other,
    require,
    token_ids_from_hf,
)
from smelt.models.families.layout import conv_rules
from smelt.models.weights import Ignore, Rules, Tie, rename
from smelt.nn.spec import Activation, ModelSpec

ACTIVATIONS: dict[str, Activation] = {"gelu": "gelu_tanh", "relu": "relu"}


def make(shape: Shape, *, activation: Activation = "gelu_tanh", eps: float = 1e-5) -> ModelSpec:
    """Make a spec of these sizes; F defaults to 4 D."""
    spec = gpt2.make(shape, activation=activation, eps=eps)
    layers = (replace(spec.layers[0], placement="post"),) * shape.num_layers
    return replace(spec, family="gpt1", layers=layers, norm=None)


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, {"afn": tuple(ACTIVATIONS), "tie_word_embeddings": (True,)})
    vocab_size, dim, num_layers, num_heads = require(config, "vocab_size", "n_embd", "n_layer", "n_head")
    shape = Shape(vocab_size, dim, num_layers, num_heads, config.get("n_positions", 512))
    activation = ACTIVATIONS[config.get("afn", "gelu")]
    spec = make(shape, activation=activation, eps=config.get("layer_norm_epsilon", 1e-5))
    return replace(spec, token_ids=token_ids_from_hf(config))


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json; its layout knows F = 4 D alone."""
    relu = spec.layers[0].dense.activation == "relu"
    found = {**gpt2.hf_from_spec(spec), "afn": "relu" if relu else "gelu"}
    for name in ("n_inner", "activation_function"):
        del found[name]
    return {**found, "architectures": ["OpenAIGPTLMHeadModel"], "model_type": "openai-gpt"}


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    return (
        rename("transformer.tokens_embed.weight", "token_embedding.weight"),
        rename("transformer.positions_embed.weight", "position_embedding.weight"),
        Tie("lm_head.weight", "transformer.tokens_embed.weight"),
        Ignore("transformer.h.*.attn.bias"),
        Ignore("transformer.position_ids"),
        *conv_rules(spec),
    )


GPT1 = Family(
    name="gpt1",
    model_types=("openai-gpt",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    init=Init(scale_residual=False),
    prefix="transformer.",
    presets={"gpt1-117m": make(Shape(40_478, 768, 12, 12, 512))},
)
