"""The published families smelt knows, in one table, and the presets they offer.

A family is one file beside this one and one line here. Looking up a name that is not here says what is.
"""

from collections.abc import Iterable

from smelt.core.errors import CheckpointError, UsageError, nearest
from smelt.models.families.albert import ALBERT
from smelt.models.families.base import Family, Shape, check_same
from smelt.models.families.bert import BERT
from smelt.models.families.chatglm import CHATGLM
from smelt.models.families.chatglm6b import CHATGLM6B
from smelt.models.families.deepseek_v2 import DEEPSEEK_V2
from smelt.models.families.distilbert import DISTILBERT
from smelt.models.families.gemma import GEMMA
from smelt.models.families.gemma2 import GEMMA2
from smelt.models.families.gemma3 import GEMMA3
from smelt.models.families.glm import GLM, GLM4
from smelt.models.families.gpt1 import GPT1
from smelt.models.families.gpt2 import GPT2
from smelt.models.families.gpt3 import GPT3
from smelt.models.families.llama import LLAMA
from smelt.models.families.mistral import MISTRAL
from smelt.models.families.mixtral import MIXTRAL
from smelt.models.families.mt5 import MT5
from smelt.models.families.novel import NOVEL
from smelt.models.families.phi import PHI
from smelt.models.families.qwen2 import QWEN2
from smelt.models.families.qwen3 import QWEN3
from smelt.models.families.qwen3_moe import QWEN3_MOE
from smelt.models.families.recurrent import GRU, LSTM, RNN
from smelt.models.families.roberta import ROBERTA, XLM_ROBERTA
from smelt.models.families.t5 import T5
from smelt.models.families.transformer2017 import TRANSFORMER2017
from smelt.nn.spec import ModelSpec

__all__ = ["FAMILIES", "PRESETS", "Family", "Shape", "check_representable", "family_for", "preset", "spec_for"]

_TABLE = (
    GPT1, GPT2, GPT3, LLAMA, MISTRAL, MIXTRAL, QWEN2, QWEN3, QWEN3_MOE, CHATGLM, CHATGLM6B, GLM, GLM4, GEMMA, GEMMA2,
    GEMMA3, DEEPSEEK_V2, PHI, NOVEL, RNN, LSTM, GRU, BERT, ROBERTA, XLM_ROBERTA, ALBERT, DISTILBERT, TRANSFORMER2017,
    T5, MT5,
)  # fmt: skip
FAMILIES: dict[str, Family] = {family.name: family for family in _TABLE}

PRESETS: dict[str, ModelSpec] = {name: spec for family in FAMILIES.values() for name, spec in family.presets.items()}


def family_for(model_type: str, fields: Iterable[str] = ()) -> Family:
    """Return the family that answers to a config.json's model_type, and where several do, to the fields it has.

    Raises CheckpointError naming the accepted model types.
    """
    table = {name: family for family in FAMILIES.values() for name in family.model_types if family.mark is None}
    if model_type not in table:
        raise CheckpointError(
            f"config.json: model_type {model_type!r} is not supported.{nearest(model_type, table)}",
            accepted=", ".join(sorted(table)),
        )
    marked = (family for family in FAMILIES.values() if model_type in family.model_types and family.mark in set(fields))
    return next(marked, table[model_type])


def preset(name: str, *, vocab_size: int | None = None, max_seq_len: int | None = None) -> ModelSpec:
    """Return a preset's spec, resized when asked; raises UsageError with the nearest name."""
    if name not in PRESETS:
        raise UsageError(f"no preset {name!r}.{nearest(name, PRESETS)}", accepted="what `smelt info --presets` lists")
    return PRESETS[name].resized(vocab_size=vocab_size, max_seq_len=max_seq_len)


def spec_for(family: str, shape: Shape) -> ModelSpec:
    """Make a family's spec of these sizes.

    Raises UsageError on an unknown family or sizes that do not divide, CheckpointError on what no file could hold.
    """
    if family not in FAMILIES:
        raise UsageError(f"no family {family!r}.{nearest(family, FAMILIES)}", accepted=", ".join(sorted(FAMILIES)))
    if shape.num_heads <= 0 or shape.dim % shape.num_heads:
        raise UsageError(f"width {shape.dim} over {shape.num_heads} heads", accepted="a width that the heads divide")
    spec = FAMILIES[family].make(shape)
    check_representable(spec)
    return spec


def check_representable(spec: ModelSpec) -> None:
    """Raise CheckpointError when the published layout of the spec's family cannot hold all of it."""
    family = FAMILIES[spec.family]
    check_same(spec, family.spec_from_hf(family.hf_from_spec(spec)), f"the {family.name} layout cannot hold this model")
