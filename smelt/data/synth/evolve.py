"""Evol-Instruct: instructions made harder (in depth) or rarer (in breadth), generation after generation.

Each instruction is rewritten in a way drawn for it, the two are compared, and the new one is answered. Where one is
eliminated, its parent is evolved anew in the next generation. Rows are the evolved instructions of all generations; the
seeds themselves are in the user's file already.

Ref: WizardLM, arXiv:2304.12244, section 3.2; four generations in section 4.1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from smelt.data.synth.filters import fault_of_instruction
from smelt.data.synth.job import Cost, Job, Row, Seed, Waves, estimate
from smelt.data.synth.prompts import Prompts, fill
from smelt.data.synth.recipe import SynthRecipe
from smelt.data.synth.teacher import Reply

AT_ONCE = 64  # instructions that are evolved side by side
VERDICT = re.compile(r"\W*([AB])\b(?! \w)")


@dataclass
class Line:
    """A seed and its descendants so far, the youngest last."""

    origin: str
    chance: Random
    texts: list[str] = field(default_factory=list)


def waves(job: Job) -> Waves:
    """Evolve all seeds, some at a time, each through all generations."""
    seeds = job.seeds[: job.recipe.count]
    for start in range(0, len(seeds), AT_ONCE):
        group = list(enumerate(seeds[start : start + AT_ONCE], start=start))
        lines = [Line(seed.where, job.chance(number), [seed.text]) for number, seed in group]
        for _ in range(job.recipe.generations):
            yield from generation(job, lines)


def generation(job: Job, lines: Sequence[Line]) -> Waves:
    """Evolve each line once."""
    ways = [line.chance.choice(sorted(job.prompts.evolve)) for line in lines]
    asked = [
        job.request(fill(job.prompts.evolve[way], instruction=line.texts[-1]))
        for line, way in zip(lines, ways, strict=True)
    ]
    evolved = yield asked
    rows = [evolved_row(job, *pair) for pair in zip(lines, ways, evolved, strict=True)]
    live = [number for number, row in enumerate(rows) if not row.reason]
    verdicts = yield [
        job.request(
            fill(job.prompts.compare, first=lines[number].texts[-1], second=rows[number].instruction), temperature=0
        )
        for number in live
    ]
    for number, verdict in zip(live, verdicts, strict=True):
        if reason := fault_of_verdict(verdict):
            rows[number] = replace(rows[number], reason=reason)
    live = [number for number, row in enumerate(rows) if not row.reason]
    answers = yield [job.request(rows[number].instruction) for number in live]
    for number, answer in zip(live, answers, strict=True):
        rows[number] = job.answered(rows[number], answer)
    for line, row in zip(lines, rows, strict=True):
        if job.hand_in(row):
            line.texts.append(row.instruction)


def evolved_row(job: Job, line: Line, way: str, reply: Reply) -> Row:
    """Return the row of an evolved instruction, refused where it cannot be used; if not, it joins the pool."""
    text = without_label(reply.text)
    made = Row(text, origin=line.origin, how=way)
    if reply.finish != "stop":
        return replace(made, reason="cut off" if reply.finish == "length" else "not taken by the teacher")
    reason = fault_of_instruction(text) or copied(text, job.prompts.marks)
    if not reason and text in line.texts:
        reason = "unchanged"
    if reason:
        return replace(made, reason=reason)
    if like := job.pool.like(text, but=line.texts):
        return replace(made, reason="near duplicate", like=like)
    job.pool.add(text)
    return made


def without_label(text: str) -> str:
    """Return an instruction without the word that some teachers put before it."""
    return re.sub(r"\A\W*instruction\W*:\W*", "", text, flags=re.IGNORECASE)


def copied(text: str, marks: Sequence[str]) -> str:
    """Return the reason against an instruction that has words of our prompts, "" for none."""
    small = text.lower()
    return "copies the prompt" if any(mark.lower() in small for mark in marks) else ""


def fault_of_verdict(reply: Reply) -> str:
    """Return the reason against an instruction by the teacher's comparison with its parent, "" for none."""
    found = VERDICT.match(reply.text)
    if reply.finish == "refused" or found is None:
        return "no verdict"
    return "nothing new" if found[1] == "A" else ""


def costs(recipe: SynthRecipe, seeds: Sequence[Seed], prompts: Prompts) -> list[Cost]:
    """Return what the rows cost at most; evolved instructions are counted as long as their seeds."""
    texts = [seed.text for seed in seeds[: recipe.count]]
    times = len(texts) * recipe.generations
    ways = [fill(way, instruction=text) for text in texts for way in prompts.evolve.values()]
    pairs = [fill(prompts.compare, first=text, second=text) for text in texts]
    return [
        estimate("evolving", times, ways, recipe.max_tokens),
        estimate("comparing", times, pairs, recipe.max_tokens),
        estimate("answers", times, texts, recipe.max_tokens),
    ]
