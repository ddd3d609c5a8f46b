"""Documents: reproducible by index, and worth exactly the bits they claim.

The bits of a document are its code length only if different draws give different texts. The tests below redraw every
single choice of many documents and demand a different text: a draw that is not told, or two draws that are told in the
same words, would fail.
"""

import re
from collections import Counter
from collections.abc import Callable
from itertools import chain, repeat
from math import log2

import pytest

from smelt.data.town import Language, documents, entropy_rate
from smelt.data.town.chooser import Chooser
from smelt.data.town.exercises import EXERCISES
from smelt.data.town.languages import LEXICONS
from smelt.data.town.questions import COMPARED, comparison
from smelt.data.town.school import note, school_page
from smelt.data.town.stories import page, shelf, story
from smelt.data.town.world import World

WRITERS: dict[str, Callable[[World], str]] = {"story": story, "page": page, "school": school_page, "shelf": shelf}


class Replay(Chooser):
    """Draw from given uniform numbers and remember every draw as (number of options, index)."""

    def __init__(self, uniforms: list[float]):
        super().__init__("replay")
        self._uniform = chain(uniforms, repeat(0.25)).__next__
        self.draws: list[tuple[int, int]] = []

    def index(self, num: int) -> int:
        drawn = super().index(num)
        self.draws.append((num, drawn))
        return drawn

    def weighted(self, weights) -> int:
        drawn = super().weighted(weights)
        self.draws.append((sum(weights), drawn))
        return drawn


def uniforms_of(key: int) -> list[float]:
    source = Chooser("uniforms", key)._uniform
    return [source() for _ in range(400)]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", WRITERS)
