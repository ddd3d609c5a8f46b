"""The tensors of a checkpoint directory, in one safetensors file or many, read one at a time.

safetensors checks its header against the file's size before anything is allocated and cannot run code; pickled
weights can, so they are never opened. Files are mapped, not read whole: memory holds the tensor in hand.
"""

import json
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from smelt.core.errors import CheckpointError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises CheckpointError that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON ({error})", fix="copy or download it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}", accepted="a JSON object")
    return value


class Shards:
    """Open the tensors of a directory; the files are closed with the object.

    Raises CheckpointError when they are absent, pickled, damaged, or not where the index says.
    """

    def __init__(self, directory: Path) -> None:
        placement: dict[str, str] | None = None
        if (directory / INDEX).is_file():
            placement = _read_placement(directory)
        elif not (directory / WEIGHTS).is_file():
            raise _no_weights(directory)
        self._file_of: dict[str, tuple[Path, Any]] = {}
        for name in [WEIGHTS] if placement is None else sorted(set(placement.values())):
            path = directory / name
            file = _open(path)
            for key in list(file.keys()):
                if placement is None or placement.get(key) == name:
                    self._file_of[key] = (path, file)
        if placement is not None and (absent := sorted(set(placement) - set(self._file_of))):
            raise CheckpointError(f"{directory / placement[absent[0]]} lacks {absent[0]!r}, which {INDEX} places there")
        self.shapes: dict[str, tuple[int, ...]] = {
            key: tuple(file.get_slice(key).get_shape()) for key, (_, file) in self._file_of.items()
        }

    def read(self, key: str) -> Tensor:
        """Read one tensor in the type it is stored in."""
        path, file = self._file_of[key]
        try:
            tensor: Tensor = file.get_tensor(key)
        except (safetensors.SafetensorError, OSError) as error:
            raise _unreadable(path, error) from error
        return tensor


def _open(path: Path) -> Any:
    try:
        return safetensors.safe_open(path, framework="pt")
    except (safetensors.SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is not a readable safetensors file ({error})", fix="copy or download it again")


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
