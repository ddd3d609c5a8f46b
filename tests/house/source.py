"""Read a source tree the way every house rule does: files, syntax trees, imports.

A rule is a function `rule(root) -> list[str]` that returns one line a violation, "file:row: what is wrong", so that
the same function judges this project and the small bad trees by which it is tested itself.
"""

import ast
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
Rule = Callable[[Path], list[str]]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def source_files(root: Path, under: str = "smelt") -> list[Path]:
    """Return the Python files of a folder in order."""
    return sorted(path for path in (root / under).rglob("*.py") if "__pycache__" not in path.parts)


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def package_of(root: Path, path: Path) -> str:
    """Return the package under smelt/ that a file belongs to, "" for files of smelt/ itself."""
    parts = path.relative_to(root).parts
    return parts[1] if len(parts) > 2 else ""


def place(root: Path, path: Path, row: int = 1) -> str:
    """Return "file:row" relative to the root."""
    return f"{path.relative_to(root).as_posix()}:{row}"


def functions(tree: ast.AST) -> Iterator[Function]:
    """Yield every function and method, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def typing_only(tree: ast.Module) -> set[ast.AST]:
    """Return the nodes under `if TYPE_CHECKING:`, which never run."""
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    return {inner for guard in guards for statement in guard.body for inner in ast.walk(statement)}


def imports(root: Path, path: Path, *, typing: bool = True) -> Iterator[tuple[int, str]]:
    """Yield row and dotted name of every import, lazy ones and `import_module("x")` and `need("x")` too.

    `from a.b import c` gives "a.b.c". Without `typing`, imports under TYPE_CHECKING are left out.
    """
    tree = tree_of(path)
    hidden = set() if typing else typing_only(tree)
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = absolute(root, path, node)
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif name := imported_by_call(node, ("import_module", "__import__", "need")):
            yield node.lineno, name  # type: ignore[attr-defined]


def absolute(root: Path, path: Path, node: ast.ImportFrom) -> str:
    """Return the dotted module of a `from` import, relative ones resolved."""
    if not node.level:
        return node.module or ""
    parents = path.relative_to(root).parts[: -node.level]
    return ".".join([*parents, *([node.module] if node.module else [])])


def imported_by_call(node: ast.AST, names: tuple[str, ...]) -> str:
    """Return "x" for a call such as `import_module("x")`, else ""."""
    if not isinstance(node, ast.Call) or called(node) not in names or not node.args:
        return ""
    first = node.args[0]
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def called(node: ast.Call) -> str:
    """Return the last part of the name that a call calls: `a.b(...)` -> "b"."""
    function = node.func
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def dotted(node: ast.AST) -> str:
    """Return "a.b.c" for a chain of attributes, else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (inner := dotted(node.value)):
        return f"{inner}.{node.attr}"
    return ""


def write_tree(root: Path, files: dict[str, str]) -> Path:
    """Write a small project for a rule to judge."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root