def test_every_draw_can_be_seen_in_the_text(kind: str, language: Language):
    def write(uniforms: list[float]) -> tuple[str, Replay]:
        chooser = Replay(uniforms)
        return WRITERS[kind](World(chooser, LEXICONS[language], "train")), chooser

    redrawn = 0
    for key in range(14):
        uniforms = uniforms_of(key)
        _, chooser = write(uniforms)
        for place, (num, _) in enumerate(chooser.draws):
            # All values of a small draw, some of a large one; everything after it is drawn alike.
            targets = range(num) if num <= 24 else range(0, num, num // 6)
            texts: dict[tuple[int, int], str] = {}
            for target in targets:
                text, redraw = write([*uniforms[:place], (target + 0.5) / num, *uniforms[place + 1 :]])
                texts[redraw.draws[place]] = text
            redrawn += len(texts) - 1
            assert len(set(texts.values())) == len(texts), (place, texts)
    assert redrawn > 900


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("skill", ["small_talk", "continue", "tool_call"])
def test_texts_and_choices_are_one_to_one(skill: str, language: Language, monkeypatch: pytest.MonkeyPatch):
    table = {"Ba": ("Baka", "Bako"), "Mi": ("Mira", "Miro")}
    monkeypatch.setattr("smelt.data.town.world.name_table", lambda split, language, what: table | {what: (what,)})
    choices: dict[str, tuple[tuple[int, int], ...]] = {}
    for key in range(3000):
        chooser = Replay([])
        chooser._uniform = Chooser(key)._uniform
        text = note(World(chooser, LEXICONS[language], "train"), skill)
        assert choices.setdefault(text, tuple(chooser.draws)) == tuple(chooser.draws), text
    assert len(set(choices.values())) == len(choices)
    assert len(choices) < 3000, "the grammar must be small enough for texts to repeat"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_school_pages_compare_what_questions_compare(language: Language):
    facts = LEXICONS[language].facts.values()
    assert set(COMPARED) == {check.slot for words in facts for check in words.checks}
    for key in range(200):
        line = comparison(World(Chooser("compare", key), LEXICONS[language], "train"))
        asked, told, alike = re.fullmatch(
            r"(?:Asked |问)(.+?)(?:, told |，说)(.+?)( too: yes\.|相同：对。| instead: no\.|不同：不对。)", line
        ).groups()
        assert (asked == told) == (alike in (" too: yes.", "相同：对。")), line


def test_shelves_find_each_thing_once():
    for key in range(100):
        first, *found = shelf(World(Chooser("shelf", key), LEXICONS["en"], "train")).split("\n")
        things = re.findall(r"the (\w+) (\w+)", first)
        answers = [match for line in found if (match := re.fullmatch(r"The (\w+) is (\w+)\.", line))]
        assert sorted((match[2], match[1]) for match in answers) == sorted(things)
        missing = [re.fullmatch(r"The (\w+) is not mentioned\.", line)[1] for line in found if "mentioned" in line]
        assert len(answers) + len(missing) == len(found) and not {thing for _, thing in things} & set(missing)


def test_mean_bits_are_the_entropy_of_an_enumerable_grammar():
    num, bits, counts = 15_000, 0.0, Counter()
    for key in range(num):
        world = World(Chooser("entropy", key), LEXICONS["en"], "train")
        exercise = EXERCISES["continue"](world)
        counts[exercise.fields["x"], exercise.answer] += 1
        bits += world.chooser.bits
    plug_in = -sum(count / num * log2(count / num) for count in counts.values())
    # The plug-in estimate is low by about (outcomes - 1) / (2 num ln 2) bits (Miller and Madow).
    assert plug_in + (len(counts) - 1) / (2 * num) * log2(2.718281828) == pytest.approx(bits / num, abs=0.04)


def test_documents_are_a_function_of_seed_split_and_index():
    first = list(documents(40, seed=1))
    assert first == list(documents(40, seed=1))
    assert first[7:19] == list(documents(12, seed=1, start=7))
    assert [row.text for row in first] != [row.text for row in documents(40, seed=2)]
    assert [row.text for row in first] != [row.text for row in documents(40, seed=1, split="heldout")]


def test_documents_mix_kinds_and_languages_and_stay_short():
    rows = list(documents(4000, seed=5))
    kinds, languages = Counter(row.kind for row in rows), Counter(row.language for row in rows)
    shares = {"story": 4 / 13, "page": 2 / 13, "school": 4 / 13, "shelf": 3 / 13}
    assert {kind: count / 4000 for kind, count in kinds.items()} == pytest.approx(shares, abs=0.03)
    assert languages["en"] / 4000 == pytest.approx(0.5, abs=0.03)
    assert max(len(row.text.split()) for row in rows if row.language == "en") < 140
    assert max(len(row.text) for row in rows if row.language == "zh") < 460
    assert len({row.text for row in rows}) == len(rows)
    assert {row.language for row in documents(30, seed=5, languages=("zh",))} == {"zh"}


def test_no_template_is_left_unfilled_and_punctuation_fits_the_language():
    for row in documents(1500, seed=8):
        assert not {"  ", "..", "。。", "None", " ,", " ."} & {row.text[at : at + 2] for at in range(len(row.text))}
        assert row.text.count("{") == row.text.count("}")
        assert "{P}" not in row.text and row.text == row.text.strip()
        if row.language == "en":
            assert row.text.isascii()
            assert not {" a a", " a e", " a i", " a o", " a u"} & {row.text[at : at + 4] for at in range(len(row.text))}


def test_entropy_rate_is_the_sum_over_documents():
    rows = list(documents(300, seed=4, split="heldout"))
    rate = entropy_rate(seed=4, split="heldout", num_documents=300)
    assert rate.num_documents == 300
    assert rate.num_bytes == sum(len(row.text.encode()) for row in rows)
    assert rate.bits_per_byte == pytest.approx(sum(row.bits for row in rows) / rate.num_bytes)
    assert 0.2 < rate.bits_per_byte < 1.5


def test_the_choice_of_language_is_counted():
    both, one = list(documents(200, seed=6)), list(documents(200, seed=6, languages=("en",)))
    same = [(a.bits, b.bits) for a, b in zip(both, one, strict=True) if a.text == b.text]
    assert len(same) > 50
    assert all(a == pytest.approx(b + 1) for a, b in same)
