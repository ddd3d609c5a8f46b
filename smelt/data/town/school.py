"""School pages: exercises shown with their answers, in the wording of notes and not of instructions.

They let a small model practise sums, sorting, counting, patterns, passives, records and tool calls before it is ever
asked for them. A page opens with a column of sums or of verdicts, since these are short and the hardest to learn.
"""

from __future__ import annotations

from smelt.data.town.exercises import EXERCISES
from smelt.data.town.questions import comparison
from smelt.data.town.world import World

_NUM_SUMS, _NUM_VERDICTS = 3, 4
_SKILLS = tuple(skill for skill in EXERCISES if skill != "arithmetic")


def note(world: World, skill: str) -> str:
    """Write one worked exercise."""
    lexicon = world.lexicon
    exercise = EXERCISES[skill](World(world.chooser, lexicon, world.split))
    if exercise.name in lexicon.notes:
        return lexicon.notes[exercise.name].format_map(exercise.fields | {"answer": exercise.answer})
    # Talks and tool calls are shown as somebody says them.
    question = world.chooser.choose(lexicon.tasks[exercise.name]).format_map(exercise.fields)
    return lexicon.notes[exercise.name.split("_")[0]].format(question=question, answer=exercise.answer)


def school_page(world: World) -> str:
    """Write a page: a column of sums or of verdicts, then one or two skills, two exercises of each."""
    chooser, lexicon, split = world.chooser, world.lexicon, world.split
    if chooser.choose(("sums", "verdicts"), (3, 2)) == "sums":
        lines = [note(world, "arithmetic") for _ in range(_NUM_SUMS)]
    else:
        lines = [comparison(World(chooser, lexicon, split)) for _ in range(_NUM_VERDICTS)]
    for skill in chooser.sample(_SKILLS, chooser.integer(1, 2)):
        lines += [note(world, skill), note(world, skill)]
    return "\n".join(lines)
