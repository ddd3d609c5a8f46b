import errno
import hashlib
import json
from pathlib import Path

import pytest

from smelt.core import storage
from smelt.core.errors import CheckpointError, ResourceError
from smelt.core.storage import (
    MANIFEST,
    atomic_directory,
    atomic_write_text,
    checkpoint_at,
    read_manifest,
    read_pointer,
    recover_directory,
    sha256_bytes,
    sha256_file,
    verify_directory,
    write_json,
    write_pointer,
)


@pytest.fixture(params=["swap", "two renames"])
def renaming(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test on a file system that can swap two names, and on one that cannot."""
    if request.param == "two renames":
        monkeypatch.setattr(storage, "swap_names", lambda one, other: False)


def seal(path: Path, **files: str) -> Path:
    with atomic_directory(path) as directory:
        for name, text in files.items():
            (directory / name).write_text(text)
    return path


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_checksums(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == sha256_bytes(data) == hashlib.sha256(data).hexdigest()


def test_a_written_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "a", "old")
    atomic_write_text(tmp_path / "a", "Füße\n")
    write_json(tmp_path / "b.json", {"zwei": "二", "a": [1]})
    assert (tmp_path / "a").read_bytes() == "Füße\n".encode()
    assert (tmp_path / "b.json").read_text(encoding="utf-8") == '{\n  "zwei": "二",\n  "a": [\n    1\n  ]\n}\n'
    assert names(tmp_path) == ["a", "b.json"]


@pytest.mark.usefixtures("renaming")
def test_a_directory_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "final"
    seal(final, a="1", b="2")
    seal(final, a="3")
    verify_directory(final)
    assert (final / "a").read_text() == "3"
    assert names(final) == ["a", MANIFEST]
    assert names(final.parent) == ["final"]


def test_the_manifest_lists_every_file_with_size_and_checksum(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "final") as directory:
        (directory / "a").write_text("one")
        (directory / "train").mkdir()
        (directory / "train" / MANIFEST).write_text("a foreign file of this name is a file like any other")
    listed = read_manifest(tmp_path / "final")
    assert list(listed) == ["a", f"train/{MANIFEST}"]
    assert listed["a"] == {"bytes": 3, "sha256": hashlib.sha256(b"one").hexdigest()}
    (tmp_path / "final" / "train" / MANIFEST).write_text("altered")
    with pytest.raises(CheckpointError, match=r"train/manifest\.json"):
        verify_directory(tmp_path / "final")


def test_an_error_inside_leaves_the_old_directory(tmp_path: Path) -> None:
    seal(tmp_path / "final", a="old")
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "final") as directory:
        (directory / "a").write_text("new")
        raise KeyboardInterrupt
    verify_directory(tmp_path / "final")
    assert (tmp_path / "final" / "a").read_text() == "old"
    assert names(tmp_path) == ["final"]


def test_a_failing_rename_gives_the_old_directory_its_name_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(tmp_path / "final", a="old")
    monkeypatch.setattr(storage, "swap_names", lambda one, other: False)
    rename, calls = storage.os.rename, []

    def second_fails(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, "input/output error")
        rename(source, target)

    monkeypatch.setattr(storage.os, "rename", second_fails)
    with pytest.raises(OSError, match="input/output error"), atomic_directory(tmp_path / "final") as directory:
        (directory / "a").write_text("new")
    assert names(tmp_path) == ["final"]
    assert (tmp_path / "final" / "a").read_text() == "old"


def test_a_directory_left_aside_by_a_kill_is_found_again(tmp_path: Path) -> None:
    seal(tmp_path / "final", a="old").rename(tmp_path / "final.tmp-old-123")
    verify_directory(tmp_path / "final")
    assert names(tmp_path) == ["final"]
    seal(tmp_path / "final.tmp-old-7", a="waste")
    recover_directory(tmp_path / "final")
    assert (tmp_path / "final" / "a").read_text() == "old"


def test_waste_of_a_killed_process_with_the_same_number_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "swap_names", lambda one, other: False)
    monkeypatch.setattr(storage.os, "getpid", lambda: 7)
    seal(tmp_path / "final", a="old")
    for waste in ("final.tmp-old-7", "final.tmp-7"):
        (tmp_path / waste).mkdir()
        (tmp_path / waste / "half").touch()
    seal(tmp_path / "final", a="new")
    assert (tmp_path / "final" / "a").read_text() == "new"
    assert names(tmp_path) == ["final"]


def test_a_file_is_never_replaced_by_a_directory(tmp_path: Path) -> None:
    (tmp_path / "final").write_text("precious")
    with pytest.raises(CheckpointError) as caught:
        seal(tmp_path / "final", a="new")
    assert str(caught.value).startswith(f"{tmp_path / 'final'}: is a file\naccepted: a directory or a free name")
    assert (tmp_path / "final").read_text() == "precious"
    assert names(tmp_path) == ["final"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "a").unlink(), "the file 'a' is missing"),
        (lambda path: (path / "a").write_text("longer"), "'a' has 6 bytes, its manifest says 3"),
        (lambda path: (path / "a").write_text("twO"), "the content of 'a' does not match its SHA-256"),
        (lambda path: (path / "new").touch(), "'new' is not in the manifest"),
        (lambda path: (path / "new").symlink_to("nowhere"), "'new' is not in the manifest"),
        (lambda path: (path / MANIFEST).unlink(), "no manifest.json, so it is incomplete"),
        (lambda path: (path / MANIFEST).write_bytes(b"\xff"), "not a readable manifest"),
        (lambda path: (path / MANIFEST).write_text("[]"), "not a readable manifest"),
        (lambda path: (path / MANIFEST).write_text('{"files": {"a": 3}}'), "not a readable manifest"),
        (lambda path: (path / MANIFEST).write_text((path / MANIFEST).read_text() + " "), "the manifest was altered"),
    ],
)
def test_damage_is_named(damage: object, message: str, tmp_path: Path) -> None:
    path = seal(tmp_path / "final", a="two", b="x")
    damage(path)  # type: ignore[operator]
    with pytest.raises(CheckpointError) as caught:
        verify_directory(path)
    assert message in caught.value.what
    assert str(path) in caught.value.what
    assert caught.value.fix
    assert len(str(caught.value).splitlines()) <= 3


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint directory"):
        verify_directory(tmp_path / "absent" / "final")


def test_a_full_disk_says_how_much_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught, storage.disk_full_is_an_error(tmp_path / "a", 12_345):
        raise OSError(errno.ENOSPC, "No space left on device")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"disk full while writing {tmp_path / 'a'}: 12,345 bytes wanted, ")
    assert lines[0].endswith(" bytes free")
    assert "what was saved before is intact" in lines[1]


def test_another_failure_is_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), storage.disk_full_is_an_error(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "denied")


def test_pointer(tmp_path: Path) -> None:
    (tmp_path / "step-1").mkdir()
    write_pointer(tmp_path / "latest", "step-1")
    assert read_pointer(tmp_path / "latest") == tmp_path / "step-1"
    assert read_pointer(tmp_path / "absent") is None


@pytest.mark.parametrize("content", [b"", b"\n", b".", b"..", b"step-2", b"../outside", b"\xff\xfe", b"step\0-1"])
def test_a_damaged_pointer_points_nowhere(content: bytes, tmp_path: Path) -> None:
    """An empty one once meant the directory of checkpoints itself."""
    folder = tmp_path / "checkpoints"
    (folder / "step-1").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (folder / "latest").write_bytes(content)
    assert read_pointer(folder / "latest") is None


def test_checkpoint_of_a_path(tmp_path: Path) -> None:
    run = tmp_path / "run"
    step = seal(run / "checkpoints" / "step-1", **{"config.json": "{}"})
    write_pointer(run / "checkpoints" / "latest", "step-1")
    assert checkpoint_at(step) == checkpoint_at(run) == checkpoint_at(run / "checkpoints") == step
    with pytest.raises(CheckpointError, match="absent: no such directory"):
        checkpoint_at(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoint_at(tmp_path)


def test_manifest_is_json_with_a_version(tmp_path: Path) -> None:
    path = seal(tmp_path / "final", a="x")
    assert json.loads((path / MANIFEST).read_text())["version"] == 1
