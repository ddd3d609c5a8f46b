"""The settings that every stage shares, and how they become plain values.

A stage's recipe extends `RunRecipe` with what it trains and on what. `minutes` and the two "auto" settings are
answered once, by measurement, before the first step; the answers go into the resolved recipe on disk, so that a
resumed run takes the very same steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

import torch
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from smelt.core import runtime
from smelt.core.config import Config
from smelt.optim.build import OptimizerRecipe
from smelt.train.tuning import TuneRecipe

COMPILE_PAYS_SECONDS = 180.0  # compiling costs 10-30 s and wins about a quarter of each step


class NamedText(Config):
    """A dataset and what it is called."""

    path: str
    """A file, folder or glob."""
    name: str = ""
    """What it is called in reports; the name of the file when empty."""


class DataSource(NamedText):
    """One of the datasets of a mixture."""

    weight: float = Field(default=1.0, gt=0)
    """How often its rows are drawn, relative to the other datasets'."""


Named = TypeVar("Named", bound=NamedText)


def as_sources(value: object) -> object:
    """Return what a recipe says of its data as sources: a path is one source."""
    return [{"path": value}] if isinstance(value, str) else value


def named(given: tuple[Named, ...]) -> tuple[Named, ...]:
    """Give every dataset a name; refuse two of one name."""
    found = tuple(one.model_copy(update={"name": one.name or Path(one.path).stem}) for one in given)
    names = [one.name for one in found]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two sources are called '{repeated[0]}'; give each a name of its own")
    return found


def check_sources(sources: tuple[DataSource, ...]) -> tuple[DataSource, ...]:
    """Give every source a name; refuse none, and two of one name."""
    if not sources:
        raise ValueError("there is no source of data")
    return named(sources)


def as_written(sources: tuple[NamedText, ...]) -> object:
    """Return sources as a recipe writes them: the path alone where it is one of which nothing else is said."""
    if len(sources) == 1 and sources[0] == type(sources[0])(path=sources[0].path, name=Path(sources[0].path).stem):
        return sources[0].path
    return [source.model_dump() for source in sources]


Sources = Annotated[
    tuple[DataSource, ...], BeforeValidator(as_sources), AfterValidator(check_sources), PlainSerializer(as_written)
]
"""A path, or a list of sources."""
Texts = Annotated[
    tuple[NamedText, ...], BeforeValidator(as_sources), AfterValidator(named), PlainSerializer(as_written)
]
"""A path, or a list of texts, or none."""


class RunRecipe(Config):
    """What every training run can be told."""

    name: str
    """Name of the run; its files go to out/name."""
    out: str = "runs"
    """Directory that holds the runs."""
    seed: int = Field(default=0, ge=0)
    """Decides initial weights, order of rows and samples."""
    steps: int | None = Field(default=None, gt=0)
    """Number of optimizer steps. Give one of steps, epochs and minutes."""
    epochs: float | None = Field(default=None, gt=0)
    """Number of passes over the rows."""
    minutes: float | None = Field(default=None, gt=0)
    """Training time; turned into steps after measuring the speed."""
    max_seq_len: int = Field(default=256, gt=1)
    """Tokens in a row."""
    batch_rows: int = Field(default=32, gt=0)
    """Rows in an optimizer step."""
    micro_rows: int | None = Field(default=None, gt=0)
    """Rows computed at a time (less memory, the same step); all of them when empty."""
    optimizer: OptimizerRecipe = OptimizerRecipe()
    """How the weights move; what a method of tuning adds is moved by AdamW, also where muon is chosen."""
    tune: TuneRecipe = TuneRecipe()
    """What trains: all of the model, a part of it, or what a method adds to it."""
    validate_every: int = Field(default=100, ge=0)
    """Steps between measurements of the held-out loss; 0 = never."""
    patience: int = Field(default=0, ge=0)
    """Stop after this many validations without gain; 0 = never."""
    save_every: int = Field(default=200, ge=0)
    """Steps between checkpoints; 0 = at the end only."""
    keep: int = Field(default=2, gt=0)
    """How many of the newest checkpoints stay, beside the best one."""
    sample_every: int = Field(default=0, ge=0)
    """Steps between samples of text; 0 = never."""
    sample_prompts: tuple[str, ...] = ()
    """What the samples begin with."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of matrix products; auto: bfloat16 where the processor is fast at it."""
    compile: Literal["auto", "yes", "no"] = "auto"
    """Compile the blocks; auto: when there is a C++ compiler and the run is long enough to repay it."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    @model_validator(mode="after")
    def one_length(self) -> RunRecipe:
        """Refuse two lengths for one run."""
        given = [key for key in ("steps", "epochs", "minutes") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of steps, epochs and minutes, not {' and '.join(given)}")
        return self


def resolve_dtype(choice: str) -> torch.dtype:
    """Return the type of matrix products that a recipe's choice means here."""
    return runtime.training_dtype() if choice == "auto" else getattr(torch, choice)


def resolve_compile(choice: str, expected_seconds: float) -> bool:
    """Tell whether a run of this expected length compiles its blocks."""
    if choice == "auto":
        return runtime.has_compiler() and expected_seconds >= COMPILE_PAYS_SECONDS
    return choice == "yes"


def resolve_steps(recipe: RunRecipe, minutes_left: float | None, num_rows: int, seconds_per_step: float) -> int:
    """Return the number of steps of a run, from whichever length the recipe gives (one epoch without any)."""
    if recipe.steps is not None:
        return recipe.steps
    if minutes_left is not None:
        return max(1, int(minutes_left * 60 / seconds_per_step))
    return max(1, round((recipe.epochs or 1.0) * num_rows / recipe.batch_rows))
