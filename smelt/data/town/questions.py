"""Questions about the facts of a world: what was told, what is true, what was not told, what happened when.

The same questions close the stories of the pretraining text and make the reading instructions, so what is practised
there is what is asked later. Every question comes with its only answer and, on demand, a plausible wrong one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from smelt.data.town.lexicon import Ask, Check, Fields, Lexicon, slots_of
from smelt.data.town.world import Fact, World

# The kinds of fact that stories tell, and how often.
STORY_KINDS = {"has": 4, "put": 4, "works": 3, "lives": 3, "gave": 4, "did": 4, "visits": 3, "plus": 1, "minus": 1}


class Reply(NamedTuple):
    """A question, its answer, and a way to draw a wrong answer of the same form."""

    question: str
    answer: str
    wrong: Callable[[], str]


# The slots that yes-or-no questions compare.
COMPARED = tuple("cdlnor")


def asks_about(world: World) -> list[tuple[Fact, Ask]]:
    """List every question that a fact of the world answers."""
    return [(fact, ask) for fact in world.facts for ask in world.lexicon.facts[fact.kind].asks]


def checks_about(world: World) -> list[tuple[Fact, Check]]:
    """List every yes-or-no question that a fact of the world settles."""
    return [(fact, check) for fact in world.facts for check in world.lexicon.facts[fact.kind].checks]


def told(world: World, fact: Fact, ask: Ask) -> Reply:
    """Ask for something that a fact told."""

    def wrong() -> str:
        return ask.answer.format_map(fact.fields | world.other(ask.slot, fact.fields))

    return Reply(ask.question.format_map(fact.fields), ask.answer.format_map(fact.fields), wrong)


def checked(world: World, fact: Fact, check: Check) -> Reply:
    """Ask whether something is so; half of the time it is not. The answer compares before it judges."""
    false = world.chooser.index(2)
    fields = fact.fields | world.other(check.slot, fact.fields) if false else fact.fields
    answers = verdicts(world, fields[check.shown], fact.fields[check.shown])
    return Reply(check.question.format_map(fields), answers[false], lambda: answers[1 - false])


def verdicts(world: World, asked: str, told: str) -> list[str]:
    """Return yes and no as answers put it, beside what was asked and what was told."""
    return [wording.format(x=asked, y=told) for wording in (world.lexicon.yes, world.lexicon.no)]


def comparison(world: World) -> str:
    """Judge two words of one list, alike half of the time."""
    slot = world.chooser.choose(COMPARED)
    fields = world.pick(slot)
    false = world.chooser.index(2)
    asked = world.other(slot, fields) if false else fields
    return verdicts(world, asked[slot], fields[slot])[false]


@lru_cache
def _story_asks(lexicon: Lexicon) -> tuple[tuple[tuple[str, Ask], ...], tuple[int, ...]]:
    # Several kinds share a question ("What colour is ...?"): list each wording once, or its bits would count twice. Its
    # weight is how often the kinds that share it are told, or its form alone would say whether it has an answer.
    asks: dict[str, tuple[str, Ask]] = {}
    weights: Counter[str] = Counter()
    for kind, weight in STORY_KINDS.items():
        for ask in lexicon.facts[kind].asks:
            asks[ask.question] = (kind, ask)
            weights[ask.question] += weight
    return tuple(asks.values()), tuple(weights[question] for question in asks)


def untold(world: World) -> Reply:
    """Ask a question as stories answer them, about something that this story does not tell."""
    kind, ask = world.chooser.choose(*_story_asks(world.lexicon))
    fields = world.phantom(kind, ask)

    def wrong() -> str:
        missing: Fields = {}
        for slot in slots_of(ask.answer):
            missing.update(world.other(slot, {}))
        return ask.answer.format_map(missing | fields)

    return Reply(ask.question.format_map(fields), (ask.untold or world.lexicon.unknown).format_map(fields), wrong)


def draw_questions(
    world: World, num: int, asks: list[tuple[Fact, Ask]], checks: list[tuple[Fact, Check]], *, with_untold: bool
) -> list[Reply]:
    """Draw `num` questions, taking them out of `asks` and `checks`; `with_untold` adds some without an answer."""
    replies = []
    for _ in range(num):
        weights = (3 * bool(asks), 3 * bool(checks), 2 * with_untold)
        if not any(weights):
            break
        sort = world.chooser.choose((asks, checks, None), weights)
        if sort is asks:
            replies.append(told(world, *asks.pop(world.chooser.index(len(asks)))))
        elif sort is checks:
            replies.append(checked(world, *checks.pop(world.chooser.index(len(checks)))))
        else:
            replies.append(untold(world))
    return replies


def ordered(world: World, which: int) -> Reply:
    """Ask about the order in which `num` events of the world were told.

    Question 0 asks for the first event, `num` for the last, any other for the event of that index by the one before.
    """
    events = world.facts
    name = "order_first" if which == 0 else "order_last" if which == len(events) else "order_after"
    answer = events[min(which, len(events) - 1)].text
    question = world.chooser.choose(world.lexicon.tasks[name]).format_map(events[which - 1].fields)

    def wrong() -> str:
        return world.chooser.choose([event.text for event in events if event.text != answer])

    return Reply(question, answer, wrong)
