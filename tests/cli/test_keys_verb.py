"""`smelt keys`: made and shown once, listed, revoked, and what `smelt serve` makes of them."""

from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")

from smelt.cli.serve import known_keys

from .conftest import Smelt


def test_from_its_making_to_its_end(smelt: Smelt, tmp_path: Path) -> None:
    place = tmp_path / "smelt.db"
    key = smelt("keys", "create", "ann", "--store", place).out.strip()
    other = smelt("keys", "create", "prometheus", "--scope", "metrics", "--store", place, "--json").json["key"]
    assert key.startswith("sk-") and other.startswith("sk-") and key != other
    assert smelt("keys", "revoke", "ann", "--store", place).code == 0
    shown = smelt("keys", "list", "--store", place)
    rows = [line.split() for line in shown.out.splitlines()]
    assert rows[0] == ["name", "opens", "made", "revoked"]
    assert [(row[0], row[-1] == "-") for row in rows[1:]] == [("ann", False), ("prometheus", True)]
    found = smelt("keys", "list", "--store", place, "--json")
    assert [(row["name"], row["scopes"]) for row in found.json["keys"]] == [
        ("ann", ["models", "metrics"]),
        ("prometheus", ["metrics"]),
    ]
    assert key not in shown.out + found.out and other not in found.out


def test_what_cannot_be(smelt: Smelt, tmp_path: Path) -> None:
    place = tmp_path / "smelt.db"
    assert f"no key in {place}" in smelt("keys", "list", "--store", place).out
    for words, code, message in (
        (("create", "a b"), 2, "a key named 'a b'"),
        (("create", "ann", "--scope", "all"), 2, "no scope 'all'"),
        (("revoke", "ann"), 1, "there is no key 'ann'"),
    ):
        result = smelt("keys", *words, "--store", place)
        assert result.code == code and message in result.err
    smelt("keys", "create", "ann", "--store", place)
    again = smelt("keys", "create", "ann", "--store", place)
    assert again.code == 1 and "there is a key ann" in again.err and again.out == ""


def test_where_there_has_been_a_key_one_is_needed(smelt: Smelt, tmp_path: Path) -> None:
    from smelt.serve.store.database import Store

    place = tmp_path / "smelt.db"
    assert known_keys(None, None) is None and known_keys(None, Store.open(place)) is None
    smelt("keys", "create", "ann", "--store", place)
    smelt("keys", "revoke", "ann", "--store", place)
    keys = known_keys(None, Store.open(place))
    assert keys is not None and keys.stored is not None and keys.stored() == []


def test_no_address_for_others_without_a_key(smelt: Smelt, checkpoint: Path, tmp_path: Path) -> None:
    result = smelt("serve", checkpoint, "--host", "0.0.0.0", "--store", tmp_path / "smelt.db")
    assert result.code == 2 and "lets other machines in" in result.err
    assert "smelt keys create NAME --store FILE" in result.err
