"""Training checkpoints: a directory that others can load, with the state of the run in `train/` inside it.

The directory is sealed by its manifest before it gets its name, and `latest` moves only after that. Resuming
verifies every byte before a tensor is touched; a damaged checkpoint is named aloud and the one before it is
tried. Old steps are pruned last, and never the newest or the best one.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from smelt.core.errors import CheckpointError
from smelt.core.log import say
from smelt.core.storage import atomic_directory, read_pointer, verify_directory, write_json, write_pointer
from smelt.models.hub import load_weights_into
from smelt.train.state import TrainState

STEP_NAME = re.compile(r"step-(\d{7})")
TRAIN_TENSORS = "train/state.safetensors"
TRAIN_JSON = "train/state.json"


def save_checkpoint(state: TrainState, root: Path, publish: Callable[[Path], None], *, keep: int) -> Path:
    """Write `root/step-N` and point `latest` (and `best`) at it.

    Args:
        state: what to save.
        root: the run's directory of checkpoints.
        publish: writes the model, tokenizer and lineage into a directory.
        keep: how many of the newest steps stay.
    """
    final = root / f"step-{state.step:07d}"
    with atomic_directory(final) as directory:
        publish(directory)
        (directory / "train").mkdir()
        save_file(state.tensors(), directory / TRAIN_TENSORS)
        write_json(directory / TRAIN_JSON, state.counters())
    write_pointer(root / "latest", final.name)
    if state.best_step == state.step:
        write_pointer(root / "best", final.name)
    prune(root, keep)
    return final


def saved_steps(root: Path) -> list[Path]:
    """Return the checkpoints of a run, newest first."""
    return sorted((path for path in root.glob("step-*") if STEP_NAME.fullmatch(path.name)), reverse=True)


def prune(root: Path, keep: int) -> None:
    """Delete old steps and what a killed save left behind, sparing the newest `keep` and the best."""
    best = read_pointer(root / "best")
    for path in saved_steps(root)[keep:]:
        if path != best:
            shutil.rmtree(path)
    for leftover in root.glob("*.tmp-*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def latest_valid(root: Path) -> Path | None:
    """Return the newest checkpoint whose every byte matches its manifest; damaged ones are reported."""
    for path in saved_steps(root):
        try:
            verify_directory(path)
        except CheckpointError as error:
            say(f"warning: {error.what}; trying the step before it")
        else:
            return path
    return None


def restore(state: TrainState, directory: Path) -> None:
    """Load a verified checkpoint into a freshly built state.

    Raises:
        CheckpointError: the checkpoint is damaged, or belongs to another model, optimizer or data.
    """
    verify_directory(directory)
    if not state.keeps_parameters:
        load_weights_into(state.model, directory)
    state.load_tensors(load_file(directory / TRAIN_TENSORS))
    state.load_counters(read_counters(directory))


def restore_weights(state: TrainState, directory: Path) -> None:
    """Give a run's model the parameters of one of its checkpoints; raises CheckpointError for another run's."""
    if state.keeps_parameters:
        state.load_kept(load_file(directory / TRAIN_TENSORS))
    else:
        load_weights_into(state.model, directory)


def read_counters(directory: Path) -> dict[str, Any]:
    """Return the JSON part of a checkpoint's training state."""
    counters: dict[str, Any] = json.loads((directory / TRAIN_JSON).read_text(encoding="utf-8"))
    return counters
