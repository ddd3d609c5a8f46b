"""ALBERT: BERT with one layer run many times over, and an embedding narrower than the layers.

Tokens have 128 numbers each, which one matrix widens to the layers' width and the head narrows again; so most of the
parameters of a large vocabulary and a deep stack are gone, while the work a token costs stays. Instead of the next
sentence the pooled vector tells whether two sentences stand in their order.

Ref: ALBERT, arXiv:1909.11942.
"""

from dataclasses import replace
from typing import Any

from smelt.models.families.base import Family, HfConfig, Init, Shape, refuse_other, require, token_ids_from_hf
from smelt.models.families.encoder_layout import (
    ACTIVATIONS,
    UNSUPPORTED,
    Top,
    encoder_rules,
    encoder_spec,
    read_top,
    with_top,
    write_encoder,
    write_top,
)
from smelt.models.families.layout import read_shape
from smelt.models.weights import Rules
from smelt.nn.spec import Activation, ModelSpec, NormSpec, TaskSpec, TransformSpec

EMBEDDING_DIM = 128
TOPS = {
    "AlbertForPreTraining": Top(True, True, (TaskSpec("sentence_order", 2, "pooled"),)),
    "AlbertForMaskedLM": Top(True),
    "AlbertModel": Top(False, True),
    "AlbertForSequenceClassification": Top(False, True, (TaskSpec("text", 2, "pooled"),)),
    "AlbertForTokenClassification": Top(tasks=(TaskSpec("token", 2),)),
    "AlbertForQuestionAnswering": Top(tasks=(TaskSpec("span", 2),)),
}
NAMES = {
    "attention.query": "albert_layers.0.attention.query",
    "attention.key": "albert_layers.0.attention.key",
    "attention.value": "albert_layers.0.attention.value",
    "attention.output": "albert_layers.0.attention.dense",
    "attention_norm": "albert_layers.0.attention.LayerNorm",
    "feed_forward.up": "albert_layers.0.ffn",
    "feed_forward.down": "albert_layers.0.ffn_output",
    "feed_forward_norm": "albert_layers.0.full_layer_layer_norm",
}
OUTER = {
    "token_embedding": "albert.embeddings.word_embeddings",
    "position_embedding": "albert.embeddings.position_embeddings",
    "type_embedding": "albert.embeddings.token_type_embeddings",
    "embedding_norm": "albert.embeddings.LayerNorm",
    "widen": "albert.encoder.embedding_hidden_mapping_in",
    "blocks": "albert.encoder.albert_layer_groups",
    "pooler.dense": "albert.pooler",
    "head": "predictions.decoder",
    "head_transform.dense": "predictions.dense",
    "head_transform.norm": "predictions.LayerNorm",
    "tied_bias": "predictions.bias",
    "tasks.sentence_order.labels": "sop_classifier.classifier",
    "tasks.text.labels": "classifier",
    "tasks.token.labels": "classifier",
    "tasks.token.crf": "crf",
    "tasks.span.labels": "qa_outputs",
}
PRETRAINING = {"pooler": "albert.pooler.*", "head": "predictions.*", "sentence_order": "sop_classifier.*"}
ONE_LAYER = {"num_hidden_groups": (1,), "inner_group_num": (1,)}
NEVER_USED = {"net_structure_type": (0,), "gap_size": (0,), "num_memory_blocks": (0,), "down_scale_factor": (1,)}


def make(
    shape: Shape,
    *,
    top: Top = TOPS["AlbertForPreTraining"],
    embedding_dim: int | None = None,
    activation: Activation = "gelu_tanh",
    eps: float = 1e-12,
    num_types: int = 2,
) -> ModelSpec:
    """Make a spec of these sizes; F defaults to 4 D, the embedding to 128 numbers or those of a narrower layer."""
    norm = NormSpec("layer", eps)
    spec = encoder_spec("albert", shape, activation, norm, num_types=num_types)
    spec = replace(spec, shared_layers=True, embedding_dim=embedding_dim or min(EMBEDDING_DIM, shape.dim))
    return with_top(spec, top, TransformSpec(activation, norm), tied=shape.tied is not False)


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, {**UNSUPPORTED, **ONE_LAYER, **NEVER_USED, "hidden_act": tuple(ACTIVATIONS)})
    spec = make(
        read_shape(config, tied=True, max_seq_len=512),
        top=read_top(config, TOPS, "AlbertForMaskedLM"),
        embedding_dim=require(config, "embedding_size")[0],
        activation=ACTIVATIONS[config.get("hidden_act", "gelu_new")],
        eps=config.get("layer_norm_eps", 1e-12),
        num_types=config.get("type_vocab_size", 2),
    )
    return replace(spec, token_ids=token_ids_from_hf(config))


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    sizes = {"embedding_size": spec.embedding_dim, "num_hidden_groups": 1, "inner_group_num": 1}
    return {**write_encoder(spec, "albert"), **sizes, **write_top(spec, TOPS)}


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    return encoder_rules(spec, NAMES, OUTER, PRETRAINING)


ALBERT = Family(
    name="albert",
    model_types=("albert",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    text_labels="AlbertForSequenceClassification",
    init=Init(scale_residual=False),
    prefix="albert.",
    presets={
        "albert-base-v2": make(Shape(30_000, 768, 12, 12, 512)),
        "albert-large-v2": make(Shape(30_000, 1024, 24, 16, 512)),
        "albert-xlarge-v2": make(Shape(30_000, 2048, 24, 16, 512)),
        "albert-xxlarge-v2": make(Shape(30_000, 4096, 12, 64, 512)),
    },
)
