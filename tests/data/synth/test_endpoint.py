"""The teacher behind an address: what is sent, what comes back, and every way in which a server may fail."""

import json
import socket
from typing import Any

import pytest

from smelt.core.errors import UsageError
from smelt.data.records import Message
from smelt.data.synth import endpoint
from smelt.data.synth.endpoint import EndpointTeacher
from smelt.data.synth.teacher import Reply, Settings, TeacherBusy, TeacherError, spoken

from .conftest import completion

SETTINGS = Settings(64, 0.5, 7)
ASKED = (Message("system", "Be brief."), Message("user", "Who?"))


def error(status: int, message: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return an error as OpenAI's servers write it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, json.dumps({"error": {"message": message}}).encode()


def test_what_is_sent_and_what_comes_back(server: Any) -> None:
    server.script = lambda body: completion("It is I.", prompt_tokens=12, completion_tokens=4)
    reply = EndpointTeacher(server.url, "m", key="sk-1").ask(ASKED, SETTINGS)
    assert reply == Reply("It is I.", 12, 4)
    ((path, headers, body),) = server.heard
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer sk-1"
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    assert body == {"model": "m", "messages": turns, "max_tokens": 64, "temperature": 0.5, "seed": 7}
    EndpointTeacher(f"{server.url}/chat/completions", "m").ask(ASKED, SETTINGS)
    assert server.heard[1][0] == "/v1/chat/completions" and "Authorization" not in server.heard[1][1]


def test_replies_of_several_kinds(server: Any) -> None:
    teacher = EndpointTeacher(server.url, "m")
    server.script = lambda body: completion("It is", "length")
    assert teacher.ask(ASKED, SETTINGS) == Reply("It is", None, None, "length")
    server.script = lambda body: error(400, "this model's context is 64 tokens")
    assert teacher.ask(ASKED, SETTINGS) == Reply("400 this model's context is 64 tokens", finish="refused")
    server.script = lambda body: (
        200,
        {},
        b'{"choices": [{"message": {"content": null}}], "usage": {"prompt_tokens": "9"}}',
    )
    assert teacher.ask(ASKED, SETTINGS) == Reply("")


def test_thoughts_are_not_said() -> None:
    assert spoken("<think>\nHm. <b>\n</think>\n\nYes. <think>") == "Yes. <think>"
    assert spoken("<think>never ended") == "<think>never ended"
    assert spoken(" half \ud83d ") == "half \ufffd"


@pytest.mark.parametrize(
    ("answer", "kind", "what"),
    [
        (error(500, "out of memory"), TeacherBusy, "/v1/chat/completions: 500 out of memory"),
        (error(429, "slow down", Retry_After="7"), TeacherBusy, "429 slow down"),
        ((502, {}, b"<html>bad\x1b[2J gateway</html>"), TeacherBusy, "502 <html>bad\ufffd"),
        ((200, {}, b"<html>a portal</html>"), TeacherBusy, "the answer is no chat completion (JSONDecodeError"),
        ((200, {}, b'{"choices": []}'), TeacherBusy, "the answer is no chat completion (IndexError"),
        ((200, {"Content-Length": "99"}, b'{"cho'), TeacherBusy, "the answer is no chat completion (JSONDecodeError"),
        (error(401, "wrong key sk-1!"), TeacherError, "401 wrong key ***!\ntry: give the key with --key-file FILE"),
        (error(404, "no model m"), TeacherError, "404 no model m\ntry: check --endpoint (it mostly ends in /v1)"),
        ((302, {"Location": "http://127.0.0.1:9/"}, b""), TeacherError, "moved to http://127.0.0.1:9/\ntry: give that"),
    ],
)
def test_failures(server: Any, answer: Any, kind: type[TeacherError], what: str) -> None:
    server.script = lambda body: answer
    with pytest.raises(TeacherError) as raised:
        EndpointTeacher(server.url, "m", key="sk-1").ask(ASKED, SETTINGS)
    assert type(raised.value) is kind and what in str(raised.value) and "sk-1" not in str(raised.value)
    assert len(server.heard) == 1, "a redirect is not followed, and nothing is tried again here"
    if "Retry-After" in answer[1]:
        assert raised.value.wait_seconds == 7  # type: ignore[attr-defined]


def test_nobody_there_and_nobody_answering(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("http_proxy", server.url)  # a proxy has no business between two programs of one machine
    with pytest.raises(TeacherBusy, match=r"no answer .*refused.*\ntry: see whether the server runs"):
        EndpointTeacher(f"http://127.0.0.1:{port}/v1", "m").ask(ASKED, SETTINGS)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(TeacherBusy, match="timed out"):
            EndpointTeacher(url, "m", timeout_seconds=0.05).ask(ASKED, SETTINGS)
    assert server.heard == []


def test_an_answer_without_end(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "MAX_REPLY_BYTES", 1000)
    server.script = lambda body: completion("x" * 1000)
    with pytest.raises(TeacherBusy, match="an answer of more than 1,000 bytes"):
        EndpointTeacher(server.url, "m").ask(ASKED, SETTINGS)


def test_servers_with_other_fields(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def script(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        if "max_tokens" in body:
            return error(400, "'max_tokens' is not supported, use 'max_completion_tokens'")
        return error(422, "extra field: seed") if "seed" in body else completion("Yes.")

    server.script = script
    teacher = EndpointTeacher(server.url, "m")
    assert teacher.ask(ASKED, SETTINGS).text == teacher.ask(ASKED, SETTINGS).text == "Yes."
    assert len(server.heard) == 4, "what was learned is not learned again"
    assert capsys.readouterr().err == "note: m takes no seed; another run would get other replies\n"


@pytest.mark.parametrize("url", ["localhost:8000/v1", "file:///etc/passwd", "http://", "http://me:pw@host/v1"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError, match=r"accepted: an address such as http://127\.0\.0\.1:8000/v1"):
        EndpointTeacher(url, "m")


def test_keys(capsys: pytest.CaptureFixture[str]) -> None:
    for key in ("", "two\nlines", "schlüssel"):
        with pytest.raises(UsageError, match="the key is empty or has characters"):
            EndpointTeacher("http://localhost/v1", "m", key=key)
    EndpointTeacher("http://teacher.example/v1", "m", key="k")
    assert capsys.readouterr().err == "note: the key goes to teacher.example unencrypted\n"
