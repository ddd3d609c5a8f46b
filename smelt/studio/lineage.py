"""Where models come from, as a graph: data and tokenizers, the models made of them, what was tuned or merged of those.

A checkpoint names its parents by path and by the hash of their weights. The hash decides, so a parent that was moved is
found; where the very weights are gone, as those of a step that a run has since deleted, the model at the path stands
for them and the edge says that it is not the same. Parents that are nowhere in the studio's folders are shown as gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from smelt.core.errors import SmeltError, UsageError
from smelt.core.storage import MANIFEST, read_manifest, sha256_bytes, sha256_file
from smelt.studio.checkpoints import Card, card_of, hashes_in, rows, table
from smelt.studio.workspace import Workspace
from smelt.train.checkpoint import saved_steps

ID_CHARACTERS = 16
UNNAMED = "tokenizer"  # of one whose model does not say where it came from


@dataclass(frozen=True)
class Parent:
    """What a model was made of: one model at a path, or the weights that were there.

    Args:
        path: as it was written down.
        hashes: of the weights.
        role: "base" or "adapter" of a merge, else "".
    """

    path: str
    hashes: tuple[str, ...]
    role: str


@dataclass(frozen=True)
class Data:
    """What a model was trained on: a path as it was written down, and the SHA-256 of each file, which is its version.

    A checkpoint that was made in another folder names a path from there, so a file is looked for by its name and that
    of its folder too; whether it is the same then, its hash says.
    """

    id: str
    path: str
    files: Mapping[str, str]

    def find(self, workspace: Workspace, *, hashed: bool) -> list[dict[str, Any]]:
        """Return each file with its name in the workspace, None where it is not there, and whether it is the same.

        That is None where it was not looked at: `hashed` reads every file.
        """
        known = {path.parts[-2:]: path for path in workspace.data_files()}
        found = []
        for file, digest in self.files.items():
            path = self._at(workspace, known, file)
            same = sha256_file(path) == digest if path and hashed else None
            name = workspace.name(path) if path else None
            found.append({"file": file, "sha256": digest, "name": name, "same": same})
        return found

    def _at(self, workspace: Workspace, known: Mapping[tuple[str, ...], Path], file: str) -> Path | None:
        for path in (self.path, f"{self.path}/{file}"):
            try:
                place = workspace.find(path)
            except SmeltError:
                continue
            if place.is_file():
                return place
        whole = Path(self.path) if Path(self.path).name == Path(file).name else Path(self.path) / file
        return known.get(whole.parts[-2:])


class Lineage:
    """The models of a workspace and how they hang together.

    Args:
        workspace: where they are.
        cards: what is known of each by its name.
    """

    def __init__(self, workspace: Workspace, cards: Mapping[str, Card]) -> None:
        self.workspace, self.cards = workspace, cards
        self._by_hash: dict[str, list[str]] = {}
        for name, card in cards.items():
            for one in hashes_of_all(card):
                self._by_hash.setdefault(one, []).append(name)

    @classmethod
    def of(cls, workspace: Workspace) -> Lineage:
        """Read that of all models."""
        return cls(workspace, {workspace.name(path): card_of(path) for path in workspace.checkpoints()})

    def parents(self, name: str) -> Iterator[tuple[str | None, bool, Parent]]:
        """Yield what a model was made of: the name of each, None where it is gone, whether it has the very weights."""
        found = set()
        for parent in parents_in(self.cards[name]):
            other, exact = self.find(parent, name)
            key = other or parent.path
            if key not in found:
                found.add(key)
                yield other, exact, parent

    def find(self, parent: Parent, child: str) -> tuple[str | None, bool]:
        """Return the model that a parent is, None where it is gone, and whether it has the weights that it had."""
        there = self.at(parent.path)
        same = [name for one in parent.hashes for name in self._by_hash.get(one, ()) if name != child]
        if same:
            return (there if there in same else same[0]), True
        return (None, False) if there == child else (there, not parent.hashes)

    def at(self, path: str) -> str | None:
        """Return the model that a path means: of a step of a run, the run."""
        if "\0" in path:
            return None
        place = (self.workspace.root / path).resolve()
        return next((name for name, card in self.cards.items() if is_below(place, card.path)), None)

    def children(self, name: str) -> list[str]:
        """Return the models that were made of one, adapters on it among them."""
        return [other for other in self.cards if any(found == name for found, _, _ in self.parents(other))]

    def data(self, name: str) -> tuple[Data, list[str]]:
        """Return data by its id and the models that were trained on it; raises UsageError where there is none."""
        found = [(one, model) for model, card in self.cards.items() for one in data_of(card) if one.id == name]
        if not found:
            raise UsageError(f"{name[:200]}: no model of the studio was trained on such data")
        return found[0][0], [model for _, model in found]

    def graph(self, served: Sequence[str]) -> dict[str, Any]:
        """Return nodes and edges; `served` are models whose weights are others in memory: "runs/chat@int8"."""
        nodes, edges = dict[str, dict[str, Any]](), list[dict[str, Any]]()
        for name, card in self.cards.items():
            nodes[name] = {"id": name, "kind": "model", "label": card.path.name, "note": stage_words(card)}
            tokenizers = set()
            for other, exact, parent in self.parents(name):
                source = other or f"gone:{sha256_bytes(parent.path.encode())[:ID_CHARACTERS]}"
                if other is None:
                    nodes[source] = {"id": source, "kind": "gone", "label": Path(parent.path).name, "path": parent.path}
                else:
                    tokenizers.add(self.cards[other].tokenizer)
                edges.append({"from": source, "to": name, "exact": exact, "role": parent.role})
            for data in data_of(card):
                edges.append({"from": data.id, "to": name, "exact": True, "role": "data"})
                nodes[data.id] = {
                    "id": data.id,
                    "kind": "data",
                    "label": Path(data.path).name or data.path,
                    "files": len(data.files),
                }
            tokenizer = tokenizer_node(card)
            if tokenizer is not None and tokenizer["sha256"] not in tokenizers:  # one that a parent has is inherited
                if nodes.get(tokenizer["id"], {}).get("label") in (None, UNNAMED):
                    nodes[tokenizer["id"]] = tokenizer
                edges.append({"from": tokenizer["id"], "to": name, "exact": True, "role": "tokenizer"})
        for member in served:
            path, _, weights = member.partition("@")
            if path in self.cards:
                nodes[member] = {"id": member, "kind": "served", "label": f"{Path(path).name}@{weights}", "of": path}
                edges.append({"from": path, "to": member, "exact": True, "role": weights})
        return {"nodes": list(nodes.values()), "edges": edges}


def parents_in(card: Card) -> list[Parent]:
    """Return what a checkpoint says that it was made of; the files of one parent's weights are told apart there."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in rows(card.lineage.get("parents")):
        if isinstance(entry, dict) and isinstance(entry.get("path"), str):
            key = entry["path"], str(entry.get("role", ""))
            found.setdefault(key, []).append(str(entry.get("weights_sha256", "")))
    if card.base is not None:
        found.setdefault((card.base, "base"), card.base_hashes)
    return [Parent(path, tuple(filter(None, hashes)), role) for (path, role), hashes in found.items()]


