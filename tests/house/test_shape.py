"""Lengths, docstrings, annotations and family names; each rule is shown to catch what it forbids."""

from pathlib import Path

import pytest

from .shape import annotations, docstrings, family_names, file_length, function_length
from .source import ROOT, Rule, write_tree

RULES = (file_length, function_length, docstrings, annotations, family_names)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_follows(rule: Rule) -> None:
    found = rule(ROOT)
    assert not found, "\n".join(found)


LONG_FUNCTION = "def f():\n" + "    pass\n" * 60
BAD = [
    (file_length, "smelt/core/a.py", "\n" * 501, "a.py:501: 501 lines, at most 500"),
    (file_length, "smelt/models/families/a.py", "\n" * 151, "151 lines, at most 150"),
    (function_length, "smelt/core/a.py", LONG_FUNCTION, "a.py:1: f has 61 lines, at most 60"),
    (docstrings, "smelt/core/a.py", "x = 1", "a.py:1: the module has no docstring"),
    (docstrings, "smelt/core/a.py", "'''m'''\ndef f(): pass", "a.py:2: f has no docstring"),
    (docstrings, "smelt/core/a.py", "'''m'''\nclass A: pass", "a.py:2: A has no docstring"),
    (docstrings, "smelt/core/a.py", "'''m'''\nclass A:\n    '''a'''\n    async def g(self): pass", "a.py:4: g has no"),
    (annotations, "smelt/core/a.py", "def f(x) -> None: pass", "a.py:1: f: no annotation of x"),
    (annotations, "smelt/core/a.py", "def f(*a, **k: int): pass", "f: no annotation of a, its result"),
    (annotations, "smelt/core/a.py", "class A:\n    def g(self, x) -> None: pass", "a.py:2: g: no annotation of x"),
    (annotations, "smelt/core/a.py", "class A:\n    @staticmethod\n    def g(x) -> None: pass", "no annotation of x"),
    (annotations, "smelt/core/a.py", "def f() -> None:\n    def g(x) -> None: pass", "a.py:2: g: no annotation of x"),
    (family_names, "smelt/nn/a.py", "x = 1  # as Llama does", "a.py:1: family name 'Llama'"),
    (family_names, "smelt/nn/deep/a.py", "def qwen3_norm(): pass", "family name 'qwen'"),
    (family_names, "smelt/models/transformer.py", "\nname = 'gpt2'", "transformer.py:2: family name 'gpt'"),
]


@pytest.mark.parametrize(("rule", "name", "code", "message"), BAD, ids=lambda value: getattr(value, "__name__", None))
def test_a_violation_is_seen(rule: Rule, name: str, code: str, message: str, tmp_path: Path) -> None:
    (found,) = rule(write_tree(tmp_path, {name: code}))
    assert message in found


GOOD = '''"""Module."""


class A:
    """A class."""

    def __init__(self, x: int) -> None:
        self.x = lambda y: y

    @classmethod
    def make(cls, *words: str, **more: int) -> None:
        """Make."""

    @property
    def size(self) -> int:
        """Size."""

    @size.setter
    def size(self, value: int) -> None:
        self._size = value

    def _hidden(self) -> None:
        pass
'''


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    good = {
        "smelt/nn/a.py": GOOD,
        "smelt/models/families/llama.py": '"""Llama."""' + "\n" * 149,
        "smelt/core/b.py": '"""B."""\n' + LONG_FUNCTION.replace("f()", "_f() -> None", 1).removesuffix("    pass\n"),
    }
    root = write_tree(tmp_path, good)
    assert [found for rule in RULES for found in rule(root)] == []
