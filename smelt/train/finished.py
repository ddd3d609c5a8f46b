"""Read finished pretraining runs as points (N, D, loss) that one law can be fitted to.

A loss compares with another only over the same held-out text, cut into rows of the same length. Of runs that were
measured differently the largest group is taken; every other run is named with the reason it was left out. Where the
group's tokenizers differ, a token is no unit, and losses become bits per byte.

What a run is comes from its recipe and its token shards, what it reached from `metrics.jsonl` and the validation at its
last step in `events.jsonl`; no weight is loaded, so checkpoints may be gone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smelt.core.config import load_recipe
from smelt.core.errors import ConfigError, DataError, SmeltError, UsageError
from smelt.data.shards import META, ShardsMeta, read_meta
from smelt.models.build import count_parameters
from smelt.models.scaling_fit import Observation
from smelt.models.scaling_laws import effective_tokens
from smelt.models.shapes import count_without_tables
from smelt.models.sizes import forward_flops
from smelt.train.run import RunDirectory
from smelt.train.stages.pretrain import PretrainRecipe


@dataclass(frozen=True)
class FinishedRun:
    """What a run was and what it reached; `loss` is the last held-out one, in nats a token."""

    path: Path
    recipe: PretrainRecipe
    parameters: int
    parameters_without_tables: int
    tokens: int
    unique_tokens: int
    loss: float
    flops: float
    flops_per_second: float
    family: str
    vocab_size: int
    max_seq_len: int
    tokenizer: str  # fingerprint
    bytes_per_token: float  # of the held-out text

    @property
    def bits_per_byte(self) -> float:
        """Return the loss in a unit that does not depend on the tokenizer."""
        return self.loss / math.log(2) / self.bytes_per_token


@dataclass(frozen=True)
class RunGroup:
    """Runs that compare, in order of their work, with the unit of their losses; and why others do not."""

    runs: tuple[FinishedRun, ...]
    skipped: tuple[tuple[str, str], ...]  # (path, reason)

    @property
    def unit(self) -> str:
        """Return "nats a token" where all runs share a tokenizer, else "bits a byte"."""
        return "nats a token" if len({run.tokenizer for run in self.runs}) <= 1 else "bits a byte"

    def loss(self, run: FinishedRun) -> float:
        """Return a run's loss in the unit of the group."""
        return run.loss if self.unit == "nats a token" else run.bits_per_byte

    def observations(self) -> list[Observation]:
        """Return the runs as a fit takes them; text that was read again counts for less."""
        return [
            Observation(run.parameters, float(effective_tokens(run.tokens, run.unique_tokens)), self.loss(run))
            for run in self.runs
        ]


def read_runs(paths: Sequence[Path]) -> RunGroup:
    """Read run directories, or directories of them, and return those that compare.

    Raises:
        UsageError: a path does not exist.
    """
    found: list[tuple[FinishedRun, tuple[object, ...]]] = []
    skipped: list[tuple[str, str]] = []
    for path in dict.fromkeys(run for given in paths for run in run_directories(given)):
        try:
            found.append(read_run(path))
        except SmeltError as error:
            skipped.append((str(path), error.what))
    if not found:
        return RunGroup((), tuple(skipped))
    largest = Counter(measured for _, measured in found).most_common(1)[0][0]
    skipped += [
        (str(run.path), "was validated on other text, or in rows of another length, than most")
        for run, measured in found
        if measured != largest
    ]
    chosen = sorted((run for run, measured in found if measured == largest), key=lambda run: run.flops)
    return RunGroup(tuple(chosen), tuple(skipped))


def rate_of_nearest(group: RunGroup, parameters: int) -> float:
    """Return the FLOP/s of the run whose size is nearest."""
    nearest = min(group.runs, key=lambda run: abs(math.log(run.parameters / parameters)))
    return nearest.flops_per_second


def run_directories(path: Path) -> list[Path]:
    """Return a run itself, or the runs right below a directory."""
    if (path / "recipe.yaml").is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"--runs {path}: no such directory", fix="`smelt runs list` shows what there is")
    return sorted(found.parent for found in path.glob("*/recipe.yaml"))


def read_run(path: Path) -> tuple[FinishedRun, tuple[object, ...]]:
    """Return a finished run, and what has to be equal for its loss to compare with another's.

    Raises:
        SmeltError: it is no pretraining run, has not ended, or continues another; the message says which.
    """
    try:
        recipe = load_recipe(PretrainRecipe, path / "recipe.yaml")
    except ConfigError:
        raise DataError("is not a pretraining run") from None
    if recipe.checkpoint is not None:
        raise DataError(f"continues {recipe.checkpoint}, whose tokens are not counted here")
    if len(recipe.data) > 1:
        raise DataError("mixes several texts, which no other run was measured on")
    files = RunDirectory(path.resolve().parent, path.resolve().name)
    metrics, events = files.read_metrics(), files.read_events()
    step = metrics[-1]["step"] if metrics else 0
    if recipe.steps is None or step < recipe.steps:
        raise DataError(f"is not finished: step {step} of {recipe.steps or '?'}")
    losses = [event["loss"] for event in events if event["event"] == "validation" and event["step"] == step]
    if not losses:
        raise DataError("has no held-out loss at its last step (validate_every=0, or no held-out text)")
    train, validation = (shards_of(path, recipe, part) for part in ("train", "validation"))
    spec = recipe.model.spec(vocab_size=train.vocab_size, max_seq_len=recipe.max_seq_len)
    last = metrics[-1]
    flops = 3 * forward_flops(spec, recipe.max_seq_len) * last["tokens"]
    run = FinishedRun(
        path=path,
        recipe=recipe,
        parameters=count_parameters(spec),
        parameters_without_tables=count_without_tables(spec),
        tokens=last["tokens"],
        unique_tokens=train.num_tokens,
        loss=losses[-1],
        flops=flops,
        flops_per_second=flops / last["seconds"],
        family=spec.family,
        vocab_size=train.vocab_size,
        max_seq_len=recipe.max_seq_len,
        tokenizer=train.tokenizer_fingerprint,
        bytes_per_token=validation.num_text_bytes / validation.num_tokens,
    )
    held_out = (tuple(sorted(validation.sources.items())), validation.num_documents, validation.num_text_bytes)
    return run, (*held_out, recipe.max_seq_len)


def shards_of(path: Path, recipe: PretrainRecipe, part: str) -> ShardsMeta:
    """Return what the token shards of a run hold: its own, or those that its recipe names."""
    named = recipe.data[0].path if part == "train" else recipe.validation
    inside = path / "data" / part
    return read_meta(inside if (inside / META).is_file() or named is None else Path(named), verify=False)
