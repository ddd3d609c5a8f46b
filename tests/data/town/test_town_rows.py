"""Preferences, labels, files, and what a wrong argument is told."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from smelt.core.errors import UsageError
from smelt.data.town import KINDS, LABELS, documents, instructions, labels, preferences, write
from smelt.data.town.emit import LANGUAGES


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_rejected_answer_is_another_of_the_same_form(kind: str, language: str):
    for row in preferences(150, seed=7, kinds=(kind,), languages=(language,)):
        assert row.chosen != row.rejected
        assert [message.role for message in row.messages][-1] == "user"
        assert "{" in row.rejected or not re.search(r"\{|\}", row.rejected)
        if kind == "count":
            assert row.rejected.isdigit() and 0 <= int(row.rejected) <= 99
        if kind == "arithmetic":
            assert re.sub(r"\d+(?=[.。]$)", "", row.rejected) == re.sub(r"\d+(?=[.。]$)", "", row.chosen)
        if kind in ("extract", "tool_call"):
            assert list(json.loads(row.rejected)) == list(json.loads(row.chosen))
        if kind == "sort":
            assert sorted(re.split(", |、", row.rejected)) == sorted(re.split(", |、", row.chosen))
        if kind not in ("unknowable", "yes_no"):
            assert row.rejected[-1:].isalnum() == row.chosen[-1:].isalnum()


def test_preferences_are_reproducible_and_sliceable():
    rows = list(preferences(40, seed=9, split="heldout"))
    assert rows[5:25] == list(preferences(20, seed=9, split="heldout", start=5))


def test_labels_are_balanced_and_sentences_are_filled():
    rows = list(labels(500, seed=1))
    assert Counter(row.labels[0] for row in rows) == dict.fromkeys(LABELS, 100)
    assert rows[40:60] == list(labels(20, seed=1, start=40))
    for row in rows:
        assert row.text[-1] in ".。" and "{" not in row.text
    english = {row.labels[0]: row.text for row in labels(300, seed=1, languages=("en",))}
    assert re.search("gave|got|brought", english["gift"]) and re.search("repaired|fixed|mended", english["repair"])


def test_files_hold_the_rows_of_the_streams(tmp_path: Path):
    sizes = write(
        tmp_path / "town",
        seed=3,
        split="heldout",
        num_documents=20,
        num_instructions=30,
        num_preferences=10,
        num_labels=5,
    )
    assert set(sizes) == {"pretrain.jsonl", "instructions.jsonl", "preferences.jsonl", "labels.jsonl"}

    def rows_of(name: str) -> list[dict[str, object]]:
        data = (tmp_path / "town" / name).read_bytes()
        assert len(data) == sizes[name]
        return [json.loads(line) for line in data.decode().splitlines()]

    assert [row["text"] for row in rows_of("pretrain.jsonl")] == [
        row.text for row in documents(20, seed=3, split="heldout")
    ]
    for row, made in zip(rows_of("instructions.jsonl"), instructions(30, seed=3, split="heldout"), strict=True):
        assert row["messages"] == [{"role": part.role, "content": part.content} for part in made.messages]
        assert (row["kind"], row["gold"]) == (made.kind, made.gold)
    assert set(rows_of("preferences.jsonl")[0]) == {"messages", "chosen", "rejected"}
    assert [row["label"] for row in rows_of("labels.jsonl")] == list(LABELS)


def test_only_the_files_asked_for_are_written(tmp_path: Path):
    write(tmp_path, seed=3, num_labels=5)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.jsonl"]


def test_writing_where_a_file_is(tmp_path: Path):
    (tmp_path / "town").write_text("mine")
    with pytest.raises(UsageError) as error:
        write(tmp_path / "town", seed=3, num_labels=5)
    assert str(error.value) == f"town: {tmp_path / 'town'} is a file\ntry: choose another out=DIRECTORY"
    assert (tmp_path / "town").read_text() == "mine"


def test_unknown_arguments_are_named_with_what_is_accepted():
    with pytest.raises(UsageError) as error:
        list(instructions(1, seed=0, kinds=("sorting",)))
    assert str(error.value).splitlines()[0] == "town: unknown kind of instruction 'sorting'. Did you mean 'sort'?"
    assert str(error.value).splitlines()[1] == "accepted: " + ", ".join(KINDS)
    with pytest.raises(UsageError, match=r"^town: unknown language 'fr'\.\naccepted: en, zh$"):
        list(documents(1, seed=0, languages=("fr",)))
    with pytest.raises(UsageError, match=r"^town: unknown split 'test'\.\naccepted: train, heldout$"):
        list(labels(1, seed=0, split="test"))
    with pytest.raises(UsageError, match="town: no language given"):
        list(preferences(1, seed=0, languages=()))
