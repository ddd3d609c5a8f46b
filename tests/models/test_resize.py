"""Resizing a model's vocabulary: kept rows are the same bits, new ones are means, old text keeps its loss."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from smelt.core.errors import UsageError
from smelt.models.build import count_parameters
from smelt.models.hub import load, save
from smelt.models.resize import resize_embeddings
from smelt.models.transformer import Transformer
from smelt.nn.spec import TokenIds
from smelt.tokenizers.pipeline import Pipeline
from smelt.tokenizers.surgery import add_tokens, old_encodings, prune

OLD = 61
EVERY = list(range(OLD))
IDS = torch.randint(0, 10, (2, 20), generator=torch.Generator().manual_seed(3))


def logits(model: Transformer, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        found = model(ids).logits
    assert found is not None
    return found


def assert_whole(model: Transformer, size: int) -> None:
    assert model.spec.vocab_size == model.token_embedding.num_embeddings == size
    assert model.head is None or model.head.out_features == size
    assert sum(parameter.numel() for parameter in model.parameters()) == count_parameters(model.spec)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_new_rows_are_means_and_old_logits_stay(family: str, tied: bool, tiny: Callable[..., Transformer]) -> None:
    model = tiny(family, tied=tied)
    before, embedding, head = logits(model), model.token_embedding.weight.clone(), model.head_weight.clone()
    resize_embeddings(model, EVERY, [[3, 5, 5], [], [60]])
    assert_whole(model, 64)
    assert torch.equal(logits(model)[..., :OLD], before)
    for weight, old in ((model.token_embedding.weight, embedding), (model.head_weight, head)):
        torch.testing.assert_close(weight[61], (old[3] + 2 * old[5]) / 3)
        torch.testing.assert_close(weight[62], old.mean(0))
        assert torch.equal(weight[63], old[60]) and torch.equal(weight[:61], old)


def test_a_bias_of_the_head_follows(tiny: Callable[..., Transformer]) -> None:
    model = tiny("novel")
    assert model.head_bias is not None
    old, before = model.head_bias.clone(), logits(model)
    resize_embeddings(model, [*range(10), 60], [[60, 2], []])
    assert_whole(model, 13)
    assert torch.equal(logits(model)[..., :11], before[..., [*range(10), 60]])
    torch.testing.assert_close(model.head_bias[11], (old[60] + old[2]) / 2)
    torch.testing.assert_close(model.head_bias[12], torch.cat([old[:10], old[60:]]).mean())


def test_dropped_rows_leave_the_others(model: Transformer) -> None:
    kept = [*range(10), 17, 44, 60]
    before = logits(model)
    resize_embeddings(model, kept)
    assert_whole(model, 13)
    torch.testing.assert_close(logits(model), before[..., kept], rtol=0, atol=1e-6)
    model(IDS).logits.sum().backward()
    assert model.token_embedding.weight.grad.shape == model.token_embedding.weight.shape


def test_the_ids_that_the_spec_names_follow(tiny: Callable[..., Transformer]) -> None:
    model = tiny()
    model.spec = replace(model.spec, token_ids=TokenIds(begin=58, end=(60, 57, 59), padding=57))
    resize_embeddings(model, [*range(50), 58, 59, 60], [[1, 2]])
    assert model.spec.token_ids == TokenIds(begin=50, end=(52, 51), padding=None)


def test_the_type_of_the_weights_stays(tiny: Callable[..., Transformer]) -> None:
    model = tiny().to(torch.bfloat16)
    model.token_embedding.weight.requires_grad_(False)
    resize_embeddings(model, EVERY, [[1, 2, 3]])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert not model.token_embedding.weight.requires_grad and model.head_weight.requires_grad


@pytest.mark.parametrize(
    ("kept", "new", "message"),
    [
        ([0, 61], [], "id 61 is not in the model's vocabulary"),
        ([0, -1], [], "id -1 is not in the model's vocabulary"),
        ([0, 1], [[0], [70]], "id 70 is not in the model's vocabulary"),
        ([], [[1]], "no row would be kept"),
        ([3, 3], [], "an id is kept twice"),
    ],
)
def test_what_is_refused(kept: list[int], new: list[list[int]], message: str, tiny: Callable[..., Transformer]) -> None:
    model = tiny()
    with pytest.raises(UsageError, match=message):
        resize_embeddings(model, kept, new)
    assert_whole(model, OLD)


@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_on_old_text_rises_by_no_more_than_the_share_of_new_rows(
    tied: bool, tiny: Callable[..., Transformer]
) -> None:
    model = tiny("llama", tied=tied)
    old = functional.cross_entropy(logits(model)[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
    resize_embeddings(model, EVERY, [[]] * 6)
    new = functional.cross_entropy(logits(model)[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
    assert 0 < new - old <= math.log(1 + 6 / OLD) + 1e-6


def test_a_checkpoint_with_another_vocabulary_saves_and_loads(
    byte_tokenizer: Pipeline, tiny: Callable[..., Transformer], tmp_path
) -> None:
    stops = (byte_tokenizer.special["<|im_end|>"],)
    model = tiny("llama", vocab_size=259)
    model.spec = replace(model.spec, token_ids=TokenIds(None, stops, None))
    ids = torch.tensor([byte_tokenizer.encode("the mill")])
    before = logits(model, ids)
    extended = add_tokens(byte_tokenizer, ["<tool>"], ["<think>"])
    resize_embeddings(model, range(259), old_encodings(byte_tokenizer, extended))
    save(model, extended, tmp_path / "more")
    loaded, tokenizer = load(tmp_path / "more")
    assert tokenizer.fingerprint == extended.fingerprint and loaded.spec.vocab_size == 261
    assert torch.equal(logits(loaded, torch.tensor([tokenizer.encode("the mill")]))[..., :259], before)
    pruned, kept = prune(tokenizer, [])
    resize_embeddings(loaded, kept)
    assert kept == list(range(261)) and pruned.fingerprint == extended.fingerprint
