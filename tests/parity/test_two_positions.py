"""The first ChatGLM against its description, written here once more, text by text and head by head, over its own files.

Its code is not part of a library that we could ask. The description: a context up to the token that begins the answer,
read both ways; two positions a token, of which each turns half of a head; query, key and value of a head side by side;
a residual that is the normed stream times sqrt(2 L). Ref: GLM, arXiv:2103.10360; GLM-130B, arXiv:2210.02414.
"""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from smelt.core.errors import CheckpointError
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load_model, save_model
from smelt.nn.cache import KVCache

MASK, BLANK, BEGIN = 58, 59, 60


def turned(heads: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Turn (T, H, C) whose pairs are (i, i + C / 2)."""
    size = heads.shape[-1]
    angles = torch.outer(positions.float(), 10_000.0 ** -(torch.arange(0, size, 2) / size))
    angles = torch.cat((angles, angles), dim=-1)[:, None]
    first, second = heads.chunk(2, dim=-1)
    return heads * angles.cos() + torch.cat((-second, first), dim=-1) * angles.sin()


def described(directory: Path, text: list[int]) -> torch.Tensor:
    """Compute the logits (T, V) of one text."""
    config, weights = json.loads((directory / "config.json").read_text()), load_file(directory / "model.safetensors")
    length, eps, dim = len(text), config["layernorm_epsilon"], config["hidden_size"]
    context = text.index(config["bos_token_id"])
    blank_id = config["gmask_token_id"] if config["gmask_token_id"] in text else config["mask_token_id"]
    place = torch.arange(length)
    place[context:] = text.index(blank_id)
    block = torch.cat((torch.zeros(context), torch.arange(1, length - context + 1)))
    hidden = torch.ones(length, length).tril() == 0
    hidden[:, :context] = False

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, (dim,), weights[name + ".weight"], weights[name + ".bias"], eps)

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ weights[name + ".weight"].T + weights[name + ".bias"]

    x, alpha = weights["transformer.word_embeddings.weight"][text], math.sqrt(2 * config["num_layers"])
    for layer in (f"transformer.layers.{index}." for index in range(config["num_layers"])):
        normed = norm(layer + "input_layernorm", x)
        fused = linear(layer + "attention.query_key_value", normed).view(length, config["num_attention_heads"], -1)
        query, key, value = fused.chunk(3, dim=-1)
        query, key = (
            torch.cat(
                [turned(half, at) for half, at in zip(part.chunk(2, dim=-1), (place, block), strict=True)], dim=-1
            )
            for part in (query, key)
        )
        heads = []
        for head in range(config["num_attention_heads"]):
            scores = query[:, head] @ key[:, head].T / math.sqrt(query.shape[-1])
            heads.append(scores.masked_fill(hidden, -math.inf).softmax(dim=-1) @ value[:, head])
        x = normed * alpha + linear(layer + "attention.dense", torch.cat(heads, dim=-1))
        normed = norm(layer + "post_attention_layernorm", x)
        up = linear(layer + "mlp.dense_h_to_4h", normed)
        active = 0.5 * up * (1 + torch.tanh(0.7978845608028654 * up * (1 + 0.044715 * up * up)))
        x = normed * alpha + linear(layer + "mlp.dense_4h_to_h", active)
    return norm("transformer.final_layernorm", x) @ weights["transformer.word_embeddings.weight"].T


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = build(spec_for("chatglm6b", Shape(61, 24, 3, 2, 40, hidden_dim=35)), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    save_model(model, tmp_path)
    return tmp_path


def texts() -> list[list[int]]:
    ids = torch.randint(0, 58, (3, 20), generator=torch.Generator().manual_seed(3)).tolist()
    return [
        [*ids[0][:9], BLANK, BEGIN, *ids[0][9:17]],  # written behind the context
        [*ids[1][:4], MASK, *ids[1][4:8], BEGIN, *ids[1][8:14]],  # filled in within it
        [*ids[2][:3], MASK, ids[2][3], BLANK, *ids[2][4:6], BLANK, BEGIN, ids[2][6]],
    ]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("text", texts(), ids=["behind", "within", "both"])
def test_logits_equal_the_description(saved, text):
    close(load_model(saved)(torch.tensor([text])).logits[0], described(saved, text))


@pytest.mark.parametrize("text", texts(), ids=["behind", "within", "both"])
def test_an_answer_behind_a_cache_equals_the_whole_text(saved, text):
    model, ids = load_model(saved), torch.tensor([text])
    cache, start = KVCache.allocate(model.spec, 1, len(text)), text.index(BEGIN) + 1
    pieces = [model(piece, cache=cache).logits for piece in (ids[:, :start], *ids[:, start:].split(3, dim=1))]
    close(torch.cat(pieces, dim=1)[0], described(saved, text))


def test_packed_and_padded_texts_equal_single_ones(saved):
    model, each = load_model(saved), texts()
    packed = torch.tensor([[*each[0], *each[2], 0, 0]])
    segments = torch.tensor([[1] * len(each[0]) + [2] * len(each[2]) + [0, 0]])
    logits = model(packed, segments=segments).logits[0]
    close(logits[: len(each[0])], described(saved, each[0]))
    close(logits[len(each[0]) : -2], described(saved, each[2]))
    rows, width = (each[1], each[0]), len(each[0])
    padded = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    filled = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    cache = KVCache.allocate(model.spec, 2, width)
    model(padded[:, :-3], segments=filled[:, :-3], cache=cache)
    cache.reorder([1, 0])
    last = model(padded[[1, 0], -3:], cache=cache).logits
    close(last[1], described(saved, each[1])[-3:])
    close(last[0], described(saved, each[0])[-3:])


def test_text_without_a_beginning_is_written_from_left_to_right(saved):
    model, ids = load_model(saved), torch.arange(12)[None]
    changed = ids.clone()
    changed[0, 7] = 50
    one, other = model(ids).logits, model(changed).logits
    close(one[:, :7], other[:, :7])
    assert not torch.allclose(one[:, 7:], other[:, 7:])
    with_context = torch.tensor([[BEGIN, *range(12)]])  # an empty context: the beginning is the first of the answer
    close(model(with_context).logits[0], model(with_context, order=torch.arange(13)[None]).logits[0])


def test_its_configuration_is_told_from_later_ones_and_its_code_never_run(saved):
    path = saved / "config.json"
    config = json.loads(path.read_text())
    assert config["model_type"] == "chatglm"
    code = {"AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration"}
    path.write_text(json.dumps({**config, "auto_map": code}))
    assert load_model(saved).spec.family == "chatglm6b"
    path.write_text(json.dumps({**config, "position_encoding_2d": False}))
    with pytest.raises(CheckpointError, match="position_encoding_2d = False is not supported\naccepted: True"):
        load_model(saved)
    path.write_text(json.dumps({name: value for name, value in config.items() if name != "gmask_token_id"}))
    with pytest.raises(CheckpointError, match="gmask_token_id = None\naccepted: the id of a token"):
        load_model(saved)
