"""Rules about who imports whom: the order of packages, the further walls, no extra but through `need`."""

import ast
import re
import sys
import tomllib
from pathlib import Path

from .source import called, imported_by_call, imports, package_of, place, source_files, tree_of

ORDER = (
    "core", "tokenizers", "data", "nn", "models", "optim", "quant", "peft", "infer", "evals", "train", "serve",
    "studio", "apps", "vision", "rl", "cli",
)  # fmt: skip
WALLS = {
    "smelt/tokenizers/": ("torch",),
    "smelt/data/": ("torch",),
    "smelt/serve/": ("smelt.train",),
    "smelt/apps/": ("smelt.train",),
    "smelt/evals/": ("smelt.train",),
    "smelt/nn/": ("torch.distributed",),
    "smelt/models/transformer.py": ("torch.distributed",),
    "smelt/models/encoder.py": ("torch.distributed",),
    "smelt/models/encoder_decoder.py": ("torch.distributed",),
    "smelt/": ("smelt.cli",),
}
MODULE_OF = {"pyyaml": "yaml"}  # distributions whose module has another name


def import_order(root: Path) -> list[str]:
    """A module imports only from its own package and those above it in ORDER."""
    found = []
    for path in source_files(root):
        package = package_of(root, path)
        if not package:
            continue  # smelt/__init__.py is the front door: it imports lazily from everywhere
        if package not in ORDER:
            found.append(f"{place(root, path)}: package '{package}' has no place in the order")
            continue
        for row, name in imports(root, path):
            other = name.split(".")[1] if name.startswith("smelt.") else ""
            if other in ORDER and ORDER.index(other) > ORDER.index(package):
                found.append(f"{place(root, path, row)}: {package} imports {name}, which comes after it")
    return found


def walls(root: Path) -> list[str]:
    """Some packages never import some others, not even lazily."""
    found = []
    for path in source_files(root):
        name_in_tree = path.relative_to(root).as_posix()
        for prefix, forbidden in WALLS.items():
            if not name_in_tree.startswith(prefix) or name_in_tree.startswith("smelt/cli/"):
                continue
            if name_in_tree == "smelt/__main__.py":
                continue
            for row, name in imports(root, path):
                if any(f"{name}.".startswith(f"{wall}.") for wall in forbidden):
                    found.append(f"{place(root, path, row)}: {prefix} must not import {name}")
    return found


def requirements(root: Path) -> tuple[set[str], dict[str, set[str]]]:
    """Return the modules of the base dependencies and of each extra, read from pyproject.toml."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def modules(lines: list[str]) -> set[str]:
        names = [re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0].lower() for line in lines]
        return {MODULE_OF.get(name, name.replace("-", "_")) for name in names}

    extras = {extra: modules(lines) for extra, lines in project.get("optional-dependencies", {}).items()}
    return modules(project["dependencies"]), extras


def undeclared(root: Path) -> list[str]:
    """Import statements name the standard library, smelt and base dependencies; all else comes through `need`."""
    base, _ = requirements(root)
    allowed = base | set(sys.stdlib_module_names) | {"smelt"}
    return [
        f"{place(root, path, row)}: imports {name}, which the base install does not have; use core.extras.need"
        for path in source_files(root)
        for row, name in imports(root, path, typing=False)
        if name.split(".")[0] not in allowed and (row, name) not in needed(path)
    ]


def needed(path: Path) -> dict[tuple[int, str], str]:
    """Return {(row, module): extra} of the calls of `need` in a file."""
    found = {}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and called(node) == "need" and (name := imported_by_call(node, ("need",))):
            extras = [word.value for word in node.keywords if word.arg == "extra"]
            found[node.lineno, name] = extras[0].value if extras and isinstance(extras[0], ast.Constant) else ""
    return found


def wrong_extras(root: Path) -> list[str]:
    """`need("x", extra="y")` names the extra that installs x."""
    _, extras = requirements(root)
    return [
        f"{place(root, path, row)}: extra '{extra}' of pyproject.toml does not install {name}"
        for path in source_files(root)
        for (row, name), extra in needed(path).items()
        if name.split(".")[0].lower() not in extras.get(extra, set())
    ]
