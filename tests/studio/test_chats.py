"""Chat: what the server keeps, how an answer is written, stopped and tried again, and who may see it."""

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smelt.serve.store.chats import Message, add_message
from smelt.serve.store.database import new_id
from smelt.studio.answering import told
from smelt.studio.transcripts import markdown

from .chatting import LONG, ask, chat, chats, chatty, say, stored
from .conftest import Live, Reply, eventually

__all__ = ["chat", "chats", "chatty"]  # fixtures


def leave_early(live: Live, chat: str, body: dict[str, Any]) -> None:
    """Ask for an answer, wait for its first words and go."""
    data = json.dumps(body).encode()
    head = f"POST /studio/chats/{chat}/answers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", live.port), timeout=60) as connection:
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        got = b""
        while b'"delta"' not in got:
            got += connection.recv(4096)


def test_an_answer_streams_and_is_kept_with_what_made_it(chats: Live, chat: str) -> None:
    question = say(chats, chat, "Where is the mill?")
    told = ask(chats, chat, question, temperature=0.8, top_p=0.9, seed=7)
    assert told.status == 200 and told.headers["content-type"].startswith("text/event-stream")
    kinds = [event["kind"] for event in told.events]
    assert kinds[0] == "begin" and kinds[-1] == "message" and set(kinds[1:-1]) == {"delta"}
    message = told.events[-1]["message"]
    assert "".join(event["text"] for event in told.events[1:-1]) == message["content"] != ""
    details = message["details"]
    assert details["sampling"] == {"temperature": 0.8, "top_p": 0.9, "seed": 7, "max_tokens": 6}
    assert (details["finish_reason"], details["tokens"], details["mode"]) == ("length", 6, "chat")
    assert details["first_token_seconds"] > 0 and details["tokens_per_second"] > 0
    assert stored(chats, chat)[1] == {**message, "thumb": None}
    again = ask(chats, chat, question, temperature=0.8, top_p=0.9, seed=7)
    assert again.events[-1]["message"]["content"] == message["content"], "the seed makes it the same"
    free = ask(chats, chat, question).events[-1]["message"]["details"]["sampling"]
    assert 0 <= free["seed"] < 1 << 32, "a seed that nobody chose is on record too"


def test_the_same_answer_asked_for_again_is_one(chats: Live, chat: str) -> None:
    question, name = say(chats, chat, "Hi"), new_id()
    first = ask(chats, chat, question, id=name).events[-1]
    assert ask(chats, chat, question, id=name).events == [first]
    assert len(stored(chats, chat)) == 2
    other = say(chats, chat, "Ho")
    refused = ask(chats, chat, other, id=name)
    assert refused.status == 409 and "is no answer to" in refused.json["error"]["message"]
    lost = ask(chats, chat, "nowhere")
    assert lost.status == 404 and "there is no message nowhere" in lost.json["error"]["message"]


def test_a_page_that_goes_leaves_its_text_and_frees_the_slot(chats: Live, chat: str) -> None:
    question, name = say(chats, chat, "Hi"), new_id()
    leave_early(chats, chat, {"id": name, "parent": question, "model": "runs/chat", **LONG})
    assert eventually(lambda: not chats.studio.pool.jobs, 1), "the engine's place is free"
    assert eventually(lambda: len(stored(chats, chat)) == 2)
    partial = stored(chats, chat)[1]
    assert partial["id"] == name and partial["details"]["finish_reason"] == "stopped"
    assert 0 < partial["details"]["tokens"] < LONG["max_tokens"] and partial["content"]
    whole = ask(chats, chat, question, **LONG).events[-1]["message"]
    assert whole["content"].startswith(partial["content"].rstrip("\ufffd")), "it is the beginning of the same answer"


def test_stopping_returns_when_the_text_is_stored_and_nobody_else_can(chats: Live, chat: str) -> None:
    question, name = say(chats, chat, "Hi"), new_id()
    told: list[Reply] = []
    asking = threading.Thread(target=lambda: told.append(ask(chats, chat, question, id=name, **LONG)))
    asking.start()
    assert eventually(lambda: bool(chats.studio.pool.jobs))
    busy = ask(chats, chat, question, id=name)
    assert busy.status == 409 and "is being written" in busy.json["error"]["message"]
    assert chats.post(f"/studio/chats/{new_id()}/answers/{name}/stop").status == 404
    assert chats.post(f"/studio/chats/{chat}/answers/{name}/stop").status == 200
    assert [message["id"] for message in stored(chats, chat)] == [question, name]
    asking.join(5)
    assert told[0].events[-1]["message"] == {k: v for k, v in stored(chats, chat)[1].items() if k != "thumb"}
    assert chats.post(f"/studio/chats/{chat}/answers/{name}/stop").status == 200, "once more changes nothing"


