"""DistilBERT: BERT with half of the layers, taught by BERT, without token types and without a pooler.

A text is labelled by its first token, through a dense layer of its own. Fields of config.json and tensors have names
that no other encoder has; the norms' epsilon is fixed.

Ref: DistilBERT, arXiv:1910.01108.
"""

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
from smelt.models.families.encoder_layout import (
    ACTIVATIONS,
    Top,
    encoder_rules,
    encoder_spec,
    hf_name,
    read_top,
    with_top,
    write_top,
)
from smelt.models.weights import Rules
from smelt.nn.spec import Activation, ModelSpec, NormSpec, TaskSpec, TransformSpec

TOPS = {
    "DistilBertForMaskedLM": Top(True),
    "DistilBertModel": Top(),
    "DistilBertForSequenceClassification": Top(tasks=(TaskSpec("text", 2, "first", hidden="relu"),)),
    "DistilBertForTokenClassification": Top(tasks=(TaskSpec("token", 2),)),
    "DistilBertForQuestionAnswering": Top(tasks=(TaskSpec("span", 2),)),
}
NAMES = {
    "attention.query": "attention.q_lin",
    "attention.key": "attention.k_lin",
    "attention.value": "attention.v_lin",
    "attention.output": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "feed_forward.up": "ffn.lin1",
    "feed_forward.down": "ffn.lin2",
    "feed_forward_norm": "output_layer_norm",
}
OUTER = {
    "token_embedding": "distilbert.embeddings.word_embeddings",
    "position_embedding": "distilbert.embeddings.position_embeddings",
    "embedding_norm": "distilbert.embeddings.LayerNorm",
    "blocks": "distilbert.transformer.layer",
    "head": "vocab_projector",
    "head_transform.dense": "vocab_transform",
    "head_transform.norm": "vocab_layer_norm",
    "tied_bias": "vocab_projector.bias",
    "tasks.text.dense": "pre_classifier",
    "tasks.text.labels": "classifier",
    "tasks.token.labels": "classifier",
    "tasks.token.crf": "crf",
    "tasks.span.labels": "qa_outputs",
}
PRETRAINING = {"head": "vocab_*"}
NORM = NormSpec("layer", 1e-12)


def make(shape: Shape, *, top: Top = TOPS["DistilBertForMaskedLM"], activation: Activation = "gelu") -> ModelSpec:
    """Make a spec of these sizes; F defaults to 4 D."""
    spec = encoder_spec("distilbert", shape, activation, NORM, num_types=0)
    return with_top(spec, top, TransformSpec(activation, NORM), tied=shape.tied is not False)


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    plain = {"sinusoidal_pos_embds": (False,), "tie_weights_": (True,)}
    refuse_other(config, {**plain, "activation": tuple(ACTIVATIONS)})
    names = ("vocab_size", "dim", "n_layers", "n_heads", "hidden_dim")
    vocab_size, dim, num_layers, num_heads, hidden_dim = require(config, *names)
    shape = Shape(
        vocab_size,
        dim,
        num_layers,
        num_heads,
        max_seq_len=config.get("max_position_embeddings", 512),
        hidden_dim=hidden_dim,
        tied=bool(config.get("tie_word_embeddings", True)),
    )
    top = read_top(config, TOPS, "DistilBertForMaskedLM")
    spec = make(shape, top=top, activation=ACTIVATIONS[config.get("activation", "gelu")])
    return replace(spec, token_ids=token_ids_from_hf(config))


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    layer = spec.layers[0]
    return {
        "model_type": "distilbert",
        "vocab_size": spec.vocab_size,
        "dim": spec.dim,
        "n_layers": len(spec.layers),
        "n_heads": layer.attention.num_heads,
        "hidden_dim": layer.dense.hidden_dim,
        "max_position_embeddings": spec.max_seq_len,
        "activation": hf_name(layer.dense.activation),
        "sinusoidal_pos_embds": False,
        "tie_word_embeddings": spec.tied or not spec.language_head,
        **hf_from_token_ids(spec.token_ids),
        **write_top(spec, TOPS),
    }


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    return encoder_rules(spec, NAMES, OUTER, PRETRAINING)


DISTILBERT = Family(
    name="distilbert",
    model_types=("distilbert",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    text_labels="DistilBertForSequenceClassification",
    init=Init(scale_residual=False),
    prefix="distilbert.",
    presets={
        "distilbert-base-uncased": make(Shape(30_522, 768, 6, 12, 512)),
        "distilbert-base-multilingual-cased": make(Shape(119_547, 768, 6, 12, 512)),
    },
)
