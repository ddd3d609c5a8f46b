"""The texts of the repository, its recipes and its examples; each rule is shown to catch what it forbids."""

from pathlib import Path

import pytest

from .repository import examples, machine_traces, pictograms, recipe_fault, recipes
from .source import ROOT, Rule, write_tree

RULES = (machine_traces, pictograms)
PATH, HOST = "/" + "work/main", "https://pypi" + ".org/simple"
NAME = "recipes/pretrain/a.yaml"
RECIPE = f"# About `smelt eval x`.\n# smelt pretrain {NAME} data=TEXT --json\nname: a\ntokenizer: bytes\n"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_follows(rule: Rule) -> None:
    found = rule(ROOT)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", recipes(ROOT), ids=lambda path: path.name)
def test_recipe_parses_against_its_stage(path: Path) -> None:
    assert recipe_fault(ROOT, path) == ""


@pytest.mark.parametrize("path", examples(ROOT), ids=lambda path: path.name)
def test_example_compiles(path: Path) -> None:
    compile(path.read_text(encoding="utf-8"), str(path), "exec")


BAD = [
    (machine_traces, "README.md", f"see\n{PATH}/x", f"README.md:2: '{PATH[:6]}' belongs to one machine"),
    (machine_traces, "docs/a.txt", f"--index-url {HOST}", "docs/a.txt:1: 'pypi"),
    (machine_traces, "smelt/core/a.py", "x = '/" + "root/.cache/x'", "a.py:1:"),
    (pictograms, "smelt/core/a.py", "x = 1\n# \N{ROCKET}", "a.py:2: pictogram"),
]


@pytest.mark.parametrize(("rule", "name", "text", "message"), BAD)
def test_a_violation_is_seen(rule: Rule, name: str, text: str, message: str, tmp_path: Path) -> None:
    (found,) = rule(write_tree(tmp_path, {name: text}))
    assert message in found


def test_ignored_and_binary_files_are_not_read(tmp_path: Path) -> None:
    files = {
        ".gitignore": ".venv/\n*.log\n",
        ".venv/pip.conf": HOST,
        "a.log": PATH + "/",
        "b.md": "../work/x, ~/work/x",
    }
    write_tree(tmp_path, files)
    (tmp_path / "c.png").write_bytes(b"\x89PNG\xff" + HOST.encode())
    assert machine_traces(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (NAME, RECIPE, ""),
        ("recipes/road/a.yaml", RECIPE.replace("/pretrain/", "/road/"), ""),
        ("recipes/path/a.yaml", RECIPE.replace("/pretrain/", "/path/"), "no comment holds the command"),
        ("recipes/road/a.yaml", RECIPE.replace("/pretrain/", "/road/") + "optimiser: {}\n", "unknown key 'optimiser'"),
        (
            NAME,
            "name: a\ndata: x\ntokenizer: bytes\n",
            f"no comment holds the command that runs it: # smelt pretrain {NAME}",
        ),
        (NAME, RECIPE.replace("a.yaml", "b.yaml"), "no comment holds the command"),
        (NAME, RECIPE.replace("smelt pretrain", "smelt sft"), "no comment holds the command"),
        (NAME.replace("train", "trian"), RECIPE.replace("train", "trian"), "unknown stage 'pretrian'"),
        (NAME, RECIPE + "optimiser: {}\n", "unknown key 'optimiser'. Did you mean 'optimizer'?"),
        (NAME, RECIPE + "optimizer:\n  learning_rate: fast\n", "optimizer.learning_rate='fast'"),
        (NAME, RECIPE.replace(" data=TEXT", ""), "'data' is required"),
    ],
)
def test_recipe_faults(name: str, text: str, message: str, tmp_path: Path) -> None:
    write_tree(tmp_path, {name: text})
    (path,) = recipes(tmp_path)
    fault = recipe_fault(tmp_path, path)
    assert message in fault if message else fault == ""
