"""Instructions with gold answers, one kind a skill: what a user asks, and the only right reply.

Each kind draws a world of its own, words the request in one of a few ways, and knows the answer because it made the
world. Whether a question is told, true or untold cannot be seen from its form: the story has to be read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from smelt.data.town.exercises import EXERCISES
from smelt.data.town.questions import Reply, asks_about, checked, checks_about, ordered, told, untold
from smelt.data.town.stories import tell_events, tell_facts, tell_page
from smelt.data.town.world import World


class Task(NamedTuple):
    """The turns of a chat, user first and last, the gold reply, and a way to draw a wrong one."""

    turns: tuple[str, ...]
    gold: str
    wrong: Callable[[], str]


def _about(world: World, frame: str, text: str, reply: Reply) -> Task:
    wording = world.chooser.choose(world.lexicon.tasks[frame])
    return Task((wording.format(x=text, question=reply.question),), reply.answer, reply.wrong)


def reading(world: World) -> Task:
    """Ask for something a story told; one in six goes on with a second question."""
    text = tell_facts(world)
    asks = asks_about(world)
    task = _about(world, "story", text, told(world, *asks.pop(world.chooser.index(len(asks)))))
    if world.chooser.choose(("stop", "go on"), (5, 1)) == "stop":
        return task
    then = told(world, *world.chooser.choose(asks))
    return Task((*task.turns, task.gold, then.question), then.answer, then.wrong)


def fact(world: World) -> Task:
    """Ask for something a page told."""
    text = tell_page(world)
    return _about(world, "page", text, told(world, *world.chooser.choose(asks_about(world))))


def yes_no(world: World) -> Task:
    """Ask whether something in a story is so."""
    text = tell_facts(world)
    while not (checks := checks_about(world)):
        text = world.lexicon.space.join((text, world.fact("put").text))
    return _about(world, "story", text, checked(world, *world.chooser.choose(checks)))


def unknowable(world: World) -> Task:
    """Ask for something the story does not tell."""
    text = tell_facts(world)
    return _about(world, "story", text, untold(world))


def order(world: World) -> Task:
    """Ask which event came first, last, or next."""
    text = tell_events(world)
    return _about(world, "story", text, ordered(world, world.chooser.index(len(world.facts) + 1)))


def _exercise(skill: str) -> Callable[[World], Task]:
    def task(world: World) -> Task:
        exercise = EXERCISES[skill](world)
        wording = world.chooser.choose(world.lexicon.tasks[exercise.name])
        return Task((wording.format_map(exercise.fields),), exercise.answer, exercise.wrong)

    return task


TASKS: dict[str, Callable[[World], Task]] = {
    "reading": reading,
    "fact": fact,
    "yes_no": yes_no,
    "unknowable": unknowable,
    "order": order,
    **{skill: _exercise(skill) for skill in EXERCISES},
}
