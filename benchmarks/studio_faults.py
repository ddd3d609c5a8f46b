"""Kill -9 the studio at random moments while people vote and chat; nothing acknowledged may be lost, nothing doubled.

`smelt studio` runs as a process of its own over a folder with a tiny model. Eight writers, threads of this process,
each vote on rounds (every vote clicked twice) and post messages over HTTP. What is not answered with success is tried
again with the same id, when there is a server again. In the end the store is checked and the rows are counted by what
they say, not by their ids.

    python benchmarks/studio_faults.py --kills 100
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sql

import smelt
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.serve.store import tables
from smelt.serve.store.database import Store, new_id
from smelt.serve.store.rounds import Round, Side, add_round
from smelt.studio.context import OWNER
from smelt.tokenizers.bpe_train import train_bpe

LONGEST_LIFE_SECONDS = 1.5
START_SECONDS = 600  # on a machine that has much else to do
PAUSE_SECONDS = 0.05  # before a request is tried again
SIDES = (Side("runs/tiny", "Here.", "stop"), Side("runs/tiny@int8", "There.", "stop"))


class Studio:
    """A studio that can be killed and started again over the same folder, at the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, folder / "studio.db"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        tiny = Shape(vocab_size=259, dim=24, num_layers=2, num_heads=4, num_kv_heads=2, max_seq_len=256)
        smelt.save(build(spec_for("llama", tiny), seed=1), train_bpe(["a"], vocab_size=259), folder / "runs" / "tiny")

    def start(self) -> None:
        """Start it and wait until it answers; raises RuntimeError with its log where it does not."""
        words = [sys.executable, "-m", "smelt.cli.main", "studio", str(self.folder), "--port", str(self.port)]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while self.ask("GET", "/studio/session") != 200:
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the studio did not come up\n{(self.folder / 'log').read_text()[-4000:]}")
            time.sleep(PAUSE_SECONDS)

    def kill(self) -> None:
        """Kill it, so that it can tidy up nothing."""
        self.process.kill()
        self.process.wait()

    def ask(self, method: str, path: str, body: Any = None) -> int:
        """Send a request and return the status, 0 where no whole answer comes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            return response.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


class Writer(threading.Thread):
    """One person: votes and messages, one after the other, each tried until it is acknowledged."""

    def __init__(self, studio: Studio, store: Store, number: int, deeds: Sequence[str], over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.studio, self.store, self.over = studio, store, over
        self.name, self.deeds = f"w{number}", deeds
        self.chat, self.parent = new_id(), ""
        self.acknowledged: dict[str, list[str]] = {deed: [] for deed in DEEDS}
        self.refused: list[str] = []

    def run(self) -> None:
        """Go on until it is over."""
        number = 0
        while not self.over.is_set():
            number += 1
            for deed in self.deeds:
                said = f"{deed} {self.name}-{number}"
                if DEEDS[deed](self, said):
                    self.acknowledged[deed].append(said)

    def insist(self, path: str, body: Any) -> bool:
        """Send a request until it succeeds; return False when it is over first, or it is refused."""
        while not self.over.is_set():
            status = self.studio.ask("POST", path, body)
            if status in (200, 201):
                return True
            if 400 <= status < 500:
                self.refused.append(f"{path}: {status}")
                return False
            time.sleep(PAUSE_SECONDS)
        return False


def vote(writer: Writer, said: str) -> bool:
    """Vote on a new round, with two clicks; its answers are written beforehand, as this is not about them."""
    name = new_id()
    add_round(writer.store, Round(name, OWNER, said, SIDES))
    path, body = f"/studio/arena/rounds/{name}/vote", {"winner": "a", "reason": said}
    return writer.insist(path, body) and writer.insist(path, body)


def say(writer: Writer, said: str) -> bool:
    """Post a message that follows the one before, the first in a new chat."""
    if not writer.parent and not writer.insist("/studio/chats", {"id": writer.chat, "title": writer.name}):
        return False
    name = new_id()
    body = {"id": name, "parent": writer.parent or None, "role": "user", "content": said}
    if not writer.insist(f"/studio/chats/{writer.chat}/messages", body):
        return False
    writer.parent = name
    return True


DEEDS: dict[str, Callable[[Writer, str], bool]] = {"vote": vote, "message": say}
SAID = {"vote": tables.round_votes.c.reason, "message": tables.messages.c.content}


def torment(studio: Studio, writers: Sequence[Writer], kills: int, chance: random.Random) -> None:
    """Let the writers work, and kill the studio under them."""
    studio.start()
    for writer in writers:
        writer.start()
    for _ in range(kills):
        time.sleep(chance.uniform(0, LONGEST_LIFE_SECONDS))
        studio.kill()
        studio.start()
    time.sleep(LONGEST_LIFE_SECONDS)
    writers[0].over.set()
    for writer in writers:
        writer.join()
    studio.kill()


def judge(place: Path, writers: Sequence[Writer]) -> dict[str, Any]:
    """Count what was acknowledged, and of it what is lost or doubled."""
    store = Store.open(place)
    with store.read() as connection:
        integrity = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
        foreign = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        written = {deed: Counter(connection.execute(sql.select(column)).scalars()) for deed, column in SAID.items()}
    store.close()
    found: dict[str, Any] = {"integrity": integrity if not foreign else f"broken references: {len(foreign)}"}
    for deed, counts in written.items():
        told = [said for writer in writers for said in writer.acknowledged[deed]]
        found[f"{deed}s_acknowledged"] = len(told)
        found[f"{deed}s_written"] = counts.total()
        found[f"{deed}s_lost"] = sum(not counts[said] for said in told)
        found[f"{deed}s_doubled"] = sum(count - 1 for count in counts.values())
    found["refused"] = [refusal for writer in writers for refusal in writer.refused][:5]
    return found


def main(kills: int, num_writers: int, seed: int, deeds: Sequence[str]) -> int:
    """Print what was found; return 0 when nothing is lost, doubled, refused or broken."""
    with tempfile.TemporaryDirectory() as folder:
        studio, over = Studio(Path(folder)), threading.Event()
        store = Store.open(studio.place)
        writers = [Writer(studio, store, number, deeds, over) for number in range(num_writers)]
        started = time.monotonic()
        torment(studio, writers, kills, random.Random(seed))
        store.close()
        found = judge(studio.place, writers)
        print(json.dumps({"kills": kills, "seconds": round(time.monotonic() - started, 1), **found}))
    bad = any(found[f"{deed}s_{what}"] for deed in DEEDS for what in ("lost", "doubled"))
    good = all(found[f"{deed}s_acknowledged"] for deed in deeds) and found["integrity"] == "ok"
    return 0 if good and not bad and not found["refused"] else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how often to kill")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deeds", nargs="+", choices=DEEDS, default=list(DEEDS), help="what the writers do")
    arguments = parser.parse_args()
    sys.exit(main(arguments.kills, arguments.writers, arguments.seed, arguments.deeds))
