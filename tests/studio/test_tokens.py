"""The token lens: its numbers are the engine's, what it sends redraws exactly, and a branch is the engine's own."""

import base64
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from smelt.studio.lens import tokens
from smelt.tokenizers.bpe_train import train_bpe

from .conftest import Live, Watched, serious_faults

MODEL = "runs/tiny"
TEXT = "a night in 北京"


def lens(live: Live, **body: Any) -> Any:
    answer = live.post("/studio/lens/tokens", model=MODEL, **body)
    assert answer.status == 200, answer.body
    return answer.json


def engine_says(live: Live, **body: Any) -> Any:
    asked = {"model": MODEL, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 5}
    answer = live.post("/v1/completions", **{**asked, **body})
    assert answer.status == 200, answer.body
    return answer.json["choices"][0]["logprobs"]


def test_probabilities_are_those_of_the_engine(live: Live) -> None:
    found = lens(live, text=TEXT)
    said = engine_says(live, prompt=TEXT)["token_logprobs"]
    ours = [place["logprob"] for place in found["expected"]]
    assert len(found["ids"]) == len(said) - 1 and len(ours) == len(found["ids"])  # the engine wrote one more
    assert ours[-1] is None and said[0] is None
    np.testing.assert_allclose(np.exp(ours[:-1]), np.exp(said[1:-1]), atol=1e-3)
    np.testing.assert_allclose(ours[:-1], said[1:-1], atol=1e-3)


def test_rank_entropy_and_alternatives_follow_from_the_logits(live: Live) -> None:
    found = lens(live, text=TEXT)
    for place in (0, 5, len(found["ids"]) - 1):
        sent = live.post("/studio/lens/logits", model=MODEL, ids=found["ids"][: place + 1]).json["logits"]
        logits = torch.frombuffer(bytearray(base64.b64decode(sent)), dtype=torch.float32).double()
        assert len(logits) == 259
        logprobs, told = logits.log_softmax(-1), found["expected"][place]
        assert told["entropy"] == pytest.approx(-float((logprobs.exp() * logprobs).sum()) / math.log(2), abs=1e-3)
        best, top = logprobs.topk(20)
        assert [token for token, _ in told["top"]] == top.tolist()
        np.testing.assert_allclose([logprob for _, logprob in told["top"]], best, atol=1e-3)
        if told["rank"] is not None:
            own = logprobs[found["ids"][place + 1]]
            assert told["rank"] == int((logprobs > own).sum()) + 1
    assert all(str(token) in found["spelled"] for place in found["expected"] for token, _ in place["top"])


def test_a_part_of_a_character_shows_its_bytes_and_the_character() -> None:
    tokenizer = train_bpe(["a"], vocab_size=259)
    shown = tokens(tokenizer, [*tokenizer.encode("a京"), tokenizer.special["<|endoftext|>"], 0xE4 - 0])
    assert shown[0]["text"] == "a" and "bytes" not in shown[0]
    assert [one["text"] for one in shown[1:4]] == ["京"] * 3
    assert [one["bytes"] for one in shown[1:4]] == [[0xE4], [0xBA], [0xAC]]
    assert shown[4]["special"] and shown[4]["text"] == "<|endoftext|>"


def test_messages_are_read_as_the_model_is_asked_them(live: Live) -> None:
    found = lens(live, messages=[{"role": "user", "content": "Hi"}])
    assert found["can_chat"] and any(token.get("special") for token in found["tokens"])
    answered = lens(live, messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}])
    assert answered["ids"][: len(found["ids"])] == found["ids"]


