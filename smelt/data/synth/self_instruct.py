"""Self-instruct: from a few tasks of people to many of the teacher's.

A round shows the teacher six seeds and two tasks of its own, drawn anew for each request, and asks for eight more. What
is no near-duplicate of any task so far is answered, and joins those that later rounds are shown. The plan of a round
depends on the rounds before it alone, so more rows can be asked for later and the earlier ones stay.
The paper tells classification tasks from others and makes their labels first; here a task comes complete with its input
and is answered at once, as an instruction-tuned teacher can and the paper's base model could not.

Ref: Self-Instruct, arXiv:2212.10560, section 2.2.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from smelt.data.synth.filters import fault_of_instruction
from smelt.data.synth.job import Cost, Job, Row, Seed, Waves, estimate
from smelt.data.synth.prompts import Prompts, fill
from smelt.data.synth.recipe import SynthRecipe
from smelt.data.synth.teacher import Reply

SHOWN_SEEDS, SHOWN_MADE = 6, 2  # in the paper
ASKED_FOR = 8
AT_ONCE = 8  # requests for tasks of one round
ROWS = 100
PATIENCE = 4  # times the requests that it takes if nothing is refused
TASK = re.compile(r"^[\s*#>-]*(?:Task|任务)\s*\d+\s*[*]*\s*[:：.)][\s*]*", re.MULTILINE | re.IGNORECASE)


def waves(job: Job) -> Waves:
    """Make rows until there are enough, or the teacher has been asked four times what that should take."""
    count = job.recipe.count or ROWS
    most = PATIENCE * fewest_requests(count)
    chance = job.chance()
    made: list[str] = []
    for seed in job.seeds:
        job.pool.add(seed.text)
    while job.num_kept < count and job.num_requests < most:
        asked = range(min(AT_ONCE, most - job.num_requests))
        proposals = yield [job.request(proposal(job.prompts, shown(job.seeds, made, chance))) for _ in asked]
        fresh = [task for reply in proposals for task in accepted(job, reply)]
        while fresh and (wanted := min(count - job.num_kept, most - job.num_requests)) > 0:
            now, fresh = fresh[:wanted], fresh[wanted:]
            replies = yield [job.request(task) for task in now]
            made += [
                task
                for task, reply in zip(now, replies, strict=True)
                if job.hand_in(job.answered(Row(task, how="new task"), reply))
            ]


def fewest_requests(count: int) -> int:
    """Return how many requests so many rows take if nothing is refused."""
    return count + -(-count // ASKED_FOR)


def shown(seeds: Sequence[Seed], made: Sequence[str], chance: random.Random) -> list[str]:
    """Draw the tasks that a request shows."""
    own = chance.sample(made, min(SHOWN_MADE, len(made)))
    drawn = chance.sample(seeds, min(SHOWN_SEEDS + SHOWN_MADE - len(own), len(seeds)))
    tasks = [seed.text for seed in drawn] + own
    chance.shuffle(tasks)
    return tasks


def proposal(prompts: Prompts, tasks: Sequence[str]) -> str:
    """Return the prompt that asks for more tasks after some."""
    listed = "\n\n".join(f"Task {number}: {task}" for number, task in enumerate(tasks, start=1))
    return fill(prompts.propose, tasks=listed, count=ASKED_FOR)


def tasks_in(text: str) -> list[str]:
    """Return the tasks of a reply: "Task 9: Add 2 and 3.\\nTask 10: ..." -> ["Add 2 and 3.", ...]."""
    return [task.strip() for task in TASK.split(text)[1:]]


def accepted(job: Job, reply: Reply) -> list[str]:
    """Return the tasks of a reply that are worth an answer, put them into the pool, and hand in what is refused."""
    tasks = [] if reply.finish == "refused" else tasks_in(reply.text)
    if not tasks:
        reason = "not taken by the teacher" if reply.finish == "refused" else "no task in the reply"
        job.hand_in(Row("", reply.text, how="new task", reason=reason))
    found = []
    for number, task in enumerate(tasks, start=1):
        unfinished = reply.finish == "length" and number == len(tasks)
        reason = "cut off" if unfinished else fault_of_instruction(task)
        like = None if reason else job.pool.like(task)
        if reason or like is not None:
            job.hand_in(Row(task, how="new task", reason=reason or "near duplicate", like=like or ""))
            continue
        job.pool.add(task)
        found.append(task)
    return found


def costs(recipe: SynthRecipe, seeds: Sequence[Seed], prompts: Prompts) -> list[Cost]:
    """Return what the rows cost at most."""
    count = recipe.count or ROWS
    sample = [seed.text for seed in seeds]
    chance = random.Random(recipe.seed)
    asked = [proposal(prompts, shown(seeds, [], chance)) for _ in range(AT_ONCE)]
    rounds = -(-count // ASKED_FOR)
    return [
        estimate("new tasks", PATIENCE * rounds, asked, recipe.max_tokens),
        estimate("answers", PATIENCE * count, sample, recipe.max_tokens),
    ]
