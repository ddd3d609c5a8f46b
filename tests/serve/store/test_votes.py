"""Thumbs: one a voter and message, whatever is clicked twice, now or at once."""

import threading

import pytest

from smelt.core.errors import UsageError
from smelt.serve.store.chats import Chat, Message, add_message, create_chat
from smelt.serve.store.database import NotFound, Store
from smelt.serve.store.votes import Thumb, rate_message, thumbs_in, withdraw_thumb


@pytest.fixture
def filled(store: Store) -> Store:
    create_chat(store, Chat("c", "ann", ""))
    add_message(store, "ann", Message("m1", "c", None, "assistant", "Here."))
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


def test_clicks_at_once_are_one_thumb(filled: Store) -> None:
    ready = threading.Barrier(6)

    def click(turn: int) -> None:
        ready.wait()
        rate_message(filled, Thumb("m1", "ann", 1 if turn % 2 else -1))

    threads = [threading.Thread(target=click, args=(turn,)) for turn in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(thumbs_in(filled, "c")) == 1