def test_the_newest_system_prompt_counts_and_is_no_message_of_the_tree(chats: Live, chat: str) -> None:
    question = say(chats, chat, "Hi")
    plain = ask(chats, chat, question, temperature=0).events[-1]["message"]
    for text in ("Be long.", "Be short."):
        say(chats, chat, text, role="system")
    led = ask(chats, chat, question, temperature=0).events[-1]["message"]
    assert led["details"]["prompt_tokens"] - plain["details"]["prompt_tokens"] == len("s:Be short.\n")
    assert chats.get(f"/studio/chats/{chat}").json["system"] == "Be short."
    assert [message["role"] for message in stored(chats, chat)] == ["user", "assistant", "assistant"]


def test_what_does_not_fit_is_left_out_from_the_front_and_said(chats: Live, chat: str) -> None:
    parent, asked = None, []
    for place in range(6):
        parent = say(chats, chat, f"{place}" * 60, parent)
        asked.append(parent)
    message = ask(chats, chat, asked[-1]).events[-1]["message"]
    assert message["details"]["left_out"] == 3, "64 letters a turn, 6 tokens for the answer, 256 in all"
    assert message["details"]["prompt_tokens"] == 3 * 63 + 2
    huge = say(chats, chat, "x" * 300, asked[-1])
    refused = ask(chats, chat, huge)
    assert refused.status == 400 and refused.json["error"]["code"] == "context_length_exceeded"


def test_a_base_model_continues_the_text_of_the_messages(chats: Live, chat: str) -> None:
    first = say(chats, chat, "Once upon")
    told = ask(chats, chat, first, "runs/base", temperature=0)
    assert told.events[0]["mode"] == "text"
    answer = told.events[-1]["message"]
    body = {"model": "runs/base", "prompt": "Once upon", "temperature": 0, "max_tokens": 6}
    assert chats.post("/v1/completions", **body).json["choices"][0]["text"] == answer["content"]
    more = say(chats, chat, " a time", answer["id"])
    longer = ask(chats, chat, more, "runs/base", temperature=0).events[-1]["message"]
    body["prompt"] = "Once upon" + answer["content"] + " a time"
    assert chats.post("/v1/completions", **body).json["choices"][0]["text"] == longer["content"]


def test_refusals_say_what_is_accepted(chats: Live, chat: str) -> None:
    question = say(chats, chat, "Hi")
    for more, words in (
        ({"temperature": 3}, "temperature: input should be less than or equal to 2"),
        ({"id": "no spaces"}, "id: string should match pattern"),
        ({"model": "runs/chot"}, "Did you mean 'chat'?"),
        ({"model": "../../etc"}, "outside of the studio's folders"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "this model has no place for tools"),
    ):
        refused = ask(chats, chat, question, **more)
        assert refused.status == 400 and words in refused.json["error"]["message"], refused.body
    wrong = chats.post(f"/studio/chats/{chat}/messages", id=new_id(), role="assistant", content="x")
    assert wrong.status == 400 and "'user', 'system' or 'tool'" in wrong.json["error"]["message"]
    assert chats.post("/studio/chats", id=new_id(), title="x" * 201).status == 400
    assert chats.get(f"/studio/chats/{chat}/export/pdf").status == 404


def test_chats_are_found_by_title_and_text_renamed_and_deleted(chats: Live, chat: str) -> None:
    word = new_id()
    say(chats, chat, f"Long ago, {'far ' * 20}away, there was a {word.upper()} by the river, {'and ' * 20}so on.")
    assert chats.call("PATCH", f"/studio/chats/{chat}", {"title": "100% wind"}).status == 200
    [found] = chats.get(f"/studio/chats?search={word}").json["chats"]
    assert found["title"] == "100% wind" and found["messages"] == 1
    assert word.upper() in found["excerpt"] and len(found["excerpt"]) < 130
    assert chat in [one["id"] for one in chats.get("/studio/chats?search=100%25").json["chats"]]
    assert chats.get("/studio/chats?search=1%25d").json["chats"] == [], "a sign is a sign and no wildcard"
    assert chats.get("/studio/chats").json["chats"][0]["id"] == chat, "the last written to comes first"
    assert chats.call("DELETE", f"/studio/chats/{chat}").status == 200
    assert chats.call("DELETE", f"/studio/chats/{chat}").status == 200
    assert chats.get(f"/studio/chats/{chat}").status == 404


