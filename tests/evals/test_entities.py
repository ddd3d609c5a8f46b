"""The measure of named entities, against counts by hand."""

import pytest

from smelt.core.errors import UsageError
from smelt.data.records import Entity
from smelt.data.spans import spans_of
from smelt.evals.entities import ALL, entity_scores, f1_interval

PER, LOC, LATE, MISC = Entity("PER", 0, 3), Entity("LOC", 8, 12), Entity("LOC", 8, 11), Entity("MISC", 8, 12)


def words(tags: str) -> list[Entity]:
    """Return the spans of a line of tags as entities over word numbers."""
    return [Entity(span.label, span.start, span.stop) for span in spans_of(tags.split())]


def test_place_and_label_must_both_be_right() -> None:
    scores = entity_scores([[PER, LOC], [LOC], []], [[PER, LATE], [MISC], [PER]])
    # found 1 of 4 given and 3 there; PER 1 of 2 given and 1 there; LOC 0 of 1 given and 2 there; MISC 0 of 1 and 0
    assert (scores[ALL].precision, scores[ALL].recall, scores[ALL].rows) == (1 / 4, 1 / 3, 3)
    assert scores[ALL].f1 == pytest.approx(2 * 1 / (4 + 3))
    assert (scores["PER"].precision, scores["PER"].recall, scores["PER"].f1) == (1 / 2, 1, pytest.approx(2 / 3))
    assert (scores["LOC"].f1, scores["LOC"].rows, scores["MISC"].f1, scores["MISC"].rows) == (0, 2, 0, 0)
    assert list(scores) == ["LOC", "MISC", "PER", ALL]


@pytest.mark.parametrize(
    ("truth", "given", "hits", "claimed", "there"),
    [
        # the example of seqeval's own page: MISC is a word too long, PER is right
        ("O O O B-MISC I-MISC I-MISC O B-PER I-PER", "O O B-MISC I-MISC I-MISC I-MISC O B-PER I-PER", 1, 2, 2),
        ("B-PER I-PER", "B-PER B-PER", 0, 2, 1),  # one name cut in two is none found and two invented
        ("B-PER B-PER", "B-PER I-PER", 0, 1, 2),
        ("B-PER I-PER O", "B-LOC I-LOC O", 0, 1, 1),
        ("B-PER I-LOC", "B-PER B-LOC", 2, 2, 2),  # I of another label begins, as in conlleval
        ("O B-X I-X O", "O I-X I-X O", 1, 1, 1),
        ("O O", "O O", 0, 0, 0),
        ("B-X O", "O O", 0, 0, 1),
    ],
)
def test_counts_are_those_of_conll_s_rule(truth: str, given: str, hits: int, claimed: int, there: int) -> None:
    score = entity_scores([words(truth)], [words(given)])[ALL]
    assert score.precision == (hits / claimed if claimed else 0)
    assert score.recall == (hits / there if there else 0)
    assert score.f1 == pytest.approx(2 * hits / (claimed + there) if hits else 0)


def test_as_many_texts_on_both_sides() -> None:
    with pytest.raises(UsageError, match="1 texts with entities and 2 with found ones"):
        entity_scores([[PER]], [[], []])


def test_the_interval_narrows_with_texts_and_holds_the_figure() -> None:
    truth, given = [[PER], [LOC]] * 10, [[PER], [LATE]] * 10
    low, high = f1_interval(truth, given)
    assert 0.2 < low < 0.5 < high < 0.8
    narrow = f1_interval(truth * 25, given * 25)
    assert low < narrow[0] < 0.5 < narrow[1] < high and narrow[1] - narrow[0] < 0.15
    assert f1_interval([[PER]] * 3, [[PER]] * 3) == (1.0, 1.0) and f1_interval([[]], [[]]) == (0.0, 0.0)
