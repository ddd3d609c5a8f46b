"""Rules about the repository: no trace of one machine in its texts, recipes that parse, examples that compile."""

import ast
import fnmatch
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from .source import place, source_files

# Written in pieces, so that this file does not break its own rule.
HOSTS = ("pypi" + ".org", "files.python" + "hosted", "download.pytorch" + ".org")
HOME = "|".join(("work", "home", "root", "Users"))
MACHINE = re.compile(rf"(?<![\w.~}}-])/(?:{HOME})/|" + "|".join(re.escape(host) for host in HOSTS))
PICTOGRAM = re.compile("[\U0001f000-\U0001faff\u2705\u274c\u2728\u26a0\u2b50\ufe0f]")
ROADS = ("road",)  # folders of recipes/ that hold several stages
COMMAND = re.compile(r"^#.*?\bsmelt (?P<stage>[a-z0-9-]+) (?P<rest>.+)$", re.MULTILINE)


def text_files(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the text files that .gitignore does not leave out."""
    ignored = [".git/", *(root / ".gitignore").read_text().split()] if (root / ".gitignore").exists() else [".git/"]

    def kept(path: Path) -> bool:
        patterns = [word.strip("/") for word in ignored if path.is_dir() or not word.endswith("/")]
        return not any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)

    def walk(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            if kept(path) and not path.is_symlink():
                yield from walk(path) if path.is_dir() else [path]

    for path in walk(root):
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # an image or another binary file
            continue


def machine_traces(root: Path) -> list[str]:
    """No absolute path of a machine and no package registry's host in any tracked text."""
    return [
        f"{place(root, path, row)}: '{match.group()}' belongs to one machine"
        for path, text in text_files(root)
        for row, line in enumerate(text.splitlines(), 1)
        if (match := MACHINE.search(line))
    ]


def pictograms(root: Path) -> list[str]:
    """No emoji in code, comments or messages."""
    return [
        f"{place(root, path, row)}: pictogram {match.group()!r}"
        for path in source_files(root)
        for row, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := PICTOGRAM.search(line))
    ]


def recipes(root: Path) -> list[Path]:
    """Return the recipe files."""
    return sorted(path for path in (root / "recipes").rglob("*.yaml"))


def examples(root: Path) -> list[Path]:
    """Return the examples."""
    return source_files(root, "examples")


def recipe_fault(root: Path, path: Path) -> str:
    """Return why a recipe does not parse against its stage's schema, or "".

    It lies in recipes/STAGE/, or beside other stages of one road, and a comment holds the command that runs it, with
    the settings that a file cannot know: `# smelt sft recipes/sft/chat.yaml checkpoint=CHECKPOINT`.
    """
    from smelt.core.config import Config, load_recipe
    from smelt.core.errors import SmeltError

    name = path.relative_to(root).as_posix()
    folder = path.relative_to(root / "recipes").parts[0]
    commands = (
        (match["stage"], match["rest"].split())
        for match in COMMAND.finditer(path.read_text(encoding="utf-8"))
        if match["stage"] == folder or folder in ROADS
    )
    stage, words = next(((stage, words) for stage, words in commands if words[0] == name), (folder, None))
    if words is None:
        return f"{place(root, path)}: no comment holds the command that runs it: # smelt {stage} {name}"
    module = f"smelt.train.stages.{stage.replace('-', '_')}"
    if importlib.util.find_spec(module) is None:
        return f"{place(root, path)}: unknown stage '{stage}': there is no module {module}"
    defined = vars(importlib.import_module(module)).values()
    schemas = [
        kind
        for kind in defined
        if isinstance(kind, type)
        and issubclass(kind, Config)
        and kind.__module__ == module
        and "name" in kind.model_fields
    ]
    if len(schemas) != 1:
        return f"{place(root, path)}: {module} defines {len(schemas)} recipes, expected one"
    try:
        load_recipe(schemas[0], path, [word for word in words if "=" in word and word[0] != "-"])
    except SmeltError as error:
        return f"{place(root, path)}: {error}"
    return ""


def verb_table(root: Path) -> dict[str, tuple[str, str]]:
    """Return VERBS of smelt/cli/main.py as written: a dict literal of name -> (module, help)."""
    path = root / "smelt" / "cli" / "main.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "VERBS" for target in targets):
            return dict(ast.literal_eval(node.value))  # type: ignore[union-attr,arg-type]
    raise AssertionError(f"{path} has no dict literal VERBS")
