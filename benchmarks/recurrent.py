"""Measure our recurrent layers beside torch's: a forward and backward pass, back to back in one process.

    OMP_NUM_THREADS=1 python benchmarks/recurrent.py
    OMP_NUM_THREADS=1 python benchmarks/recurrent.py --cells lstm --widths 650 --lengths 35 --rows 20

Both have the same weights and read the same text in float32; outputs and gradients are compared first. They take turns,
and the smallest of some runs of each counts, in seconds of the processor, which other programs hardly change. A ratio
below 1 says that ours is faster. Torch's LSTM is oneDNN's on a processor, its RNN and GRU are its own loops.
"""

from __future__ import annotations

import argparse
import math
import time
from itertools import product

import torch
from torch import Tensor, nn

from smelt.nn.recurrent import RecurrentLayer
from smelt.nn.spec import RecurrentSpec

THEIRS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
SECONDS, LEAST_RUNS = 3.0, 5


def twins(cell: str, width: int) -> tuple[nn.Module, RecurrentLayer]:
    """Return torch's layer and ours with the same weights."""
    theirs = THEIRS[cell](width, width, batch_first=True)
    ours = RecurrentLayer(RecurrentSpec(cell, 1), width)
    with torch.no_grad():
        for target, name in ((ours.input.weight, "weight_ih"), (ours.input.bias, "bias_ih")):
            target.copy_(getattr(theirs, f"{name}_l0"))
        ours.weight.copy_(theirs.weight_hh_l0)
        ours.bias.copy_(theirs.bias_hh_l0)
    return theirs, ours


def run(layer: nn.Module, x: Tensor, gradient: Tensor) -> tuple[float, Tensor, Tensor]:
    """Return the processor's seconds of a forward and backward pass, the outputs and the gradient of x."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    started = time.process_time()
    out = layer(x)
    out = out[0] if isinstance(out, tuple) else out
    out.backward(gradient)
    return time.process_time() - started, out.detach(), x.grad


def compare(cell: str, width: int, rows: int, length: int) -> tuple[float, float]:
    """Return the smallest seconds of torch's and of ours."""
    layers = twins(cell, width)
    x, gradient = torch.randn(rows, length, width), torch.randn(rows, length, width)
    found = [run(layer, x, gradient) for layer in layers]  # which also compiles and warms up
    for theirs, ours in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    best, spent, runs = [math.inf, math.inf], 0.0, 0
    while runs < LEAST_RUNS or (spent < SECONDS and runs < 50):
        for index, layer in enumerate(layers):
            seconds, *_ = run(layer, x, gradient)
            best[index], spent = min(best[index], seconds), spent + seconds
        runs += 1
    return best[0], best[1]


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=list(THEIRS), choices=list(THEIRS))
    parser.add_argument("--widths", nargs="+", type=int, default=[128, 256, 512])
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 256])
    parser.add_argument("--rows", nargs="+", type=int, default=[8, 16])
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, float32, forward and backward\n")
    print("cell  width  length  rows   torch ms    ours ms   ratio")
    ratios: dict[str, list[float]] = {cell: [] for cell in arguments.cells}
    for cell, width, length, rows in product(arguments.cells, arguments.widths, arguments.lengths, arguments.rows):
        theirs, ours = compare(cell, width, rows, length)
        ratios[cell].append(ours / theirs)
        line = (
            f"{cell:<4} {width:6d} {length:7d} {rows:5d} {1e3 * theirs:10.2f} {1e3 * ours:10.2f} {ours / theirs:7.2f}"
        )
        print(line, flush=True)
    for cell, found in ratios.items():
        print(f"{cell}: ratio {math.exp(sum(map(math.log, found)) / len(found)):.2f} on (geometric) average")


if __name__ == "__main__":
    main()
