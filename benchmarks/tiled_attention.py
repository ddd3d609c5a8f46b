"""Measure attention by tiles beside torch's fused kernel and the plain products: peak memory and seconds by length.

    python benchmarks/tiled_attention.py                        1k to 32k tokens, fp32
    python benchmarks/tiled_attention.py --up-to 4096 --tile 256 --window 1024 --dtype bfloat16

Each figure is made in a process of its own, so that its peak (VmHWM of /proc/self/status, less what it was before) is
that of one function at one length: no larger one came before it. A short row warms the libraries up first. Seconds are
the smallest of a few runs, and the functions take turns at each length. Memory of the backward pass counts the three
gradients; that it is linear in length shows in the last column, memory a token. The products keep (T, S) and stop at
4k. A window is only ours: the fused kernel would need a (T, S) mask.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from smelt.nn.attention import attend_products
from smelt.nn.masks import Rules
from smelt.nn.tiled import TILE, attend_tiled

LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768)
NUM_HEADS, NUM_KV_HEADS, HEAD_DIM = 4, 2, 64
PRODUCTS_UP_TO = 4096
WARM_LENGTH = 128
SECONDS, MOST_RUNS = 2.0, 5  # a measurement is repeated within so many seconds, and at most so often


def fused(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend with torch's kernel."""
    return functional.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True)


def tiled(queries: Tensor, keys: Tensor, values: Tensor, tile: int, window: int | None) -> Tensor:
    """Attend by tiles."""
    rules = Rules(queries.shape[2], keys.shape[2], window=window)
    return attend_tiled(queries, keys, values, rules, tile=tile)


def functions(arguments: argparse.Namespace) -> dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """Return what is measured, by name."""
    ours = partial(tiled, tile=arguments.tile, window=arguments.window)
    return {"tiled": ours, "torch": fused, "products": attend_products}


def drawn(length: int, dtype: torch.dtype, gradients: bool) -> list[Tensor]:
    """Return queries, keys and values of one row."""
    heads = (NUM_HEADS, NUM_KV_HEADS, NUM_KV_HEADS)
    return [torch.randn(1, num, length, HEAD_DIM, dtype=dtype).requires_grad_(gradients) for num in heads]


def peak_bytes() -> int:
    """Return the most memory that this process has held at once."""
    # Not getrusage: a new process begins with the peak of the one that started it.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def measure(arguments: argparse.Namespace) -> None:
    """Print the seconds and the extra peak bytes of one function at one length, as JSON."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    function, dtype, backward = (
        functions(arguments)[arguments.name],
        getattr(torch, arguments.dtype),
        arguments.backward,
    )

    def once(inputs: list[Tensor]) -> float:
        started = time.perf_counter()
        out = function(*inputs)
        if backward:
            torch.autograd.grad(out, inputs, torch.ones_like(out))
        return time.perf_counter() - started

    once(drawn(WARM_LENGTH, dtype, backward))
    inputs = drawn(arguments.length, dtype, backward)
    before = peak_bytes()
    seconds = [once(inputs)]
    extra = peak_bytes() - before  # of one call: what the allocator keeps of it is no need of the next
    while len(seconds) < MOST_RUNS and sum(seconds) < SECONDS:
        seconds.append(once(inputs))
    print(json.dumps([min(seconds), extra]))


def child(name: str, length: int, backward: bool, arguments: argparse.Namespace) -> tuple[float, float]:
    """Measure in a new process: seconds and extra megabytes."""
    words = [sys.executable, __file__, "--name", name, "--length", str(length)]
    words += ["--tile", str(arguments.tile), "--threads", str(arguments.threads), "--dtype", arguments.dtype]
    words += ["--window", str(arguments.window)] if arguments.window is not None else []
    words += ["--backward"] if backward else []
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{name} at {length} tokens failed:\n{done.stderr[-2000:]}")
    seconds, extra = json.loads(done.stdout)
    return seconds, extra / 1e6


def compare(arguments: argparse.Namespace) -> None:
    """Print a line for each length and function."""
    print(f"heads {NUM_HEADS}, kv heads {NUM_KV_HEADS}, head size {HEAD_DIM}, {arguments.dtype}, ", end="")
    print(f"tile {arguments.tile}, window {arguments.window} (tiled only), threads {arguments.threads}")
    print(f"{'tokens':>6} {'':10} {'forward':>20} {'forward + backward':>26} {'a token':>11}")
    for length in (length for length in LENGTHS if length <= arguments.up_to):
        for name in functions(arguments):
            if name == "products" and length > PRODUCTS_UP_TO:
                continue
            seconds, extra = child(name, length, False, arguments)
            both_seconds, both_extra = child(name, length, True, arguments)
            each = both_extra * 1000 / length
            print(f"{length:6} {name:10} {seconds:8.3f} s {extra:7.1f} MB ", end="")
            print(f"{both_seconds:13.3f} s {both_extra:7.1f} MB {each:8.1f} kB")
            sys.stdout.flush()


def main() -> None:
    """Compare, or measure one in a child process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--up-to", type=int, default=LENGTHS[-1], help="longest row, in tokens")
    parser.add_argument("--tile", type=int, default=TILE)
    parser.add_argument("--window", type=int)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float64"), default="float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--name", choices=("tiled", "torch", "products"), help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--backward", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    compare(arguments) if arguments.name is None else measure(arguments)


if __name__ == "__main__":
    main()
