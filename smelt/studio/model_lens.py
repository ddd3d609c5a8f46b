"""The model lens: a model's architecture, who reads whom in it, what each layer would say, and which tokens are near.

Attention's weights are made anew from the queries and keys of one layer (`nn.observe`); a layer's own opinion is what
the final norm and the head make of the stream behind it, so that of the last layer is the model's. All is of the model
that the pool holds, but for the architecture, which is read from the files.

Ref: interpreting GPT: the logit lens (2020), lesswrong.com/posts/AcKRB8wDpdaN6v6ru.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from pydantic import Field
from torch import Tensor

from smelt.infer import Engine
from smelt.nn.attention import Attention
from smelt.nn.block import Block
from smelt.nn.observe import watched
from smelt.serve.errors import ApiError, invalid
from smelt.serve.prepare import check_ids
from smelt.studio.anatomy import anatomy
from smelt.studio.context import Request, Response, Routes, Studio, query, read, reply
from smelt.studio.lens import Text, computed, packed, reading, spelled
from smelt.studio.tokens import project

MOST_TOKENS = 256
TOP, NEAREST = 5, 24
BINS = 41
Json = dict[str, Any]


class OfLayer(Text):
    """A text, and the layer whose attention is wanted, 0 for the first."""

    layer: int = Field(ge=0)


def routes(studio: Studio) -> Routes:
    """Return the routes of the page."""

    async def parts(request: Request) -> Response:
        path = query(request, "model").partition("@")[0]
        return reply(await studio.aside(lambda: anatomy(studio.workspace.find(path))))

    async def attention(request: Request) -> Response:
        given = await read(request, OfLayer)
        found = await reading(studio, given, MOST_TOKENS)
        told = await found.compute(lambda engine, ids: attention_in(engine, ids, given.layer))
        return reply({**found.told(), **told})

    async def layers(request: Request) -> Response:
        found = await reading(studio, await read(request, Text), MOST_TOKENS)
        told = await found.compute(opinions)
        ids = [token for layer in told for place in layer for token, _ in place]
        return reply({**found.told(), "layers": told, "spelled": spelled(found.served.tokenizer, ids)})

    async def neighbours(request: Request) -> Response:
        engine = await studio.pool.get(query(request, "model"))
        served, text, number = engine.served, query(request, "text"), query(request, "id", 12)
        ids = [whole_number(number, "id")] if number else await studio.aside(lambda: served.tokenizer.encode(text))
        if not ids:
            raise invalid("the text is empty", "text")
        check_ids(served, ids, "id")
        near = await computed(engine, lambda engine: nearest(engine, ids[0]))
        shown = spelled(served.tokenizer, [*ids, *(token for token, _ in near)])
        return reply({"ids": ids, "near": near, "spelled": shown})

    async def head(request: Request) -> Response:
        layer, number = (whole_number(query(request, name, 12), name) for name in ("layer", "head"))
        engine = await studio.pool.get(query(request, "model"))
        return reply(await computed(engine, lambda engine: head_of(engine, layer, number)))

    return {
        "GET /lens/anatomy": parts,
        "POST /lens/attention": attention,
        "POST /lens/layers": layers,
        "GET /lens/neighbours": neighbours,
        "GET /lens/head": head,
    }


def whole_number(text: str, name: str) -> int:
    """Return the number that a word of the address is; raises ApiError for another word."""
    if not (text.isascii() and text.isdecimal()):
        raise ApiError(400, f"{name}: {text[:32]!r} is no whole number, 0 or more", param=name)
    return int(text)


def block_at(engine: Engine, layer: int) -> Block:
    """Return the block of a layer; raises ApiError for a layer that there is not."""
    spec = engine.model.spec
    if layer >= spec.num_layers:
        raise invalid(f"layer: {layer}; this model has layers 0 to {spec.num_layers - 1}", "layer")
    return cast("Block", engine.model.blocks[0 if spec.shared_layers else layer])


def attention_in(engine: Engine, ids: Tensor, layer: int) -> Json:
    """Return the weights of a layer's attention over some tokens (1, T): (H, T, T), packed."""
    attention = block_at(engine, layer).attention
    with watched(attention) as noted:
        engine.model(ids, project=False)
    weights = noted[layer if engine.model.spec.shared_layers else 0][0]
    spec = attention.spec
    return {
        "layer": layer,
        "layers": engine.model.spec.num_layers,
        "heads": spec.num_heads,
        "kv_heads": spec.num_kv_heads,
        "window": spec.window,
        "sinks": spec.sinks,
        "weights": packed(weights),
    }


def opinions(engine: Engine, ids: Tensor) -> list[list[list[tuple[int, float]]]]:
    """Return, for each layer and place, the likeliest next tokens with their probabilities."""
    model = engine.model
    found = []
    for state in model(ids, project=False, keep_states=True).states:
        probabilities = project(engine, model.norm(state[0])).softmax(dim=-1)  # (T, V)
        best, top = probabilities.topk(min(TOP, probabilities.shape[1]), dim=-1)
        rows = zip(top.tolist(), best.tolist(), strict=True)
        found.append([list(zip(*row, strict=True)) for row in rows])
    return found


def nearest(engine: Engine, token: int) -> list[tuple[int, float]]:
    """Return the tokens whose embeddings point most nearly where a token's does, and the cosines, without itself."""
    table = engine.model.token_embedding.weight[: engine.vocab_size].float()
    cosines = torch.nn.functional.cosine_similarity(table, table[token : token + 1])
    cosines[token] = -2
    best, near = cosines.topk(min(NEAREST, len(cosines) - 1))
    return list(zip(near.tolist(), best.tolist(), strict=True))


def head_of(engine: Engine, layer: int, head: int) -> Json:
    """Return the weights of one head: of each of its four matrices the shape and how its numbers are spread."""
    attention = block_at(engine, layer).attention
    if not isinstance(attention, Attention):
        raise invalid("the heads of this model share a latent: none has keys and values of its own", "model")
    spec = attention.spec
    if head >= spec.num_heads:
        raise invalid(f"head: {head}; this layer has heads 0 to {spec.num_heads - 1}", "head")
    own, shared = (
        slice(place * spec.head_dim, (place + 1) * spec.head_dim)
        for place in (head, head * spec.num_kv_heads // spec.num_heads)
    )
    matrices = {
        "query": attention.query.weight[own],
        "key": attention.key.weight[shared],
        "value": attention.value.weight[shared],
        "output": attention.output.weight[:, own],
    }
    return {"matrices": [{"name": name, **spread(matrix)} for name, matrix in matrices.items()]}


def spread(matrix: Tensor) -> Json:
    """Describe the numbers of a matrix; the histogram's bins are equally wide, from the least to the largest."""
    numbers = matrix.float().flatten()
    low, high = float(numbers.min()), float(numbers.max())
    return {
        "shape": list(matrix.shape),
        "mean": float(numbers.mean()),
        "deviation": float(numbers.std()),
        "low": low,
        "high": high,
        "norm": float(numbers.norm()),
        "histogram": torch.histc(numbers.cpu(), BINS, low, high).long().tolist(),
    }
