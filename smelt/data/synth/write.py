"""A run: the method's waves are answered, its rows written, and the same command ends what a kill interrupted.

Beside OUT lie OUT.recipe.yaml, OUT.replies (every reply, so that none is asked twice) and OUT.refused (the rows that a
filter refused, each with its reason). Rows are written when their wave is complete, in the method's order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smelt.core.errors import ConfigError, UsageError
from smelt.core.log import LiveLine, say
from smelt.data.continuing import Lines, same_recipe
from smelt.data.synth import evolve, explain, self_instruct, textbook
from smelt.data.synth.asking import Asker
from smelt.data.synth.job import Cost, Job, Seed, Waves, read_seeds
from smelt.data.synth.journal import Journal
from smelt.data.synth.prompts import Prompts, load_prompts
from smelt.data.synth.recipe import SynthRecipe
from smelt.data.synth.teacher import Reply, Teacher, TeacherError

METHODS: dict[str, tuple[Callable[[Job], Waves], Callable[[SynthRecipe, Sequence[Seed], Prompts], list[Cost]]]] = {
    "self-instruct": (self_instruct.waves, self_instruct.costs),
    "evol-instruct": (evolve.waves, evolve.costs),
    "explain": (explain.waves, explain.costs),
    "textbook": (textbook.waves, textbook.costs),
}
MAY_GROW = ("self-instruct", "explain", "textbook")  # whose first rows do not depend on how many there will be


@dataclass(frozen=True)
class SynthReport:
    """What a run made; tokens are those of all its replies, also of earlier starts, None where the teacher told none.

    `requests` are those of the plan, `asked` those of them that this start had to ask.
    """

    file: str
    refused_file: str
    rows: int
    refused: dict[str, int]
    requests: int
    asked: int
    prompt_tokens: int | None
    reply_tokens: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


def estimate_costs(recipe: SynthRecipe) -> list[Cost]:
    """Return what a run costs at most, step by step; raises as reading its data and prompts does."""
    return METHODS[recipe.method][1](recipe, read_seeds(recipe), load_prompts(recipe.prompts))


def beside(out: Path, what: str) -> Path:
    """Return the file of replies or refused rows that lies beside `out`; no reader of a folder takes it for data."""
    return out.with_name(f"{out.name}.{what}")


def synthesize(recipe: SynthRecipe, teacher: Teacher, out: Path | str, *, parallel: int = 4) -> SynthReport:
    """Let the teacher write rows into `out`, behind what an earlier start wrote.

    Raises:
        ConfigError: `out` was begun with another recipe, or the recipe names another teacher.
        DataError: the data cannot be read, or a file of the run is not what it was.
        TeacherError: the teacher does not answer; what it said is kept.
    """
    out = Path(out)
    if out.suffix != ".jsonl":
        raise UsageError(f"rows in {out}", accepted="a name that ends in .jsonl")
    if recipe.teacher not in ("", teacher.name):
        raise ConfigError(
            f"teacher={recipe.teacher}, but {teacher.name} is the one that answers", fix="leave teacher out"
        )
    recipe = recipe.model_copy(update={"teacher": teacher.name})
    job = Job(recipe, load_prompts(recipe.prompts), read_seeds(recipe))
    same_recipe(recipe, out, may_change=("count",) if recipe.method in MAY_GROW else ())
    with (
        closing(Lines(out)) as rows,
        closing(Lines(beside(out, "refused"))) as refused,
        closing(Journal(beside(out, "replies"))) as journal,
    ):
        run = Run(job, rows, refused)
        line = LiveLine()
        asker = Asker(
            teacher,
            journal,
            parallel,
            on_first=lambda seconds: say(first_request(seconds, run.most - len(journal) - 1, parallel)),
            on_reply=lambda: line.update(run.progress(len(journal))),
        )
        try:
            run.drive(asker)
        except TeacherError as error:
            kept = f"{len(journal):,} replies and {rows.num_lines:,} rows are kept; the same command goes on from there"
            fix = f"{error.fix}; {kept}" if error.fix else kept
            raise TeacherError(error.what, accepted=error.accepted, fix=fix) from error
        finally:
            line.close()
        return run.report(asker)


class Run:
    """A method at work, its files, and what its replies cost."""

    def __init__(self, job: Job, rows: Lines, refused: Lines) -> None:
        self.job, self.rows, self.refused = job, rows, refused
        job.sink = lambda row: (refused if row.reason else rows).add(job.line_of(row))
        self.replies: list[Reply] = []
        costs = METHODS[job.recipe.method][1](job.recipe, job.seeds, job.prompts)
        self.most = sum(cost.requests for cost in costs)

    def drive(self, asker: Asker) -> None:
        """Answer wave after wave, and bring the rows of each to the disk."""
        waves = METHODS[self.job.recipe.method][0](self.job)
        try:
            requests = next(waves)
            while True:
                replies = asker.ask_all(requests)
                self.replies += replies
                try:
                    requests = waves.send(replies)
                finally:
                    self.rows.flush()
                    self.refused.flush()
        except StopIteration:
            self.rows.finish()
            self.refused.finish()

    def progress(self, num_replies: int) -> str:
        """Return how far the run is."""
        made = f"{self.job.num_kept:,} rows, {self.job.reasons.total():,} refused"
        return f"{num_replies:,} replies of at most {self.most:,} · {made}"

    def report(self, asker: Asker) -> SynthReport:
        """Return what was made."""

        def total(counts: list[int | None]) -> int | None:
            known = [count for count in counts if count is not None]
            return sum(known) if known else None

        return SynthReport(
            file=str(self.rows.path),
            refused_file=str(self.refused.path),
            rows=self.job.num_kept,
            refused=dict(self.job.reasons.most_common()),
            requests=len(self.replies),
            asked=asker.num_asked,
            prompt_tokens=total([reply.prompt_tokens for reply in self.replies]),
            reply_tokens=total([reply.reply_tokens for reply in self.replies]),
        )


def first_request(seconds: float, left: int, parallel: int) -> str:
    """Return what the first request says about the time of the others."""
    if left < 1:
        return f"the only request took {seconds:.1f} s"
    alone = left * seconds / 60
    return (
        f"the first request took {seconds:.1f} s; at most {left:,} others: {alone:,.1f} minutes one after another, "
        f"{alone / parallel:,.1f} if {parallel} at a time are as quick"
    )
