"""Which objective a pretraining run has, with which numbers, and which kind of network it can train.

The numbers of all objectives are fields of one recipe, each naming those that it belongs to; one that is set and would
not be looked at is an error, and so is a network that the objective cannot train, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from smelt.core.config import Config
from smelt.core.errors import ConfigError
from smelt.nn.spec import ModelSpec

Name = Literal[
    "causal", "masked", "next_sentence", "sentence_order", "span", "blank", "prefix", "unilm", "fill_in_the_middle",
    "future_tokens", "distillation", "similar_pairs",
]  # fmt: skip
Kind = Literal["decoder", "encoder", "encoder-decoder"]


@dataclass(frozen=True)
class Use:
    """Say which kind of network an objective trains and which settings it has."""

    network: Kind
    settings: tuple[str, ...]


MASKS = ("rate", "dynamic", "whole_words")
SPANS = ("rate", "dynamic", "mean_span_tokens")
USES: dict[str, Use] = {
    "causal": Use("decoder", ()),
    "future_tokens": Use("decoder", ("num_further",)),
    "prefix": Use("decoder", ("dynamic",)),
    "blank": Use("decoder", (*SPANS, "tail_share", "sentence_share")),
    "fill_in_the_middle": Use("decoder", ("dynamic", "middle_share", "suffix_first_share")),
    "masked": Use("encoder", MASKS),
    "next_sentence": Use("encoder", MASKS),
    "sentence_order": Use("encoder", MASKS),
    "unilm": Use("encoder", MASKS),
    "distillation": Use("encoder", (*MASKS, "teacher", "temperature")),
    "similar_pairs": Use("encoder", ()),
    "span": Use("encoder-decoder", SPANS),
}
REASONS = {
    "decoder": "who sees the next token has nothing to predict",
    "encoder": "a hidden token is told by what stands on both sides of it",
    "encoder-decoder": "one network reads what is left, another writes what is missing",
}


class ObjectiveRecipe(Config):
    """What is predicted; `objective=masked` is short for `objective.name=masked`."""

    name: Name = "causal"
    """causal, prefix, blank, fill_in_the_middle and future_tokens train decoders; masked, next_sentence,
    sentence_order, unilm, distillation and similar_pairs encoders; span encoder-decoders."""
    rate: float = Field(default=0.15, gt=0, lt=1)
    """Share of the tokens that are hidden (masked, next_sentence, sentence_order, unilm, distillation, span, blank)."""
    dynamic: bool = True
    """Hide others in every epoch; false: the same in all (where anything is drawn)."""
    whole_words: bool = False
    """Hide whole words (masked, next_sentence, sentence_order, unilm, distillation)."""
    mean_span_tokens: float = Field(default=3.0, ge=1)
    """Mean length of what is hidden in one piece (span, blank)."""
    tail_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the texts of which the end is the blank, not short spans (blank)."""
    sentence_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the texts of which sentences are the blanks (blank)."""
    middle_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the texts whose middle is moved to the end (fill_in_the_middle)."""
    suffix_first_share: float = Field(default=0.5, ge=0, le=1)
    """Share of those in which the suffix stands before the prefix (fill_in_the_middle)."""
    num_further: int = Field(default=3, gt=0)
    """Tokens predicted beyond the next one, each by a block of its own (future_tokens)."""
    teacher: str | None = None
    """Checkpoint of the encoder to learn from (distillation)."""
    temperature: float = Field(default=2.0, gt=0)
    """What the logits of teacher and student are divided by (distillation)."""

    @model_validator(mode="before")
    @classmethod
    def from_name(cls, value: Any) -> Any:
        """Take a bare name for the objective with its usual numbers."""
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def settings_belong(self) -> ObjectiveRecipe:
        """Refuse a setting that the objective would not look at, and one that it lacks."""
        used = USES[self.name].settings
        for key, field in type(self).model_fields.items():
            if key != "name" and key not in used and getattr(self, key) != field.default:
                raise ValueError(f"{key} is no setting of {self.name}, which has {', '.join(used) or 'none'}")
        if self.name == "distillation" and self.teacher is None:
            raise ValueError("distillation needs teacher=CHECKPOINT")
        if self.tail_share + self.sentence_share > 1:
            raise ValueError("tail_share and sentence_share are more than 1 together")
        return self


def kind_of(spec: ModelSpec) -> Kind:
    """Return what kind of network a spec describes."""
    if spec.encoder is not None:
        return "encoder-decoder"
    return "decoder" if spec.is_causal else "encoder"


def check_network(settings: ObjectiveRecipe, spec: ModelSpec) -> None:
    """Refuse a network that the objective cannot train.

    Raises:
        ConfigError: with the reason.
    """
    needed, found = USES[settings.name].network, kind_of(spec)
    if needed != found:
        raise ConfigError(
            f"objective={settings.name} is for {needed}s, but {spec.family} models are {found}s: {REASONS[needed]}",
            accepted=", ".join(name for name, use in USES.items() if use.network == found),
        )
    if spec.context is not None and settings.name in ("blank", "prefix"):
        raise ConfigError(
            f"objective={settings.name} sets positions and order, which {spec.family} models read off their own marks",
            accepted="a decoder with one position a token",
        )
    if needed == "encoder" and not spec.language_head:
        raise ConfigError("the encoder has no language head to fill in tokens with", accepted="one with that head")
    tasks = [task.name for task in spec.tasks]
    if settings.name in ("next_sentence", "sentence_order") and (settings.name not in tasks or spec.num_types < 2):
        raise ConfigError(
            f"the {spec.family} model has no {settings.name} head on two token types",
            accepted="a family whose pretraining has that task, or a checkpoint with that head",
        )
