"""The tensors of a checkpoint directory, in one safetensors file or many, mapped into memory instead of read.

A mapped tensor costs nothing until it is touched, and then the system shows its pages of the file without a copy. Those
that the page cache holds already are shown at once, where the system can: it takes less than page by page. The mapping
is private: what is written to a tensor stays in this process. safetensors checks each header against the file's size
before anything is allocated, and cannot run code; pickled weights can, so they are never opened. A file in use may be
replaced or deleted, as our own saving does, but not rewritten in place: the tensors would change under the model, and a
shorter file would end the process (SIGBUS).

Ref: github.com/huggingface/safetensors, "Format".
"""

import errno
import json
import math
import mmap
import os
import sys
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from smelt.core.errors import CheckpointError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
MADV_POPULATE_READ = 22  # of Linux, 5.14 and later; Python has no name for it yet
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
"""The types of numbers by their names in a header; of others there is no tensor here."""
MAPPINGS: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
"""The files that are mapped now: those that a tensor of this process still lies in."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises CheckpointError that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON ({error})", fix="copy or download it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}", accepted="a JSON object")
    return value


@dataclass(frozen=True)
class Stored:
    """Say where a tensor lies: its file's mapping, type, shape, and the bytes from `start` to `stop`.

    `is_cached` says whether its first byte was in the page cache when the file was mapped.
    """

    mapping: mmap.mmap
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int
    is_cached: bool


class Shards:
    """Map the tensors of a directory; a file stays mapped as long as a tensor of it is in use.

    Raises CheckpointError when they are absent, pickled, damaged, or not where the index says.
    """

    def __init__(self, directory: Path) -> None:
        placement: dict[str, str] | None = None
        if (directory / INDEX).is_file():
            placement = _read_placement(directory)
        elif not (directory / WEIGHTS).is_file():
            raise _no_weights(directory)
        self._stored: dict[str, Stored] = {}
        for name in [WEIGHTS] if placement is None else sorted(set(placement.values())):
            for key, stored in _map_file(directory / name).items():
                if placement is None or placement.get(key) == name:
                    self._stored[key] = stored
        if placement is not None and (absent := sorted(set(placement) - set(self._stored))):
            raise CheckpointError(f"{directory / placement[absent[0]]} lacks {absent[0]!r}, which {INDEX} places there")
        self.shapes = {key: stored.shape for key, stored in self._stored.items()}
        self.dtypes = {key: stored.dtype for key, stored in self._stored.items()}

    def read(self, key: str) -> Tensor:
        """Return a tensor in the type it is stored in: its place in the file, or a copy where that is odd."""
        stored = self._stored[key]
        count = math.prod(stored.shape)
        if not count:
            return torch.empty(stored.shape, dtype=stored.dtype)
        if stored.start % stored.dtype.itemsize:  # not every processor reads numbers at such an address
            size = stored.stop - stored.start
            piece = torch.frombuffer(stored.mapping, dtype=torch.uint8, count=size, offset=stored.start)
            return piece.clone().view(stored.dtype).view(stored.shape)
        numbers = torch.frombuffer(stored.mapping, dtype=stored.dtype, count=count, offset=stored.start)
        return numbers.view(stored.shape)

    def release(self, keys: Iterable[str], kept: Iterable[Tensor] = ()) -> None:
        """Give the pages of tensors back to the system, and show those that one of `kept` lies in, if it has them.

        Until then they count as this process's memory. What was written to a tensor that is given back is lost.
        """
        if not hasattr(mmap, "MADV_DONTNEED"):  # Windows, which takes such pages back when it needs them
            return
        in_use = {tensor.untyped_storage().data_ptr() for tensor in kept if tensor.device.type == "cpu"}
        for key in keys:
            stored = self._stored[key]
            first = -(-stored.start // mmap.PAGESIZE) * mmap.PAGESIZE  # pages that are shared with a neighbour stay
            num_bytes = stored.stop // mmap.PAGESIZE * mmap.PAGESIZE - first
            if num_bytes <= 0:
                continue
            if self.read(key).untyped_storage().data_ptr() not in in_use:
                stored.mapping.madvise(mmap.MADV_DONTNEED, first, num_bytes)
            elif stored.is_cached:
                show(stored.mapping, first, num_bytes)


def give_back(tensor: Tensor) -> None:
    """Give the pages that only this tensor lies in back to the system, if it is mapped from a file; else do nothing.

    They are read again where something else still uses them; what was written to them is lost.
    """
    start, stop = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    for mapping in list(MAPPINGS):
        base = torch.frombuffer(mapping, dtype=torch.uint8).data_ptr()
        first = -(-(start - base) // mmap.PAGESIZE) * mmap.PAGESIZE
        num_bytes = (stop - base) // mmap.PAGESIZE * mmap.PAGESIZE - first
        if base <= start < base + len(mapping) and num_bytes > 0 and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED, first, num_bytes)


def show(mapping: mmap.mmap, start: int, num_bytes: int) -> bool:
    """Show whole pages of a mapped file now; False where that waits until they are touched (before Linux 5.14)."""
    try:
        mapping.madvise(MADV_POPULATE_READ, start, num_bytes)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def in_page_cache(descriptor: int, offset: int) -> bool:
    """Tell whether a byte of a file can be read without waiting for the disk; False where the system cannot tell."""
    if sys.platform != "linux":
        return False
    try:
        return os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
            raise
        return False


def _map_file(path: Path) -> dict[str, Stored]:
    """Map a file whose header safetensors has found sound."""
    try:
        with safetensors.safe_open(path, framework="pt"):
            pass
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(start - 8))
            header.pop("__metadata__", None)
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            MAPPINGS.add(mapping)
            cached = {key: in_page_cache(file.fileno(), start + header[key]["data_offsets"][0]) for key in header}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        text = f"{path} is not a readable safetensors file ({error})"
        raise CheckpointError(text, fix="copy or download it again") from error
    if odd := sorted({entry["dtype"] for entry in header.values()} - set(DTYPES)):
        raise CheckpointError(f"{path} holds numbers of type {odd[0]}", accepted=", ".join(DTYPES))
    found = {}
    for key, entry in header.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        found[key] = Stored(mapping, DTYPES[entry["dtype"]], tuple(entry["shape"]), first, last, cached[key])
    return found


def _read_placement(directory: Path) -> dict[str, str]:
    """Read which file holds each tensor; a file name may not lead out of the directory."""
    index = directory / INDEX
    placement = read_json(index).get("weight_map")
    if not isinstance(placement, dict) or not all(isinstance(name, str) for name in placement.values()):
        raise CheckpointError(f"{index} has no weight_map of tensor names to file names", fix="copy it again")
    for name in sorted(set(placement.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{index} names the shard {name!r}", accepted="a .safetensors file beside the index")
        if not (directory / name).is_file():
            raise CheckpointError(f"{directory}: the shard {name} is missing", fix="copy or download it again")
    return placement


def _no_weights(directory: Path) -> CheckpointError:
    pickled = sorted(path.name for pattern in PICKLED for path in directory.glob(pattern))
    if not pickled:
        return CheckpointError(f"{directory} has no {WEIGHTS}", accepted=f"{WEIGHTS}, or shards with {INDEX}")
    return CheckpointError(
        f"{directory} holds pickled weights ({pickled[0]}), which can run code when they are read",
        accepted=f"{WEIGHTS}, or shards with {INDEX}",
        fix="where you trust the file, from_pretrained(DIRECTORY).save_pretrained(NEW) of transformers converts it",
    )
