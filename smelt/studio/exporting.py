"""A checkpoint as one file to take away: a tar of the Hugging Face layout, made while it is sent.

What only going on with a training needs stays here, and the manifest that travels says so, so that the copy is sealed
as its original is. Nothing is written on this machine.
"""

from __future__ import annotations

import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from smelt.core.errors import CheckpointError
from smelt.core.storage import MANIFEST, manifest_text
from smelt.studio.checkpoints import TRAINING_STATE, Card, files_of

PIECE_BYTES = 1 << 20
END = bytes(2 * tarfile.BLOCKSIZE)


class Export:
    """The tar of a checkpoint: how long it is, and its bytes.

    Args:
        card: what is exported.
        folder: the one directory in the tar.
    """

    def __init__(self, card: Card, folder: str) -> None:
        kept = [path for path in files_of(card.directory) if not self._stays(card.directory, path)]
        self.files = {f"{folder}/{path.relative_to(card.directory).as_posix()}": path for path in kept}
        self.sizes = {name: path.stat().st_size for name, path in self.files.items()}
        own = {name: dict(entry) for name, entry in card.manifest.items() if not name.startswith(TRAINING_STATE)}
        self.manifest = {f"{folder}/{MANIFEST}": manifest_text(own).encode()} if own else {}

    @property
    def num_bytes(self) -> int:
        """Return how long the tar is."""
        sizes = self.sizes | {name: len(text) for name, text in self.manifest.items()}
        return sum(len(head(name, size)) + size + padding(size) for name, size in sizes.items()) + len(END)

    def pieces(self) -> Iterator[bytes]:
        """Yield the tar; raises CheckpointError where a file changes meanwhile, so that the copy is seen to be torn."""
        for name, path in self.files.items():
            yield head(name, self.sizes[name], path.stat().st_mtime)
            sent = 0
            with path.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    sent += len(piece)
                    yield piece
            if sent != self.sizes[name]:
                raise CheckpointError(f"{path} changed while it was exported", fix="export it again")
            yield bytes(padding(sent))
        for name, text in self.manifest.items():
            yield head(name, len(text), time.time()) + text + bytes(padding(len(text)))
        yield END

    @staticmethod
    def _stays(directory: Path, path: Path) -> bool:
        name = path.relative_to(directory).as_posix()
        return name.startswith(TRAINING_STATE) or name == MANIFEST


def head(name: str, size: int, changed: float = 0) -> bytes:
    """Return what stands before a file in a tar."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, int(changed), 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> int:
    """Return how many zero bytes fill a file's last block."""
    return -size % tarfile.BLOCKSIZE
