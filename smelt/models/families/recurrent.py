"""RNN, LSTM and GRU: recurrent language models, in a layout of our own whose tensors are named as torch's.

Embedding, layers and head under the names of torch's word language model example (`encoder.weight`,
`rnn.weight_ih_l0`, `decoder.bias`), so that `nn.LSTM` and its kin read them as they are. Three families of one make:
what differs is the cell. Heads mean nothing to them. The presets have the sizes of the LSTMs that led the field before
transformers; the context is only what a text is cut into, since the state has no end.

Ref: Mikolov et al., Recurrent neural network based language model, 2010.
Ref: Zaremba et al., arXiv:1409.2329, section 4.1 (sizes). Ref: Press & Wolf, arXiv:1608.05859 (tied head).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from smelt.core.errors import UsageError
from smelt.models.families.base import (
    Family,
    HfConfig,
    Init,
    Shape,
    hf_from_token_ids,
    require,
    token_ids_from_hf,
)
from smelt.models.weights import Rule, Rules, Tie, rename
from smelt.nn.spec import Cell, ModelSpec, RecurrentSpec

EMBEDDING, HEAD = "encoder.weight", "decoder.weight"
LAYER = {"input.weight": "weight_ih", "weight": "weight_hh", "input.bias": "bias_ih", "bias": "bias_hh"}
"""Our names of a layer's parameters and torch's."""


def make(cell: Cell, shape: Shape) -> ModelSpec:
    """Make a spec of these sizes; the head has a bias and is untied unless the shape ties it.

    Raises UsageError for sizes that a recurrent layer does not have.
    """
    if shape.hidden_dim is not None or shape.num_kv_heads is not None:
        raise UsageError(
            f"hidden_dim={shape.hidden_dim}, num_kv_heads={shape.num_kv_heads} in a model of {cell} layers",
            accepted="a width and a number of layers",
        )
    return ModelSpec(
        family=cell,
        vocab_size=shape.vocab_size,
        dim=shape.dim,
        max_seq_len=shape.max_seq_len,
        layers=(),
        norm=None,
        tied=bool(shape.tied),
        head_bias=True,
        recurrent=RecurrentSpec(cell, shape.num_layers),
    )


def spec_from_hf(cell: Cell, config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on sizes that are absent or odd."""
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings")
    vocab_size, dim, num_layers, max_seq_len = require(config, *names)
    tied = bool(config.get("tie_word_embeddings", False))
    spec = make(cell, Shape(vocab_size, dim, num_layers, 1, max_seq_len, tied=tied))
    return replace(spec, token_ids=token_ids_from_hf(config))


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    return {
        "architectures": [f"{spec.family.upper()}ForCausalLM"],
        "model_type": f"smelt-{spec.family}",
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.dim,
        "num_hidden_layers": spec.num_layers,
        "max_position_embeddings": spec.max_seq_len,
        "tie_word_embeddings": spec.tied,
        **hf_from_token_ids(spec.token_ids),
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    found: list[Rule | Tie] = [rename(EMBEDDING, "token_embedding.weight")]
    if spec.tied:
        found += [Tie(HEAD, EMBEDDING), rename("decoder.bias", "tied_bias")]
    else:
        found += [rename(HEAD, "head.weight"), rename("decoder.bias", "head.bias")]
    for layer in range(spec.num_layers):
        found += [rename(f"rnn.{theirs}_l{layer}", f"recurrent.{layer}.{ours}") for ours, theirs in LAYER.items()]
    return tuple(found)


def _family(cell: Cell, sizes: dict[str, int]) -> Family:
    """Return the family of a cell, with presets of two layers of these widths over 10,000 words."""
    made: Callable[[Shape], ModelSpec] = partial(make, cell)
    return Family(
        name=cell,
        model_types=(f"smelt-{cell}",),
        make=made,
        spec_from_hf=partial(spec_from_hf, cell),
        hf_from_spec=hf_from_spec,
        rules=rules,
        init=Init(embedding_std=0.5, linear_std=None, scale_residual=False),
        presets={name: made(Shape(10_000, width, 2, 1, 1024)) for name, width in sizes.items()},
    )


RNN = _family("rnn", {"rnn-5m": 224})
LSTM = _family("lstm", {"lstm-5m": 200, "lstm-20m": 650, "lstm-66m": 1500})
GRU = _family("gru", {"gru-5m": 208})
