"""How vLLM's and llama.cpp's benchmark clients read a stream, written anew; what they count is what /metrics counts.

The first token's time is that of the first chunk with a choice that has text; comments are skipped; the chunk without
a choice has the usage; nothing follows `[DONE]`. A chunk may hold several tokens, so tokens are counted by the usage.
"""

import http.client
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from conftest import Address
from wire import SECONDS, call

PROMPTS = ["The mill", "A cat and a 猫", "Where is the town, and who lives there?", "x"]


@dataclass
class Measured:
    """What a benchmark client knows of one request."""

    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_seconds: float | None = None
    gaps: list[float] = field(default_factory=list)


def lines_of(address: Address, path: str, body: Any) -> Iterator[str]:
    """Yield the lines of a stream as they arrive."""
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=SECONDS)
    headers = {"Authorization": f"Bearer {address.key}", "Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    assert response.status == 200, response.read()
    for line in response:
        yield line.decode("utf-8").strip()
    connection.close()


def measure(address: Address, path: str, body: Any) -> Measured:
    """Send a request and read its stream."""
    made, started = Measured(), time.perf_counter()
    last, done = started, False
    asked = {"model": address.model, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    for line in lines_of(address, path, {**asked, **body}):
        if not line or line.startswith(":"):
            continue
        assert line.startswith("data: ") and not done
        data = line.removeprefix("data: ")
        done = data == "[DONE]"
        if done:
            continue
        chunk = json.loads(data)
        if chunk["choices"]:
            choice = chunk["choices"][0]
            text = choice["delta"].get("content") if "delta" in choice else choice["text"]
            if text:
                now = time.perf_counter()
                if made.first_seconds is None:
                    made.first_seconds = now - started
                else:
                    made.gaps.append(now - last)
                last = now
                made.text += text
        else:
            made.prompt_tokens = chunk["usage"]["prompt_tokens"]
            made.completion_tokens = chunk["usage"]["completion_tokens"]
    assert done
    return made


def counters(address: Address) -> dict[str, float]:
    """Return the values of /metrics."""
    text = call(address, "GET", "/metrics").body.decode()
    found = re.findall(r"^(smelt_\w+(?:{[^}]*})?) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def settled(address: Address) -> dict[str, float]:
    """Return the values once nothing is under way: a request is counted when its connection is done with it."""
    until = time.monotonic() + SECONDS
    while (found := counters(address))["smelt_jobs"] or found["smelt_running"]:
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def growth(before: dict[str, float], after: dict[str, float], name: str) -> float:
    return after[name] - before.get(name, 0)


def test_the_counts_are_those_of_the_metrics(address: Address) -> None:
    path = "/v1/chat/completions"
    before = settled(address)
    bodies: list[Any] = [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": prompt}]}], "max_completion_tokens": 20}
        for prompt in PROMPTS * 3
    ]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda body: measure(address, path, body), bodies))
    after = settled(address)
    assert growth(before, after, "smelt_prompt_tokens_total") == sum(one.prompt_tokens for one in made)
    assert growth(before, after, "smelt_generated_tokens_total") == sum(one.completion_tokens for one in made)
    assert growth(before, after, f'smelt_requests_total{{route="{path}",status="200"}}') == len(made)
    assert growth(before, after, "smelt_first_token_seconds_count") == len(made)
    assert after["smelt_waiting"] == 0 and after["smelt_free_pages"] <= after["smelt_pages"]
    assert all(one.text and one.first_seconds is not None for one in made)
    assert all(0 < one.completion_tokens <= 20 and len(one.gaps) < 20 for one in made)
    # The same question in any company has the same answer.
    assert {one.text for one in made[:4]} == {one.text for one in made} and len({one.text for one in made}) == 4


OWN_FIELDS = [{"repetition_penalty": 1.0, "logprobs": None}, {"ignore_eos": True, "cache_prompt": False}]


@pytest.mark.parametrize("more", OWN_FIELDS)
def test_completions_with_their_own_fields(address: Address, more: Any) -> None:
    """The second fields are llama.cpp's and vLLM's; the server has none of them and says so in a header."""
    made = measure(address, "/v1/completions", {"prompt": "The mill", "max_tokens": 8, **more})
    assert 0 < made.completion_tokens <= 8 and made.prompt_tokens > 0
