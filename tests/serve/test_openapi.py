"""/openapi.json describes the answers that are sent: each path's own, and one shape for every error.

The client suite `schema` checks all answers against it; here each path answers once.
"""

import json
from typing import Any

import pytest

from .conftest import NAME, Live

ASKED = {"model": NAME, "max_tokens": 2}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {**ASKED, "messages": [{"role": "user", "content": "x"}], "logprobs": True},
    "/v1/completions": {**ASKED, "prompt": "x", "echo": True},
    "/v1/responses": {"model": NAME, "input": "x", "max_output_tokens": 2},
    "/v1/embeddings": {"model": NAME, "input": "x"},
    "/tokenize": {"prompt": "x"},
    "/v1/tokenize": {"prompt": "x"},
    "/detokenize": {"tokens": [70]},
    "/v1/detokenize": {"tokens": [70]},
}


@pytest.fixture(scope="module")
def operations(shared_live: Live) -> dict[str, dict[str, Any]]:
    document = shared_live.get("/openapi.json").json
    assert "$ref" not in json.dumps(document) and "components" not in document
    return {path: operation for path, methods in document["paths"].items() for operation in methods.values()}


def test_answers_have_the_documented_fields(live: Live, operations: dict[str, dict[str, Any]]) -> None:
    for path, operation in operations.items():
        if path.endswith("_lora_adapter"):
            continue  # this server has no directory of adapters; test_adapters has one that does
        reply = live.post(path, **BODIES[path]) if path in BODIES else live.get(path.replace("{model_id}", NAME))
        content = operation["responses"]["200"]["content"]
        kind = reply.headers["content-type"].partition(";")[0]
        assert reply.status == 200 and kind in content
        if kind == "application/json":
            assert content[kind]["schema"]["required"] and set(content[kind]["schema"]["required"]) <= set(reply.json)
        assert ("text/event-stream" in content) == (path.endswith(("completions", "responses")))


def test_errors_have_one_shape(live: Live, operations: dict[str, dict[str, Any]]) -> None:
    for path, operation in operations.items():
        assert set(operation["responses"]) == {"200", "default"}
        schema = operation["responses"]["default"]["content"]["application/json"]["schema"]
        assert set(schema["properties"]["error"]["required"]) == set(live.call("PUT", path).error)
