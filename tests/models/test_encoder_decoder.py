"""Two networks: what they share, what they refuse, how a cache keeps a source, how a vocabulary changes."""

from dataclasses import replace

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.models.build import build
from smelt.models.encoder_decoder import EncoderDecoder
from smelt.models.families import Shape, preset, spec_for
from smelt.models.hub import load, save
from smelt.models.resize import resize_embeddings
from smelt.nn.cache import KVCache
from smelt.nn.spec import TokenIds

from .conftest import scrambled

IDS = torch.randint(0, 61, (2, 9), generator=torch.Generator().manual_seed(1))
SOURCE = torch.randint(0, 61, (2, 7), generator=torch.Generator().manual_seed(2))


@pytest.fixture(params=["t5", "mt5", "transformer2017"])
def model(request) -> EncoderDecoder:
    found = scrambled(build(spec_for(request.param, Shape(61, 20, 2, 5, 40, hidden_dim=28)), seed=7))
    assert isinstance(found, EncoderDecoder)
    return found


def test_both_read_one_embedding_which_is_a_parameter_once(model):
    assert model.encoder.token_embedding is model.decoder.token_embedding
    names = [name for name, _ in model.named_parameters() if "token_embedding" in name]
    assert names == ["decoder.token_embedding.weight"]


def test_a_decoder_sees_all_of_the_source_and_nothing_later_of_the_target(model):
    with torch.no_grad():
        before = model(IDS, source=SOURCE).logits
        edited, other = IDS.clone(), SOURCE.clone()
        edited[:, 5], other[:, -1] = (edited[:, 5] + 1) % 61, (other[:, -1] + 1) % 61
        after, moved = model(edited, source=SOURCE).logits, model(IDS, source=other).logits
    assert torch.equal(after[:, :5], before[:, :5]) and not torch.equal(after[:, 5], before[:, 5])
    assert not torch.isclose(moved, before).all(dim=-1).any()


def test_rows_that_are_copied_and_dropped_take_their_source_along(model):
    cache, segments = KVCache.allocate(model.spec, 2, 9), torch.tensor([[1] * 7, [0] * 3 + [1] * 4])
    with torch.no_grad():
        whole = model(IDS, source=SOURCE, source_segments=segments).logits
        model(IDS[:, :4], source=SOURCE, source_segments=segments, cache=cache)
        cache.reorder([1, 0, 1])
        found = model(IDS[[1, 0, 1], 4:6], cache=cache).logits
        torch.testing.assert_close(found, whole[[1, 0, 1], 4:6], atol=1e-5, rtol=1e-5)
        cache.reorder([2])
        found = model(IDS[[1], 6:], cache=cache).logits
    torch.testing.assert_close(found, whole[[1], 6:], atol=1e-5, rtol=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients(model):
    model(IDS, source=SOURCE).logits.square().mean().backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.gradient_checkpointing = True
    model(IDS, source=SOURCE).logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


def test_what_cannot_be_read_is_refused(model):
    with pytest.raises(UsageError, match="an encoder-decoder without a source"):
        model(IDS)
    with pytest.raises(UsageError, match="a target without a source token"):
        model(IDS, source=SOURCE, source_segments=torch.zeros_like(SOURCE))
    with pytest.raises(UsageError, match="a target without a source token"):
        model(IDS, source=SOURCE, source_segments=torch.ones_like(SOURCE), segments=torch.full_like(IDS, 2))
    cache = KVCache.allocate(model.spec, 2, 9)
    model(IDS[:, :2], source=SOURCE, cache=cache)
    with pytest.raises(UsageError, match="a source behind cached tokens"):
        model(IDS[:, 2:], source=SOURCE, cache=cache)
    with pytest.raises(UsageError, match="41 tokens in a context of 40"):
        model(IDS, source=torch.zeros(2, 41, dtype=torch.long))


def test_a_new_vocabulary_is_that_of_both(model):
    kept = list(range(0, 61, 2))
    with torch.no_grad():
        expected = model(torch.tensor([[4, 8]]), source=torch.tensor([[6, 2]])).logits[..., kept]
        resize_embeddings(model, kept)
        found = model(torch.tensor([[2, 4]]), source=torch.tensor([[3, 1]])).logits
    torch.testing.assert_close(found, expected)
    assert model.spec.encoder.vocab_size == model.encoder.spec.vocab_size == model.spec.vocab_size == 31


def test_a_new_one_is_saved_with_the_end_of_text_as_first_token(byte_tokenizer, tmp_path):
    model = build(spec_for("t5", Shape(259, 20, 1, 2, 40)), seed=1)
    save(model, byte_tokenizer, tmp_path / "new")
    end = byte_tokenizer.special["<|endoftext|>"]
    assert load(tmp_path / "new")[0].spec.token_ids == TokenIds(end, (end,), end, end)
    model.spec = replace(model.spec, token_ids=TokenIds(decoder_start=7))
    save(model, byte_tokenizer, tmp_path / "told")
    assert load(tmp_path / "told")[0].spec.token_ids.decoder_start == 7


def test_a_preset_is_resized_on_both_sides():
    spec = preset("t5-small", vocab_size=300, max_seq_len=99)
    sizes = {(part.vocab_size, part.max_seq_len) for part in (spec, spec.encoder)}
    assert sizes == {(300, 99)} and spec.resized() == spec


def test_scores_that_are_not_divided_start_from_smaller_queries():
    blocks = build(spec_for("t5", Shape(300, 256, 2, 4, 40)), seed=0).decoder.blocks
    assert blocks[1].cross.key.weight.std().item() == pytest.approx(1 / 16, rel=0.03)
    assert blocks[1].cross.query.weight.std().item() == pytest.approx(1 / 16 / 8, rel=0.03)
    assert blocks[1].feed_forward.down.weight.std().item() == pytest.approx(1 / 32, rel=0.03)
