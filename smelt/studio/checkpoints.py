"""What the files of one checkpoint say of it: its family, size, hashes, where it came from and how good it is.

No tensor is read: parameters and their types stand in the headers of the weights, and hashes in the manifest that seals
a checkpoint of ours. One that cannot be read is told with its fault, so that a damaged model hides no other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors

from smelt.core.errors import CheckpointError, SmeltError
from smelt.core.storage import MANIFEST, checkpoint_at, read_manifest, sha256_file
from smelt.models.hub import CONFIG, LINEAGE
from smelt.models.shards import DTYPES, read_json
from smelt.peft.files import CONFIG as ADAPTER_CONFIG
from smelt.peft.load import BASE, HASHES
from smelt.train.checkpoint import STEP_NAME, saved_steps

TRAINING_STATE = "train/"
"""Where a checkpoint of a run keeps what only going on with it needs."""
CHAT_TEMPLATE = "chat_template.jinja"
MOST_METRICS, METRICS_DEPTH = 200, 4


@dataclass(frozen=True)
class Weights:
    """Say what the headers of a checkpoint's weights say: how many numbers there are, of which types, in how many
    bytes.
    """

    numbers: int
    dtype: str
    num_bytes: int

    @property
    def bits(self) -> float:
        """Return the bits of a number, on average."""
        return 8 * self.num_bytes / max(1, self.numbers)


@dataclass(frozen=True)
class Card:
    """What is known of a model.

    Args:
        path: the thing that has a name: a run, or the checkpoint itself.
        directory: the checkpoint; of a run its newest one.
        weights: None where they cannot be read, and `fault` says why.
        config: config.json, or of an adapter adapter_config.json.
        lineage: smelt.json, empty where there is none.
        manifest: the files with their sizes and hashes, empty where the checkpoint is not sealed.
    """

    path: Path
    directory: Path
    weights: Weights | None = None
    fault: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def is_run(self) -> bool:
        """Tell whether a run made it, which has metrics and a recipe."""
        return (self.path / "recipe.yaml").is_file()

    @property
    def is_adapter(self) -> bool:
        """Tell whether it needs its base."""
        return "peft_type" in self.config

    @property
    def base(self) -> str | None:
        """Return the path of an adapter's base, as the adapter names it."""
        named = self.config.get(BASE)
        return named if self.is_adapter and isinstance(named, str) else None

    @property
    def base_hashes(self) -> list[str]:
        """Return the hashes of the weights that an adapter was trained on, where it says so."""
        return [str(one) for one in rows(self.lineage.get(HASHES))]

    @property
    def hashes(self) -> tuple[str, ...]:
        """Return the SHA-256 of each file of weights, none of a checkpoint that is not sealed."""
        return hashes_in(self.manifest)

    @property
    def family(self) -> str:
        """Return what kind of network it is, or of an adapter by which method it was made."""
        return str(self.config.get("peft_type") if self.is_adapter else self.config.get("model_type", "?"))

    @property
    def stage(self) -> str:
        """Return what made it: "pretrain", "sft", "merge", .. or "" where nobody wrote it down."""
        return str(self.lineage.get("stage", ""))

    @property
    def tokenizer(self) -> str | None:
        """Return the SHA-256 of the tokenizer, where it is written down."""
        found = self.lineage.get("tokenizer_sha256")
        return found if isinstance(found, str) else None

    @property
    def recipe(self) -> dict[str, Any]:
        """Return the recipe that it was trained by, empty where there is none."""
        return table(self.lineage.get("recipe"))

    @property
    def metrics(self) -> dict[str, float]:
        """Return the numbers that were measured of it, those inside of others by "outer.inner"."""
        return dict(flat(self.lineage.get("metrics"))[:MOST_METRICS])

    @property
    def chats(self) -> bool:
        """Tell whether it was taught to chat."""
        return (self.directory / CHAT_TEMPLATE).is_file()

    def shown(self) -> dict[str, Any]:
        """Return what a list shows of it, all but its name."""
        weights = self.weights
        return {
            "family": self.family,
            "stage": self.stage,
            "step": self.lineage.get("step"),
            "adapter": self.is_adapter,
            "run": self.is_run,
            "chats": self.chats,
            "parameters": weights and weights.numbers,
            "dtype": weights and weights.dtype,
            "bits": weights and round(weights.bits, 2),
            "bytes": sum(path.stat().st_size for path in files_of(self.directory)),
            "sha256": self.hashes[0] if self.hashes else None,
            "sealed": bool(self.manifest),
            "created": self.directory.stat().st_mtime,
            "metrics": self.metrics,
            "fault": self.fault,
        }


