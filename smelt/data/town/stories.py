"""Stories and encyclopaedia pages: a few facts of one world told in a row, most of them closing with questions.

A story is a handful of facts, or of events in order; a page describes a town or a person. Nothing is drawn that is
not told. Questions follow the text on lines of their own, each with its answer. A shelf is the densest of all: a list
of things, and remarks that look one up each.
"""

from __future__ import annotations

from smelt.data.town.questions import (
    STORY_KINDS,
    Reply,
    asks_about,
    checks_about,
    draw_questions,
    ordered,
    told,
)
from smelt.data.town.world import World

_KINDS, _KIND_WEIGHTS = tuple(STORY_KINDS), tuple(STORY_KINDS.values())
_TOWN_KINDS = ("role", "opens", "there", "painted", "known")
_PERSON_KINDS = ("has", "put", "works", "did", "visits")


def tell_facts(world: World) -> str:
    """Tell two or three facts of a new world."""
    num = world.chooser.integer(2, 3)
    texts = [world.fact(world.chooser.choose(_KINDS, _KIND_WEIGHTS)).text for _ in range(num)]
    return world.lexicon.space.join(texts)


def tell_events(world: World) -> str:
    """Tell three or four events, each after a word for its place in the order."""
    steps = world.lexicon.steps
    leads = world.chooser.choose((steps, (*steps[:2], steps[-1])))
    return world.lexicon.space.join([world.fact("did", lead=lead).text for lead in leads])


def tell_shelf(world: World) -> str:
    """List four to six things in a row."""
    things = [world.fact("lies").text for _ in range(world.chooser.integer(4, 6))]
    return world.chooser.choose(world.lexicon.texts["shelf"]).format(x=world.lexicon.comma.join(things))


def tell_page(world: World) -> str:
    """Describe a town or a person."""
    return world.chooser.choose((_tell_town, _tell_person))(world)


def _tell_town(world: World) -> str:
    chooser = world.chooser
    world.home = world.new_name("towns")
    sentences = [chooser.choose(world.lexicon.texts["town"]).format(T=world.home)]
    for _ in range(chooser.integer(2, 4)):
        # A town is known for one thing only, or the question would have two answers.
        is_known = any(fact.kind == "known" for fact in world.facts)
        sentences.append(world.fact(chooser.choose(_TOWN_KINDS[: -1 if is_known else None])).text)
    return world.lexicon.space.join(sentences)


def _tell_person(world: World) -> str:
    kinds = world.chooser.sample(_PERSON_KINDS, world.chooser.integer(1, 3))
    first = world.fact("job")
    return world.lexicon.space.join([first.text, *(world.fact(kind, subject=first.fields["P"]).text for kind in kinds)])


def note(world: World, reply: Reply) -> str:
    """Write a question with its answer as documents do."""
    return world.lexicon.notes["question"].format(question=reply.question, answer=reply.answer)


def question_notes(world: World, num: int, *, with_untold: bool) -> list[str]:
    """Write `num` different questions about the facts told so far; `with_untold` adds some without an answer."""
    asks, checks = asks_about(world), checks_about(world)
    return [note(world, reply) for reply in draw_questions(world, num, asks, checks, with_untold=with_untold)]


def story(world: World) -> str:
    """Write a story: facts or events, perhaps with an opening and a closing line, perhaps with questions."""
    chooser, texts = world.chooser, world.lexicon.texts
    if chooser.choose(("facts", "events"), (3, 1)) == "events":
        body = tell_events(world)
        asked = chooser.sample(range(len(world.facts) + 1), chooser.integer(0, 2))
        return "\n".join([body, *(note(world, ordered(world, which)) for which in asked)])
    opener = chooser.choose(("", *texts["opener"]), (5, 1, 1, 1, 1, 1))
    body = tell_facts(world)
    closer = chooser.choose(("", *texts["closer"]), (4, 1, 1, 1, 1))
    line = world.lexicon.space.join([part for part in (opener, body, closer) if part])
    return "\n".join([line, *question_notes(world, chooser.choose((0, 2, 3)), with_untold=True)])


def page(world: World) -> str:
    """Write a page of an encyclopaedia, perhaps with closing questions."""
    body = tell_page(world)
    return "\n".join([body, *question_notes(world, world.chooser.integer(0, 3), with_untold=False)])


def shelf(world: World) -> str:
    """Write a list of things, then find each again, in any order, among others that are not there."""
    chooser = world.chooser
    lines = [tell_shelf(world)]
    asks = asks_about(world)
    for fact, ask in chooser.sample(asks, len(asks)):
        if chooser.choose((True, False)):
            lines.append(ask.untold.format_map(world.phantom(fact.kind, ask)))
        lines.append(told(world, fact, ask).answer)
    return "\n".join(lines)
