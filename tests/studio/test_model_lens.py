"""The model lens: rows of attention sum to one, the last layer says what the model says, parts add up to the model."""

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import smelt
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.tokenizers.bpe_train import train_bpe

from .conftest import Live, Watched, serious_faults

MODEL = "runs/tiny"
TEXT = "who reads whom"


def ask(live: Live, route: str, **body: Any) -> Any:
    answer = live.post(f"/studio/lens/{route}", **{"model": MODEL, "text": TEXT, **body})
    assert answer.status == 200, answer.body
    return answer.json


def numbers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


@pytest.mark.parametrize("layer", [0, 1])
def test_rows_of_attention_sum_to_one_and_see_nothing_later(live: Live, layer: int) -> None:
    found = ask(live, "attention", layer=layer)
    size = len(found["ids"])
    weights = numbers(found["weights"]).reshape(found["heads"], size, size)
    assert (found["heads"], found["kv_heads"], found["layers"]) == (4, 2, 2)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-3)
    assert (np.triu(weights, 1) == 0).all() and (weights[:, 0, 0] == 1).all()


def test_each_layer_has_attention_of_its_own(live: Live) -> None:
    assert ask(live, "attention", layer=0)["weights"] != ask(live, "attention", layer=1)["weights"]


def test_the_last_layer_says_what_the_model_says(live: Live) -> None:
    layers = ask(live, "layers")
    expected = ask(live, "tokens")["expected"]
    assert len(layers["layers"]) == 2 and layers["layers"][0] != layers["layers"][1]
    for said, place in zip(layers["layers"][-1], expected, strict=True):
        assert [token for token, _ in said] == [token for token, _ in place["top"][:5]]
        probabilities = [np.exp(logprob) for _, logprob in place["top"][:5]]
        np.testing.assert_allclose([share for _, share in said], probabilities, atol=1e-3)


def test_neighbours_are_those_with_the_largest_cosine(live: Live, workspace: Path) -> None:
    table = smelt.load(workspace / "runs" / "tiny")[0].token_embedding.weight.detach()
    found = live.get(f"/studio/lens/neighbours?model={MODEL}&text=hi").json
    assert len(found["ids"]) == 2
    token = found["ids"][0]
    cosines = torch.nn.functional.normalize(table, dim=1) @ torch.nn.functional.normalize(table[token], dim=0)
    best, near = cosines.topk(25)
    assert near[0] == token and [one for one, _ in found["near"]] == near[1:].tolist()
    np.testing.assert_allclose([cosine for _, cosine in found["near"]], best[1:], atol=1e-5)
    assert live.get(f"/studio/lens/neighbours?model={MODEL}&id={token}").json["near"] == found["near"]


def test_a_head_is_its_rows_of_the_matrices(live: Live, workspace: Path) -> None:
    attention = smelt.load(workspace / "runs" / "tiny")[0].blocks[1].attention
    query, key, _, output = live.get(f"/studio/lens/head?model={MODEL}&layer=1&head=3").json["matrices"]
    assert query["shape"] == [6, 24] and output["shape"] == [24, 6] and sum(query["histogram"]) == 144
    assert query["norm"] == pytest.approx(attention.query.weight[18:].norm().item(), rel=1e-5)
    assert key["mean"] == pytest.approx(attention.key.weight[6:].mean().item(), abs=1e-6)
    assert output["high"] == pytest.approx(attention.output.weight[:, 18:].max().item(), rel=1e-6)


def test_parts_add_up_to_the_model(live: Live, workspace: Path) -> None:
    found = live.get(f"/studio/lens/anatomy?model={MODEL}").json
    model = smelt.load(workspace / "runs" / "tiny")[0]
    assert {one["name"]: one["numbers"] for one in found["parameters"]} == {
        name: parameter.numel() for name, parameter in model.named_parameters()
    }
    assert found["bytes"] == 4 * found["numbers"] == sum(one["bytes"] for one in found["parameters"])
    assert found["formats"][0] == {"format": "float32", "bytes": found["bytes"]}
    cache = {one["format"]: one["bytes"] for one in found["cache"]}
    assert cache == {
        "float32": 192,
        "bfloat16": 96,
        "int8": 80,
        "int4": 56,
    }  # 2 layers, keys and values of 2 heads of 6
    assert len(found["layers"]) == 2 and found["layers"][0]["attention"]["kv_heads"] == 2


