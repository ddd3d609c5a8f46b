"""The streams of the town as files that any tool can read: one JSON object a line, UTF-8.

The files are the rows of `emit`, nothing more, so what is trained from files is what is trained from the generator.
Each file is written whole or not at all; a file is held in memory while it is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from smelt.core.errors import UsageError
from smelt.core.storage import atomic_write_bytes
from smelt.data.records import Message
from smelt.data.town.emit import LANGUAGES, documents, instructions, labels, preferences
from smelt.data.town.lexicon import Language
from smelt.data.town.split import Split

Row = Mapping[str, object]


def write(
    directory: Path | str,
    *,
    seed: int,
    split: Split = "train",
    num_documents: int = 0,
    num_instructions: int = 0,
    num_preferences: int = 0,
    num_labels: int = 0,
    languages: Sequence[Language] = LANGUAGES,
    kinds: Sequence[str] | None = None,
    max_questions: int = 1,
) -> dict[str, int]:
    """Write the streams that are asked for and return the bytes of each file by its name.

    Files: pretrain.jsonl (text), instructions.jsonl (messages, kind, gold), preferences.jsonl (messages, chosen,
    rejected), labels.jsonl (text, label). `kinds` and `max_questions` are those of `instructions`. Raises UsageError
    for an unknown split, language or kind.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"town: {directory} is a file", fix="choose another out=DIRECTORY")
    directory.mkdir(parents=True, exist_ok=True)
    files: dict[str, tuple[int, Iterator[Row]]] = {
        "pretrain.jsonl": (
            num_documents,
            ({"text": row.text} for row in documents(num_documents, seed=seed, split=split, languages=languages)),
        ),
        "instructions.jsonl": (
            num_instructions,
            (
                {"messages": _plain(row.messages), "kind": row.kind, "gold": row.gold}
                for row in instructions(
                    num_instructions,
                    seed=seed,
                    split=split,
                    languages=languages,
                    kinds=kinds,
                    max_questions=max_questions,
                )
            ),
        ),
        "preferences.jsonl": (
            num_preferences,
            (
                {"messages": _plain(row.messages), "chosen": row.chosen, "rejected": row.rejected}
                for row in preferences(num_preferences, seed=seed, split=split, languages=languages)
            ),
        ),
        "labels.jsonl": (
            num_labels,
            (
                {"text": row.text, "label": row.labels[0]}
                for row in labels(num_labels, seed=seed, split=split, languages=languages)
            ),
        ),
    }
    return {name: _write_lines(directory / name, rows) for name, (num, rows) in files.items() if num}


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _write_lines(path: Path, rows: Iterable[Row]) -> int:
    data = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    atomic_write_bytes(path, data)
    return len(data)
