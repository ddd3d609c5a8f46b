"""Vectors of texts: those of a plain forward a text, whatever the size of a step."""

from typing import Any

import pytest
import torch

from smelt.core.errors import SmeltError
from smelt.infer.embed import embed
from smelt.models.build import build
from smelt.models.families import Shape, spec_for

TEXTS = [[1, 2, 3], [4], list(range(5, 25)), [3, 2, 1], [7] * 16, [9, 9]]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: Any) -> Any:
    shape = Shape(vocab_size=40, dim=24, num_layers=2, num_heads=4, num_kv_heads=4, max_seq_len=32)
    return build(spec_for(request.param, shape), seed=1).eval()


@pytest.mark.parametrize("step_tokens", [1, 6, 16, 1000])
def test_each_is_the_mean_of_its_own_forward(model: Any, step_tokens: int) -> None:
    steps = list(embed(model, TEXTS, step_tokens=step_tokens))
    found = {place: vector for step in steps for place, vector in step.items()}
    assert list(found) == list(range(len(TEXTS))) and sum(map(len, steps)) == len(TEXTS)
    assert len(steps) >= sum(map(len, TEXTS)) / step_tokens, "no step reads more than it may"
    for place, text in enumerate(TEXTS):
        with torch.inference_mode():
            mean = model(torch.tensor([text])).hidden[0].mean(0)
        torch.testing.assert_close(found[place], mean / mean.norm(), rtol=1e-5, atol=1e-5)


def test_a_model_that_has_diverged_gives_none(model: Any) -> None:
    broken = build(model.spec, seed=1).eval()
    with torch.no_grad():
        broken.token_embedding.weight[3] = float("nan")
    with pytest.raises(SmeltError, match="not finite"):
        list(embed(broken, [[1], [3]], step_tokens=8))
