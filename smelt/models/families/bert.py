"""BERT: an encoder of post-norm layers that sees a text both ways and fills in masked tokens.

Tokens have a type (first or second sentence) and a learned position; the pooler reads a pair's vector off its first
token. One layout holds the bare encoder and the heads for masked tokens, next sentences, texts, tokens and spans.
UniLM is the same network, with more token types, under three masks (the model's `order`). SimBERT has a pooler for a
text's vector and a language head that writes similar texts; as transformers has no class for both, its architecture is
our own name, and AutoModel and BertForMaskedLM each read their part of such a file.

Ref: BERT, arXiv:1810.04805. Ref: UniLM, arXiv:1905.03197. Ref: SimBERT, github.com/ZhuiyiTechnology/simbert.
"""

from dataclasses import replace
from typing import Any

from smelt.models.families.base import Family, HfConfig, Init, Shape, refuse_other, token_ids_from_hf
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

NEXT_SENTENCE = TaskSpec("next_sentence", 2, "pooled")
TOPS = {
    "BertForPreTraining": Top(True, True, (NEXT_SENTENCE,)),
    "BertForMaskedLM": Top(True),
    "BertModel": Top(False, True),
    "SimBertForPreTraining": Top(True, True),
    "BertForNextSentencePrediction": Top(False, True, (NEXT_SENTENCE,)),
    "BertForSequenceClassification": Top(False, True, (TaskSpec("text", 2, "pooled"),)),
    "BertForTokenClassification": Top(False, False, (TaskSpec("token", 2),)),
    "BertForQuestionAnswering": Top(False, False, (TaskSpec("span", 2),)),
}
NAMES = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
OUTER = {
    "token_embedding": "bert.embeddings.word_embeddings",
    "position_embedding": "bert.embeddings.position_embeddings",
    "type_embedding": "bert.embeddings.token_type_embeddings",
    "embedding_norm": "bert.embeddings.LayerNorm",
    "blocks": "bert.encoder.layer",
    "pooler.dense": "bert.pooler.dense",
    "head": "cls.predictions.decoder",
    "head_transform.dense": "cls.predictions.transform.dense",
    "head_transform.norm": "cls.predictions.transform.LayerNorm",
    "tied_bias": "cls.predictions.bias",
    "tasks.next_sentence.labels": "cls.seq_relationship",
    "tasks.text.labels": "classifier",
    "tasks.token.labels": "classifier",
    "tasks.token.crf": "crf",
    "tasks.span.labels": "qa_outputs",
}
PRETRAINING = {"pooler": "bert.pooler.*", "head": "cls.predictions.*", "next_sentence": "cls.seq_relationship.*"}


def make(
    shape: Shape,
    *,
    top: Top = TOPS["BertForPreTraining"],
    activation: Activation = "gelu",
    eps: float = 1e-12,
    num_types: int = 2,
) -> ModelSpec:
    """Make a spec of these sizes; F defaults to 4 D."""
    norm = NormSpec("layer", eps)
    spec = encoder_spec("bert", shape, activation, norm, num_types=num_types)
    return with_top(spec, top, TransformSpec(activation, norm), tied=shape.tied is not False)


def spec_from_hf(config: HfConfig) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, {**UNSUPPORTED, "hidden_act": tuple(ACTIVATIONS)})
    spec = make(
        read_shape(config, tied=True, max_seq_len=512),
        top=read_top(config, TOPS, "BertForMaskedLM"),
        activation=ACTIVATIONS[config.get("hidden_act", "gelu")],
        eps=config.get("layer_norm_eps", 1e-12),
        num_types=config.get("type_vocab_size", 2),
    )
    return replace(spec, token_ids=token_ids_from_hf(config))


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json."""
    return {**write_encoder(spec, "bert"), **write_top(spec, TOPS)}


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    return encoder_rules(spec, NAMES, OUTER, PRETRAINING)


BERT = Family(
    name="bert",
    model_types=("bert",),
    make=make,
    spec_from_hf=spec_from_hf,
    hf_from_spec=hf_from_spec,
    rules=rules,
    text_labels="BertForSequenceClassification",
    init=Init(scale_residual=False),
    prefix="bert.",
    presets={
        "bert-base-uncased": make(Shape(30_522, 768, 12, 12, 512)),
        "bert-base-chinese": make(Shape(21_128, 768, 12, 12, 512)),
        "bert-large-uncased": make(Shape(30_522, 1024, 24, 16, 512)),
        "unilm-base": make(Shape(28_996, 768, 12, 12, 512), num_types=6),
        "unilm-large": make(Shape(28_996, 1024, 24, 16, 512), num_types=6),
        "simbert-base": make(Shape(13_685, 768, 12, 12, 512), top=TOPS["SimBertForPreTraining"]),
        "simbert-small": make(Shape(13_685, 384, 6, 12, 512), top=TOPS["SimBertForPreTraining"]),
        "simbert-tiny": make(Shape(13_685, 312, 4, 12, 512), top=TOPS["SimBertForPreTraining"]),
    },
)