@pytest.mark.parametrize("family", ["bert", "mixtral", "t5"])
def test_models_of_other_kinds_are_drawn_too(start: Callable[..., Live], tmp_path: Path, family: str) -> None:
    shape = Shape(vocab_size=259, dim=24, num_layers=2, num_heads=4, num_kv_heads=4, max_seq_len=64)
    smelt.save(build(spec_for(family, shape), seed=0), train_bpe(["a"], vocab_size=259), tmp_path / "model")
    live = start(tmp_path)
    found = live.get("/studio/lens/anatomy?model=model").json
    assert found["numbers"] == sum(one["numbers"] for one in found["parameters"])
    assert ("experts" in found["layers"][0]["feed_forward"]) == (family == "mixtral")
    assert bool(found["cache"]) == (family == "mixtral") and (found["encoder"] is not None) == (family == "t5")
    if family == "bert":
        refused = live.post("/studio/lens/attention", model="model", text="a", layer=0)
        assert refused.status == 400 and "which the engine does not know" in refused.json["error"]["message"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("head?model=runs/tiny&layer=2&head=0", "layers 0 to 1"),
        ("head?model=runs/tiny&layer=0&head=4", "heads 0 to 3"),
        ("head?model=runs/tiny&layer=x&head=4", "'x' is no whole number"),
        ("neighbours?model=runs/tiny&text=", "the text is empty"),
        ("neighbours?model=runs/tiny&id=259", "259 is no token"),
        ("anatomy?model=../..", "outside of the studio's folders"),
        ("anatomy?model=runs", "config.json"),
        ("neighbours?model=runs/tiny@int9&id=1", "weights of 'int9'"),
    ],
)
def test_what_there_is_not_is_refused_in_words(live: Live, path: str, message: str) -> None:
    answer = live.get(f"/studio/lens/{path}")
    assert answer.status == 400 and message in answer.json["error"]["message"], answer.body


def test_a_layer_that_there_is_not_and_a_text_that_is_too_long_are_refused(live: Live) -> None:
    wrong = live.post("/studio/lens/attention", model=MODEL, text="a", layer=2)
    assert wrong.status == 400 and "layers 0 to 1" in wrong.json["error"]["message"]
    for route in ("attention", "layers"):
        long = live.post(f"/studio/lens/{route}", model=MODEL, text="a" * 257, layer=0)
        assert long.status == 400 and "at most 256" in long.json["error"]["message"]


@pytest.mark.browser
def test_from_the_overview_to_one_head_and_its_numbers(live: Live, open_page: Callable[..., Watched]) -> None:
    page = open_page(live, f"/model?model={MODEL}&text=hello", width=1440).page
    page.locator("[data-kind=block]").nth(1).click()
    page.wait_for_selector("[data-testid=opened] h2:has-text('Block 1')")
    page.locator(".head-link").nth(2).click()
    page.wait_for_selector("[data-testid=attention][data-layer='1'] h2:has-text('Head 2')")
    assert page.inner_text("[data-testid=sum]") == "100.0%"
    page.wait_for_selector("[data-testid=head] svg")
    page.locator("[data-testid=map]").press("ArrowUp")
    page.locator("[data-testid=map]").press("ArrowRight")
    found = ask(live, "attention", text="hello", layer=1)
    size = len(found["ids"])
    weight = numbers(found["weights"]).reshape(-1, size, size)[2, size - 2, 1]
    shown = page.inner_text("[data-testid=cell]")
    assert float(shown.split()[-1].rstrip("%")) == pytest.approx(100 * weight, rel=0.06, abs=0.01)
    assert f"row={size - 2}" in page.url


@pytest.mark.browser
def test_another_layer_or_head_is_there_in_a_fifth_of_a_second(live: Live, open_page: Callable[..., Watched]) -> None:
    page = open_page(live, f"/model/attention?model={MODEL}&text={'word+' * 40}", width=1440).page
    page.wait_for_selector("[data-testid=head] svg")
    timed = """async (set) => {
        const place = document.querySelector("[data-testid=attention]"), [kind, value] = set, begin = performance.now();
        if (kind === "head") document.querySelector(`[data-testid=head-${value}]`).click();
        else document.querySelector("button[aria-label='" + value + " layer']").click();
        const wanted = kind === "head" ? "Head " + value : null;
        const there = () => wanted ? place.querySelector("h2").textContent === wanted
            : place.dataset.layer === (value === "Next" ? "1" : "0");
        while (!there()) await new Promise(requestAnimationFrame);
        return performance.now() - begin;
    }"""
    moves = [["layer", "Next"], ["head", "2"], ["layer", "Previous"], ["head", "3"]] * 2
    taken = [(move[0], page.evaluate(timed, move)) for move in moves]
    crowd = max(1, os.getloadavg()[0] / (os.cpu_count() or 1))  # others at work on this machine get their share
    for kind in ("layer", "head"):
        assert min(time for one, time in taken if one == kind) < 200 * crowd, (taken, crowd)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme", "language"), [(375, "light", "zh"), (1440, "dark", "en")])
def test_every_view_fits_and_is_accessible(
    live: Live, open_page: Callable[..., Watched], axe: str, width: int, theme: str, language: str
) -> None:
    views = {"architecture": "cache", "attention": "head", "layers": "opinions", "neighbours": "neighbours"}
    address = f"model={MODEL}&text=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E&word=hi"
    watched = open_page(live, f"/model?{address}", width=width, theme=theme, language=language)
    for view, part in views.items():
        watched.page.goto(f"{live.url}/model/{view}?{address}")
        watched.page.wait_for_selector(f"[data-testid={part}] :is(svg, li, table)")
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= width, view
        assert serious_faults(watched.page, axe) == [], view
