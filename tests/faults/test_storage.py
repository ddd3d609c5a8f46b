"""Kill a save at every point where it touches the disk, fill the disk at every write, damage what was saved.

A child process is forked for each point, runs the save with the calls that touch the disk counted, and leaves with
`os._exit` when its number comes: no `finally` runs and no buffer is flushed, as after `kill -9`.
"""

import errno
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from smelt.core import storage
from smelt.core.errors import CheckpointError, ResourceError
from smelt.core.storage import MANIFEST, atomic_directory, atomic_write_text, verify_directory

Point = Callable[[str], None]
KILLED = 9
OLD = {"config.json": "old", "train/state.json": "old state"}
NEW = {"config.json": "new!", "model.bin": "new weights" * 9, "train/state.json": "new state"}
LATER = {"config.json": "later"}


class CountedFile:
    """A file opened for writing whose writes can be cut in half."""

    def __init__(self, path: Path, point: Point) -> None:
        self.handle, self.point = open(path, "wb"), point  # noqa: SIM115
        self.fileno, self.flush = self.handle.fileno, self.handle.flush

    def __enter__(self) -> "CountedFile":
        return self

    def __exit__(self, *error: object) -> None:
        self.handle.close()

    def write(self, data: bytes) -> None:
        self.point("write")
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            self.handle.write(part)
            self.handle.flush()
            self.point("written")


def count_calls(patch: Callable[[Any, str, Any], None], point: Point) -> None:
    """Let `point(kind)` be called before and after every call of smelt.core.storage that changes the disk."""

    def around(kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*words: Any, **more: Any) -> Any:
            point(kind)
            result = call(*words, **more)
            point(f"after {kind}")
            return result

        return counted

    for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
        patch(os, name, around(name, getattr(os, name)))
    patch(storage, "swap_names", around("swap", storage.swap_names))
    plain = open
    patch(storage, "open", lambda path, mode: CountedFile(path, point) if mode == "wb" else plain(path, mode))


def was_killed(number: int, save: Callable[[], None]) -> bool:
    """Run `save` in a child that dies at the point of this number; False when it ended before."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            numbers = itertools.count(1)
            count_calls(lambda place, name, value: setattr(place, name, value), lambda kind: leave_at(number, numbers))
            save()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


def leave_at(number: int, numbers: Iterator[int]) -> None:
    if next(numbers) == number:
        os._exit(KILLED)


def save_directory(final: Path, files: dict[str, str]) -> None:
    with atomic_directory(final) as directory:
        for name, text in files.items():
            if not (directory / name).parent.exists():
                (directory / name).parent.mkdir()
            (directory / name).write_text(text)


def content(final: Path) -> dict[str, str]:
    """Return the files of a sealed directory after it has been verified."""
    verify_directory(final)
    paths = (path for path in final.rglob("*") if path.is_file() and path != final / MANIFEST)
    return {path.relative_to(final).as_posix(): path.read_text() for path in paths}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count fsyncs without waiting for the disk: a killed process loses nothing that the kernel has."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(params=["swap", "two renames"])
def renaming(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test on a file system that can swap two names, and on one that cannot."""
    if request.param == "two renames":
        monkeypatch.setattr(storage, "swap_names", lambda one, other: False)


@pytest.mark.usefixtures("renaming")
def test_a_directory_killed_at_any_point_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    seen = []
    for number in itertools.count(1):
        final = tmp_path / str(number) / "step-1"
        save_directory(final, OLD)
        if not was_killed(number, lambda final=final: save_directory(final, NEW)):  # type: ignore[misc]
            break
        seen.append(content(final))
        save_directory(final, LATER)
        assert content(final) == LATER
    changes = [index for index in range(1, len(seen)) if seen[index] != seen[index - 1]]
    assert len(seen) > 30
    assert seen[0] == OLD and seen[-1] == NEW and len(changes) == 1  # one instant, and never back


def test_a_first_directory_killed_at_any_point_is_absent_or_whole(tmp_path: Path) -> None:
    seen = []
    for number in itertools.count(1):
        final = tmp_path / str(number) / "step-1"
        if not was_killed(number, lambda final=final: save_directory(final, NEW)):  # type: ignore[misc]
            break
        seen.append(content(final) if final.exists() else {})
        save_directory(final, LATER)
        assert content(final) == LATER
    assert seen[0] == {} and seen[-1] == NEW
    assert all(found in ({}, NEW) for found in seen)


@pytest.mark.parametrize("old", ["old", None])
def test_a_file_killed_at_any_point_is_the_old_or_the_new_one(old: str | None, tmp_path: Path) -> None:
    seen = []
    for number in itertools.count(1):
        path = tmp_path / str(number)
        if old is not None:
            path.write_text(old)
        if not was_killed(number, lambda path=path: atomic_write_text(path, "the new content")):  # type: ignore[misc]
            break
        seen.append(path.read_text() if path.exists() else None)
    assert len(seen) > 8
    assert seen[0] == old and seen[-1] == "the new content"
    assert all(found in (old, "the new content") for found in seen)