def card_of(path: Path) -> Card:
    """Return what is known of a model at a path."""
    try:
        directory = checkpoint_at(path)
    except SmeltError as error:
        return Card(path, path, fault=error.what)
    return _card(path, directory, state_of(directory))


@lru_cache(maxsize=2048)
def _card(path: Path, directory: Path, _: tuple[Any, ...]) -> Card:
    """Read a checkpoint; what is known of one whose files have not changed is known still."""
    known: dict[str, Any] = {}
    try:
        adapter = (directory / ADAPTER_CONFIG).is_file()
        known["config"] = read_json(directory / (ADAPTER_CONFIG if adapter else CONFIG))
        if (directory / LINEAGE).is_file():
            known["lineage"] = read_json(directory / LINEAGE)
        if (directory / MANIFEST).is_file():
            known["manifest"] = read_manifest(directory)
        known["weights"] = weights_in(directory)
    except SmeltError as error:
        known["fault"] = error.what
    return Card(path, directory, **known)


def state_of(directory: Path) -> tuple[Any, ...]:
    """Return what differs once a file of a directory was changed."""
    found = ((path.name, path.stat()) for path in sorted(directory.iterdir()))
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in found)


def weights_in(directory: Path) -> Weights:
    """Read the headers of a checkpoint's weights; raises CheckpointError for a file that has none."""
    numbers, num_bytes, types = 0, 0, Counter[str]()
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{directory} holds no weights", accepted="files of safetensors")
    for file in files:
        try:
            with safetensors.safe_open(file, framework="np") as opened:
                for key in opened.keys():  # noqa: SIM118  # it is no dictionary
                    part = opened.get_slice(key)
                    types[part.get_dtype()] += math.prod(part.get_shape())
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} is not a readable safetensors file ({error})") from error
        num_bytes += file.stat().st_size
    numbers = types.total()
    usual = types.most_common(1)[0][0] if types else "none"
    return Weights(numbers, str(DTYPES.get(usual, usual)).removeprefix("torch."), num_bytes)


def hashes_in(manifest: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the hashes of the files of weights in a manifest, in the order in which a lineage lists them."""
    names = sorted(name for name in manifest if name.endswith(".safetensors") and "/" not in name)
    return tuple(str(manifest[name]["sha256"]) for name in names)


def files_of(directory: Path) -> list[Path]:
    """Return the files of a checkpoint, those of the training's state too."""
    return sorted(path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


def file_table(card: Card, *, hashed: bool = False) -> list[dict[str, Any]]:
    """Return the name, size and hash of each file; of one that is not sealed the hash is computed where asked for."""
    found = []
    for path in files_of(card.directory):
        name = path.relative_to(card.directory).as_posix()
        digest = card.manifest.get(name, {}).get("sha256") or (sha256_file(path) if hashed else None)
        found.append({"name": name, "bytes": path.stat().st_size, "sha256": digest})
    return found


def steps_of(card: Card) -> list[dict[str, Any]]:
    """Return the checkpoints of a run, the newest first."""
    root = card.path / "checkpoints"
    best = (root / "best").read_text(encoding="utf-8").strip() if (root / "best").is_file() else ""
    return [
        {
            "name": step.name,
            "step": int(STEP_NAME.fullmatch(step.name).group(1)),  # type: ignore[union-attr]  # as saved_steps saw
            "bytes": sum(path.stat().st_size for path in files_of(step)),
            "created": step.stat().st_mtime,
            "newest": step == card.directory,
            "best": step.name == best,
        }
        for step in saved_steps(root)
    ]


def table(value: object) -> dict[str, Any]:
    """Return what should be an object of JSON; anybody may have written the files, so another thing is an empty one."""
    return value if isinstance(value, dict) else {}


def rows(value: object) -> list[Any]:
    """Return what should be a list of JSON; another thing is an empty one."""
    return value if isinstance(value, list) else []


def flat(values: object, name: str = "", depth: int = METRICS_DEPTH) -> list[tuple[str, float]]:
    """Return the numbers in a tree of dictionaries with their paths.

    {"loss": 1, "by": {"a": 2}} -> [("loss", 1), ("by.a", 2)]
    """
    if isinstance(values, dict):
        named = [(f"{name}.{key}" if name else str(key), value) for key, value in values.items() if depth]
        return [pair for inner, value in named for pair in flat(value, inner, depth - 1)]
    if isinstance(values, bool) or not isinstance(values, int | float) or not math.isfinite(values):
        return []
    return [(name, values)]
