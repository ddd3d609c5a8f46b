"""Our encoder-decoders against transformers, both ways: tiny random checkpoints of odd sizes give the same numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from smelt.core.errors import CheckpointError
from smelt.infer import Sampling, generate
from smelt.models.build import build, count_parameters
from smelt.models.encoder_decoder import EncoderDecoder
from smelt.models.families import PRESETS, Shape, spec_for
from smelt.models.hub import load_model, save_model
from smelt.nn.cache import KVCache
from smelt.nn.spec import TokenIds

from .test_generate import Numbers
from .test_models import draw_ids, scrambled, warnings_of_transformers

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.interop
__all__ = ["warnings_of_transformers"]

IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 3, "dtype": "float32"}
T5 = IDS | {
    "vocab_size": 67,
    "d_model": 30,
    "d_kv": 7,
    "d_ff": 44,
    "num_layers": 3,
    "num_decoder_layers": 2,  # their cache has as many layers as the encoder, and fails on a longer decoder
    "num_heads": 5,
    "relative_attention_num_buckets": 12,
    "relative_attention_max_distance": 14,
    "initializer_factor": 0.2,
}
MARIAN = IDS | {
    "vocab_size": 67,
    "d_model": 30,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 5,
    "decoder_attention_heads": 5,
    "encoder_ffn_dim": 44,
    "decoder_ffn_dim": 44,
    "max_position_embeddings": 48,
}
THEIRS: dict[str, Any] = {
    "t5": lambda: transformers.T5Config(**T5),
    "t5-gated": lambda: transformers.T5Config(**T5, feed_forward_proj="gated-gelu"),
    "t5-unscaled": lambda: transformers.T5Config(**T5, tie_word_embeddings=False),
    "t5-untied": lambda: transformers.T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "mt5": lambda: transformers.MT5Config(**T5),
    "mt5-untied": lambda: transformers.MT5Config(**T5),
    "marian": lambda: transformers.MarianConfig(**MARIAN, scale_embedding=True, activation_function="relu"),
    "marian-swish": lambda: transformers.MarianConfig(**MARIAN, activation_function="swish"),
}
"""Names, and their configurations; a head is cut loose where the name says so, for they tie all they make."""
CLASSES = {
    "t5": "T5ForConditionalGeneration",
    "mt5": "MT5ForConditionalGeneration",
    "marian": "MarianMTModel",
    "transformer2017": "MarianMTModel",
}
OURS = {
    "t5": Shape(67, 30, 2, 5, 48, hidden_dim=44),
    "t5-untied": Shape(67, 30, 2, 5, 48, hidden_dim=44, tied=False),
    "mt5": Shape(67, 30, 2, 5, 48, hidden_dim=44),
    "mt5-tied": Shape(67, 30, 2, 5, 48, hidden_dim=44, tied=True),
    "transformer2017": Shape(67, 30, 2, 5, 48, hidden_dim=44),
}


def class_for(name: str) -> Any:
    return getattr(transformers, CLASSES[name.split("-")[0]])


@torch.no_grad()
def saved_by_transformers(name: str, seed: int, directory: Path) -> torch.nn.Module:
    model = class_for(name)(THEIRS[name]())
    if name.endswith("untied"):
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
        del model.all_tied_weights_keys["lm_head.weight"]
    scrambled(model, seed)
    if name.startswith("marian"):
        for network in (model.model.encoder, model.model.decoder):
            network.embed_positions.weight.copy_(network.embed_positions.create_weight())  # frozen, and never saved
        model.final_logits_bias += torch.randn(67, generator=torch.Generator().manual_seed(seed))
    model.save_pretrained(directory)
    if name.endswith("untied"):  # as published files say it; theirs writes that they are tied
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": False}))
    return model


def ours(name: str, seed: int = 3) -> EncoderDecoder:
    model = scrambled(build(spec_for(name.split("-")[0], OURS[name]), seed=seed), seed)
    assert isinstance(model, EncoderDecoder)
    with torch.no_grad():
        model.head_weight.mul_(0.2)  # logits of a size that fp32 can tell apart
    return model


def batch(seed: int, *, side: str = "right") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw source ids (3, 19), the mask of those that are there, and target ids (3, 17)."""
    source, mask = draw_ids(seed, 3, 19), torch.ones(3, 19, dtype=torch.long)
    mask[1, 11:], mask[2, 1:] = 0, 0
    return source, mask if side == "right" else mask.flip(1), draw_ids(seed + 50, 3, 17)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", sorted(THEIRS))
