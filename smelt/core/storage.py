"""Files that are either whole or absent: atomic writes, and directories sealed by a manifest.

A directory is prepared beside its final name, every file is flushed and fsynced, `manifest.json` with the
SHA-256 and size of each file is written last, the directory is renamed into place and its parent fsynced.
A kill at any instant leaves the old state or the new one, never a mixture; what was left over is a `.tmp-`
directory that nobody reads. An old directory and its successor swap names in one system call; where the file
system has none there are two renames, and `recover_directory` mends a kill between them.
Verification costs one read of the files (about 1 GB/s a processor, one file each).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError

from smelt.core.download import download, is_id
from smelt.core.errors import CheckpointError, ResourceError

MANIFEST = "manifest.json"
ASIDE = ".tmp-old-"  # an old directory while its successor takes the name


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path | str) -> str:
    """Return the SHA-256 of a file in hexadecimal, read in pieces."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_files(paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each file, of as many at a time as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases Python's lock
        return list(pool.map(sha256_file, paths))


def fsync_path(path: Path) -> None:
    """Force a file or a directory entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write_bytes(path: Path | str, data: bytes) -> None:
    """Replace a file's content in one step.

    Raises:
        ResourceError: the disk is full; the old content is intact.
    """
    with atomic_file(path, len(data)) as handle:
        handle.write(data)


@contextlib.contextmanager
def atomic_file(path: Path | str, num_bytes: int | None = None) -> Iterator[BinaryIO]:
    """Yield a file to write that becomes `path` in one step, and only when the block ends without an error.

    Raises:
        ResourceError: the disk is full; the old content is intact.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    with disk_full_is_an_error(path, num_bytes):
        try:
            with open(temporary, "wb") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
            fsync_path(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def atomic_write_text(path: Path | str, text: str) -> None:
    """Replace a text file's content (UTF-8) in one step."""
    atomic_write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: object) -> None:
    """Write a value as indented JSON in one step."""
    atomic_write_text(path, json_text(value))


def json_text(value: object) -> str:
    """Return a value as indented JSON with a newline at its end."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


@contextlib.contextmanager
def disk_full_is_an_error(path: Path, num_bytes: int | None = None) -> Iterator[None]:
    """Turn "no space left" into a message that says how much is needed and how much there is."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not is_disk_full(error):
            raise
        free = shutil.disk_usage(path.parent if path.parent.exists() else Path.cwd()).free
        wanted = f"{num_bytes:,} bytes wanted, " if num_bytes is not None else ""
        raise ResourceError(
            f"disk full while writing {path}: {wanted}{free:,} bytes free",
            fix="free some space, or write elsewhere with out=DIRECTORY; what was saved before is intact",
        ) from error


def is_disk_full(error: OSError | SafetensorError) -> bool:
    """Tell "no space left" and "quota exceeded" from other failures; safetensors has the number in its text only."""
    full = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError):
        return error.errno in full
    return any(f"(os error {number})" in str(error) for number in full)


