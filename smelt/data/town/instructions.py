"""Instructions with gold answers, one kind a skill: what a user asks, and the only right reply.

Each kind draws a world of its own, words the request in one of a few ways, and knows the answer because it made the
world. Whether a question is told, true or untold cannot be seen from its form: the story has to be read. A chat about a
text may hold `earlier` questions before the one that counts; they are practice, several answers for one story read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

from smelt.data.town.exercises import EXERCISES
from smelt.data.town.questions import Reply, asks_about, checked, checks_about, draw_questions, told, untold
from smelt.data.town.stories import tell_facts, tell_page
from smelt.data.town.world import World

T = TypeVar("T")


class Task(NamedTuple):
    """The turns of a chat, user first and last, the gold reply, and a way to draw a wrong one."""

    turns: tuple[str, ...]
    gold: str
    wrong: Callable[[], str]


def _about(world: World, frame: str, text: str, replies: Sequence[Reply]) -> Task:
    """Ask about a text, question after question; the last one is the task."""
    wording = world.chooser.choose(world.lexicon.tasks[frame])
    turns = [wording.format(x=text, question=replies[0].question)]
    for before, after in pairwise(replies):
        turns += [before.answer, after.question]
    return Task(tuple(turns), replies[-1].answer, replies[-1].wrong)


def _take(world: World, options: list[T]) -> T:
    return options.pop(world.chooser.index(len(options)))


def reading(world: World, earlier: int) -> Task:
    """Ask for something a story told."""
    text = tell_facts(world)
    asks, checks = asks_about(world), checks_about(world)
    last = told(world, *_take(world, asks))
    return _about(world, "story", text, [*draw_questions(world, earlier, asks, checks, with_untold=True), last])


def fact(world: World, earlier: int) -> Task:
    """Ask for something a page told."""
    text = tell_page(world)
    asks, checks = asks_about(world), checks_about(world)
    last = told(world, *_take(world, asks))
    return _about(world, "page", text, [*draw_questions(world, earlier, asks, checks, with_untold=False), last])


def yes_no(world: World, earlier: int) -> Task:
    """Ask whether something in a story is so."""
    text = tell_facts(world)
    while not (checks := checks_about(world)):
        text = world.lexicon.space.join((text, world.fact("put").text))
    last = checked(world, *_take(world, checks))
    before = draw_questions(world, earlier, asks_about(world), checks, with_untold=True)
    return _about(world, "story", text, [*before, last])


def unknowable(world: World, earlier: int) -> Task:
    """Ask for something the story does not tell."""
    text = tell_facts(world)
    before = draw_questions(world, earlier, asks_about(world), checks_about(world), with_untold=True)
    return _about(world, "story", text, [*before, untold(world)])


def _exercise(skill: str) -> Callable[[World, int], Task]:
    def task(world: World, earlier: int) -> Task:
        exercise = EXERCISES[skill](world)
        wording = world.chooser.choose(world.lexicon.tasks[exercise.name])
        return Task((wording.format_map(exercise.fields),), exercise.answer, exercise.wrong)

    return task


TASKS: dict[str, Callable[[World, int], Task]] = {
    "reading": reading,
    "fact": fact,
    "yes_no": yes_no,
    "unknowable": unknowable,
    **{skill: _exercise(skill) for skill in EXERCISES},
}