def test_their_checkpoint_gives_the_same_logits_here(name, seed, side, tmp_path):
    theirs = saved_by_transformers(name, seed, tmp_path)
    model, (source, mask, target) = load_model(tmp_path), batch(seed, side=side)
    if side == "left" and name.startswith("marian"):
        mask = torch.ones_like(mask)  # theirs counts positions from the padding on
    with torch.no_grad():
        found = model(target, source=source, source_segments=mask).logits
        expected = theirs(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert model.spec.token_ids == TokenIds(1, (2,), 0, 3)


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_loss_and_gradients_equal_theirs(name, tmp_path):
    theirs = saved_by_transformers(name, 0, tmp_path)
    model, (source, mask, labels) = load_model(tmp_path), batch(0)
    their_loss = theirs(input_ids=source, attention_mask=mask, labels=labels).loss
    start = torch.full((3, 1), 3)
    logits = model(torch.cat((start, labels[:, :-1]), dim=1), source=source, source_segments=mask).logits
    our_loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(our_loss, their_loss, atol=1e-5, rtol=1e-5)
    their_loss.backward()
    our_loss.backward()
    pairs = [(model.decoder.token_embedding.weight, theirs.get_input_embeddings().weight)]
    if name.startswith(("t5", "mt5")):
        for one, other in ((model.encoder, theirs.encoder), (model.decoder, theirs.decoder)):
            table = other.block[0].layer[0].SelfAttention.relative_attention_bias
            pairs.append((one.relative_bias.weight, table.weight))
        cross = theirs.decoder.block[1].layer[1].EncDecAttention
        pairs.append((model.decoder.blocks[1].cross.key.weight, cross.k.weight))
    else:
        pairs.append(
            (model.decoder.blocks[1].cross.key.weight, theirs.model.decoder.layers[1].encoder_attn.k_proj.weight)
        )
    for one, other in pairs:
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_checkpoint_loads_there_without_a_word_and_speaks_the_same(name, tmp_path, warnings_of_transformers):
    model, (source, mask, target) = ours(name), batch(5)
    save_model(model, tmp_path, token_ids=TokenIds(None, (1, 2), 0, 3))
    theirs, report = class_for(name).from_pretrained(tmp_path, output_loading_info=True)
    assert {key: set(value) for key, value in report.items() if value} == {}
    if model.spec.tied:
        assert warnings_of_transformers == []
    else:  # they tie every T5, and say so where a file, as those of v1.1, has two matrices
        assert ["we will NOT tie them" in line for line in warnings_of_transformers] == [True]
    assert type(theirs).__name__ == theirs.config.architectures[0]
    assert (theirs.generation_config.eos_token_id, theirs.generation_config.decoder_start_token_id) == ([1, 2], 3)
    with torch.no_grad():
        found = model(target, source=source, source_segments=mask).logits
        expected = theirs(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("name", sorted(THEIRS))
def test_text_is_identical(name, num_beams, tmp_path):
    theirs = saved_by_transformers(name, 1, tmp_path)
    model, sources = load_model(tmp_path), [draw_ids(seed, 3 + 5 * seed).tolist() for seed in range(3)]
    sampling = Sampling(max_new_tokens=20, temperature=0, num_beams=num_beams)
    found = generate(model, Numbers67(), sources, sampling, stop_ids=(2, 9))
    settings = {"max_new_tokens": 20, "do_sample": False, "num_beams": num_beams, "eos_token_id": [2, 9]}
    settings |= {"forced_eos_token_id": None, "pad_token_id": 0}
    for source, answer in zip(sources, found, strict=True):
        ids = torch.tensor([source])
        expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, 1:].tolist()
        assert list(answer.ids) == expected[: len(answer.ids)]
        assert len(answer.ids) == len(expected) or set(expected[len(answer.ids) :]) == {0}


class Numbers67(Numbers):
    """A tokenizer of which only the sizes matter."""

    vocab_size = 67


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_file_after_a_round_trip_there_holds_the_same_tensors(name, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    model = ours(name)
    save_model(model, one)
    class_for(name).from_pretrained(one).save_pretrained(two)
    if not model.spec.tied:
        with pytest.raises(CheckpointError, match=r"lm_head\.weight differs .* but config\.json ties"):
            load_model(two)
        path = two / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": False}))
    again = load_model(two)
    assert again.spec.layers == model.spec.layers
    theirs = dict(again.named_parameters())
    assert all(torch.equal(theirs[key], parameter) for key, parameter in model.named_parameters())


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_cached_equals_uncached(name, tmp_path):
    saved_by_transformers(name, 1, tmp_path)
    model, (source, mask, target) = load_model(tmp_path), batch(1)
    cache, found = KVCache.allocate(model.spec, 3, 17), []
    with torch.no_grad():
        for piece in target.split([6, 1, 1, 7, 2], dim=1):
            given = {} if found else {"source": source, "source_segments": mask}
            found.append(model(piece, cache=cache, **given).logits)
        whole = model(target, source=source, source_segments=mask).logits
    torch.testing.assert_close(torch.cat(found, dim=1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_padded_and_packed_pairs_equal_each_alone(name, tmp_path):
    saved_by_transformers(name, 1, tmp_path)
    model = load_model(tmp_path)
    pairs = [(draw_ids(seed, 1, 3 + 2 * seed), draw_ids(9 - seed, 1, 6 - seed)) for seed in range(3)]
    with torch.no_grad():
        alone = [model(target, source=source).logits for source, target in pairs]
        for before, after in ((4, 0), (0, 5), (2, 2)):
            for (source, target), expected in zip(pairs, alone, strict=True):
                padded = torch.nn.functional.pad(source, (before, after), value=11)
                segments = torch.nn.functional.pad(torch.ones_like(source), (before, after))
                found = model(target, source=padded, source_segments=segments).logits
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        packed = [
            torch.cat(
                [part if kind == "ids" else torch.full_like(part, number + 1) for number, part in enumerate(side)], 1
            )
            for side in zip(*pairs, strict=True)
            for kind in ("ids", "segments")
        ]
        source, source_segments, target, segments = (torch.nn.functional.pad(part, (0, 3)) for part in packed)
        found = model(target, source=source, source_segments=source_segments, segments=segments).logits
    torch.testing.assert_close(found[:, :-3], torch.cat(alone, dim=1), atol=1e-5, rtol=1e-5)
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_saving_what_was_loaded_gives_the_same_bytes(name, tmp_path):
    saved_by_transformers(name, 0, tmp_path)
    folders = [tmp_path / "one", tmp_path / "two"]
    for source, target in zip([tmp_path, folders[0]], folders, strict=True):
        target.mkdir()
        save_model(load_model(source), target)
    for file in ("model.safetensors", "config.json"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


@pytest.mark.parametrize(
    "name", ["t5-small", "t5-base", "t5-large", "t5-3b", "t5-v1.1-base", "mt5-small", "t5-pegasus-base"]
)
def test_presets_have_as_many_parameters_as_theirs(name):
    spec = PRESETS[name]
    layer = spec.layers[0]
    kind = "T5" if spec.family == "t5" else "MT5"
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=spec.vocab_size,
        d_model=spec.dim,
        d_kv=layer.attention.head_dim,
        d_ff=layer.dense.hidden_dim,
        num_layers=len(spec.layers),
        num_heads=layer.attention.num_heads,
        feed_forward_proj="relu" if layer.dense.activation == "relu" else "gated-gelu",
    )
    with torch.device("meta"):
        theirs = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    their_head = 0 if spec.tied else spec.vocab_size * spec.dim  # they tie every one
    assert count_parameters(spec) == theirs.num_parameters() + their_head
