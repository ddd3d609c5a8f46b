"""Feed damaged tokenizer files to every loader: each must load or give one clear error, soon, in bounded memory.

    python benchmarks/fuzz_loaders.py --minutes 30 --loader json

Files are made of a small trained vocabulary, then damaged: bytes flipped, cut out, doubled or swapped for those that
formats choke on, the end cut off; JSON also by its values (other types, huge and negative numbers, cycles of
references). A file that a loader accepts must encode and decode. Any exception but TokenizerError, more than a second,
an allocation above four times the file's size, or more memory in all than Python's objects for such a file need, stops
the run and keeps the file. Minutes are the process's own, so that a run may be stopped and continued by signals.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import os
import random
import re
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from smelt.core.errors import TokenizerError
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.formats import load_tokenizer, save_as
from smelt.tokenizers.pipeline import Pipeline
from smelt.tokenizers.training import train_tokenizer

TEXT = "The mill by the river turns its 12 stones; 磨坊在河边转动。 naïve café 'll don't " * 40
ODD = [b"", b"\0", b"\xff", b"\xed\xa0\x80", b"-1", b"999999999999999999999", b"1e999", b"null", b"[]", b"{}", b'"']
VALUES: list[Any] = [None, True, -1, 2**31, 10**18, 1.5, float("inf"), "", "a", "\ud800", [], {}, ["a", "b"], {"a": 0}]
SECONDS, FLOOR_BYTES = 1.0, 1 << 20
# What Python's objects for short lines take in all, for each byte of a file.
OBJECTS = 32
# No single block may be larger than so many times the file: a number in a file must not decide an allocation.
# Buffers of fixed sizes stay below the floor. A text with one emoji takes four bytes a character, and a header.
BLOCK_TIMES, BLOCK_FLOOR, HEADER = 4, 1 << 17, 256


def json_file(algorithm: str) -> Callable[[Path], Path]:
    """Return what writes the tokenizer.json of an algorithm."""

    def write(folder: Path) -> Path:
        tokenizer = train_tokenizer([TEXT], algorithm=algorithm, vocab_size=400, special=("<|endoftext|>",))
        save_as(tokenizer, folder / "tokenizer.json", "json")
        return folder / "tokenizer.json"

    return write


def file_of(kind: str, name: str) -> Callable[[Path], Path]:
    """Return what writes a vocabulary as one of the other kinds."""

    def write(folder: Path) -> Path:
        if kind == "vocab":
            tokenizer = train_tokenizer([TEXT], algorithm="wordpiece", vocab_size=400, special=())
        elif kind == "sentencepiece":
            trained = train_tokenizer([TEXT], algorithm="unigram", vocab_size=400, special=())
            tokenizer = Pipeline(  # a .model cannot hold NFKC
                trained.model, splitters=trained.splitters, decoder=trained.decoder, added=trained.added
            )
        else:
            tokenizer = train_bpe([TEXT], vocab_size=400, pattern="gpt2", special=("<|endoftext|>",))
        save_as(tokenizer, folder if kind == "gpt2" else folder / name, kind)
        return folder / name

    return write


LOADERS = {
    "json": json_file("bpe"),
    "json-wordpiece": json_file("wordpiece"),
    "json-unigram": json_file("unigram"),
    "tiktoken": file_of("tiktoken", "x.tiktoken"),
    "sentencepiece": file_of("sentencepiece", "x.model"),
    "vocab": file_of("vocab", "vocab.txt"),
    "gpt2-vocab": file_of("gpt2", "vocab.json"),
    "gpt2-merges": file_of("gpt2", "merges.txt"),
}


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return some bytes with one to eight faults."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(found) + 1)
        size = rng.choice([0, 1, 1, 2, 8, 64, 1000])
        match rng.randrange(6):
            case 0:
                found[place : place + size] = rng.randbytes(size)
            case 1:
                del found[place : place + size]
            case 2:
                found[place:place] = found[place : place + size] * rng.choice([1, 1, 50])
            case 3:
                found[place:place] = rng.choice(ODD)
            case 4:
                del found[place:]
            case 5 if place < len(found):
                found[place] ^= 1 << rng.randrange(8)
    return bytes(found)


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container of a JSON value with each of its keys."""
    if isinstance(content, dict | list):
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            yield content, key
            yield from places(content[key])


def damaged_json(data: bytes, rng: random.Random) -> bytes:
    """Return a JSON file with one to three of its values replaced, removed or exchanged."""
    content = json.loads(data)
    for _ in range(rng.randint(1, 3)):
        every = list(places(content))
        holder, key = rng.choice(every[:200] if rng.random() < 0.5 else every)
        match rng.randrange(3):
            case 0:
                holder[key] = copy.deepcopy(rng.choice(VALUES))
            case 1:
                del holder[key]
            case 2:
                other, other_key = rng.choice(every)
                holder[key] = json.loads(json.dumps(other[other_key]))
    return json.dumps(content).encode("utf-8", errors="surrogatepass")


