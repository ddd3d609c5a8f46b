"""One small world: people, things and facts that come into being only when a sentence needs them.

Lazy drawing keeps the books straight: what is drawn is told, so the bits of the Chooser are the bits of the text.
Within a world no two names share their first part (or surname), and no two facts a thing, a place, a verb, a role
or a kind of building, so every question about a fact has exactly one answer and a name is copied in one way only.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from smelt.data.town.chooser import Chooser
from smelt.data.town.lexicon import Ask, Fields, Lexicon
from smelt.data.town.split import Split, name_table, result_of, sums_of

# The slots of each kind of fact, in the order they are drawn. "+" and "-" stand for two terms and their result.
SLOTS = {
    "has": "Pnco",
    "put": "Pcol",
    "works": "Pl",
    "lives": "PT",
    "gave": "PQcod",
    "did": "Pvco",
    "visits": "PQd",
    "lies": "co",
    "plus": "Po+",
    "minus": "Po-",
    "role": "rP",
    "opens": "ld",
    "known": "co",
    "there": "ng",
    "painted": "lc",
    "job": "PrT",
}
_SINGLE_USE = "olvrg"
_MAX_PEOPLE = 3
_SUMS = {"+": "plus", "-": "minus"}


class Fact(NamedTuple):
    """Something true in a world: its kind, the fields its templates use, and the sentence that told it."""

    kind: str
    fields: Fields
    text: str


class World:
    """Draw people, things and facts through `chooser`, in the words of `lexicon`, from one side of the wall.

    `people` and `facts` are what was told so far, `home` the town that a page describes; drawing adds to them.
    """

    def __init__(self, chooser: Chooser, lexicon: Lexicon, split: Split) -> None:
        self.chooser = chooser
        self.lexicon = lexicon
        self.split: Split = split
        self.people: list[str] = []
        self.facts: list[Fact] = []
        self.home = ""
        self._told: set[tuple[str, str]] = set()
        self._starts: set[str] = set()
        self._left: dict[str, list[Fields]] = {}

    def new_name(self, what: Literal["people", "towns"] = "people") -> str:
        """Draw a name whose first part is new in this world."""
        table = name_table(self.split, self.lexicon.language, what)
        start = self.chooser.choose([start for start in table if start not in self._starts])
        self._starts.add(start)
        return self.chooser.choose(table[start])

    def new_person(self) -> str:
        """Draw a person nobody has met yet, and remember them."""
        name = self.new_name()
        self.people.append(name)
        return name

    def pick(self, slot: str) -> Fields:
        """Draw the fields of a slot: somebody or some town new, a number 2..9, a sum, or a word of a closed list.

        Things, places, verbs, roles and buildings are drawn only once in a world.
        """
        if slot in "PQ":
            return {slot: self.new_person()}
        if slot == "T":
            return {slot: self.new_name("towns")}
        if slot == "n":
            return {slot: str(self.chooser.integer(2, 9))}
        if slot in _SUMS:
            item = self.chooser.choose(sums_of(self.split)[_SUMS[slot]])
            return {"a": str(item[0]), "b": str(item[2]), "s": str(result_of(item))}
        if slot not in _SINGLE_USE:
            return self.chooser.choose(self.lexicon.pools[slot])
        left = self._left.get(slot)
        if left is None:
            left = self._left[slot] = list(self.lexicon.pools[slot])
        return left.pop(self.chooser.index(len(left)))

    def fact(self, kind: str, *, lead: str = "", subject: str = "") -> Fact:
        """Make something true (of `subject`, where given), tell it after `lead`, and remember it."""
        fields: Fields = {"T": self.home} if self.home else {}
        for slot in SLOTS[kind]:
            if slot == "P":
                untold = [name for name in self.people if (kind, name) not in self._told]
                fields["P"] = subject or self._person(untold)
                self._told.add((kind, fields["P"]))
            elif slot == "Q":
                fields["Q"] = self._person([name for name in self.people if name != fields["P"]])
            else:
                fields.update(self.pick(slot))
        text = lead + self.chooser.choose(self.lexicon.facts[kind].texts).format_map(fields)
        fact = Fact(kind, fields, text)
        self.facts.append(fact)
        return fact

    def phantom(self, kind: str, ask: Ask) -> Fields:
        """Draw the fields of a question that nothing told in this world answers."""
        fields: Fields = {}
        for slot in ask.needs:
            if slot in "PQ":
                known = [name for name in self.people if (kind, name) not in self._told and name not in fields.values()]
                # A stranger is easier to spot than somebody known of whom this was not told: ask for both.
                stranger = not known or self.chooser.choose((True, False))
                fields[slot] = self.new_name() if stranger else self.chooser.choose(known)
            else:
                fields.update(self.pick(slot))
        return fields

    def other(self, slot: str, fields: Fields) -> Fields:
        """Draw another value for a slot than the one in `fields`; any value where there is none."""
        true = fields.get(slot, "")
        if slot in "PQ":
            known = [name for name in self.people if name != true]
            return {slot: self.chooser.choose(known) if known else self.new_person()}
        if slot == "T":
            return {"T": self.new_name("towns")}
        if slot in "ns":
            middle = int(true or "6")
            near = range(2, 10) if slot == "n" else range(max(2, middle - 4), middle + 5)
            return {slot: self.chooser.choose([str(n) for n in near if str(n) != true])}
        return self.chooser.choose([word for word in self.lexicon.pools[slot] if word[slot] != true])

    def _person(self, known: list[str]) -> str:
        # Somebody new comes in while there are few people, or where nobody else will do.
        drawn = self.chooser.index(len(known) + (len(self.people) < _MAX_PEOPLE or not known))
        return known[drawn] if drawn < len(known) else self.new_person()
