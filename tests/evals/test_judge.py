"""A judge: ratings read from what it says, asked again where there is none, and no answer leaves its marks."""

from collections.abc import Sequence

import pytest

from smelt.core.errors import DataError
from smelt.data.records import Message
from smelt.data.synth.teacher import Reply, Settings
from smelt.evals.judge import TRIES, judged, rating_in


class Judge:
    """Says what is next in its script, for a question."""

    name = "scripted"

    def __init__(self, **script: Sequence[str]) -> None:
        self.script, self.heard = {question: list(said) for question, said in script.items()}, list[Settings]()

    def ask(self, messages: Sequence[Message], settings: Settings) -> Reply:
        self.heard.append(settings)
        (question,) = [name for name in self.script if f"<question>\n{name}\n" in messages[-1].content]
        return Reply(self.script[question].pop(0))


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Right. Rating: [[7]]", 7),
        ("[[3]], no: [[ 10 ]]", 10),
        ("Rating: 7", None),
        ("[[0]]", None),
        ("[[11]]", None),
        ("[[5]] or [[99999999999999999999]]", None),
        ("[[-3]]", None),
        ("", None),
    ],
)
def test_the_last_rating_counts_where_it_is_one(text: str, rating: int | None) -> None:
    assert rating_in(text) == rating


def test_ratings_become_a_mean_and_who_says_none_is_asked_again() -> None:
    judge = Judge(a=["[[10]]"], b=["well", "[[5]]"], c=["no"] * TRIES)
    score = judged(judge, "abc", ["x", "", "z"], ["x", "y", ""], seed=7)
    assert score.rows.tolist() == [[1, 1], [0.5, 1], [0, 0]] and score.value == 0.75
    assert sorted(one.seed for one in judge.heard) == [7, 7, 7, 8, 8, 9]
    assert {one.temperature for one in judge.heard if one.seed == 7} == {0}
    assert not any(judge.script.values())


def test_a_judge_that_never_rates_is_an_error_with_its_words() -> None:
    with pytest.raises(DataError, match=r"scripted rated none of 1 answers; its last words were: 'hm'") as error:
        judged(Judge(a=["hm"] * TRIES), ["a"], [""], [""])
    assert error.value.fix == "take a larger model as the judge"