@contextlib.contextmanager
def atomic_directory(final: Path | str) -> Iterator[Path]:
    """Yield a temporary directory that becomes `final` only when the block ends without an error.

    An existing `final` is replaced and deleted last, so that there is no instant without one of the two on disk.

    Raises:
        CheckpointError: `final` is a file.
        ResourceError: the disk is full; nothing was replaced.
    """
    final = Path(final)
    temporary = final.with_name(f"{final.name}.tmp-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    recover_directory(final)
    if final.exists() and not final.is_dir():
        raise CheckpointError(f"{final}: is a file", accepted="a directory or a free name", fix="choose another name")
    try:
        with disk_full_is_an_error(final):
            temporary.mkdir(parents=True)
            yield temporary
            seal(temporary)
            replace_directory(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_directory(source: Path, final: Path) -> None:
    """Give `source` the name `final` and delete what had it; after an error the old `final` is in place."""
    old = source
    if not final.exists():
        os.rename(source, final)
    elif not swap_names(source, final):
        old = final.with_name(f"{final.name}{ASIDE}{os.getpid()}")
        shutil.rmtree(old, ignore_errors=True)  # of a killed process with the same number; `final` is there, so waste
        os.rename(final, old)
        try:
            os.rename(source, final)
        except BaseException:
            recover_directory(final)
            raise
    fsync_path(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def swap_names(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot."""
    system = ctypes.CDLL(None)
    names = os.fsencode(one.absolute()), os.fsencode(other.absolute())
    at_working_directory, exchange = -100, 2  # Linux: AT_FDCWD, RENAME_EXCHANGE; macOS: RENAME_SWAP is 2 also
    if sys.platform == "linux" and hasattr(system, "renameat2"):
        return int(system.renameat2(at_working_directory, names[0], at_working_directory, names[1], exchange)) == 0
    if sys.platform == "darwin" and hasattr(system, "renamex_np"):
        return int(system.renamex_np(*names, exchange)) == 0
    return False


def recover_directory(final: Path) -> None:
    """Give a directory its name back that a kill between the two renames of `replace_directory` left aside."""
    if final.exists() or not final.parent.is_dir():
        return
    for path in sorted(final.parent.iterdir()):
        if path.name.startswith(final.name + ASIDE):
            os.rename(path, final)
            return


def seal(directory: Path) -> None:
    """Fsync every file of a directory, then write its manifest last."""
    everything = [path for path in sorted(directory.rglob("*")) if path != directory / MANIFEST]
    paths = [path for path in everything if path.is_file()]
    for path in everything:
        if path.is_file() or path.is_dir():
            fsync_path(path)
    files: dict[str, dict[str, object]] = {
        path.relative_to(directory).as_posix(): {"bytes": path.stat().st_size, "sha256": digest}
        for path, digest in zip(paths, sha256_files(paths), strict=True)
    }
    atomic_write_text(directory / MANIFEST, manifest_text(files))
    fsync_path(directory)


def manifest_text(files: dict[str, dict[str, object]]) -> str:
    """Return the one way to write a manifest, so that any change of its bytes is seen."""
    return json_text({"version": 1, "files": files})


def verify_directory(directory: Path | str) -> None:
    """Check every file of a sealed directory against its manifest.

    Raises:
        CheckpointError: it is missing, has no readable manifest, or a file is absent, altered or unknown.
    """
    directory = Path(directory)
    fix = "restore the directory from a copy, or resume from an earlier step"
    recover_directory(directory)
    if not directory.is_dir():
        raise CheckpointError(
            f"{directory}: no such checkpoint directory", fix="check the path; `smelt runs list` shows what there is"
        )
    expected = read_manifest(directory)
    present = {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if not path.is_dir() and path != directory / MANIFEST
    }
    for name, entry in expected.items():
        if name not in present:
            raise CheckpointError(f"{directory}: the file '{name}' is missing", fix=fix)
        size = (directory / name).stat().st_size
        if size != entry["bytes"]:
            raise CheckpointError(
                f"{directory}: '{name}' has {size:,} bytes, its manifest says {entry['bytes']:,}", fix=fix
            )
    if unknown := sorted(present - set(expected)):
        raise CheckpointError(
            f"{directory}: '{unknown[0]}' is not in the manifest", fix="move foreign files out of the checkpoint"
        )
    digests = sha256_files([directory / name for name in expected])
    for (name, entry), digest in zip(expected.items(), digests, strict=True):
        if digest != entry["sha256"]:
            raise CheckpointError(f"{directory}: the content of '{name}' does not match its SHA-256", fix=fix)


def read_manifest(directory: Path) -> dict[str, dict[str, object]]:
    """Return the manifest's table of files.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{directory}: no {MANIFEST}, so it is incomplete", fix="resume from an earlier step")
    try:
        text = path.read_bytes().decode("utf-8")
        files = {
            str(name): {"bytes": int(entry["bytes"]), "sha256": str(entry["sha256"])}
            for name, entry in json.loads(text)["files"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not a readable manifest ({error})", fix="resume from an earlier step"
        ) from error
    if text != manifest_text(files):
        raise CheckpointError(f"{path}: the manifest was altered", fix="resume from an earlier step")
    return files


def write_pointer(pointer: Path, target: str) -> None:
    """Make a small file that names another entry of its directory (`latest` -> `step-000100`)."""
    atomic_write_text(pointer, target + "\n")


def read_pointer(pointer: Path) -> Path | None:
    """Return what a pointer file names, or None where the pointer or its target is absent."""
    if not pointer.is_file():
        return None
    name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    target = pointer.parent / name
    return target if name == target.name != ".." and target.is_dir() else None


def checkpoint_at(path: Path | str) -> Path:
    """Return the checkpoint directory that a path means: itself, the newest one of a run, or a published one by its id.

    Raises:
        CheckpointError: there is none of them.
        ResourceError: it is an id, and the package that downloads it is not installed.
    """
    path = Path(path)
    recover_directory(path)
    if not path.exists() and is_id(str(path)):
        return download(str(path))
    if any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
        return path
    newest = read_pointer(path / "checkpoints" / "latest") or read_pointer(path / "latest")
    if newest is None:
        raise CheckpointError(
            f"{path}: {'holds no checkpoint' if path.is_dir() else 'no such directory'}",
            accepted="a checkpoint directory (with config.json or adapter_config.json) or a run directory",
            fix="`smelt runs list` shows what there is",
        )
    return newest
