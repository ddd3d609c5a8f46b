"""Who may use the server: keys, known by their SHA-256 hashes and compared in constant time.

Neither a file of keys nor a store tells anybody a key. A file is read once and its keys open everything; those of a
store come and go while the server runs, so it is asked at every request, and each opens what its scopes name.

Ref: timing: CVE-2025-59425; keys from one place only: CVE-2026-45339.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from smelt.core.errors import DataError, SmeltError
from smelt.serve.errors import ApiError, without_store

HASH = re.compile(r"[0-9a-f]{64}")
Scope = Literal["models", "metrics", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
USUAL_SCOPES: tuple[Scope, ...] = ("models", "metrics")
"""What a key opens that is made without a word; the rest, to change what everybody shares, is given by name."""


@dataclass(frozen=True)
class Key:
    """What is known of a key: its SHA-256 in hexadecimal, whose it is, and what it opens."""

    hash: str
    owner: str
    scopes: tuple[Scope, ...] = SCOPES


class Keys:
    """The keys that open the server.

    Args:
        hashes: SHA-256 of each that opens everything, in hexadecimal.
        stored: returns further ones; called in a thread.
    """

    def __init__(self, hashes: Sequence[str], stored: Callable[[], Sequence[Key]] | None = None) -> None:
        self.hashes, self.stored = tuple(hashes), stored

    async def check(self, authorization: Sequence[str], scope: Scope) -> str:
        """Return whose key the one Authorization header holds.

        Raises ApiError for no known key (401) or one without this scope (403). Every key is compared, always.
        """
        scheme, _, key = authorization[0].partition(" ") if len(authorization) == 1 else ("", "", "")
        given = hash_of(key.strip())
        known = [*(Key(found, owner=found) for found in self.hashes), *await self._ask_store()]
        matches = [key for key in known if hmac.compare_digest(given, key.hash)]
        if scheme.lower() != "bearer" or not matches:
            raise ApiError(
                401,
                "a key is needed: Authorization: Bearer KEY" if not authorization else "this key is not known",
                kind="authentication_error",
                code="invalid_api_key",
            )
        if scope not in matches[0].scopes:
            raise ApiError(403, f"this key does not open {scope}", kind="permission_error", code="missing_scope")
        return matches[0].owner

    async def _ask_store(self) -> Sequence[Key]:
        if self.stored is None:
            return ()
        try:
            return await asyncio.to_thread(self.stored)
        except SmeltError as error:
            raise without_store(error) from error


def hash_of(key: str) -> str:
    """Return the SHA-256 of a key in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def read_hashes(path: Path) -> list[str]:
    """Read a file with one hash a line, whatever follows it; `#` begins a comment.

    Raises:
        DataError: the file is missing, holds no hash or a line that is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    found = []
    for row, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if words and not HASH.fullmatch(words[0].lower()):
            raise DataError(f"{path}:{row}: no SHA-256 hash", accepted="64 hexadecimal digits, as sha256sum writes")
        found += [words[0].lower()] if words else []
    if not found:
        raise DataError(f"{path} holds no key", fix="add the line that `sha256sum` prints for one")
    return found
