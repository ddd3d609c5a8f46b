"""Every command in docs/how-to parses: the verb, its options and its recipe keys exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from smelt.cli.common import recipe_keys
from smelt.cli.main import VERBS, app
from smelt.train.stages.classify import ClassifyRecipe
from smelt.train.stages.distill import DistillRecipe
from smelt.train.stages.extract import ExtractRecipe
from smelt.train.stages.pretrain import PretrainRecipe
from smelt.train.stages.seq2seq import Seq2SeqRecipe
from smelt.train.stages.sft import SftRecipe
from smelt.train.stages.tag import TagRecipe

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs" / "how-to").glob("*.md"))
RECIPES = {
    "pretrain": PretrainRecipe,
    "sft": SftRecipe,
    "seq2seq": Seq2SeqRecipe,
    "distill": DistillRecipe,
    "classify": ClassifyRecipe,
    "extract": ExtractRecipe,
    "tag": TagRecipe,
}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Return (page, command) of every command line in a block."""
    return [
        (page.name, line)
        for page in PAGES
        for language, block in BLOCK.findall(page.read_text(encoding="utf-8"))
        if not language
        for line in block.splitlines()
        if line.startswith("smelt ")
    ]


@pytest.mark.parametrize(("page", "line"), commands())
def test_the_command_exists(page: str, line: str) -> None:
    words = shlex.split(line.split(" < ")[0])[1:]
    command: Any = typer.main.get_command(app)
    context = typer.Context(command)
    verb = words[0]
    while hasattr(command, "list_commands"):
        command = command.get_command(context, words.pop(0))
        assert command is not None, line
    known = {name for option in command.params for name in option.opts}
    assert {word for word in words if word.startswith("--")} <= known, line
    if verb in RECIPES:
        keys = dict(recipe_keys(RECIPES[verb]))
        assert {word.partition("=")[0] for word in words if "=" in word} <= set(keys), line


def test_every_verb_has_a_page() -> None:
    shown = {line.split()[1] for _, line in commands()}
    assert shown == set(VERBS)
