"""Measure what happens beyond the trained context: rotary positions under each rule, and linear biases.

    python benchmarks/long_context.py --text books/ --plot docs/long-context.png

Two small models read bytes of books in rows of 64: one with rotary positions, one with linear biases of distances. Both
are then scored on rows of 64, 128 and 256 bytes of a book they never saw, without further training; the rotary one also
under the rules for four times the context. Rows of all lengths end at the same places, and the last 32 bytes of each
are scored: the same bytes, with more before them. Who can use more context becomes better, who stumbles over distances
never seen becomes worse. A few minutes on one thread.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from smelt.models.build import blank, build
from smelt.models.encoder_decoder import Network
from smelt.models.families import Shape, spec_for
from smelt.nn.scaling import BaseScaling, LinearScaling, RampScaling, RotaryScaling
from smelt.nn.spec import ModelSpec, RotarySpec

CONTEXT, FACTOR, SCORED = 64, 4, 32
LENGTHS = (64, 96, 128, 192, 256)
ROWS, NUM_LAYERS, DIM, NUM_HEADS = 32, 2, 96, 4
RULES: dict[str, RotaryScaling | None] = {
    "rotary": None,
    "rotary, linear": LinearScaling(FACTOR),
    "rotary, larger base": BaseScaling(FACTOR),
    "rotary, YaRN": RampScaling(FACTOR, CONTEXT),
}


def make_spec(*, alibi: bool, scaling: RotaryScaling | None = None) -> ModelSpec:
    """Return the spec of one of the models."""
    spec = spec_for("llama", Shape(256, DIM, NUM_LAYERS, NUM_HEADS, CONTEXT * FACTOR, tied=True))
    rotary = None if alibi else RotarySpec(DIM // NUM_HEADS, scaling=scaling)
    layer = replace(spec.layers[0], attention=replace(spec.layers[0].attention, rotary=rotary, alibi=alibi))
    return replace(spec, layers=(layer,) * NUM_LAYERS)


def read_books(folder: Path) -> tuple[Tensor, Tensor]:
    """Return bytes to train on and bytes of the last book."""
    paths = sorted(folder.glob("*.md"))
    if len(paths) < 2:
        sys.exit(f"{folder}: at least two books (*.md) are needed, found {len(paths)}")
    texts = [torch.from_numpy(np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()) for path in paths]
    return torch.cat(texts[:-1]), texts[-1]


def train(spec: ModelSpec, text: Tensor, steps: int, seed: int) -> Network:
    """Train on random rows of the trained context."""
    model, generator = build(spec, seed=seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        starts = torch.randint(len(text) - CONTEXT - 1, (ROWS, 1), generator=generator)
        rows = text[starts + torch.arange(CONTEXT + 1)].long()
        loss = functional.cross_entropy(model(rows[:, :-1]).logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


@torch.no_grad()
def perplexity(model: Network, spec: ModelSpec, text: Tensor, length: int) -> float:
    """Score the same last bytes of rows of a length, under another spec of the same weights."""
    other = blank(spec)
    other.load_state_dict(model.state_dict())
    ends = torch.arange(CONTEXT * FACTOR + 1, len(text), 499)[:512]
    losses = []
    for some in ends.split(64):
        rows = text[some[:, None] - length - 1 + torch.arange(length + 1)].long()
        logits = other(rows[:, :-1]).logits[:, -SCORED:]
        losses.append(functional.cross_entropy(logits.flatten(0, 1), rows[:, -SCORED:].flatten()))
    return math.exp(torch.stack(losses).mean().item())


def plot(found: dict[str, list[float]], path: Path) -> None:
    """Draw perplexity by length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, values in found.items():
        axes.plot(LENGTHS, values, marker="o", label=name)
    axes.axvline(CONTEXT, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel=f"bytes in a row (trained on {CONTEXT})", ylabel="perplexity of the last bytes", xticks=LENGTHS)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, score, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="a folder of books, *.md")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text, unseen = read_books(arguments.text)
    found: dict[str, list[list[float]]] = {}
    for seed in range(arguments.seeds):
        for alibi in (False, True):
            model = train(make_spec(alibi=alibi), text, arguments.steps, seed)
            rules = {"linear bias": None} if alibi else RULES
            for name, scaling in rules.items():
                spec = make_spec(alibi=alibi, scaling=scaling)
                found.setdefault(name, []).append([perplexity(model, spec, unseen, length) for length in LENGTHS])
    means = {name: [sum(column) / len(column) for column in zip(*runs, strict=True)] for name, runs in found.items()}
    print(f"{'bytes in a row':22}" + "".join(f"{length:>9}" for length in LENGTHS))
    for name, values in means.items():
        spread = max(max(column) - min(column) for column in zip(*found[name], strict=True))
        print(f"{name:22}" + "".join(f"{value:9.2f}" for value in values) + f"   seeds differ by up to {spread:.2f}")
    if arguments.plot is not None:
        plot(means, arguments.plot)


if __name__ == "__main__":
    main()
