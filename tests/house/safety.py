"""Rules about what code may do: read the environment, write to stdout, run foreign code, swallow errors."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

from .source import called, dotted, imports, place, source_files, tree_of

ENVIRONMENT = ("environ", "environb", "getenv", "getenvb", "putenv", "unsetenv")
UNSAFE_MODULES = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
UNSAFE_NAMES = (
    "torch.load", "torch.save", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "os.system",
    "os.popen",
)  # fmt: skip
Judge = Callable[[ast.AST], str]


def judge_all(root: Path, judge: Judge, *, but: tuple[str, ...] = ()) -> list[str]:
    """Apply a judgement to every node of every file that does not begin with one of `but`."""
    return [
        f"{place(root, path, node.lineno)}: {fault}"  # type: ignore[attr-defined]
        for path in source_files(root)
        if not path.relative_to(root).as_posix().startswith(but or ("\0",))
        for node in ast.walk(tree_of(path))
        if (fault := judge(node))
    ]


def environment(root: Path) -> list[str]:
    """Only core/runtime.py reads environment variables."""

    def judge(node: ast.AST) -> str:
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT and dotted(node.value) == "os":
            return f"os.{node.attr} outside core/runtime.py"
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            return next(
                (f"os.{alias.name} outside core/runtime.py" for alias in node.names if alias.name in ENVIRONMENT), ""
            )
        if isinstance(node, ast.keyword) and node.arg == "envvar":
            return "a command line option that reads an environment variable"
        return ""

    return judge_all(root, judge, but=("smelt/core/runtime.py",))


def standard_output(root: Path) -> list[str]:
    """Only cli/ writes to standard output; progress goes through core.log."""

    def judge(node: ast.AST) -> str:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            return "print outside cli/"
        if dotted(node) in ("sys.stdout", "sys.__stdout__"):
            return "sys.stdout outside cli/"
        if isinstance(node, ast.ImportFrom) and node.module == "sys" and any(a.name == "stdout" for a in node.names):
            return "sys.stdout outside cli/"
        return ""

    return judge_all(root, judge, but=("smelt/cli/",))


def foreign_code(root: Path) -> list[str]:
    """Nothing on disk or on the command line is ever run as code: no pickle, eval, shell, unsafe YAML."""

    def judge(node: ast.AST) -> str:
        if isinstance(node, ast.Attribute) and dotted(node) in UNSAFE_NAMES:
            return f"{dotted(node)} is not allowed"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
            return f"{node.func.id}() is not allowed"
        if isinstance(node, ast.keyword) and node.arg in ("shell", "allow_pickle", "trust_remote_code"):
            allowed = isinstance(node.value, ast.Constant) and node.value.value is False
            return "" if allowed else f"{node.arg}= is not allowed"
        return ""

    imported = [
        f"{place(root, path, row)}: {name} is not allowed"
        for path in source_files(root)
        for row, name in imports(root, path)
        if name.split(".")[0] in UNSAFE_MODULES or name in UNSAFE_NAMES
    ]
    return imported + judge_all(root, judge)


def swallowed_errors(root: Path) -> list[str]:
    """An `except` names what it expects and does something; a broad one raises again or uses the error."""

    def judge(node: ast.AST) -> str:
        if isinstance(node, ast.Call) and called(node) == "suppress" and broad(node.args):
            return "suppress() of every error"
        if not isinstance(node, ast.ExceptHandler):
            return ""
        if node.type is None:
            return "bare except"
        if all(isinstance(statement, ast.Pass) or is_ellipsis(statement) for statement in node.body):
            return "swallowed error: the except does nothing"
        if broad([node.type]) and not any(uses(statement, node.name) for statement in node.body):
            return f"swallowed error: `except {ast.unparse(node.type)}` neither raises nor uses the error"
        return ""

    return judge_all(root, judge)


def broad(types: list[ast.expr]) -> bool:
    """Tell whether every error is among the types of an except."""
    names = [dotted(inner) for outer in types for inner in leaves(outer)]
    return any(name.split(".")[-1] in ("Exception", "BaseException") for name in names)


def leaves(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the types of `A` or `(A, B)`."""
    if isinstance(node, ast.Tuple):
        yield from node.elts
    else:
        yield node


def is_ellipsis(statement: ast.stmt) -> bool:
    """Tell `...`."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def uses(statement: ast.stmt, name: str | None) -> bool:
    """Tell whether a statement raises or reads the caught error."""
    return any(
        isinstance(node, ast.Raise) or (isinstance(node, ast.Name) and name is not None and node.id == name)
        for node in ast.walk(statement)
    )
