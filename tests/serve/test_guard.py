"""Hosts, origins, keys, ids, headers, and what the log says."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from smelt.core.errors import UsageError
from smelt.serve.keys import Keys
from smelt.serve.run import check_bind

from .conftest import NAME, Live, eventually

KEY, OTHER = "sk-one", "sk-two"
HASHES = [hashlib.sha256(key.encode()).hexdigest() for key in (KEY, OTHER)]
ASKED = {"model": NAME, "prompt": "x", "max_tokens": 1}


@pytest.fixture(scope="module")
def locked(start: Callable[..., Live]) -> Live:
    return start(keys=Keys(HASHES), hosts=["llm.example.org"])


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1", "[::1]:{port}", "LLM.example.org", "192.0.2.7:80"])
def test_hosts_that_are_ours(locked: Live, host: str) -> None:
    assert locked.get("/health", Host=host.format(port=locked.port)).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example", "a@localhost"]
)
def test_hosts_that_are_not(locked: Live, host: str) -> None:
    reply = locked.get("/health", Host=host)
    assert reply.status == 400 and reply.error["code"] == "invalid_host"


def test_a_page_of_another_origin_may_not_use_it(live: Live) -> None:
    own = f"127.0.0.1:{live.port}"
    assert live.call("POST", "/v1/completions", ASKED, Origin=f"http://{own}").status == 200
    for origin in ("http://evil.example", "null", f"http://{own}.evil.example", "http://127.0.0.1:1"):
        reply = live.call("POST", "/v1/completions", ASKED, Origin=origin)
        assert reply.status == 403 and reply.error["type"] == "permission_error"
        assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("path", ["/v1/models", "/tokenizer_info", "/metrics", "/v1/models/tiny"])
def test_what_costs_something_needs_a_key(locked: Live, path: str) -> None:
    reply = locked.get(path)
    assert reply.status == 401 and reply.error["code"] == "invalid_api_key" and reply.headers["www-authenticate"]
    assert reply.error["type"] == "authentication_error"
    for wrong in ("Bearer sk-three", KEY, f"Basic {KEY}", "Bearer", f"Bearer {HASHES[0]}", "Bearer \u00e9"):
        assert locked.get(path, Authorization=wrong).status == 401
    assert locked.get(path, x_api_key=KEY).status == 401, "a key is taken from one place only"
    for key in (KEY, OTHER):
        assert locked.get(path, Authorization=f"Bearer {key}").status == 200
    assert locked.call("POST", "/v1/completions", b"{").status == 401, "before the body is looked at"


def test_what_balancers_ask_needs_none(locked: Live) -> None:
    assert [locked.get(path).status for path in ("/health", "/ready", "/version", "/")] == [200] * 4


def test_openai_knows_the_error(locked: Live) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{locked.url}/v1", api_key=KEY) as client:
        assert client.models.list().data
    with (
        openai.OpenAI(base_url=f"{locked.url}/v1", api_key="sk-no") as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_no_address_for_others_without_a_key() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        check_bind(host, None)
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(UsageError, match="lets other machines in"):
            check_bind(host, None)
        check_bind(host, Keys(HASHES))


def test_ids_and_headers(live: Live) -> None:
    assert live.get("/health", X_Request_Id="abc-1.2_3").headers["x-request-id"] == "abc-1.2_3"
    made = live.get("/health", X_Request_Id="a b").headers["x-request-id"]
    assert len(made) == 32 and made != live.get("/health").headers["x-request-id"]
    for reply in (live.get("/"), live.get("/nothing"), live.post("/v1/completions", **ASKED)):
        policy = reply.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff" and reply.headers["x-request-id"]
        assert "server" not in reply.headers


def test_the_log_is_one_line_of_json_a_request(live: Live, capfd: Any) -> None:
    asked = {**ASKED, "prompt": "private"}
    live.call("POST", "/v1/completions", asked, Authorization="Bearer sk-private", X_Request_Id="logged-1")
    live.get("/a%0Ab%1b[31m%E2%80%AE", X_Request_Id="logged-2")
    seen: list[str] = []

    def logged() -> list[str]:
        """Return the lines of these two; what other tests asked may still come in."""
        seen.append(capfd.readouterr().err)
        return [line for line in "".join(seen).splitlines() if "logged-" in line]

    assert eventually(lambda: len(logged()) == 2)
    lines = [json.loads(line) for line in logged()]
    assert [(line["path"], line["status"]) for line in lines] == [
        ("/v1/completions", 200),
        ("/a\nb\x1b[31m\u202e", 404),
    ]
    assert "private" not in json.dumps(lines)


def test_a_fault_of_ours_is_told_without_details(live: Live, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("smelt.serve.app.check_model", broken)
    reply = live.get("/v1/models/tiny", X_Request_Id="mine")
    assert reply.status == 500 and reply.error["type"] == "server_error" and "mine" in reply.error["message"]
    assert b"secret" not in reply.body
    seen: list[str] = []
    assert eventually(lambda: "secret" in (seen.append(capfd.readouterr().err) or "".join(seen)))


def test_metrics_count_what_usage_says(start: Callable[..., Live]) -> None:
    live = start()
    usage = live.post("/v1/completions", model=NAME, prompt="abc", max_tokens=5, n=2).json["usage"]
    live.get("/nothing")
    text = live.get("/metrics").body.decode()
    assert f"smelt_prompt_tokens_total {usage['prompt_tokens']}.0" in text
    assert f"smelt_generated_tokens_total {usage['completion_tokens']}.0" in text
    assert 'smelt_requests_total{route="/v1/completions",status="200"} 1.0' in text
    assert 'smelt_requests_total{route="other",status="404"} 1.0' in text
    assert "smelt_first_token_seconds_count 2.0" in text and "smelt_running 0.0" in text
