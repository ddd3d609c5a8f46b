"""Measure what 8-bit and 4-bit weights cost in quality: the perplexity of a text by the step that decodes.

    python benchmarks/decode_quality.py CKPT TEXT              a model, and a text that it has not seen

The text is cut into pieces of the model's context; side by side, each is read token by token by the fused step, with
weights in fp32, bf16, int8 and int4, and the log-probability of each next token is summed. Beside them stands the model
itself, whole pieces at a time. Perplexity is of a token; bits of a byte do not depend on the tokenizer.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from smelt.infer.fused import FusedDecoder
from smelt.infer.packing import Weights
from smelt.models.hub import load
from smelt.models.transformer import Transformer

PAGE = 16
ROWS = 16


def model_bits(model: Transformer, pieces: torch.Tensor) -> float:
    """Return the bits of pieces (N, T + 1), each token given those before it, by the model itself."""
    with torch.inference_mode():
        losses = [
            torch.nn.functional.cross_entropy(model(some[:, :-1]).logits.float().mT, some[:, 1:], reduction="sum")
            for some in pieces.split(ROWS)
        ]
    return sum(loss.item() for loss in losses) / math.log(2)


def fused_bits(model: Transformer, pieces: torch.Tensor, weights: Weights) -> float:
    """Return the same by the fused step."""
    length, attention = pieces.shape[1] - 1, model.spec.layers[0].attention
    pages_a_row = -(-length // PAGE)
    decoder = FusedDecoder(model, weights=weights, max_rows=ROWS)
    shape = (ROWS * pages_a_row * PAGE, attention.num_kv_heads, attention.head_dim)
    decoder.attach(*([torch.zeros(shape) for _ in model.spec.layers] for _ in range(2)), PAGE)
    total = 0.0
    for some in pieces.split(ROWS):
        pages = np.arange(len(some) * pages_a_row).reshape(len(some), -1)
        for position in range(length):
            logits = decoder.decode(some[:, position].numpy(), np.full(len(some), position), pages)
            total += torch.nn.functional.cross_entropy(logits, some[:, position + 1], reduction="sum").item()
    decoder.close()
    return total / math.log(2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokens", type=int, default=20_000, help="of the text, from its beginning")
    arguments = parser.parse_args()
    model, tokenizer = load(arguments.checkpoint)
    assert isinstance(model, Transformer), "a decoder is expected"
    model.eval()
    ids = tokenizer.encode(arguments.text.read_text(encoding="utf-8"))[: arguments.tokens]
    length = model.spec.max_seq_len + 1
    ids = ids[: len(ids) // length * length]
    pieces = torch.tensor(ids).view(-1, length)
    num_bytes, num_tokens = len(tokenizer.decode(ids).encode()), pieces.shape[0] * (length - 1)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{size / 1e6:.1f}M parameters, {num_tokens:,} tokens of {arguments.text.name}, {num_bytes:,} bytes")
    own = model_bits(model, pieces)
    for name in ("the model", *get_args(Weights)):
        bits = own if name == "the model" else fused_bits(model, pieces, name)
        print(
            f"{name:>10}: perplexity {2 ** (bits / num_tokens):8.3f}, {bits / num_bytes:.4f} bits a byte, "
            f"{(bits / own - 1) * 100:+.2f} % of the model's own bits"
        )


if __name__ == "__main__":
    main()
