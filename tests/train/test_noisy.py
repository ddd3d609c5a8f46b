"""NEFTune: how strong the noise is, when it is there, and that place and seed alone decide it."""

from dataclasses import replace

import pytest
import torch

from smelt.models.transformer import Transformer
from smelt.train.objectives import TokenCrossEntropy
from smelt.train.objectives.noisy import NoisyEmbeddings, lengths_of, noise
from smelt.train.sources import TokenBatch


def batch_of(rows: int = 3, tokens: int = 6, place: int = 0) -> TokenBatch:
    ids = torch.arange(rows * tokens).reshape(rows, tokens) % 300
    segments = torch.tensor([[1, 1, 1, 1, 2, 2]]).expand(rows, -1).contiguous()
    positions = torch.tensor([[0, 1, 2, 3, 0, 1]]).expand(rows, -1).contiguous()
    return TokenBatch(ids, ids.clone(), segments, positions, place=place)


def test_the_strength_is_that_of_the_paper() -> None:
    batch = batch_of(1)
    assert lengths_of(batch).tolist() == [[4, 4, 4, 4, 2, 2]]
    assert lengths_of(replace(batch, segments=None)).tolist() == [[6] * 6]
    found = noise(batch, torch.zeros(1, 6, 20_000), alpha=5.0, seed=1)
    for token, length in enumerate([4, 4, 4, 4, 2, 2]):
        bound = 5.0 / (length * 20_000) ** 0.5
        assert found[0, token].abs().max() <= bound and found[0, token].abs().max() > 0.999 * bound
        assert abs(found[0, token].mean()) < 0.03 * bound  # uniform: standard deviation of the mean 0.004
        assert found[0, token].std() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_place_and_seed_decide() -> None:
    whole = noise(batch_of(4), torch.zeros(4, 6, 8), 5.0, seed=1)
    half = noise(batch_of(2, place=2), torch.zeros(2, 6, 8), 5.0, seed=1)
    torch.rand(3)
    assert torch.equal(whole[2:], half), "micro-batches of any size see the same noise"
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole, noise(batch_of(4), torch.zeros(4, 6, 8), 5.0, seed=2))


def test_only_in_training(tiny_model: Transformer) -> None:
    plain, batch = TokenCrossEntropy(), batch_of()
    noisy = NoisyEmbeddings(plain, 5.0, seed=1)
    assert noisy.weight(batch) == plain.weight(batch)
    tiny_model.train()
    clean = plain(tiny_model, batch)[0].item()
    shaken = noisy(tiny_model, batch)[0].item()
    assert shaken != clean and shaken == noisy(tiny_model, batch)[0].item()
    assert plain(tiny_model, batch)[0].item() == clean, "the hook is taken off"
    tiny_model.eval()
    assert noisy(tiny_model, batch)[0].item() == clean


def test_the_hook_is_taken_off_after_an_error(tiny_model: Transformer) -> None:
    tiny_model.train()
    bad = replace(batch_of(), labels=torch.full((3, 6), 10**6))
    with pytest.raises((IndexError, RuntimeError)):
        NoisyEmbeddings(TokenCrossEntropy(), 5.0, seed=1)(tiny_model, bad)
    assert not tiny_model.token_embedding._forward_hooks