def test_a_branch_goes_on_as_the_engine_does(live: Live) -> None:
    ids = lens(live, text=TEXT)["ids"]
    greedy = live.post("/studio/lens/branch", model=MODEL, ids=ids, max_tokens=6).json
    assert greedy["ids"][: len(ids)] == ids and greedy["added"] == len(greedy["ids"]) - len(ids) <= 6
    best = lens(live, ids=greedy["ids"])["expected"]
    assert all(place["rank"] == 1 for place in best[len(ids) - 1 : -1])
    drawn = [
        live.post("/studio/lens/branch", model=MODEL, ids=ids, max_tokens=8, temperature=1.0, seed=seed).json["ids"]
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_weights_of_another_kind_while_decoding_change_nothing_and_are_named(live: Live) -> None:
    answer = live.post("/studio/lens/tokens", model=f"{MODEL}@int8", text=TEXT).json
    plain = lens(live, text=TEXT)
    assert answer["decodes_with"] == "int8" and plain["decodes_with"] is None
    assert answer["expected"] == plain["expected"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "one of text, messages and ids is expected"),
        ({"text": "a", "ids": [1]}, "one of text, messages and ids is expected"),
        ({"ids": []}, "the text is empty"),
        ({"ids": [259]}, "259 is no token; the model has 259"),
        ({"ids": [-1]}, "ids"),
        ({"text": "a" * 300}, "the text has 301 tokens; this view reads at most 256 with this model"),
        ({"messages": []}, "message"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(live: Live, body: dict[str, Any], message: str) -> None:
    answer = live.post("/studio/lens/tokens", model=MODEL, **body)
    assert answer.status == 400 and message in answer.json["error"]["message"]


def test_a_branch_has_its_bounds(live: Live) -> None:
    for wrong in ({"max_tokens": 0}, {"temperature": 3}, {"top_p": 0}, {"seed": -1}, {"ids": [1] * 256}):
        answer = live.post("/studio/lens/branch", **{"model": MODEL, "ids": [1], **wrong})
        assert answer.status == 400, wrong


@pytest.mark.browser
def test_the_page_redraws_without_a_request_branches_and_comes_back_after_a_reload(
    live: Live, open_page: Callable[..., Watched]
) -> None:
    watched = open_page(live, f"/tokens?model={MODEL}&text=hello&at=3", width=1440)
    page = watched.page
    page.wait_for_selector("[data-testid=bars]")
    bars = dict(
        page.eval_on_selector_all("[data-share]", "all => all.map(one => [one.dataset.id, +one.dataset.share])")
    )
    said = engine_says(live, prompt="hello")["token_logprobs"][3]
    own = str(lens(live, text="hello")["ids"][3])
    assert bars[own] == pytest.approx(math.exp(said), abs=1e-3)
    asked = len(watched.asked)
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Top-p").fill("0.6")
    page.wait_for_selector("text=With these settings")
    sharper = page.eval_on_selector_all("[data-share]", "all => all.map(one => +one.dataset.share)")
    assert len(watched.asked) == asked and max(sharper) > max(bars.values()) and 0 in sharper
    page.locator("[data-id]").first.click()
    page.wait_for_selector("[data-testid=branches]")
    page.wait_for_selector(".token.fork")
    written = page.inner_text("[data-testid=strip]")
    assert "ids=" in page.url and "from=3" in page.url
    page.reload()
    page.wait_for_selector(".token.fork")
    assert page.inner_text("[data-testid=strip]") == written
    page.go_back()
    page.wait_for_function("!document.querySelector('.token.fork')")
    page.locator("[aria-selected=true]").press("ArrowRight")
    page.wait_for_selector("[data-testid=detail] h2:has-text('Token 4')")
    assert "at=4" in page.url


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme", "language"), [(375, "light", "zh"), (1440, "dark", "en")])
def test_the_page_fits_and_is_accessible(
    live: Live, open_page: Callable[..., Watched], axe: str, width: int, theme: str, language: str
) -> None:
    address = f"/tokens?model={MODEL}&text=hello+%3Cimg+src%3Dx+onerror%3Dalert(1)%3E&at=3"
    page = open_page(live, address, width=width, theme=theme, language=language).page
    page.wait_for_selector("[data-testid=bars]")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious_faults(page, axe) == []
