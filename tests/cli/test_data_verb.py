"""`smelt data`: inspect with the loss mask, pack, town."""

import json
from pathlib import Path

import pytest

from smelt.cli.data import percentiles, shorten
from smelt.data.shards import TokenShards

from .conftest import Smelt, write_chats


def test_inspect_counts_rows_and_names_the_bad_ones(smelt: Smelt, tmp_path: Path) -> None:
    path = write_chats(tmp_path / "a.jsonl", [[("user", "Hi?"), ("assistant", "Ho.")]])
    with path.open("a") as handle:
        handle.write(
            '{"messages": [{"role": "user", "content": "x"}]}\n{"messages": [{"role": "usr", "content": "x"}]}\n'
        )
    shown = smelt("data", "inspect", path)
    assert shown.code == 0
    assert "rows     1 good, 2 bad" in shown.out and "format   messages 1" in shown.out
    assert f"bad      {path}:2: no assistant turn among 1 messages" in shown.out
    assert f"bad      {path}:3, message 1: role 'usr' unknown; did you mean 'user'?" in shown.out
    values = smelt("data", "inspect", path, "--json").json
    assert (values["num_ok"], values["num_bad"], len(values["first_bad"])) == (1, 2, 2)


def test_inspect_shows_the_loss_mask_around_what_is_learned(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    path = write_chats(tmp_path / "a.jsonl", [[("user", "Hi?"), ("assistant", "Ho.")]])
    expected = "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n[[Ho.<|im_end|>]]\n"
    assert expected in smelt("data", "inspect", path).out
    with_tokens = smelt("data", "inspect", path, "--tokenizer", checkpoint)
    assert expected in with_tokens.out
    assert smelt("data", "inspect", path, "--tokenizer", checkpoint, "--json").json["lengths"]["longest"] == 27
    assert "lengths  10 % 6, median 6, 90 % 6, 99 % 6, longest 6 bytes" in smelt("data", "inspect", path).out


def test_all_of_a_plain_text_is_learned(smelt: Smelt, text_file: Path) -> None:
    shown = smelt("data", "inspect", text_file).out
    assert f"example  {text_file}:1, 100% learned\n[[The mill by the river has 0 sails" in shown
    assert shown.count("example  ") == 3


def test_percentiles_are_lengths_that_occur() -> None:
    assert percentiles(range(1, 101)) == {"10 %": 10, "median": 50, "90 %": 90, "99 %": 99, "longest": 100}
    assert percentiles([7]) == {"10 %": 7, "median": 7, "90 %": 7, "99 %": 7, "longest": 7}
    assert percentiles([]) == {}


def test_long_parts_lose_their_middle() -> None:
    assert shorten("a" * 500) == "a" * 500
    assert shorten("a" * 400 + "b" * 400) == "a" * 250 + " ... 300 characters ... " + "b" * 250


def test_pack_writes_shards_that_inspect_verifies(
    smelt: Smelt, checkpoint: Path, text_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    result = smelt("data", "pack", text_file, "--tokenizer", checkpoint, "--out", out, "--json")
    assert result.code == 0
    texts = [json.loads(line)["text"] for line in text_file.read_text().splitlines()]
    assert result.json["num_documents"] == 40 and result.json["num_tokens"] == sum(len(text) + 1 for text in texts)
    assert TokenShards.open(out).meta.num_text_bytes == result.json["num_bytes"] == sum(map(len, texts))
    assert "every byte as its manifest says" in smelt("data", "inspect", out).out
    assert smelt("data", "inspect", out, "--json").json["num_documents"] == 40
    again = smelt("data", "pack", text_file, "--tokenizer", checkpoint, "--out", out)
    assert again.code == 0, "earlier shards may be replaced"


def test_pack_replaces_nothing_but_shards(smelt: Smelt, checkpoint: Path, text_file: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years")
    result = smelt("data", "pack", text_file, "--tokenizer", checkpoint, "--out", tmp_path / "precious")
    assert result.code == 2 and "is not empty and holds no token shards" in result.err
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years"


def test_town_writes_rows_by_seed(smelt: Smelt, tmp_path: Path) -> None:
    counts = ("--documents", 6, "--instructions", 4, "--preferences", 3, "--labels", 2)
    made = smelt("data", "town", "--out", tmp_path / "a", *counts, "--language", "en", "--json")
    assert made.code == 0 and 0.1 < made.json["floor_bits_per_byte"] < 2
    lines = {name: (tmp_path / "a" / name).read_text().splitlines() for name in made.json["files"]}
    assert {name: len(rows) for name, rows in lines.items()} == {
        "pretrain.jsonl": 6, "instructions.jsonl": 4, "preferences.jsonl": 3, "labels.jsonl": 2,
    }  # fmt: skip
    assert "".join(lines["pretrain.jsonl"]).isascii(), "English only"
    smelt("data", "town", "--out", tmp_path / "b", *counts, "--language", "en")
    assert (tmp_path / "b" / "pretrain.jsonl").read_bytes() == (tmp_path / "a" / "pretrain.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "nothing to write"),
        (("--documents", "1", "--split", "heldot"), "unknown split 'heldot'. Did you mean 'heldout'?"),
        (("--documents", "1", "--language", "fr"), "unknown language 'fr'"),
        (("--documents", "-1"), "invalid value for '--documents'"),
    ],
)
def test_town_refuses(smelt: Smelt, tmp_path: Path, words: tuple[str, ...], what: str) -> None:
    result = smelt("data", "town", "--out", tmp_path / "t", *words)
    assert result.code == 2 and what in result.err
