"""Kill -9 writers of one store at random instants; nothing that was acknowledged may be lost, nothing doubled.

Eight processes vote and chat in one SQLite file. A writer notes each number that the store has acknowledged; whoever is
killed is started again and goes on behind its last note, so what was under way is tried a second time. Mostly one is
killed, every tenth time all at once. In the end the file is checked, and each writer's rows are counted by what they
say, not by their ids.

    python benchmarks/store_faults.py --kills 500
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

import sqlalchemy as sql

from smelt.serve.store import tables
from smelt.serve.store.chats import Chat, Message, add_message, create_chat
from smelt.serve.store.database import Store
from smelt.serve.store.rounds import Round, Side, Vote, add_round, vote_on
from smelt.serve.store.votes import Thumb, rate_message

PAIR = "pair"
LONGEST_LIFE_SECONDS = 0.4
ALL_AT_ONCE = 10


def write(place: Path, notes: Path, writer: int) -> None:
    """Chat and vote until killed: message n answers message n - 1 and gets a thumb; voter n chooses, twice."""
    store, owner = Store.open(place), f"w{writer}"
    create_chat(store, Chat(owner, owner, ""))
    log = os.open(notes / owner, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = acknowledged(notes, writer)
    while True:
        number += 1
        name = f"{owner}-{number}"
        parent = f"{owner}-{number - 1}" if number > 1 else None
        add_message(store, owner, Message(name, owner, parent, "user", f"message {name}"))
        rate_message(store, Thumb(name, owner, 1 if number % 2 else -1))
        for _ in range(2):  # a double click
            vote_on(store, Vote(PAIR, name, "tie", f"vote {name}"))
        os.write(log, b"%d\n" % number)


def acknowledged(notes: Path, writer: int) -> int:
    """Return the last number that a writer has noted."""
    path = notes / f"w{writer}"
    lines = path.read_bytes().splitlines() if path.exists() else []
    return int(lines[-1]) if lines else 0


def torment(place: Path, notes: Path, num_writers: int, kills: int, chance: random.Random) -> None:
    """Keep writers at work and kill them."""
    context = multiprocessing.get_context("fork")

    def begin(writer: int) -> BaseProcess:
        process = context.Process(target=write, args=(place, notes, writer), daemon=True)
        process.start()
        return process

    running = [begin(writer) for writer in range(num_writers)]
    for kill in range(1, kills + 1):
        time.sleep(chance.uniform(0, LONGEST_LIFE_SECONDS))
        doomed = range(num_writers) if kill % ALL_AT_ONCE == 0 else [chance.randrange(num_writers)]
        for writer in doomed:
            running[writer].kill()
        for writer in doomed:
            running[writer].join()
            assert running[writer].exitcode == -9, f"writer {writer} ended by itself with {running[writer].exitcode}"
            running[writer] = begin(writer)
    for process in running:
        process.kill()
        process.join()


def judge(place: Path, notes: Path, num_writers: int) -> dict[str, object]:
    """Count what was acknowledged, and of it what is lost or doubled."""
    store = Store.open(place)
    with store.read() as connection:
        integrity = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
        foreign = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        messages = Counter(connection.execute(sql.select(tables.messages.c.content)).scalars())
        thumbs = Counter(connection.execute(sql.select(tables.message_votes.c.message)).scalars())
        choices = Counter(connection.execute(sql.select(tables.round_votes.c.reason)).scalars())
    store.close()
    lost = doubled = num_acknowledged = 0
    for writer in range(num_writers):
        last = acknowledged(notes, writer)
        num_acknowledged += last
        for number in range(1, last + 1):
            name = f"w{writer}-{number}"
            lost += sum(not found for found in (messages[f"message {name}"], thumbs[name], choices[f"vote {name}"]))
    for found in (messages, thumbs, choices):
        doubled += sum(count - 1 for count in found.values())
    return {
        "acknowledged": 3 * num_acknowledged,
        "written": messages.total() + thumbs.total() + choices.total(),
        "lost": lost,
        "doubled": doubled,
        "integrity": integrity if not foreign else f"broken references: {len(foreign)}",
    }


def main(kills: int, num_writers: int, seed: int) -> int:
    """Print what was found; return 0 when nothing is lost, doubled or broken."""
    with tempfile.TemporaryDirectory() as folder:
        place, notes = Path(folder) / "store.db", Path(folder) / "notes"
        notes.mkdir()
        store = Store.open(place)
        add_round(store, Round(PAIR, "w0", "Where?", (Side("small", "Here."), Side("large", "There."))))
        store.close()
        started = time.monotonic()
        torment(place, notes, num_writers, kills, random.Random(seed))
        found = judge(place, notes, num_writers)
        print(json.dumps({"kills": kills, "seconds": round(time.monotonic() - started, 1), **found}))
    good = found["acknowledged"] and not found["lost"] and not found["doubled"] and found["integrity"] == "ok"
    return 0 if good else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="how often to kill")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.exit(main(arguments.kills, arguments.writers, arguments.seed))
