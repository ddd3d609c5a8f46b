"""Votes: one a voter and thing, whatever is clicked twice, now or at once."""

import threading

import pytest

from smelt.core.errors import UsageError
from smelt.serve.store.chats import Chat, Message, add_message, create_chat
from smelt.serve.store.database import Conflict, NotFound, Store
from smelt.serve.store.votes import (
    Choice,
    Comparison,
    Thumb,
    add_comparison,
    choices_on,
    choose,
    rate_message,
    thumbs_in,
    withdraw_thumb,
)

PAIR = Comparison("p", "Where?", "small", "Here.", "large", "There.", 1.0)


@pytest.fixture
def filled(store: Store) -> Store:
    create_chat(store, Chat("c", "ann", ""))
    add_message(store, "ann", Message("m1", "c", None, "assistant", "Here."))
    add_comparison(store, PAIR)
    return store


def test_a_thumb_can_be_turned(filled: Store) -> None:
    rate_message(filled, Thumb("m1", "ann", 1, "", 2.0))
    rate_message(filled, Thumb("m1", "ann", -1, "wrong", 3.0))
    assert thumbs_in(filled, "c") == [Thumb("m1", "ann", -1, "wrong", 3.0)]


def test_a_thumb_can_be_taken_back_by_whoever_gave_it(filled: Store) -> None:
    rate_message(filled, Thumb("m1", "ann", 1, "", 2.0))
    withdraw_thumb(filled, "bob", "m1")
    assert len(thumbs_in(filled, "c")) == 1
    for _ in range(2):
        withdraw_thumb(filled, "ann", "m1")
        assert thumbs_in(filled, "c") == []


def test_thumbs_that_cannot_be(filled: Store) -> None:
    for message, voter in (("m1", "bob"), ("m9", "ann")):
        with pytest.raises(NotFound, match=f"no message {message}"):
            rate_message(filled, Thumb(message, voter, 1))
    with pytest.raises(UsageError, match="a vote of 2"):
        rate_message(filled, Thumb("m1", "ann", 2))
    assert thumbs_in(filled, "c") == []


def test_a_choice_is_final(filled: Store) -> None:
    choose(filled, Choice("p", "ann", "a", "shorter", 2.0))
    choose(filled, Choice("p", "ann", "a", "shorter", 3.0))
    choose(filled, Choice("p", "bob", "both_bad", "", 4.0))
    assert choices_on(filled, "p") == [Choice("p", "ann", "a", "shorter", 2.0), Choice("p", "bob", "both_bad", "", 4.0)]
    with pytest.raises(Conflict, match="comparison_votes: p, ann is there with another winner"):
        choose(filled, Choice("p", "ann", "b", "shorter"))


def test_choices_that_cannot_be(filled: Store) -> None:
    with pytest.raises(NotFound, match="no comparison q"):
        choose(filled, Choice("q", "ann", "a"))
    with pytest.raises(UsageError, match="accepted: a, b, tie, both_bad"):
        choose(filled, Choice("p", "ann", "c"))  # type: ignore[arg-type]
    add_comparison(filled, PAIR)
    with pytest.raises(Conflict, match="another answer_b"):
        add_comparison(filled, Comparison("p", "Where?", "small", "Here.", "large", "Nowhere."))


def test_clicks_at_once_are_one_vote(filled: Store) -> None:
    ready = threading.Barrier(6)

    def click(turn: int) -> None:
        ready.wait()
        choose(filled, Choice("p", "ann", "tie"))
        rate_message(filled, Thumb("m1", "ann", 1 if turn % 2 else -1))

    threads = [threading.Thread(target=click, args=(turn,)) for turn in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(choices_on(filled, "p")) == len(thumbs_in(filled, "c")) == 1
