"""Rules about the shape of code: lengths, docstrings, annotations, no family name in shared code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from .source import Function, functions, place, source_files, tree_of

MAX_FILE_LINES = 500
MAX_FAMILY_LINES = 150
MAX_FUNCTION_LINES = 60
SHARED_CODE = ("smelt/nn/", "smelt/models/transformer.py", "smelt/models/encoder.py", "smelt/models/encoder_decoder.py")
FAMILY_NAME = re.compile(
    r"llama|gpt|mistral|mixtral|qwen|gemma|bert|deepseek|falcon|olmo|chatglm|\bglm|\bt5\b|\bphi-?\d|\bnovel\b",
    re.IGNORECASE,
)
NOT_FAMILIES = ("__init__.py", "base.py", "layout.py", "encoder_layout.py")


def file_length(root: Path) -> list[str]:
    """A file has at most 500 lines, a family at most 150."""
    found = []
    for path in source_files(root):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        family = "smelt/models/families/" in path.as_posix() and path.name not in NOT_FAMILIES
        limit = MAX_FAMILY_LINES if family else MAX_FILE_LINES
        if lines > limit:
            found.append(f"{place(root, path, lines)}: {lines} lines, at most {limit}")
    return found


def function_length(root: Path) -> list[str]:
    """A function fits a screen."""
    return [
        f"{place(root, path, node.lineno)}: {node.name} has {length} lines, at most {MAX_FUNCTION_LINES}"
        for path in source_files(root)
        for node in functions(tree_of(path))
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]


def docstrings(root: Path) -> list[str]:
    """Every module, public class, function and method says what it is."""
    found = []
    for path in source_files(root):
        tree = tree_of(path)
        if ast.get_docstring(tree) is None:
            found.append(f"{place(root, path)}: the module has no docstring")
        for node in public(tree):
            if ast.get_docstring(node) is None and not without_words(node):
                found.append(f"{place(root, path, node.lineno)}: {node.name} has no docstring")
    return found


def public(tree: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    """Yield public classes and functions of a module, and the public methods of those classes."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


def without_words(node: Function | ast.ClassDef) -> bool:
    """Tell overloads and setters, which are described at their first definition."""
    return any(re.search(r"\b(overload|setter)\b", ast.unparse(decorator)) for decorator in node.decorator_list)


def annotations(root: Path) -> list[str]:
    """Every argument and every result is annotated."""
    found = []
    for path in source_files(root):
        tree = tree_of(path)
        methods = {
            node
            for parent in ast.walk(tree)
            if isinstance(parent, ast.ClassDef)
            for node in parent.body
            if isinstance(node, Function) and "staticmethod" not in map(ast.unparse, node.decorator_list)
        }
        for node in functions(tree):
            names = [argument.arg for argument in arguments(node)[node in methods :] if argument.annotation is None]
            names += ["its result"] if node.returns is None else []
            if names:
                found.append(f"{place(root, path, node.lineno)}: {node.name}: no annotation of {', '.join(names)}")
    return found


def arguments(node: Function) -> list[ast.arg]:
    """Return all arguments of a function in order."""
    spec = node.args
    starred = [argument for argument in (spec.vararg, spec.kwarg) if argument is not None]
    return [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *starred]


def family_names(root: Path) -> list[str]:
    """Shared model code names no family, comments included: a family is data."""
    return [
        f"{place(root, path, row)}: family name '{match.group()}' in shared code"
        for path in source_files(root)
        if path.relative_to(root).as_posix().startswith(SHARED_CODE)
        for row, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := FAMILY_NAME.search(line))
    ]
