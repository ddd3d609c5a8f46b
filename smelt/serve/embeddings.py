"""Texts become vectors over HTTP: what /v1/embeddings reads and writes.

A text has the ids that it would have as the prompt of a completion, so a caller that sends those ids gets the same
vector. Fewer `dimensions` are the first ones, scaled to length 1 again. OpenAI's client asks for base64: the numbers'
bytes, fp32, the lowest byte first, which are a third of their digits.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from smelt.serve.errors import invalid
from smelt.serve.prepare import Served, beginning, check_ids, check_model
from smelt.serve.protocol import EmbeddingRequest


def texts_of(served: Served, request: EmbeddingRequest) -> list[tuple[int, ...]]:
    """Return the ids of each text; raises ApiError for what the model cannot read or give."""
    check_model(served, request.model)
    if request.dimensions is not None and request.dimensions > served.dim:
        raise invalid(f"dimensions: {request.dimensions}; this model's vectors have {served.dim}", "dimensions")
    texts = []
    for place, text in enumerate(request.input):
        ids = tuple(beginning(served, text)) if isinstance(text, str) else text
        check_ids(served, ids, "input")
        if not ids:
            raise invalid(f"input: text {place} is empty", "input")
        if len(ids) > served.max_seq_len:
            raise invalid(
                f"text {place} has {len(ids)} tokens and the context of this model {served.max_seq_len}",
                "input",
                "context_length_exceeded",
            )
        texts.append(ids)
    return texts


def embeddings(
    served: Served, request: EmbeddingRequest, texts: Sequence[Sequence[int]], vectors: Sequence[Tensor]
) -> dict[str, Any]:
    """Return the response: one vector (D,) a text, in order."""
    num_tokens = sum(map(len, texts))
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": place, "embedding": written(vector, request)}
            for place, vector in enumerate(vectors)
        ],
        "model": request.model,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }


def written(vector: Tensor, request: EmbeddingRequest) -> str | list[float]:
    """Return a vector in the form and with the dimensions that are asked for."""
    if request.dimensions is not None:
        vector = functional.normalize(vector[: request.dimensions], dim=-1)
    numbers = vector.numpy().astype(np.dtype("<f4"))
    return base64.b64encode(numbers.tobytes()).decode() if request.encoding_format == "base64" else numbers.tolist()
