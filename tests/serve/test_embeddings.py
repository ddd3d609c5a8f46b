"""Embeddings through OpenAI's client: forms of input and output, against a plain forward; refusals; those who leave."""

import base64
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from .conftest import CONTEXT, NAME, Live, Watched, eventually

openai = pytest.importorskip("openai")


@pytest.fixture
def client(live: Live) -> Any:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def exact(model: Any, ids: list[int]) -> torch.Tensor:
    """Return the mean of a text's last hidden states, of length 1, by one full forward."""
    with torch.inference_mode():
        mean = model(torch.tensor([ids])).hidden[0].float().mean(0)
    return mean / mean.norm()


def test_four_forms_of_input_and_both_of_output(client: Any, model: Any, tokenizer: Any) -> None:
    ids = [[tokenizer.special["<|endoftext|>"], *tokenizer.encode(text)] for text in ("One", "Two and more")]
    expected = [exact(model, text).tolist() for text in ids]
    for asked in (["One", "Two and more"], ids, "One", ids[0]):
        for form in ({}, {"encoding_format": "float"}):  # without one the client asks for base64 and decodes it
            found = client.embeddings.create(model=NAME, input=asked, **form)
            assert [item.index for item in found.data] == list(range(len(found.data)))
            for item, vector in zip(found.data, expected, strict=False):
                assert item.embedding == pytest.approx(vector, abs=1e-5)
            num_tokens = sum(map(len, ids[: len(found.data)]))
            assert found.usage.prompt_tokens == found.usage.total_tokens == num_tokens
            assert found.model == NAME and found.object == "list"
    assert len(found.data) == 1, "ids are one text"


def test_base64_is_fp32_with_the_lowest_byte_first(live: Live) -> None:
    asked = {"model": NAME, "input": "One"}
    packed = live.post("/v1/embeddings", **asked, encoding_format="base64").json["data"][0]["embedding"]
    plain = live.post("/v1/embeddings", **asked).json["data"][0]["embedding"]
    numbers = torch.frombuffer(bytearray(base64.b64decode(packed)), dtype=torch.float32)
    assert numbers.tolist() == plain and len(plain) == 24


def test_fewer_dimensions_are_a_prefix_of_length_1(client: Any) -> None:
    whole = torch.tensor(client.embeddings.create(model=NAME, input="One").data[0].embedding)
    short = torch.tensor(client.embeddings.create(model=NAME, input="One", dimensions=7).data[0].embedding)
    assert whole.norm() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(short, whole[:7] / whole[:7].norm())
    assert len(client.embeddings.create(model=NAME, input="One", dimensions=24).data[0].embedding) == 24


def test_as_langchain_asks_for_many(client: Any) -> None:
    many = [[number % 256] for number in range(1000)]
    found = client.embeddings.create(model=NAME, input=many).data
    assert len(found) == 1000 and found[3].embedding == pytest.approx(found[259].embedding, abs=1e-5)
    assert found[3].embedding != pytest.approx(found[4].embedding, abs=1e-2)


REFUSED = [
    ({"input": []}, "input"),
    ({"input": ["x", [1]]}, "input"),
    ({"input": [[]]}, "input"),
    ({"input": [999]}, "input"),
    ({"input": ["x"] * 2049}, "input"),
    ({"dimensions": 0}, "dimensions"),
    ({"dimensions": 25}, "dimensions"),
    ({"encoding_format": "int8"}, "encoding_format"),
]


@pytest.mark.parametrize(("change", "param"), REFUSED)
def test_what_cannot_be_is_refused_with_its_place(live: Live, change: dict[str, Any], param: str) -> None:
    reply = live.post("/v1/embeddings", **{"model": NAME, "input": "x", **change})
    assert reply.status == 400 and reply.error["param"] == param


def test_a_text_may_fill_the_context_and_no_more(live: Live, model: Any) -> None:
    reply = live.post("/v1/embeddings", model=NAME, input=[5] * CONTEXT)
    assert reply.json["data"][0]["embedding"] == pytest.approx(exact(model, [5] * CONTEXT).tolist(), abs=1e-5)
    reply = live.post("/v1/embeddings", model=NAME, input=["x", "y" * CONTEXT])
    assert reply.status == 400 and reply.error["code"] == "context_length_exceeded"
    assert "text 1 has 161 tokens and the context of this model 160" in reply.error["message"]
    assert live.post("/v1/embeddings", model="other", input="x").error["code"] == "model_not_found"


def test_answers_go_on_while_texts_are_read(live: Live) -> None:
    Watched.seconds = 0.02
    asked = {"model": NAME, "input": [[1] * 100] * 2000}  # 400 steps
    reading = live.open("/v1/embeddings", asked)
    assert eventually(lambda: bool(live.server.engine._readings))
    assert live.post("/v1/completions", model=NAME, prompt="x", max_tokens=3).status == 200
    assert live.server.engine._readings, "an answer of three tokens is written before all texts are read"
    reading.close()


def test_a_client_that_leaves_frees_the_engine(live: Live) -> None:
    Watched.seconds = 0.02
    busy = live.open("/v1/completions", {"model": NAME, "prompt": "x", "max_tokens": 150})
    reading = live.open("/v1/embeddings", {"model": NAME, "input": [[1] * 100] * 2000})
    assert eventually(lambda: bool(live.server.engine._readings))
    reading.close()
    assert eventually(lambda: not live.server.engine._readings)
    busy.close()


def test_a_drain_ends_what_is_left(start: Callable[..., Live], monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: Any, **__: Any) -> Iterator[dict[int, Any]]:
        while True:
            time.sleep(0.01)
            yield {}

    monkeypatch.setattr("smelt.serve.loop.embed", endless)
    live = start(drain_seconds=0.2)
    found: list[Any] = []
    asking = threading.Thread(target=lambda: found.append(live.post("/v1/embeddings", model=NAME, input="x")))
    asking.start()
    assert eventually(lambda: bool(live.server.engine._readings))
    live.server.engine._loop.call_soon_threadsafe(live.server.end)
    asking.join(20)
    assert found[0].status == 503 and found[0].error["code"] == "server_draining" and found[0].headers["retry-after"]
    live.thread.join(10)
    assert not live.thread.is_alive()


def test_a_fault_is_told(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret")
        yield {}

    with monkeypatch.context() as patch:
        patch.setattr("smelt.serve.loop.embed", broken)
        reply = live.post("/v1/embeddings", model=NAME, input="x")
    assert reply.status == 500 and b"secret" not in reply.body
    assert live.post("/v1/embeddings", model=NAME, input="x").status == 200


def test_metrics_count_the_tokens(live: Live) -> None:
    def count() -> float:
        (line,) = (
            x for x in live.get("/metrics").body.decode().splitlines() if x.startswith("smelt_embedded_tokens_total")
        )
        return float(line.split()[1])

    before = count()
    usage = live.post("/v1/embeddings", model=NAME, input=["One", "Two"]).json["usage"]
    assert count() - before == usage["prompt_tokens"] == 8