def full_disk(monkeypatch: pytest.MonkeyPatch, number: int, save: Callable[[], None]) -> list[str]:
    """Run `save` with the disk full at call `number` of those that need space; return the calls that it made.

    The list is shorter than `number` where the save ended before.
    """
    reached: list[str] = []

    def point(kind: str) -> None:
        if kind in ("mkdir", "write", "fsync", "rename", "replace"):
            reached.append(kind)
            if len(reached) == number:
                raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        count_calls(lambda place, name, value: patch.setattr(place, name, value, raising=False), point)
        try:
            save()
        except ResourceError as error:
            assert error.what.startswith("disk full while writing ")
            assert len(str(error).splitlines()) <= 3
            return reached[:number]
    assert len(reached) < number
    return reached


@pytest.mark.usefixtures("renaming")
def test_a_full_disk_leaves_the_old_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []
    for number in itertools.count(1):
        final = tmp_path / str(number) / "step-1"
        save_directory(final, OLD)
        reached = full_disk(monkeypatch, number, lambda final=final: save_directory(final, NEW))  # type: ignore[misc]
        if len(reached) < number:
            break
        kinds.append(reached[-1])
        if number < len(kinds) or reached[-1] != "fsync":
            assert [path.name for path in final.parent.iterdir()] == ["step-1"]
        kept = content(final)
        assert kept == OLD or (kept == NEW and reached[-1] == "fsync")
    assert kinds.count("fsync") > 5 and {"mkdir", "write", "replace"} < set(kinds)


@pytest.mark.parametrize("old", ["old", None])
def test_a_full_disk_leaves_the_old_file(old: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []
    for number in itertools.count(1):
        path = tmp_path / str(number) / "file"
        path.parent.mkdir()
        if old is not None:
            path.write_text(old)
        reached = full_disk(monkeypatch, number, lambda path=path: atomic_write_text(path, "new"))  # type: ignore[misc]
        if len(reached) < number:
            break
        kinds.append(reached[-1])
        left = [entry.name for entry in path.parent.iterdir()]
        if number < 4:  # the last call makes the new name durable, and is made after it was given
            assert left == (["file"] if old else [])
            assert old is None or path.read_text() == old
    assert kinds == ["write", "fsync", "replace", "fsync"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_fills_inside_the_block_leaves_the_old_directory(error: Exception, tmp_path: Path) -> None:
    """Tensors are written by safetensors, whose error is no OSError."""
    save_directory(tmp_path / "step-1", OLD)
    with (
        pytest.raises(ResourceError, match="disk full while writing"),
        atomic_directory(tmp_path / "step-1") as directory,
    ):
        (directory / "model.safetensors").write_text("half")
        raise error
    assert content(tmp_path / "step-1") == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def flip(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def flip_a_bit(files: list[Path], manifest: Path, dice: random.Random) -> None:
    flip(dice.choice(files), dice)


def truncate(files: list[Path], manifest: Path, dice: random.Random) -> None:
    path = dice.choice(files)
    os.truncate(path, dice.randrange(path.stat().st_size))


def delete(files: list[Path], manifest: Path, dice: random.Random) -> None:
    dice.choice(files).unlink()


def swap_two_files(files: list[Path], manifest: Path, dice: random.Random) -> None:
    one, other = dice.sample(files, 2)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def add_a_file(files: list[Path], manifest: Path, dice: random.Random) -> None:
    (dice.choice(files).parent / f"extra-{dice.randrange(100)}").write_bytes(dice.randbytes(dice.randrange(9)))


def damage_the_manifest(files: list[Path], manifest: Path, dice: random.Random) -> None:
    dice.choice([flip_a_bit, truncate, delete])([manifest], manifest, dice)


DAMAGES = (flip_a_bit, truncate, delete, swap_two_files, add_a_file, damage_the_manifest)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dice = random.Random(0)
    with atomic_directory(tmp_path_factory.mktemp("sealed") / "step-1") as directory:
        (directory / "train").mkdir()
        for name, size in (("config.json", 90), ("model.safetensors", 9000), ("train/state.json", 50), ("train/t", 1)):
            (directory / name).write_bytes(dice.randbytes(size))
        (directory / "train" / MANIFEST).write_text("a file of a caller that has the manifest's name")
    return directory.with_name("step-1")


@pytest.mark.parametrize("seed", range(100))
def test_random_damage_is_detected(seed: int, sealed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(sealed, copy)
    verify_directory(copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file() and path != copy / MANIFEST)
    DAMAGES[seed % len(DAMAGES)](files, copy / MANIFEST, random.Random(seed))
    with pytest.raises(CheckpointError, match=str(copy)):
        verify_directory(copy)


def test_all_bytes_of_the_manifest_count(sealed: Path, tmp_path: Path) -> None:
    copy, dice = tmp_path / "copy", random.Random(0)
    shutil.copytree(sealed, copy)
    whole = (copy / MANIFEST).read_bytes()
    for index in range(0, len(whole), 3):
        changed = bytes([whole[index] ^ 1 << dice.randrange(8)])
        for damaged in (whole[:index] + changed + whole[index + 1 :], whole[:index]):
            (copy / MANIFEST).write_bytes(damaged)
            with pytest.raises(CheckpointError):
                verify_directory(copy)
    (copy / MANIFEST).write_bytes(whole)
    verify_directory(copy)