class LargeBlocks:
    """Counts allocations above a size, of Python, numpy and the kernels alike, by what glibc maps for them.

    glibc gives every block above a threshold its own mapping and keeps the most bytes that were mapped at once. With
    the difference to that mark filled up first, a new large block raises it, even if it is freed at once.
    """

    def __init__(self, size: int) -> None:
        self.libc = ctypes.CDLL(None)
        self.libc.malloc.restype, self.libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        self.libc.free.argtypes = [ctypes.c_void_p]
        self.libc.mallopt(-3, size)  # M_MMAP_THRESHOLD
        self.filler = None
        in_all, most = self.mapped()
        if most - in_all >= size:
            self.filler = self.libc.malloc(most - in_all)
        self.mark = self.mapped()[1]

    def mapped(self) -> tuple[int, int]:
        """Return the bytes mapped now and the most at once, from glibc's own report."""
        report, errors = os.memfd_create("malloc_stats"), os.dup(2)
        os.dup2(report, 2)
        self.libc.malloc_stats()
        os.dup2(errors, 2)
        os.lseek(report, 0, os.SEEK_SET)
        text = os.read(report, 1 << 16).decode()
        os.close(errors)
        os.close(report)
        arenas, totals = text.split("Total (incl. mmap):")
        system = [int(each) for each in re.findall(r"system bytes\s*=\s*(\d+)", arenas)]
        in_all, most = (int(re.findall(rf"{name}\s*=\s*(\d+)", totals)[0]) for name in ("system bytes", "mmap bytes"))
        return in_all - sum(system), most

    def seen(self) -> bool:
        """Say whether there was one since the beginning, and end the watch."""
        found = self.mapped()[1] > self.mark
        self.libc.free(self.filler)
        return found


def attempt(path: Path) -> tuple[str, float, int]:
    """Load a file and use what it gives; return what came of it, the seconds and the most memory at once."""
    tracemalloc.reset_peak()
    before, started = tracemalloc.get_traced_memory()[0], time.process_time()
    try:
        tokenizer = load_tokenizer(path.with_name("vocab.json") if path.name == "merges.txt" else path)
        outcome = "loaded"
        tokenizer.decode(tokenizer.encode("The mill 磨坊 é\n"))
    except TokenizerError as error:
        outcome = "refused"
        assert str(error).strip() and len(str(error)) < 2000, f"no clear message: {error!r:.200}"
    return outcome, time.process_time() - started, tracemalloc.get_traced_memory()[1] - before


def allocates(path: Path, size: int) -> bool:
    """Tell whether loading asks for a block too large for a file of some bytes; tracing, which has blocks of its own,
    rests."""
    tracemalloc.stop()
    watch = LargeBlocks(max(BLOCK_TIMES * size + HEADER, BLOCK_FLOOR))
    attempt(path)
    seen = watch.seen()
    tracemalloc.start()
    return seen


def main() -> int:
    """Fuzz one loader."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loader", choices=LOADERS, required=True)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = LOADERS[arguments.loader](Path(folder))
        intact = path.read_bytes()
        attempt(path)  # loads what is loaded once a process
        tracemalloc.start()
        _, _, usual = attempt(path)
        counts = {"loaded": 0, "refused": 0}
        slowest, most, started = 0.0, 0.0, time.process_time()
        while time.process_time() - started < 60 * arguments.minutes:
            by_value = path.suffix == ".json" and rng.random() < 0.5
            data = damaged_json(intact, rng) if by_value else damaged(intact, rng)
            path.write_bytes(data)
            try:
                outcome, seconds, peak = attempt(path)
                # Twice: once in ten thousand files it is a table of the interpreter's own that grows.
                large = allocates(path, len(data)) and allocates(path, len(data))
                assert not large, f"one allocation above {BLOCK_TIMES} times {len(data):,} bytes"
                allowed = max(OBJECTS * len(data), 2 * usual) + FLOOR_BYTES
                assert seconds < SECONDS, f"{seconds:.1f} s"
                assert peak < allowed, f"{peak:,} bytes at once for a file of {len(data):,}"
            except BaseException as error:
                kept = Path(f"fuzz-{arguments.loader}-{sum(counts.values())}{path.suffix}")
                kept.write_bytes(data)
                print(f"{kept}: {type(error).__name__}: {error}", file=sys.stderr)
                raise
            counts[outcome] += 1
            slowest, most = max(slowest, seconds), max(most, peak / (len(data) + FLOOR_BYTES))
    total = sum(counts.values())
    print(
        f"{arguments.loader}: {total:,} files in {arguments.minutes:g} minutes: {counts['refused']:,} refused, "
        f"{counts['loaded']:,} loaded; slowest {slowest:.2f} s, most memory {most:.1f}x the file"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
