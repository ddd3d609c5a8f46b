"""Exercises that need no story: sums, lists, patterns, rewriting, records, tools, manners.

An exercise is drawn once and can be worded twice: `lexicon.tasks` asks it as a user would, `lexicon.notes` shows it
worked out as a school book does. The answer is a plain function of what is shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from smelt.data.town.lexicon import Fields, slots_of
from smelt.data.town.split import SUM_WEIGHTS, Sum, is_table, result_of, sequences_of, sums_of
from smelt.data.town.world import World

# The keys of a record in their order, with the slots that fill them.
Keys = tuple[tuple[str, str], ...]
RECORDS: dict[str, Keys] = {
    "deal": (("person", "P"), ("object", "o"), ("count", "n"), ("day", "d")),
    "put": (("person", "P"), ("object", "o"), ("colour", "c"), ("place", "l")),
}
TOOLS: dict[str, Keys] = {
    "buy": (("object", "o"), ("colour", "c"), ("count", "n")),
    "remind": (("person", "P"), ("day", "d")),
    "message": (("person", "P"), ("place", "l")),
    "find": (("object", "o"), ("colour", "c")),
}
_TALKS = ("talk_hello", "talk_how", "talk_thanks", "talk_bye", "talk_home")


class Exercise(NamedTuple):
    """The name of its wording, the fields of that wording, the answer, and a way to draw a wrong one."""

    name: str
    fields: Fields
    answer: str
    wrong: Callable[[], str]


def arithmetic(world: World) -> Exercise:
    """Add or take away, column by column; see `sums_of` for the classes of sums."""
    # Held-out worlds have no tables of their own.
    sums = {name: items for name, items in sums_of(world.split).items() if name in SUM_WEIGHTS and items}
    item = world.chooser.choose(sums[world.chooser.choose(tuple(sums), [SUM_WEIGHTS[name] for name in sums])])
    true, template = result_of(item), world.lexicon.answers["arithmetic"]
    near = [n for n in range(max(0, true - 10), min(99, true + 10) + 1) if n != true]
    steps = ", ".join(columns(item))

    def answer(result: int) -> str:
        return template.format(x=steps, s=result)

    return Exercise(
        "arithmetic",
        {"x": f"{item[0]} {item[1]} {item[2]}"},
        answer(true),
        lambda: answer(world.chooser.choose(near)),
    )


def columns(item: Sum) -> list[str]:
    """Work out a sum on paper, ones before tens, with what is carried or borrowed: (29, "+", 38) -> 9+8=17, 2+3+1=6.

    Every step is a small table to know; the whole would be 9,000 sums to know.
    """
    (tens, ones), sign, (more_tens, more_ones) = divmod(item[0], 10), item[1], divmod(item[2], 10)
    carried = (ones + more_ones) // 10 if sign == "+" else int(ones < more_ones)
    if sign == "-":
        ones += 10 * carried
    first = f"{ones}{sign}{more_ones}={result_of((ones, sign, more_ones))}"
    if is_table(*item):
        return [first]
    second = tens + more_tens + carried if sign == "+" else tens - more_tens - carried
    return [first, f"{tens}{sign}{more_tens}{f'{sign}1' if carried else ''}={second}"]


def sort(world: World) -> Exercise:
    """Sort three or four numbers (no two of one decade), words (English) or days of the week (Chinese)."""
    chooser, comma = world.chooser, world.lexicon.comma
    name = chooser.choose(tuple(name for name in world.lexicon.notes if name.startswith("sort_")))
    num = chooser.integer(3, 4)
    if name == "sort_numbers":
        items = [str(10 * tens + chooser.integer(0, 9)) for tens in chooser.sample(range(1, 10), num)]
        ordered = sorted(items)
    elif name == "sort_words":
        items = [world.pick("o")["o"] for _ in range(num)]
        ordered = sorted(items)
    else:
        days = world.lexicon.listed("d")
        items = chooser.sample(days, num)
        ordered = sorted(items, key=days.index)

    def wrong() -> str:
        at = chooser.index(num - 1)
        return comma.join([*ordered[:at], ordered[at + 1], ordered[at], *ordered[at + 2 :]])

    return Exercise(name, {"x": comma.join(items)}, comma.join(ordered), wrong)


def count(world: World) -> Exercise:
    """Count the things or the people in a list of two to six."""
    name = world.chooser.choose(("count_things", "count_people"))
    num = world.chooser.integer(2, 6)
    items = [world.pick("o")["o"] if name == "count_things" else world.new_person() for _ in range(num)]
    others = [str(n) for n in range(2, 7) if n != num]
    return Exercise(name, {"x": world.lexicon.comma.join(items)}, str(num), lambda: world.chooser.choose(others))


def proceed(world: World) -> Exercise:
    """Continue numbers by a fixed step, days in a row, or colours in turn."""
    chooser = world.chooser
    what = chooser.choose(("numbers", "days", "colours"), (2, 1, 1))
    if what == "numbers":
        start, step = chooser.choose(sequences_of(world.split))
        row = [str(start + step * place) for place in range(5)]
        others = [str(int(row[-1]) + shift) for shift in (-1, 1, 2)]
    elif what == "days":
        others = world.lexicon.listed("d")
        start, num = chooser.integer(0, 6), chooser.integer(3, 5)
        row = [others[(start + place) % 7] for place in range(num)]
    else:
        others = world.lexicon.listed("c")
        turn = chooser.sample(others, chooser.integer(2, 3))
        row = [turn[place % len(turn)] for place in range(chooser.integer(len(turn) + 2, 2 * len(turn) + 1))]
    *shown, answer = row
    wrong = [other for other in others if other != answer]
    return Exercise("continue", {"x": world.lexicon.comma.join(shown)}, answer, lambda: chooser.choose(wrong))


def passive(world: World) -> Exercise:
    """Turn an active sentence into the passive."""
    fact = world.fact("did")
    answer = world.lexicon.answers["passive"]

    def wrong() -> str:
        return answer.format_map(fact.fields | world.other(world.chooser.choose("Poc"), fact.fields))

    return Exercise("passive", {"x": fact.text}, answer.format_map(fact.fields), wrong)


def _fill(world: World, keys: Keys) -> Fields:
    fields: Fields = {}
    for _, slot in keys:
        fields.update(world.pick(slot))
    return fields


def _record(fields: Fields, keys: Keys) -> dict[str, str | int]:
    # Counted things keep their plural, so that every value stands in the record as it stands in the sentence.
    shown = fields | {"o": fields["os"]} if ("count", "n") in keys else fields
    return {key: int(shown[slot]) if slot == "n" else shown[slot] for key, slot in keys}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def extract(world: World) -> Exercise:
    """Turn a sentence into a record with fixed keys."""
    name = world.chooser.choose(tuple(RECORDS))
    keys = RECORDS[name]
    fields = _fill(world, keys)
    text = world.chooser.choose(world.lexicon.texts[name]).format_map(fields)

    def wrong() -> str:
        return _json(_record(fields | world.other(world.chooser.choose(keys)[1], fields), keys))

    return Exercise("extract_" + name, {"x": text}, _json(_record(fields, keys)), wrong)


def tool_call(world: World) -> Exercise:
    """Turn a request into the name of a tool and its arguments."""
    name = world.chooser.choose(tuple(TOOLS))
    keys = TOOLS[name]
    fields = _fill(world, keys)

    def call(values: Fields) -> str:
        return _json({"tool": name, "arguments": _record(values, keys)})

    def wrong() -> str:
        return call(fields | world.other(world.chooser.choose(keys)[1], fields))

    return Exercise("tool_" + name, fields, call(fields), wrong)


def small_talk(world: World) -> Exercise:
    """Answer somebody who gives their name."""
    name = world.chooser.choose(_TALKS)
    answer = world.lexicon.answers[name]
    fields: Fields = {}
    for slot in slots_of(answer):
        fields.update(world.pick(slot))
    return Exercise(name, fields, answer.format_map(fields), lambda: answer.format_map(fields | world.pick("P")))


EXERCISES: dict[str, Callable[[World], Exercise]] = {
    "arithmetic": arithmetic,
    "sort": sort,
    "count": count,
    "continue": proceed,
    "passive": passive,
    "extract": extract,
    "tool_call": tool_call,
    "small_talk": small_talk,
}
