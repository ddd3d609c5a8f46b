"""Rounds: kept before their answers are, voted on once, and not read by another; old comparisons become rounds."""

import threading
from dataclasses import replace

import pytest

from smelt.core.errors import UsageError
from smelt.serve.store.database import Conflict, NotFound, Store, command, scripts
from smelt.serve.store.rounds import (
    Round,
    Side,
    Vote,
    add_round,
    keep_answer,
    list_rounds,
    round_of,
    vote_of,
    vote_on,
    voted_rounds,
    votes_on,
)

from .conftest import sql

PAIR = Round("p", "ann", "Where?", (Side("small", "Here."), Side("large", "There.")), {"seed": 1}, 7, 1.0)
FOUR = Round("q", "ann", "Who?", tuple(Side(name) for name in "wxyz"), created=2.0)


@pytest.fixture
def filled(store: Store) -> Store:
    add_round(store, PAIR)
    return store


def test_a_vote_is_final(filled: Store) -> None:
    vote_on(filled, Vote("p", "ann", "a", "shorter", 2.0))
    vote_on(filled, Vote("p", "ann", "a", "shorter", 3.0))
    vote_on(filled, Vote("p", "bob", "both_bad", "", 4.0))
    assert votes_on(filled, "p") == [Vote("p", "ann", "a", "shorter", 2.0), Vote("p", "bob", "both_bad", "", 4.0)]
    with pytest.raises(Conflict, match="round_votes: p, ann is there with another winner"):
        vote_on(filled, Vote("p", "ann", "b", "shorter"))
    assert voted_rounds(filled, "ann") == [(PAIR, Vote("p", "ann", "a", "shorter", 2.0))]


def test_votes_that_cannot_be(filled: Store) -> None:
    with pytest.raises(NotFound, match="no round q"):
        vote_on(filled, Vote("q", "ann", "a"))
    with pytest.raises(UsageError, match="a vote for 'c'\naccepted: a, b, tie, both_bad"):
        vote_on(filled, Vote("p", "ann", "c"))
    assert votes_on(filled, "p") == []


def test_a_round_is_one_whatever_is_tried_again(filled: Store) -> None:
    add_round(filled, replace(PAIR, created=9.0))
    assert list_rounds(filled, "ann", 9) == [(PAIR, None)]
    with pytest.raises(Conflict, match="another answer"):
        add_round(filled, replace(PAIR, sides=(Side("small", "Here."), Side("large", "Nowhere."))))
    for num in (1, 5):
        with pytest.raises(UsageError, match=f"a round of {num}\naccepted: 2 to 4 models"):
            add_round(filled, Round("r", "ann", "", (Side("x"),) * num))


def test_a_round_of_four_is_voted_on_when_all_have_answered(filled: Store) -> None:
    add_round(filled, FOUR)
    for letter in "dbc":
        keep_answer(filled, "q", letter, letter * 2, "stop")
    assert not round_of(filled, "ann", "q").complete
    with pytest.raises(Conflict, match="not written to their end"):
        vote_on(filled, Vote("q", "ann", "d"))
    keep_answer(filled, "q", "a", "aa", "length")
    keep_answer(filled, "q", "a", "another", "stop")  # of a second reader, too late
    found = round_of(filled, "ann", "q")
    assert found.complete and found.by_letter["a"] == Side("w", "aa", "length")
    assert [side.answer for side in found.sides] == ["aa", "bb", "cc", "dd"]
    vote_on(filled, Vote("q", "ann", "d", created=5.0))
    assert vote_of(filled, "ann", "q") == Vote("q", "ann", "d", created=5.0) and vote_of(filled, "bob", "q") is None
    assert list_rounds(filled, "ann", 1) == [(found, Vote("q", "ann", "d", created=5.0))]


def test_nobody_reads_another_ones_rounds(filled: Store) -> None:
    with pytest.raises(NotFound, match="no round p"):
        round_of(filled, "bob", "p")
    assert list_rounds(filled, "bob", 9) == [] and voted_rounds(filled, "bob") == []


def test_clicks_at_once_are_one_vote(filled: Store) -> None:
    ready = threading.Barrier(6)

    def click() -> None:
        ready.wait()
        vote_on(filled, Vote("p", "ann", "tie"))

    threads = [threading.Thread(target=click) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(votes_on(filled, "p")) == 1


def test_comparisons_of_an_older_store_become_rounds_and_go_back(filled: Store) -> None:
    add_round(filled, FOUR)
    vote_on(filled, Vote("p", "ann", "b", "longer", 3.0))
    with filled.write() as connection:
        command.downgrade(scripts(connection), "0001")
        old = connection.execute(sql.text("SELECT * FROM comparisons")).mappings().all()
        assert [dict(row) for row in old] == [
            {
                **{"id": "p", "prompt": "Where?", "model_a": "small", "answer_a": "Here.", "model_b": "large"},
                **{"answer_b": "There.", "created": 1.0},
            }
        ]
        assert connection.execute(sql.text("SELECT winner FROM comparison_votes")).scalars().all() == ["b"]
        command.upgrade(scripts(connection), "head")
    assert round_of(filled, "ann", "p") == replace(PAIR, sampling={}, shuffle_seed=None)
    assert votes_on(filled, "p") == [Vote("p", "ann", "b", "longer", 3.0)]
