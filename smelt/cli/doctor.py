"""`smelt doctor`: what this machine offers a training run, and what an optional extra would add.

Each line is a fact that decides speed or success: processor flags choose the number type, a compiler decides whether
steps are compiled, memory and disk bound the run. Exit code 1 when something smelt cannot do without is missing.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from smelt.cli.common import Json, make_app, print_json, print_table
from smelt.core import runtime
from smelt.core.extras import available

NEWEST_FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd")
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {  # extra -> modules, what they unlock
    "report": (("matplotlib",), "plots of loss and learning rate in report.md"),
    "interop": (("transformers", "tokenizers", "tiktoken"), "the tests against reference implementations"),
    "dev": (("pytest", "hypothesis", "ruff", "mypy"), "the project's own tests and checks"),
    "hub": (("huggingface_hub",), "checkpoints by their Hugging Face id"),
    "serve": (("fastapi", "uvicorn", "sqlalchemy"), "the HTTP server and the studio"),
    "scale": (("ray",), "data pipelines on many cores and machines (planned)"),
    "data": (("trafilatura", "py3langid", "zstandard"), "language detection; web pages, zstd files (planned)"),
    "rag": (("lancedb", "pypdf"), "answers from your documents (planned)"),
    "agents": (("mcp",), "tools for agents (planned)"),
}

app = make_app()


@app.command()
def doctor(
    runs: Annotated[Path, typer.Option(help="Directory that will hold the runs.")] = Path("runs"), json: Json = False
) -> None:
    """Check this machine and the installation.

    Example: smelt doctor
    """
    facts, problems = examine(runs)
    missing = {name: [module for module in EXTRAS[name][0] if not available(module)] for name in EXTRAS}
    if json:
        extras = {name: not absent for name, absent in missing.items()}
        print_json({**facts, "extras": extras, "problems": problems})
    else:
        print_table(("", ""), [(name.replace("_", " "), str(value)) for name, value in facts.items()])
        rows = [
            (name, EXTRAS[name][1], "installed" if not absent else f"pip install 'smelt-lm[{name}]'")
            for name, absent in missing.items()
        ]
        print()
        print_table(("extra", "unlocks", ""), rows)
        for problem in problems:
            print(f"problem: {problem}")
        print("\nready" if not problems else "\nnot ready")
    if problems:
        raise typer.Exit(1)


def examine(runs: Path) -> tuple[dict[str, object], list[str]]:
    """Return the facts of this machine, and what stands in the way of a run."""
    problems: list[str] = []
    place = next(path for path in (runs, *runs.resolve().parents) if path.is_dir())
    if reason := unwritable(place):
        problems.append(f"{place} cannot be written ({reason}); choose another directory with out=DIRECTORY")
    try:
        torch, fast = f"{version('torch')}, {accelerator()}", runtime.has_fast_bfloat16()
    except (PackageNotFoundError, ImportError, OSError) as error:
        torch, fast = "does not load", False
        problems.append(f"torch does not load ({error}); install smelt-lm again")
    flags = [flag for flag in NEWEST_FLAGS if flag in runtime.cpu_flags()]
    usage = shutil.disk_usage(place)
    facts: dict[str, object] = {
        "smelt": installed("smelt-lm"),
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "torch": torch,
        "cores": runtime.num_threads(),
        "processor": " ".join(flags) or "no vector extension that is known here",
        "number_type": "bfloat16 (fast here)" if fast else "float32 (bfloat16 is slow here)",
        "compiler": "present: long runs are compiled" if runtime.has_compiler() else "none: runs are not compiled",
        "memory": f"{runtime.free_memory_bytes() / 1e9:.1f} GB free of {runtime.total_memory_bytes() / 1e9:.1f}",
        "disk": f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f}",
        "runs": f"{runs} ({'writable' if not problems else 'see below'})",
    }
    return facts, problems


def installed(distribution: str) -> str:
    """Return the version of an installed distribution, or that this is a source tree."""
    from smelt import __version__

    try:
        return version(distribution)
    except PackageNotFoundError:
        return f"{__version__}, from source"


def accelerator() -> str:
    """Return the accelerator that torch sees, importing torch as a test that it loads."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator"


def unwritable(directory: Path) -> str:
    """Return why a file cannot be made in a directory; empty when it can."""
    try:
        with tempfile.NamedTemporaryFile(dir=directory):
            return ""
    except OSError as error:
        return error.strerror or str(error)
