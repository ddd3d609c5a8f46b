"""Every reply of a run, on the disk before it is used, so that nothing that was paid for is asked again.

One JSON object a line, appended and fsynced by whichever thread had the reply. A kill can tear the last line only, and
that one is cut off. All replies of a run are held in memory, which a run of a hundred thousand can afford.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict
from pathlib import Path

from smelt.core.errors import DataError
from smelt.core.storage import disk_full_is_an_error
from smelt.data.continuing import whole_lines
from smelt.data.synth.teacher import Reply


class Journal:
    """The replies by the keys of their requests.

    Raises:
        DataError: the file holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._replies: dict[str, Reply] = {}
        for number, line in enumerate(whole_lines(path), start=1):
            try:
                values = json.loads(line)
                key, reply = values.pop("key"), Reply(**values)
                if not isinstance(key, str) or not isinstance(reply.text, str):
                    raise TypeError("no text")
                self._replies[key] = reply
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                raise DataError(
                    f"{path}:{number}: not a reply of a teacher ({error})", fix="restore the file, or write another one"
                ) from None
        self._lock = threading.Lock()
        self._handle = open(path, "ab")  # noqa: SIM115  # closed by `close`

    def __len__(self) -> int:
        return len(self._replies)

    def __contains__(self, key: str) -> bool:
        return key in self._replies

    def __getitem__(self, key: str) -> Reply:
        return self._replies[key]

    def put(self, key: str, reply: Reply) -> None:
        """Bring a reply to the disk, then to memory; safe from several threads."""
        line = json.dumps({"key": key, **asdict(reply)}, ensure_ascii=False)
        with self._lock, disk_full_is_an_error(self.path):
            self._handle.write(line.encode("utf-8") + b"\n")
            self._handle.flush()
            os.fsync(self._handle.fileno())
            self._replies[key] = reply

    def close(self) -> None:
        """Close the file."""
        self._handle.close()
