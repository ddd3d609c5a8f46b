"""The prompts file: ours is whole, a user's own is checked, and what is filled in stays as it is."""

from pathlib import Path

import pytest

from smelt.core.errors import ConfigError
from smelt.data.synth.prompts import FILE, fill, load_prompts


def test_ours_is_whole() -> None:
    prompts = load_prompts()
    assert set(prompts.evolve) == {"constraints", "deepening", "concretizing", "reasoning", "input", "breadth"}
    assert len(prompts.systems) == 8


def test_braces_of_a_task_stay() -> None:
    assert fill("Do: {instruction}\n", instruction="print {x} and {instruction}") == "Do: print {x} and {instruction}"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("{tasks}", "{task}", "'propose' has {count}, {task} to fill in\naccepted: {count} and {tasks}, and no other"),
        ("{second}", "", "'compare' has {first} to fill in"),
        ("compare:", "compair:", "'compare' is required"),
    ],
)
def test_a_copy_that_cannot_work(tmp_path: Path, old: str, new: str, what: str) -> None:
    copy = tmp_path / "mine.yaml"
    copy.write_text(FILE.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load_prompts(str(copy))
    assert what in str(raised.value)
