"""RoBERTa: BERT trained longer on masked tokens alone, without next sentences and without token types.

Its table of positions begins behind the padding id: the first token of a text has the row `pad_token_id` + 1, so a file
whose padding id is another would be read with other positions, and is refused. XLM-R is the same network on texts of a
hundred languages.

Ref: RoBERTa, arXiv:1907.11692. Ref: XLM-R, arXiv:1911.02116.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from smelt.core.errors import CheckpointError
from smelt.models.families.base import Family, HfConfig, Init, Shape, refuse_other, token_ids_from_hf
from smelt.models.families.bert import NAMES
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
from smelt.nn.spec import Activation, ModelSpec, NormSpec, TaskSpec, TokenIds, TransformSpec

ROBERTA_TOPS = {
    "RobertaForMaskedLM": Top(True),
    "RobertaModel": Top(False, True),
    "RobertaForSequenceClassification": Top(tasks=(TaskSpec("text", 2, "first", hidden="tanh"),)),
    "RobertaForTokenClassification": Top(tasks=(TaskSpec("token", 2),)),
    "RobertaForQuestionAnswering": Top(tasks=(TaskSpec("span", 2),)),
}
TOPS = {"roberta": ROBERTA_TOPS, "xlm_roberta": {f"XLM{name}": top for name, top in ROBERTA_TOPS.items()}}
MODEL_TYPES = {"roberta": "roberta", "xlm_roberta": "xlm-roberta"}
OUTER = {
    "token_embedding": "roberta.embeddings.word_embeddings",
    "position_embedding": "roberta.embeddings.position_embeddings",
    "type_embedding": "roberta.embeddings.token_type_embeddings",
    "embedding_norm": "roberta.embeddings.LayerNorm",
    "blocks": "roberta.encoder.layer",
    "pooler.dense": "roberta.pooler.dense",
    "head": "lm_head.decoder",
    "head_transform.dense": "lm_head.dense",
    "head_transform.norm": "lm_head.layer_norm",
    "tied_bias": "lm_head.bias",
    "tasks.text.dense": "classifier.dense",
    "tasks.text.labels": "classifier.out_proj",
    "tasks.token.labels": "classifier",
    "tasks.token.crf": "crf",
    "tasks.span.labels": "qa_outputs",
}
PRETRAINING = {"pooler": "roberta.pooler.*", "head": "lm_head.*"}
TOKEN_IDS = TokenIds(begin=0, end=(2,), padding=1)


def make(
    shape: Shape,
    *,
    family: str = "roberta",
    top: Top = ROBERTA_TOPS["RobertaForMaskedLM"],
    activation: Activation = "gelu",
    eps: float = 1e-5,
    num_types: int = 1,
    token_ids: TokenIds = TOKEN_IDS,
) -> ModelSpec:
    """Make a spec of these sizes, its positions behind the padding id; F defaults to 4 D."""
    norm, padding = NormSpec("layer", eps), token_ids.padding
    spec = encoder_spec(family, shape, activation, norm, num_types=num_types)
    spec = replace(spec, token_ids=token_ids, position_offset=0 if padding is None else padding + 1)
    return with_top(spec, top, TransformSpec("gelu", norm), tied=shape.tied is not False)


def spec_from_hf(config: HfConfig, *, family: str) -> ModelSpec:
    """Read a config.json; raises CheckpointError on settings that we cannot honour."""
    refuse_other(config, {**UNSUPPORTED, "hidden_act": tuple(ACTIVATIONS)})
    ids = token_ids_from_hf(config)
    if not isinstance(ids.padding, int) or ids.padding < 0:
        raise CheckpointError(
            f"config.json: pad_token_id = {ids.padding!r}",
            accepted="an id: positions begin behind it",
            fix="use the config.json published with the weights",
        )
    shape = read_shape(config, tied=True, max_seq_len=514)
    return make(
        replace(shape, max_seq_len=shape.max_seq_len - ids.padding - 1),
        family=family,
        top=read_top(config, TOPS[family], next(iter(TOPS[family]))),
        activation=ACTIVATIONS[config.get("hidden_act", "gelu")],
        eps=config.get("layer_norm_eps", 1e-12),
        num_types=config.get("type_vocab_size", 2),
        token_ids=ids,
    )


def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of config.json; raises CheckpointError when positions do not begin behind the padding id."""
    padding = spec.token_ids.padding
    if padding is None or padding + 1 != spec.position_offset:
        raise CheckpointError(
            f"padding id {padding} in a {spec.family} model whose positions begin at row {spec.position_offset}",
            accepted=f"padding id {spec.position_offset - 1}: readers of this layout begin positions behind it",
            fix="use a tokenizer with this padding id, or set position_offset before training",
        )
    rows = {"max_position_embeddings": spec.max_seq_len + spec.position_offset}
    return {**write_encoder(spec, MODEL_TYPES[spec.family]), **rows, **write_top(spec, TOPS[spec.family])}


def rules(spec: ModelSpec) -> Rules:
    """List the weight rules of a spec."""
    return encoder_rules(spec, NAMES, OUTER, PRETRAINING)


ROBERTA = Family(
    name="roberta",
    model_types=("roberta",),
    make=make,
    spec_from_hf=partial(spec_from_hf, family="roberta"),
    hf_from_spec=hf_from_spec,
    rules=rules,
    text_labels="RobertaForSequenceClassification",
    init=Init(scale_residual=False),
    prefix="roberta.",
    presets={
        "roberta-base": make(Shape(50_265, 768, 12, 12, 512)),
        "roberta-large": make(Shape(50_265, 1024, 24, 16, 512)),
    },
)
XLM_ROBERTA = replace(
    ROBERTA,
    name="xlm_roberta",
    text_labels="XLMRobertaForSequenceClassification",
    model_types=("xlm-roberta",),
    make=partial(make, family="xlm_roberta"),
    spec_from_hf=partial(spec_from_hf, family="xlm_roberta"),
    presets={
        "xlm-roberta-base": make(Shape(250_002, 768, 12, 12, 512), family="xlm_roberta"),
        "xlm-roberta-large": make(Shape(250_002, 1024, 24, 16, 512), family="xlm_roberta"),
    },
)
