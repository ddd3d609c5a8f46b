"""The streams of the town: documents, instructions, preferences, labels, and the entropy of the documents.

Item i of a stream is a pure function of (seed, split, i) and of what was asked for (languages, kinds): any slice can be
made anywhere, in any order, and twice the same. Kinds rotate with i and languages after them, so slices are balanced;
everything else is drawn. Nothing is stored. Cost: about 3 MB of text a second on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from smelt.core.errors import UsageError, nearest
from smelt.data.records import ChatRow, LabelRow, Message, PreferenceRow
from smelt.data.town.chooser import Chooser
from smelt.data.town.instructions import TASKS, Task
from smelt.data.town.languages import LEXICONS
from smelt.data.town.lexicon import Fields, Language, slots_of
from smelt.data.town.school import school_page
from smelt.data.town.split import Split
from smelt.data.town.stories import page, shelf, story
from smelt.data.town.world import World

KINDS: tuple[str, ...] = tuple(TASKS)
LANGUAGES: tuple[Language, ...] = tuple(LEXICONS)
LABELS: tuple[str, ...] = tuple(LEXICONS["en"].labelled)

_WRITERS: dict[str, Callable[[World], str]] = {
    "story": story,
    "page": page,
    "school": school_page,
    "shelf": shelf,
}
_WEIGHTS = (4, 2, 4, 3)


@dataclass(frozen=True)
class Document:
    """A text, and `bits`, minus the binary logarithm of its probability under the generator."""

    text: str
    bits: float
    kind: str
    language: str


@dataclass(frozen=True)
class EntropyRate:
    """Bits a byte of UTF-8 over a number of documents."""

    bits_per_byte: float
    num_bytes: int
    num_documents: int


def documents(
    num: int, *, seed: int, split: Split = "train", languages: Sequence[Language] = LANGUAGES, start: int = 0
) -> Iterator[Document]:
    """Yield documents `start` to `start + num`, the pretraining text.

    Raises UsageError for an unknown split or language, as all streams do.
    """
    _accept(split, languages)
    for index in range(start, start + num):
        chooser = Chooser("document", seed, split, index)
        language = chooser.choose(languages)
        kind = chooser.choose(tuple(_WRITERS), _WEIGHTS)
        text = _WRITERS[kind](World(chooser, LEXICONS[language], split))
        yield Document(text, chooser.bits, kind, language)


def entropy_rate(
    *, seed: int, split: Split, num_documents: int, languages: Sequence[Language] = LANGUAGES
) -> EntropyRate:
    """Divide the bits by the bytes of the first documents of a stream.

    It is the floor of a model that learned this split: measure such a model on later documents of the same split, since
    the held-out one draws from fewer names and sums (a lower rate) of which the model cannot know.
    """
    bits, num_bytes = 0.0, 0
    for document in documents(num_documents, seed=seed, split=split, languages=languages):
        bits += document.bits
        num_bytes += len(document.text.encode())
    return EntropyRate(bits / num_bytes, num_bytes, num_documents)


def instructions(
    num: int,
    *,
    seed: int,
    split: Split = "train",
    languages: Sequence[Language] = LANGUAGES,
    kinds: Sequence[str] | None = None,
    max_questions: int = 1,
    start: int = 0,
) -> Iterator[ChatRow]:
    """Yield chats that end with the gold answer; kinds rotate, so one that is listed twice comes twice as often.

    Chats about a text hold up to `max_questions` questions, 1 or more. Raises UsageError for an unknown kind too.
    """
    rows = range(start, start + num)
    for kind, where, task in _tasks("instruction", rows, seed, split, languages, kinds, max_questions):
        yield ChatRow(_messages((*task.turns, task.gold)), where, kind, task.gold)


def preferences(
    num: int,
    *,
    seed: int,
    split: Split = "train",
    languages: Sequence[Language] = LANGUAGES,
    kinds: Sequence[str] | None = None,
    start: int = 0,
) -> Iterator[PreferenceRow]:
    """Yield prompts with the gold answer and a wrong one of the same form."""
    for _, where, task in _tasks("preference", range(start, start + num), seed, split, languages, kinds):
        yield PreferenceRow(_messages(task.turns), task.gold, task.wrong(), where)


def labels(
    num: int, *, seed: int, split: Split = "train", languages: Sequence[Language] = LANGUAGES, start: int = 0
) -> Iterator[LabelRow]:
    """Yield single sentences with the label of the event they tell, one of LABELS."""
    _accept(split, languages)
    for index in range(start, start + num):
        label = LABELS[index % len(LABELS)]
        lexicon = LEXICONS[languages[index // len(LABELS) % len(languages)]]
        world = World(Chooser("label", seed, split, lexicon.language, index), lexicon, split)
        template = world.chooser.choose(lexicon.labelled[label])
        fields: Fields = {}
        for slot in slots_of(template):
            fields.update(world.pick(slot))
        yield LabelRow(template.format_map(fields), (label,), f"town:{split}:{index}")


def _tasks(
    stream: str,
    rows: range,
    seed: int,
    split: Split,
    languages: Sequence[Language],
    kinds: Sequence[str] | None,
    max_questions: int = 1,
) -> Iterator[tuple[str, str, Task]]:
    kinds = KINDS if kinds is None else kinds
    _accept(split, languages, kinds)
    for index in rows:
        kind = kinds[index % len(kinds)]
        language = languages[index // len(kinds) % len(languages)]
        world = World(Chooser(stream, seed, split, language, kind, index), LEXICONS[language], split)
        yield kind, f"town:{split}:{index}", TASKS[kind](world, world.chooser.index(max_questions))


def _messages(turns: Sequence[str]) -> tuple[Message, ...]:
    return tuple(Message(("user", "assistant")[place % 2], turn) for place, turn in enumerate(turns))


def _accept(split: str, languages: Sequence[str], kinds: Sequence[str] = KINDS) -> None:
    for what, given, known in (
        ("split", (split,), get_args(Split)),
        ("language", languages, LANGUAGES),
        ("kind of instruction", kinds, KINDS),
    ):
        if not given:
            raise UsageError(f"town: no {what} given", accepted=", ".join(known))
        for name in given:
            if name not in known:
                raise UsageError(f"town: unknown {what} '{name}'.{nearest(name, known)}", accepted=", ".join(known))
