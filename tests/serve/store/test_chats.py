"""Chats: trees of messages, each its owner's alone, written once however often a write is tried."""

from dataclasses import asdict

import pytest

from smelt.core.errors import DataError
from smelt.serve.store import tables
from smelt.serve.store.chats import (
    Chat,
    Message,
    add_message,
    conversation,
    create_chat,
    delete_chat,
    delete_message,
    excerpt,
    find_chats,
    list_chats,
    messages_of,
    rename_chat,
)
from smelt.serve.store.database import Conflict, NotFound, Store, new_id
from smelt.serve.store.votes import Thumb, rate_message

from .conftest import sql

CHAT = Chat("c", "ann", "Mills", 1.0)
TREE = [
    Message("m1", "c", None, "user", "Where is the mill?", created=2.0),
    Message("m2", "c", "m1", "assistant", "Here.", "tiny", {"usage": {"completion_tokens": 2}, "ms": 1.5}, 3.0),
    Message("m3", "c", "m1", "assistant", "By the river.", "tiny", created=4.0),
    Message("m4", "c", "m3", "user", "Which one?", created=5.0),
    Message("m5", "c", None, "user", "Where was the mill?", created=6.0),
]


@pytest.fixture
def filled(store: Store) -> Store:
    create_chat(store, CHAT)
    for message in TREE:
        add_message(store, "ann", message)
    return store


def test_a_tree_comes_back_as_it_was_written(filled: Store) -> None:
    assert messages_of(filled, "ann", "c") == TREE
    assert [message.id for message in conversation(TREE, "m4")] == ["m1", "m3", "m4"]
    assert conversation(TREE, "m5") == TREE[4:]


def test_the_newest_chat_comes_first_and_another_owner_sees_none(filled: Store) -> None:
    create_chat(filled, Chat("d", "ann", "Rivers", 2.0))
    assert [chat.id for chat in list_chats(filled, "ann")] == ["d", "c"]
    assert list_chats(filled, "bob") == []
    rename_chat(filled, "ann", "c", "Windmills")
    assert list_chats(filled, "ann")[1].title == "Windmills"


def test_nobody_touches_the_chat_of_another(filled: Store) -> None:
    for touch in (
        lambda: messages_of(filled, "bob", "c"),
        lambda: rename_chat(filled, "bob", "c", "Mine"),
        lambda: add_message(filled, "bob", Message("m9", "c", None, "user", "x")),
        lambda: messages_of(filled, "ann", "absent"),
    ):
        with pytest.raises(NotFound, match="there is no chat"):
            touch()
    delete_chat(filled, "bob", "c")
    assert messages_of(filled, "ann", "c") == TREE and list_chats(filled, "ann") == [CHAT]


def test_a_write_that_is_tried_again_is_one(filled: Store) -> None:
    create_chat(filled, Chat("c", "ann", "Mills", 99.0))
    add_message(filled, "ann", Message("m1", "c", None, "user", "Where is the mill?", created=99.0))
    assert messages_of(filled, "ann", "c") == TREE, "the first time counts"
    with pytest.raises(Conflict, match="messages: m1 is there with another content"):
        add_message(filled, "ann", Message("m1", "c", None, "user", "Else?"))
    with pytest.raises(Conflict, match="chats: c is there with another owner"):
        create_chat(filled, Chat("c", "bob", "Mills"))


def test_a_parent_is_in_the_same_chat(filled: Store) -> None:
    create_chat(filled, Chat("d", "ann", "Rivers"))
    for parent in ("m1", "absent"):
        with pytest.raises(NotFound, match=f"no message {parent} in chat d"):
            add_message(filled, "ann", Message("n1", "d", parent, "user", "x"))
    row = {"id": "n1", "chat": "d", "parent": "m1", "role": "user", "content": "x", "details": {}, "created": 1.0}
    with pytest.raises(DataError, match=r"(?i)foreign key"), filled.write() as connection:
        connection.execute(sql.insert(tables.messages).values(**row))


def test_a_deleted_chat_takes_its_messages_and_votes_along(filled: Store) -> None:
    rate_message(filled, Thumb("m2", "ann", 1))
    delete_chat(filled, "ann", "c")
    delete_chat(filled, "ann", "c")
    with filled.read() as connection:
        counts = [
            connection.execute(sql.select(sql.func.count()).select_from(table)).scalar()
            for table in (tables.chats, tables.messages, tables.message_votes)
        ]
    assert counts == [0, 0, 0]


def test_new_names_differ() -> None:
    assert len({new_id() for _ in range(100)}) == 100 and len(new_id()) <= tables.NAME_CHARACTERS


def test_chats_are_found_by_words_that_are_no_patterns(filled: Store) -> None:
    create_chat(filled, Chat("d", "ann", "100% Rivers", 2.0))
    create_chat(filled, Chat("e", "bob", "Rivers", 3.0))
    assert [(found.chat.id, found.updated, found.num_messages) for found in find_chats(filled, "ann")] == [
        ("c", 6.0, 5),
        ("d", 2.0, 0),
    ]
    assert [found.chat.id for found in find_chats(filled, "ann", most=1)] == ["c"]
    assert [(found.chat.id, found.excerpt) for found in find_chats(filled, "ann", "RIVER")] == [
        ("c", "By the river."),
        ("d", ""),
    ]
    assert [found.chat.id for found in find_chats(filled, "ann", "0%")] == ["d"]
    assert find_chats(filled, "ann", "1%R") == []


def test_a_message_goes_with_all_below_it_and_a_chat_whatever_its_depth(filled: Store) -> None:
    delete_message(filled, "ann", "c", "m3")
    assert [message.id for message in messages_of(filled, "ann", "c")] == ["m1", "m2", "m5"]
    delete_message(filled, "ann", "c", "m3")
    with pytest.raises(NotFound):
        delete_message(filled, "bob", "c", "m1")
    deep = [
        {**asdict(TREE[0]), "id": f"d{place}", "parent": f"d{place - 1}" if place else "m1"} for place in range(1500)
    ]
    with filled.write() as connection:
        connection.execute(sql.insert(tables.messages), deep)
    delete_message(filled, "ann", "c", "d0")
    assert [message.id for message in messages_of(filled, "ann", "c")] == ["m1", "m2", "m5"]
    with filled.write() as connection:
        connection.execute(sql.insert(tables.messages), deep)
    delete_chat(filled, "ann", "c")
    assert list_chats(filled, "ann") == []


def test_an_excerpt_is_one_line_around_the_words() -> None:
    assert excerpt("a " * 50 + "Mill\n\nwheel" + " b" * 50, "mill", 6) == "…a a a Mill whee…"
    assert excerpt("The mill", "mill") == "The mill"
