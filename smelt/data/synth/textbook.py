"""Textbook style: a section about each topic for each kind of reader.

Variety comes from what is asked, not from the teacher's temperature: the same topic for another reader is another text.
The row's instruction asks for the section; how a textbook is written, only the teacher is told.

Ref: Textbooks are all you need, arXiv:2306.11644, section 2. Ref: TinyStories, arXiv:2305.07759, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from smelt.data.synth.job import Cost, Job, Row, Seed, Waves, estimate
from smelt.data.synth.prompts import Prompts, fill
from smelt.data.synth.recipe import SynthRecipe

AT_ONCE = 64


def sections(recipe: SynthRecipe, seeds: Sequence[Seed], prompts: Prompts) -> list[Row]:
    """Return the rows to be answered, topic by topic."""
    rows = [
        Row(fill(prompts.section, topic=seed.text, audience=audience), origin=seed.where, how=audience)
        for seed in seeds
        for audience in recipe.audiences
    ]
    return rows[: recipe.count]


def waves(job: Job) -> Waves:
    """Have each section written once; one that is much like an earlier one is refused."""
    rows = sections(job.recipe, job.seeds, job.prompts)
    for start in range(0, len(rows), AT_ONCE):
        now = rows[start : start + AT_ONCE]
        replies = yield [job.request(row.instruction, system=job.prompts.manner) for row in now]
        for row, reply in zip(now, replies, strict=True):
            made = job.answered(row, reply)
            like = None if made.reason else job.pool.like(made.answer)
            if like is not None:
                made = replace(made, reason="near duplicate", like=like)
            if job.hand_in(made):
                job.pool.add(made.answer)


def costs(recipe: SynthRecipe, seeds: Sequence[Seed], prompts: Prompts) -> list[Cost]:
    """Return what the rows cost at most."""
    rows = sections(recipe, seeds, prompts)
    return [estimate("sections", len(rows), [prompts.manner + row.instruction for row in rows], recipe.max_tokens)]
