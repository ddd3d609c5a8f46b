"""What encoder families write alike: their layers, and which heads a checkpoint has, by its architecture's name.

config.json says in `architectures` what stands on the encoder: BertModel is bare, BertForMaskedLM predicts tokens,
BertForTokenClassification labels them, and so on. A family gives a table from these names to what they have on top.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from smelt.core.errors import CheckpointError
from smelt.models.families.base import HfConfig, hf_from_token_ids
from smelt.nn.spec import (
    Activation,
    AttentionSpec,
    FeedForwardSpec,
    LayerSpec,
    ModelSpec,
    NormSpec,
    TaskSpec,
    TransformSpec,
)

ACTIVATIONS: dict[str, Activation] = {"gelu": "gelu", "gelu_new": "gelu_tanh", "relu": "relu"}
UNSUPPORTED = {"position_embedding_type": ("absolute",), "is_decoder": (False,), "add_cross_attention": (False,)}
FIXED = ("next_sentence", "sentence_order", "span")
"""Tasks whose number of labels, two, is no setting."""


@dataclass(frozen=True)
class Top:
    """Say what one architecture has on its encoder."""

    language_head: bool = False
    pooler: bool = False
    tasks: tuple[TaskSpec, ...] = ()


Tops = Mapping[str, Top]


def encoder_layer(dim: int, num_heads: int, hidden_dim: int, activation: Activation, norm: NormSpec) -> LayerSpec:
    """Describe a layer of the first encoders: attention both ways, biases everywhere, norms behind the parts."""
    attention = AttentionSpec(num_heads, num_heads, dim // num_heads, qkv_bias=True, output_bias=True, causal=False)
    return LayerSpec(attention, FeedForwardSpec(hidden_dim, activation, bias=True), norm, "post")


def with_top(spec: ModelSpec, top: Top, transform: TransformSpec | None, *, tied: bool = True) -> ModelSpec:
    """Give a spec what stands on its encoder; a language head is tied unless said otherwise, and has a bias."""
    has_head = top.language_head
    return replace(
        spec,
        language_head=has_head,
        tied=has_head and tied,
        head_bias=has_head,
        head_transform=transform if has_head else None,
        pooler=top.pooler,
        tasks=top.tasks,
    )


def read_top(config: HfConfig, tops: Tops, usual: str) -> Top:
    """Read what a checkpoint has on its encoder; `usual` is what a file means that does not say.

    Raises CheckpointError for an architecture that is not in the table.
    """
    name = (config.get("architectures") or [usual])[0]
    if name not in tops:
        raise CheckpointError(f"config.json: architectures = [{name!r}] is not supported", accepted=", ".join(tops))
    labels = config.get("id2label")
    num_labels = len(labels) if labels else config.get("num_labels") or 2
    tasks = tops[name].tasks
    return replace(
        tops[name],
        tasks=tuple(task if task.name in FIXED else replace(task, num_labels=num_labels) for task in tasks),
    )


def write_top(spec: ModelSpec, tops: Tops) -> dict[str, Any]:
    """Write the architecture and the number of labels; raises CheckpointError where no architecture has this top."""
    for name, top in tops.items():
        alike = (top.language_head, top.pooler) == (spec.language_head, spec.pooler)
        if not alike or [task.name for task in top.tasks] != [task.name for task in spec.tasks]:
            continue
        found: dict[str, Any] = {"architectures": [name]}
        if top.tasks and top.tasks[0].name not in FIXED:
            numbers = range(spec.tasks[0].num_labels)
            found["id2label"] = {str(number): f"LABEL_{number}" for number in numbers}
            found["label2id"] = {f"LABEL_{number}": number for number in numbers}
        return found
    parts = ["a language head"] * spec.language_head + ["a pooler"] * spec.pooler + [task.name for task in spec.tasks]
    raise CheckpointError(f"no published encoder of this family has {parts} on top", accepted=", ".join(tops))


def write_encoder(spec: ModelSpec, model_type: str) -> dict[str, Any]:
    """Write the fields that these families share, but the architecture."""
    layer = spec.layers[0]
    return {
        "model_type": model_type,
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.dim,
        "num_hidden_layers": len(spec.layers),
        "num_attention_heads": layer.attention.num_heads,
        "intermediate_size": layer.dense.hidden_dim,
        "max_position_embeddings": spec.max_seq_len,
        "type_vocab_size": spec.num_types,
        "hidden_act": next(name for name, ours in ACTIVATIONS.items() if ours == layer.dense.activation),
        "layer_norm_eps": layer.norm.eps,
        "tie_word_embeddings": spec.tied or not spec.language_head,
        **hf_from_token_ids(spec.token_ids),
    }
