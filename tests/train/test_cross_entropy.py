import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.transformer import Transformer
from smelt.train.objectives import cross_entropy
from smelt.train.objectives.cross_entropy import TokenCrossEntropy, reference
from smelt.train.sources import TokenBatch


def batch_of(vocab: int, *, masked: bool) -> TokenBatch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocab, (3, 20), generator=generator)
    labels = torch.randint(0, vocab, (3, 20), generator=generator)
    if masked:
        labels[:, ::3] = -100
        labels[1] = -100
    return TokenBatch(ids, labels, None, None)


def gradients(model: Transformer, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("llama", False), ("novel", False)])
def test_chunked_equals_reference(monkeypatch: pytest.MonkeyPatch, family: str, tied: bool, masked: bool) -> None:
    monkeypatch.setattr(cross_entropy, "CHUNK_ROWS", 7)  # chunks that do not divide the rows
    monkeypatch.setattr(cross_entropy, "CACHED_ENTRIES", 150)  # three rows, which do not divide a chunk
    model = build(spec_for(family, Shape(50, 16, 2, 2, 32, tied=tied)), seed=0)
    batch = batch_of(50, masked=masked)
    expected = reference(model, batch)
    found, metrics = TokenCrossEntropy()(model, batch)
    assert metrics == {}
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    theirs, ours = gradients(model, reference(model, batch)), gradients(model, TokenCrossEntropy()(model, batch)[0])
    assert theirs.keys() == ours.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5, msg=name)


def test_by_hand() -> None:
    # Two rows over two words: logits (0, 0) and (0, ln 3), labels 0 and 1: losses ln 2 and ln 4/3; the third is masked.
    hidden = torch.tensor([[0.0], [1.0], [5.0]])
    weight = torch.tensor([[0.0], [math.log(3.0)]])
    loss = cross_entropy.cross_entropy_sum(hidden, weight, None, torch.tensor([0, 1, -100]))
    assert loss.item() == pytest.approx(math.log(2) + math.log(4 / 3), abs=1e-6)


def test_weight_counts_supervised_tokens() -> None:
    batch = TokenBatch(torch.zeros(1, 4).long(), torch.tensor([[1, -100, 2, -100]]), None, None)
    assert TokenCrossEntropy().weight(batch) == 2


def test_no_gradient_is_made_without_need(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Tensor | None] = []

    def spied(*arguments: Any) -> tuple[Tensor, Tensor | None]:
        loss, gradient = original(*arguments)
        made.append(gradient)
        return loss, gradient

    original = cross_entropy._loss_and_gradient
    monkeypatch.setattr(cross_entropy, "_loss_and_gradient", spied)
    weight = torch.randn(11, 8, requires_grad=True)
    with torch.no_grad():
        loss = cross_entropy.cross_entropy_sum(torch.randn(4, 8), weight, None, torch.arange(4))
    assert not loss.requires_grad and made == [None]
    assert cross_entropy.cross_entropy_sum(torch.randn(4, 8), weight, None, torch.arange(4)).requires_grad
    assert made[1] is not None


def test_gradients_are_scaled_once_alone() -> None:
    weight = torch.randn(11, 8, requires_grad=True)
    loss = cross_entropy.cross_entropy_sum(torch.randn(4, 8), weight, None, torch.arange(4)) / 4
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_bias_has_the_gradient_of_the_plain_formula() -> None:
    hidden, weight, bias = torch.randn(9, 8), torch.randn(11, 8), torch.randn(11, requires_grad=True)
    found = cross_entropy.cross_entropy_sum(hidden, weight, bias, torch.arange(9))
    expected = functional.cross_entropy(functional.linear(hidden, weight, bias), torch.arange(9), reduction="sum")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, bias)[0] for loss in (found, expected)))
