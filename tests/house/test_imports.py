"""Who may import whom; each rule is shown to catch what it forbids on a small bad tree."""

import subprocess
import sys
from pathlib import Path

import pytest

from .imports import import_order, undeclared, walls, wrong_extras
from .source import ROOT, Rule, write_tree

PROJECT = """
[project]
dependencies = ["numpy>=2.0", "PyYAML>=6.0", "torch>=2.13,<2.14"]
[project.optional-dependencies]
report = ["matplotlib>=3.9"]
scale = ["ray[data]>=2.40"]
"""
RULES = (import_order, walls, undeclared, wrong_extras)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_follows(rule: Rule) -> None:
    found = rule(ROOT)
    assert not found, "\n".join(found)


BAD = [
    (
        import_order,
        "smelt/core/a.py",
        "from smelt.data.readers import read",
        "a.py:1: core imports smelt.data.readers.read",
    ),
    (import_order, "smelt/nn/a.py", "def f():\n    import smelt.models.hub", "a.py:2: nn imports smelt.models.hub"),
    (import_order, "smelt/data/a.py", "from ..train import loop", "a.py:1: data imports smelt.train.loop"),
    (import_order, "smelt/evals/a.py", "from smelt import train", "a.py:1: evals imports smelt.train"),
    (import_order, "smelt/core/a.py", "m = import_module('smelt.nn.spec')", "a.py:1: core imports smelt.nn.spec"),
    (import_order, "smelt/extra/a.py", "", "package 'extra' has no place in the order"),
    (walls, "smelt/data/a.py", "def f():\n    import torch", "a.py:2: smelt/data/ must not import torch"),
    (walls, "smelt/tokenizers/a.py", "from torch import Tensor", "must not import torch.Tensor"),
    (walls, "smelt/serve/a.py", "from smelt.train import loop", "must not import smelt.train.loop"),
    (walls, "smelt/apps/rag/a.py", "import smelt.train", "must not import smelt.train"),
    (walls, "smelt/nn/a.py", "import torch.distributed as dist", "must not import torch.distributed"),
    (walls, "smelt/a.py", "import smelt.cli.main", "must not import smelt.cli.main"),
    (undeclared, "smelt/core/a.py", "import matplotlib.pyplot", "a.py:1: imports matplotlib.pyplot"),
    (undeclared, "smelt/core/a.py", "def f():\n    from ray.data import x", "a.py:2: imports ray.data.x"),
    (undeclared, "smelt/core/a.py", "import requests", "imports requests, which the base install does not have"),
    (
        wrong_extras,
        "smelt/core/a.py",
        "need('matplotlib', extra='scale')",
        "'scale' of pyproject.toml does not install",
    ),
    (wrong_extras, "smelt/core/a.py", "need('scipy', extra='report')", "does not install scipy"),
]


@pytest.mark.parametrize(("rule", "name", "code", "message"), BAD, ids=lambda value: getattr(value, "__name__", None))
def test_a_violation_is_seen(rule: Rule, name: str, code: str, message: str, tmp_path: Path) -> None:
    (found,) = rule(write_tree(tmp_path, {"pyproject.toml": PROJECT, name: code}))
    assert message in found


GOOD = [
    ("smelt/cli/main.py", "from smelt.train import loop\nimport smelt.cli.tables"),
    ("smelt/data/a.py", "import yaml\nfrom smelt.core.errors import DataError\nfrom . import readers"),
    ("smelt/core/a.py", "plots = need('matplotlib.pyplot', extra='report')\nengine = need('ray', extra='scale')"),
    ("smelt/core/a.py", "if TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
    ("smelt/__init__.py", "import_module('smelt.models.hub')"),
]


@pytest.mark.parametrize(("name", "code"), GOOD)
def test_what_is_allowed_passes(name: str, code: str, tmp_path: Path) -> None:
    root = write_tree(tmp_path, {"pyproject.toml": PROJECT, name: code})
    assert [found for rule in RULES for found in rule(root)] == []


def test_tokenizers_and_data_run_without_torch() -> None:
    code = """
import importlib, pkgutil, sys
sys.modules["torch"] = None  # importing torch now fails
for name in ("smelt.core", "smelt.tokenizers", "smelt.data"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