def hashes_of_all(card: Card) -> set[str]:
    """Return the hashes of a model's weights, of a run those of all its steps."""
    steps = saved_steps(card.path / "checkpoints") if card.is_run else []
    return {*card.hashes, *(one for step in steps for one in hashes_at(step))}


def hashes_at(directory: Path) -> tuple[str, ...]:
    """Return the hashes of a step's weights, none where it is not whole."""
    manifest = directory / MANIFEST
    return _hashes_at(directory, manifest.stat().st_mtime_ns) if manifest.is_file() else ()


@lru_cache(maxsize=8192)
def _hashes_at(directory: Path, _: int) -> tuple[str, ...]:
    try:
        return hashes_in(read_manifest(directory))
    except SmeltError:
        return ()  # the model's card tells its fault


def data_of(card: Card) -> Iterator[Data]:
    """Yield the data that a model was trained on, each source by its files and their hashes, that is: its version."""
    files, given = table(table(card.lineage.get("data")).get("sources")), card.recipe.get("data")
    sources = [given] if isinstance(given, str) else [one for one in rows(given) if isinstance(one, dict)]
    for source in sources:
        path, name = (source, "") if isinstance(source, str) else (str(source.get("path", "")), source.get("name"))
        start = f"{name}/" if len(sources) > 1 else ""
        own = {file.removeprefix(start): digest for file, digest in files.items() if file.startswith(start)}
        version = sha256_bytes(json.dumps(own or path, sort_keys=True).encode())[:ID_CHARACTERS]
        yield Data(f"data:{version}", path, own)


def tokenizer_node(card: Card) -> dict[str, Any] | None:
    """Return a model's tokenizer, None where it is not written down."""
    digest, named = card.tokenizer, card.recipe.get("tokenizer")
    if digest is None:
        return None
    label = Path(named).name if isinstance(named, str) and named else UNNAMED
    size = card.config.get("vocab_size")
    return {"id": f"tokenizer:{digest[:ID_CHARACTERS]}", "kind": "tokenizer", "label": label, "sha256": digest} | (
        {"vocabulary": size} if isinstance(size, int) else {}
    )


def stage_words(card: Card) -> str:
    """Return in a word or two what made a model."""
    return " ".join(filter(None, [card.stage, card.family if card.is_adapter else ""])) or card.family


def is_below(place: Path, folder: Path) -> bool:
    """Tell whether a path is a folder or lies in it."""
    return place == folder or folder in place.parents