def test_thumbs_are_kept_turned_and_taken_back(chats: Live, chat: str) -> None:
    question = say(chats, chat, "Hi")
    place = f"/studio/chats/{chat}/messages/{question}/thumb"
    for value, reason in ((1, ""), (-1, "wrong"), (-1, "wrong")):
        assert chats.call("PUT", place, {"value": value, "reason": reason}).status == 200
    assert stored(chats, chat)[0]["thumb"] == {"value": -1, "reason": "wrong"}
    assert chats.call("PUT", place, {"value": 0}).json == {"thumb": None}
    assert stored(chats, chat)[0]["thumb"] is None
    assert chats.call("PUT", place, {"value": 2}).status == 400


def test_a_message_is_deleted_with_all_below_it_however_many(chats: Live, chat: str) -> None:
    top = say(chats, chat, "stays")
    first = parent = say(chats, chat, "goes", top)
    for place in range(1100):  # more than SQLite follows by itself
        name = f"{chat[:20]}-{place}"
        if place % 10 == 0 or place > 1090:
            add_message(chats.studio.store, "local", Message(name, chat, parent, "user", "x"))
            parent = name
    sibling = say(chats, chat, "stays too", top)
    assert chats.call("DELETE", f"/studio/chats/{chat}/messages/{first}").status == 200
    assert [message["id"] for message in stored(chats, chat)] == [top, sibling]


def test_an_export_holds_every_branch_or_one(chats: Live, chat: str) -> None:
    question = say(chats, chat, "Hi")
    say(chats, chat, "Be short.", role="system")
    answer = ask(chats, chat, question).events[-1]["message"]
    edited = say(chats, chat, "Ho")
    whole = chats.get(f"/studio/chats/{chat}/export/json")
    assert "attachment" in whole.headers["content-disposition"] and ".json" in whole.headers["content-disposition"]
    assert whole.json == chats.get(f"/studio/chats/{chat}").json
    text = chats.get(f"/studio/chats/{chat}/export/markdown?leaf={answer['id']}").body.decode()
    shown = f"## user\n\nHi\n\n## assistant (runs/chat)\n\n{answer['content']}\n"
    assert text == "# Mills\n\n**system**\n\nBe short.\n\n" + shown
    assert chats.get(f"/studio/chats/{chat}/export/markdown").body.decode().endswith("## user\n\nHo\n")
    assert chats.get(f"/studio/chats/{chat}/export/markdown?leaf={edited}x").status == 404


def test_calls_and_their_results_are_told_to_the_model_again() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = Message("m", "c", None, "assistant", "", "tiny", {"tool_calls": [call], "tokens": 3})
    assert told(asked) == {"role": "assistant", "content": "", "tool_calls": [call]}
    returned = Message("n", "c", "m", "tool", "rain", details={"tool_call_id": "1"})
    assert told(returned) == {"role": "tool", "content": "rain", "tool_call_id": "1"}


def test_markdown_shows_calls_of_tools_and_an_empty_chat() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]
    asked = {"id": "m", "parent": None, "role": "assistant", "model": "tiny", "content": ""}
    text = markdown({"title": "A\nB", "system": "", "messages": [{**asked, "details": {"tool_calls": calls}}]}, "")
    assert text == '# A B\n\n## assistant (tiny)\n\n```json\n{"name": "f", "arguments": "{\\"x\\": 1}"}\n```\n'
    assert markdown({"title": "A", "system": "", "messages": []}, "") == "# A\n"


def test_a_chat_is_its_owners_alone(start: Callable[..., Live], chatty: Path, chats: Live, chat: str) -> None:
    question = say(chats, chat, "Hi")
    live = start(chatty, key="open sesame", store=chatty / "studio.db")
    key = {"Authorization": "Bearer open sesame"}
    assert live.get("/studio/chats").status == 401
    assert live.get("/studio/chats", **key).json["chats"] == []
    at, body = f"/studio/chats/{chat}", {"id": new_id(), "parent": question, "model": "runs/chat"}
    message = {"id": new_id(), "parent": question, "role": "user", "content": "x"}
    for method, path, sent in (
        ("GET", at, None),
        ("PATCH", at, {"title": "Mine"}),
        ("POST", f"{at}/messages", message),
        ("POST", f"{at}/answers", body),
        ("POST", f"{at}/answers/{question}/stop", {}),
        ("DELETE", f"{at}/messages/{question}", {}),
        ("PUT", f"{at}/messages/{question}/thumb", {"value": 1}),
        ("GET", f"{at}/export/json", None),
    ):
        assert live.call(method, path, sent, **key).status == 404, (method, path)
    assert live.call("DELETE", at, **key).status == 200, "it is not there, as far as another can tell"
    assert len(stored(chats, chat)) == 1
