"""What encoder families write alike: their layers, and which heads a checkpoint has, by its architecture's name.

config.json says in `architectures` what stands on the encoder: BertModel is bare, BertForMaskedLM predicts tokens,
BertForTokenClassification labels them, and so on. A family gives a table from these names to what they have on top. The
names of labels are in `id2label`; a CRF behind labels of tokens is a field of ours, `use_crf`, which other readers
leave out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from smelt.core.errors import CheckpointError
from smelt.models.families.base import HfConfig, Shape, hf_from_token_ids
from smelt.models.families.label_layout import read_labels, write_labels
from smelt.models.families.layout import named_rules
from smelt.models.weights import Ignore, Rule, Rules, Tie
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
UNSUPPORTED = {
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "directionality": ("bidi",),
    "pooler_type": ("first_token_transform",),
}
FIXED = ("next_sentence", "sentence_order", "span")
"""Tasks whose number of labels, two, is no setting."""


def hf_name(activation: Activation) -> str:
    """Return the published name of an activation; raises CheckpointError where there is none."""
    for name, ours in ACTIVATIONS.items():
        if ours == activation:
            return name
    raise CheckpointError(f"no published encoder has {activation}", accepted=", ".join(ACTIVATIONS.values()))


@dataclass(frozen=True)
class Top:
    """Say what one architecture has on its encoder."""

    language_head: bool = False
    pooler: bool = False
    tasks: tuple[TaskSpec, ...] = ()


Tops = Mapping[str, Top]


def encoder_spec(family: str, shape: Shape, activation: Activation, norm: NormSpec, *, num_types: int) -> ModelSpec:
    """Describe one of the first encoders, with nothing on top; F defaults to 4 D.

    Attention goes both ways, biases are everywhere, norms stand behind the parts and on the embedding.
    """
    heads = shape.num_heads
    attention = AttentionSpec(heads, heads, shape.dim // heads, qkv_bias=True, output_bias=True, causal=False)
    feed_forward = FeedForwardSpec(shape.hidden_dim or 4 * shape.dim, activation, bias=True)
    return ModelSpec(
        family=family,
        vocab_size=shape.vocab_size,
        dim=shape.dim,
        max_seq_len=shape.max_seq_len,
        layers=(LayerSpec(attention, feed_forward, norm, "post"),) * shape.num_layers,
        norm=None,
        positions="learned",
        embedding_norm=norm,
        num_types=num_types,
        language_head=False,
    )


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
    return replace(tops[name], tasks=tuple(_read_labels(config, task) for task in tops[name].tasks))


def _read_labels(config: HfConfig, task: TaskSpec) -> TaskSpec:
    """Read the number of a task's labels and their names, and whether a CRF scores them."""
    if task.name in FIXED:
        return task
    return replace(read_labels(config, task), crf=task.reads == "token" and bool(config.get("use_crf")))


def write_top(spec: ModelSpec, tops: Tops) -> dict[str, Any]:
    """Write the architecture and the number of labels; raises CheckpointError where no architecture has this top."""
    for name, top in tops.items():
        alike = (top.language_head, top.pooler) == (spec.language_head, spec.pooler)
        if not alike or [task.name for task in top.tasks] != [task.name for task in spec.tasks]:
            continue
        found: dict[str, Any] = {"architectures": [name]}
        if top.tasks and top.tasks[0].name not in FIXED:
            found |= write_labels(spec.tasks[0]) | ({"use_crf": True} if spec.tasks[0].crf else {})
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
        "hidden_act": hf_name(layer.dense.activation),
        "layer_norm_eps": layer.norm.eps,
        "tie_word_embeddings": spec.tied or not spec.language_head,
        **hf_from_token_ids(spec.token_ids),
    }


def encoder_rules(
    spec: ModelSpec, names: Mapping[str, str], outer: Mapping[str, str], pretraining: Mapping[str, str]
) -> Rules:
    """List the weight rules of a spec by tables of names, as `layout.named_rules` does.

    Files may carry the parts of pretraining that their architecture does not use: `pretraining` gives the pattern of
    each by our name of the part, and those are skipped.
    """
    found: list[Rule | Tie | Ignore] = [Ignore(f"{outer['position_embedding'].rpartition('.')[0]}.*_ids")]
    alias, bias = f"{outer['head']}.bias", outer["tied_bias"]
    if spec.language_head and alias != bias:
        found.append(Tie(alias, bias) if spec.tied else Ignore(bias))
    there = {"head": spec.language_head, "pooler": spec.pooler, **{task.name: True for task in spec.tasks}}
    found += [Ignore(pattern) for part, pattern in pretraining.items() if not there.get(part)]
    return (*named_rules(spec, names, outer=outer), *found)
