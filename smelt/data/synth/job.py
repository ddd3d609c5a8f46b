"""What a method works with: seeds, prompts and chance, and a place for the rows that it makes."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from smelt.core.errors import DataError
from smelt.data.questions import read_questions
from smelt.data.readers import decode
from smelt.data.records import Message
from smelt.data.synth.filters import fault_of_answer
from smelt.data.synth.likeness import Pool
from smelt.data.synth.prompts import Prompts
from smelt.data.synth.recipe import SynthRecipe
from smelt.data.synth.teacher import Reply, Request, Settings

BYTES_A_TOKEN = 4  # for the estimate before a run; English has about 4, Chinese about 3
Waves = Generator[list[Request], list[Reply], None]


@dataclass(frozen=True)
class Seed:
    """An instruction, or a topic, and the place it came from."""

    text: str
    where: str


@dataclass(frozen=True)
class Row:
    """One instruction with its answer; `reason` says why it is refused, and `like` which row it is too much alike."""

    instruction: str
    answer: str = ""
    system: str = ""
    origin: str = ""
    how: str = ""
    reason: str = ""
    like: str = ""


@dataclass(frozen=True)
class Cost:
    """What one step of a method asks: requests at most, and the tokens of each, estimated in and at most out."""

    what: str
    requests: int
    tokens_in: int
    tokens_out: int


def estimate(what: str, requests: int, prompts: Iterable[str], max_tokens: int) -> Cost:
    """Return the cost of requests like those of some example prompts."""
    sizes = [len(prompt.encode()) for prompt in prompts]
    return Cost(what, requests, requests * sum(sizes) // (BYTES_A_TOKEN * max(1, len(sizes))), requests * max_tokens)


@dataclass
class Job:
    """The state of a run; a method reads it and hands in rows, which go to `sink` in order."""

    recipe: SynthRecipe
    prompts: Prompts
    seeds: Sequence[Seed]
    sink: Callable[[Row], None] = lambda row: None
    num_kept: int = 0
    num_requests: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.pool = Pool(self.recipe.near_duplicate)

    def chance(self, *key: object) -> random.Random:
        """Return a source of chance that depends on the seed and a key alone."""
        return random.Random("/".join(map(str, (self.recipe.seed, self.recipe.method, *key))))

    def request(self, prompt: str, *, system: str = "", temperature: float | None = None) -> Request:
        """Return a request of one turn; the seed of its sampling is its number in the run."""
        lead = (Message("system", system),) if system else ()
        warm = self.recipe.temperature if temperature is None else temperature
        self.num_requests += 1
        settings = Settings(self.recipe.max_tokens, warm, self.recipe.seed + self.num_requests)
        return Request((*lead, Message("user", prompt)), settings)

    def hand_in(self, row: Row) -> bool:
        """Keep a row, or refuse it if it has a reason; return whether it was kept."""
        if row.reason:
            self.reasons[row.reason] += 1
        else:
            self.num_kept += 1
        self.sink(row)
        return not row.reason

    def answered(self, row: Row, reply: Reply) -> Row:
        """Return a row with its answer and what speaks against it."""
        reason = fault_of_answer(row.instruction, reply)
        return Row(row.instruction, reply.text, row.system, row.origin, row.how, reason)

    def line_of(self, row: Row) -> str:
        """Return a row as it is written: kept ones in the recipe's format, refused ones with their reason."""
        recipe = self.recipe
        told = {"method": recipe.method, "teacher": recipe.teacher, "seed": recipe.seed}
        told |= {key: value for key, value in (("from", row.origin), ("how", row.how)) if value}
        if row.reason:
            near = {"like": row.like} if row.like else {}
            values: dict[str, object] = {
                "reason": row.reason,
                "instruction": row.instruction,
                "answer": row.answer,
                **near,
            }
        elif recipe.format == "alpaca":
            system = {"system": row.system} if row.system else {}
            values = {**system, "instruction": row.instruction, "input": "", "output": row.answer}
        else:
            turns = (("system", row.system), ("user", row.instruction), ("assistant", row.answer))
            values = {"messages": [{"role": role, "content": text} for role, text in turns if text]}
        return json.dumps({**values, "lineage": told}, ensure_ascii=False)


def read_seeds(recipe: SynthRecipe) -> list[Seed]:
    """Return the instructions of a recipe's data, or its topics; what is there twice counts once.

    Of a conversation that is its first user turn, which alone can be understood without what went before.

    Raises:
        DataError: there are none.
    """
    if recipe.method == "textbook":
        found = (
            Seed(line.strip(), f"{recipe.data}:{number}")
            for number, line in enumerate(topics_in(Path(recipe.data)), 1)
            if line.strip()
        )
    else:
        found = (
            Seed(turn.content.strip(), where)
            for where, question in read_questions(recipe.data)
            for turn in islice((turn for turn in question if turn.role == "user"), 1)
        )
    seeds: dict[str, Seed] = {}
    for seed in found:
        seeds.setdefault(seed.text, seed)
    if not seeds:
        raise DataError(
            f"{recipe.data}: nothing to begin with", accepted="chats or texts; for textbook, a topic a line"
        )
    return list(seeds.values())


def topics_in(path: Path) -> list[str]:
    """Return the lines of a text file; raises DataError where there is none, or it is not UTF-8."""
    if not path.is_file():
        raise DataError(f"{path}: no such file", accepted="a text file with one topic a line", fix="check the path")
    return decode(path.read_bytes(), path).splitlines()
