"""The folders that the studio may look into, and what is found there; nobody can name a path outside them.

A page names a thing by its path as seen from the studio's own folder, and that path is looked up, with every link
followed, before anything is opened. So no request reads a file that the person who started the studio did not offer.

Ref: CVE-2025-53002 (a checkpoint's path from a web page, run as code).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from smelt.core.errors import UsageError, nearest
from smelt.core.storage import read_pointer
from smelt.data.shards import META
from smelt.train.reading import last_change

CHECKPOINT_FILES = ("config.json", "adapter_config.json")
DEPTH = 4  # folders below a root in which runs and checkpoints are looked for
DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".md", ".parquet", ".gz", ".zst")
SKIPPED = ("checkpoints", "__pycache__", "node_modules")


@dataclass(frozen=True)
class Workspace:
    """What the studio sees.

    Args:
        root: its own folder, absolute; runs are made in root / "runs".
        more: further folders to look into, absolute, such as one with data.
    """

    root: Path
    more: tuple[Path, ...] = ()

    @classmethod
    def at(cls, root: Path, more: Sequence[Path] = ()) -> Workspace:
        """Return the workspace of folders; raises UsageError for one that is not there."""
        for folder in (root, *more):
            if not folder.is_dir():
                raise UsageError(f"{folder}: no such directory", fix=f"mkdir -p {folder}")
        return cls(root.resolve(), tuple(folder.resolve() for folder in more))

    @property
    def runs(self) -> Path:
        """Return the folder of runs."""
        return self.root / "runs"

    def find(self, name: str) -> Path:
        """Return what a name means; raises UsageError for a thing that is not there, or not in these folders."""
        if "\0" in name or not name:
            raise UsageError("an empty name, or one with a zero byte", accepted="a path below the studio's folders")
        path = (self.root / name).resolve()
        if not any(path.is_relative_to(folder) for folder in (self.root, *self.more)):
            raise UsageError(f"{name[:200]} is outside of the studio's folders", fix="smelt studio --data DIR")
        if not path.exists():
            siblings = [child.name for child in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UsageError(f"{name[:200]}: no such file or directory.{nearest(path.name, siblings)}")
        return path

    def name(self, path: Path) -> str:
        """Return the name of a path: as seen from the root where it lies below it, else whole."""
        path = path.resolve()
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)

    def run_directories(self) -> list[Path]:
        """Return the folders with a recipe.yaml, the one that was last written to first."""
        found = [path.parent for path in self._files("recipe.yaml")]
        return sorted(found, key=last_change, reverse=True)

    def checkpoints(self) -> list[Path]:
        """Return what can be opened as a model: a run with a checkpoint once, and published checkpoints."""
        runs = {path for path in self.run_directories() if read_pointer(path / "checkpoints" / "latest") is not None}
        plain = {
            path.parent
            for name in CHECKPOINT_FILES
            for path in self._files(name)
            if any(path.parent.glob("*.safetensors"))
        }
        return sorted(runs | plain, key=lambda path: path.stat().st_mtime, reverse=True)

    def data_files(self) -> list[Path]:
        """Return the files that may be data."""
        found = [path for folder in (self.root, *self.more) for path in walk(folder) if path.suffix in DATA_SUFFIXES]
        own = {"metrics.jsonl", "events.jsonl", "studio.json", "quickstart.json", "wrong_answers.json"}
        return sorted(path for path in set(found) if path.name not in own and not is_part_of_model(path))

    def _files(self, name: str) -> Iterator[Path]:
        return (path for folder in (self.root, *self.more) for path in walk(folder) if path.name == name)


def walk(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Yield the files below a folder, none behind a link, in a hidden folder or too deep."""
    for path in sorted(folder.iterdir()) if depth >= 0 else ():
        if path.name.startswith(".") or path.name in SKIPPED or path.is_symlink():
            continue
        if path.is_dir():
            yield from walk(path, depth - 1)
        elif path.is_file():
            yield path


def is_part_of_model(path: Path) -> bool:
    """Tell whether a file belongs to a checkpoint, a tokenizer or a set of token shards."""
    parts = (*CHECKPOINT_FILES, "tokenizer.json", "tokenizer_config.json", META, "recipe.yaml")
    return any((path.parent / part).is_file() for part in parts)
