"""Explained answers to given instructions: a system message asks for the reasoning, and stays in the row.

A pupil learns more from why than from what, as long as it sees the message that asked for it. Which message goes before
which instruction is drawn from the seed.

Ref: Orca, arXiv:2306.02707, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from smelt.data.synth.job import Cost, Job, Row, Seed, Waves, estimate
from smelt.data.synth.prompts import Prompts
from smelt.data.synth.recipe import SynthRecipe

AT_ONCE = 64


def waves(job: Job) -> Waves:
    """Have each instruction answered once."""
    chance = job.chance()
    seeds = job.seeds[: job.recipe.count]
    for start in range(0, len(seeds), AT_ONCE):
        rows = [
            Row(seed.text, system=chance.choice(job.prompts.systems), origin=seed.where)
            for seed in seeds[start : start + AT_ONCE]
        ]
        replies = yield [job.request(row.instruction, system=row.system) for row in rows]
        for row, reply in zip(rows, replies, strict=True):
            job.hand_in(job.answered(row, reply))


def costs(recipe: SynthRecipe, seeds: Sequence[Seed], prompts: Prompts) -> list[Cost]:
    """Return what the rows cost at most."""
    texts = [seed.text + system for seed in seeds[: recipe.count] for system in prompts.systems]
    return [estimate("answers", len(seeds[: recipe.count]), texts, recipe.max_tokens)]
