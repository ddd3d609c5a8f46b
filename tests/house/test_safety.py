"""What code may not do; each rule is shown to catch what it forbids."""

from pathlib import Path

import pytest

from .safety import environment, foreign_code, standard_output, swallowed_errors
from .source import ROOT, Rule, write_tree

RULES = (environment, standard_output, foreign_code, swallowed_errors)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_follows(rule: Rule) -> None:
    found = rule(ROOT)
    assert not found, "\n".join(found)


BAD = [
    (environment, "x = os.environ['HOME']", "a.py:1: os.environ outside"),
    (environment, "\nx = os.getenv('HOME')", "a.py:2: os.getenv outside"),
    (environment, "from os import environ", "os.environ outside"),
    (environment, "x = Option(envvar='SMELT_OUT')", "reads an environment variable"),
    (standard_output, "print('x')", "a.py:1: print outside cli/"),
    (standard_output, "sys.stdout.write('x')", "sys.stdout outside cli/"),
    (standard_output, "from sys import stdout", "sys.stdout outside cli/"),
    (foreign_code, "import pickle", "a.py:1: pickle is not allowed"),
    (foreign_code, "def f():\n    from pickle import loads", "a.py:2: pickle.loads is not allowed"),
    (foreign_code, "x = torch.load(path)", "torch.load is not allowed"),
    (foreign_code, "from torch import load", "torch.load is not allowed"),
    (foreign_code, "x = yaml.load(text)", "yaml.load is not allowed"),
    (foreign_code, "x = eval(text)", "eval() is not allowed"),
    (foreign_code, "exec(text)", "exec() is not allowed"),
    (foreign_code, "subprocess.run(command, shell=True)", "shell= is not allowed"),
    (foreign_code, "os.system(command)", "os.system is not allowed"),
    (foreign_code, "np.load(path, allow_pickle=flag)", "allow_pickle= is not allowed"),
    (swallowed_errors, "try:\n    f()\nexcept:\n    raise", "a.py:3: bare except"),
    (swallowed_errors, "try:\n    f()\nexcept KeyError:\n    pass", "a.py:3: swallowed error: the except does nothing"),
    (swallowed_errors, "try:\n    f()\nexcept Exception:\n    x = 1", "`except Exception` neither raises nor uses"),
    (swallowed_errors, "try:\n    f()\nexcept (KeyError, Exception) as e:\n    x = 1", "neither raises nor uses"),
    (swallowed_errors, "with contextlib.suppress(Exception):\n    f()", "suppress() of every error"),
]


@pytest.mark.parametrize(("rule", "code", "message"), BAD)
def test_a_violation_is_seen(rule: Rule, code: str, message: str, tmp_path: Path) -> None:
    (found,) = rule(write_tree(tmp_path, {"smelt/core/a.py": code}))
    assert message in found


GOOD = [
    ("smelt/core/runtime.py", "x = os.environ.get('RANK', '0')"),
    ("smelt/cli/main.py", "print('x')\nsys.stdout.write('x')"),
    (
        "smelt/core/a.py",
        "model.eval()\nsys.stderr.write('x')\nsubprocess.run(words, shell=False)\nyaml.safe_load(text)",
    ),
    ("smelt/core/a.py", "try:\n    f()\nexcept KeyError:\n    x = 1"),
    ("smelt/core/a.py", "try:\n    f()\nexcept Exception as error:\n    raise DataError(str(error)) from error"),
    ("smelt/core/a.py", "try:\n    f()\nexcept Exception as error:\n    say(error)"),
    ("smelt/core/a.py", "with contextlib.suppress(FileNotFoundError):\n    f()"),
]


@pytest.mark.parametrize(("name", "code"), GOOD)
def test_what_is_allowed_passes(name: str, code: str, tmp_path: Path) -> None:
    root = write_tree(tmp_path, {name: code})
    assert [found for rule in RULES for found in rule(root)] == []
