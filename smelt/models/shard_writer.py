"""Write the tensors of a checkpoint as safetensors, in one file or in shards, holding one tensor at a time.

Shapes come first and numbers later: a file's header, with the place of every tensor, is written before the first
number is at hand, so that tensors may come in any order and none waits for another. Tensors start on 64 bytes as
torch's own memory does, except behind tensors of odd sizes, which therefore lie last; so a mapped checkpoint computes
the same bits as the model that was saved. A file gets its name when it is whole: one that is in use stays as it is.

    1,200 MB of tensors, 500 MB a shard     model-00001-of-00003.safetensors .., model.safetensors.index.json

Ref: github.com/huggingface/safetensors, "Format".
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from smelt.core.storage import atomic_write_text, disk_full_is_an_error
from smelt.models.shards import DTYPES, INDEX, WEIGHTS

MAX_SHARD_BYTES = 5 * 10**9  # what a file system, a download and a retry handle well
ALIGNMENT_BYTES = 64
OURS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_weights(
    planned: Iterable[tuple[str, Tensor]],
    tensors: Iterator[tuple[str, Tensor]],
    directory: Path,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a checkpoint's tensors into an existing directory, in place of those that it holds.

    Args:
        planned: names with tensors of the same types and shapes, on "meta".
        tensors: the same names in the same order, contiguous.
        directory: where to write.
        max_shard_bytes: the most bytes of tensors in a file, unless one tensor has more.

    Raises:
        ResourceError: the disk is full; the old files are whole.
    """
    shards = _cut(planned, max_shard_bytes)
    count = len(shards)
    names = [WEIGHTS] if count == 1 else [f"model-{at:05}-of-{count:05}.safetensors" for at in range(1, count + 1)]
    temporary = [directory / f"{name}.tmp-{os.getpid()}" for name in names]
    try:
        for path, shard in zip(temporary, shards, strict=True):
            with disk_full_is_an_error(path, sum(tensor.nbytes for tensor in shard.values())):
                _write_shard(path, shard, tensors)
        for path, name in zip(temporary, names, strict=True):
            os.replace(path, directory / name)
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)
    _write_index(directory, dict(zip(names, shards, strict=True)))
    for path in directory.iterdir():
        if OURS.fullmatch(path.name) and path.name not in names:
            path.unlink()


def _cut(planned: Iterable[tuple[str, Tensor]], max_shard_bytes: int) -> list[dict[str, Tensor]]:
    """Cut tensors into runs of at most so many bytes."""
    shards: list[dict[str, Tensor]] = [{}]
    num_bytes = 0
    for name, tensor in planned:
        if shards[-1] and num_bytes + tensor.nbytes > max_shard_bytes:
            shards.append({})
            num_bytes = 0
        shards[-1][name] = tensor
        num_bytes += tensor.nbytes
    return shards


def _lay_out(shard: dict[str, Tensor]) -> tuple[bytes, dict[str, int]]:
    """Return a file's header and where each tensor starts in the file."""

    def order(name: str) -> tuple[bool, int, str]:
        return shard[name].nbytes % ALIGNMENT_BYTES != 0, -shard[name].dtype.itemsize, name

    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers refuses a file that does not say so
    starts, end = {}, 0
    for name in sorted(shard, key=order):
        tensor = shard[name]
        starts[name], end = end, end + tensor.nbytes
        offsets = [starts[name], end]
        entries[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT_BYTES)
    header = len(text).to_bytes(8, "little") + text
    return header, {name: len(header) + start for name, start in starts.items()}


def _write_shard(path: Path, shard: dict[str, Tensor], tensors: Iterator[tuple[str, Tensor]]) -> None:
    header, starts = _lay_out(shard)
    with path.open("wb") as file:
        file.write(header)
        for name, planned in shard.items():
            found, tensor = next(tensors)
            assert (found, tensor.shape, tensor.dtype) == (name, planned.shape, planned.dtype)
            file.seek(starts[name])
            file.write(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
            del tensor  # before the next one is made


def _write_index(directory: Path, shards: dict[str, dict[str, Tensor]]) -> None:
    """Write which file holds each tensor, or see to it that a single file stands without an index."""
    if len(shards) == 1:
        (directory / INDEX).unlink(missing_ok=True)
        return
    tensors = [tensor for shard in shards.values() for tensor in shard.values()]
    index = {
        "metadata": {
            "total_parameters": sum(tensor.numel() for tensor in tensors),
            "total_size": sum(tensor.nbytes for tensor in tensors),
        },
        "weight_map": {key: name for name, shard in shards.items() for key in sorted(shard)},
    }
    atomic_write_text(directory / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")
