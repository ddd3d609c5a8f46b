"""Train: forms of recipes, what they would cost, and trainings that are started, watched, paused and resumed.

A training is `smelt VERB recipe` in a process of its own (see `processes`), in a folder of the workspace's runs. The
studio keeps no list of them: it looks into those folders, so that a studio that was started later, or a second one, or
a second browser, sees the same.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from smelt.core.errors import UsageError
from smelt.core.storage import atomic_write_text
from smelt.serve.errors import ApiError
from smelt.serve.protocol import Fields
from smelt.studio import dry_run, recipe_forms
from smelt.studio.context import Request, Response, Routes, Studio, query, read, reply
from smelt.studio.processes import Asked, Started, ask, folders, is_alive, read_note, refuse_second, start, state_of
from smelt.studio.watching import Watcher, last_step, progress
from smelt.studio.workspace import Workspace, walk
from smelt.train.run import NAME, RunDirectory

RECIPE = "studio.yaml"  # in a run's folder: what its form said; the run itself writes recipe.yaml
Made = TypeVar("Made")


class Filled(Fields):
    """What a person put into a form, by dotted key."""

    verb: str
    values: dict[str, Any]


class Wanted(Filled):
    """A training to start; `alongside` where the person knows that another one runs."""

    id: str = Field(min_length=1, max_length=64)
    alongside: bool = False


class Named(Fields):
    """A run, and whether it may run beside another."""

    run: str
    alongside: bool = False


class Hardware(Fields):
    """What presets are for."""

    tokenizer: str
    max_seq_len: int = Field(default=256, ge=8, le=8192)


class Trainer:
    """Starts and ends trainings in a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.lock = threading.Lock()

    def start(self, wanted: Wanted) -> str:
        """Start a training and return its run's name; the same wish told twice starts one.

        Raises:
            ApiError: the form is not right, or another training runs (409, code training_runs).
        """
        with self.lock:
            name = wanted.values.get("name")
            if isinstance(name, str) and (again := self.known(name)) is not None and again.id == wanted.id:
                return f"runs/{name}"
            checked = recipe_forms.check(self.workspace, wanted.verb, wanted.values)
            if checked.problems:
                key, told = next(iter(checked.problems.items()))
                raise ApiError(400, told, param=key or None)
            if not wanted.alongside:
                refuse_second(self.workspace)
            folder = self.workspace.runs / checked.values["name"]
            folder.mkdir(parents=True)
            atomic_write_text(folder / RECIPE, recipe_forms.to_recipe(checked.values))
            words = (wanted.verb, str((folder / RECIPE).relative_to(self.workspace.root)))
            start(folder, words, id=wanted.id, root=self.workspace.root)
            return self.workspace.name(folder)

    def resume(self, run: str, *, alongside: bool) -> None:
        """Go on with a training from its last checkpoint; one that runs is left alone."""
        with self.lock:
            folder = self.folder(run)
            started = read_note(folder)
            if started is None or started.verb not in recipe_forms.STAGES:
                raise UsageError(f"{run} was not started here", fix=f"smelt VERB {run}/recipe.yaml --resume")
            if is_alive(started):
                return
            if not alongside:
                refuse_second(self.workspace)
            recipe = folder / ("recipe.yaml" if (folder / "recipe.yaml").is_file() else RECIPE)
            words = (started.verb, str(recipe.relative_to(self.workspace.root)), "--resume")
            start(folder, words, id=started.id, root=self.workspace.root)

    def known(self, name: str) -> Started | None:
        """Return what was started under a name."""
        return read_note(self.workspace.runs / name) if NAME.fullmatch(name) else None

    def folder(self, run: str) -> Path:
        """Return the folder of a run that may be paused or resumed; raises UsageError for any other.

        Only in the folder of runs is a note trusted that says which process to interrupt.
        """
        folder = self.workspace.find(run)
        if folder.parent != self.workspace.runs.resolve() or not folder.is_dir():
            raise UsageError(
                f"{run[:200]} is no run", accepted=f"a folder in {self.workspace.name(self.workspace.runs)}"
            )
        return folder

    def listed(self) -> list[dict[str, Any]]:
        """Return the trainings that were started here, the newest first."""
        return [self.row(folder) for folder in folders(self.workspace.runs)]

    def row(self, folder: Path) -> dict[str, Any]:
        """Return how a training is doing, in short."""
        note = read_note(folder)
        assert note is not None  # the folders are those with one
        run = RunDirectory(folder.parent, folder.name)
        last = last_step(run.metrics)
        return {
            "run": self.workspace.name(folder),
            "verb": note.verb,
            "state": state_of(folder, note),
            "started": note.started,
            "loss": last.get("loss"),
            **progress(run, [last["step"]] if last else [], [last["seconds"]] if last else [], running=False),
        }


def choices(workspace: Workspace) -> dict[str, list[str]]:
    """Return what a form can choose from: checkpoints, data and tokenizers of the workspace."""
    files = (path for folder in (workspace.root, *workspace.more) for path in walk(folder))
    tokenizers = {workspace.name(path.parent) for path in files if path.name == "tokenizer.json"}
    return {
        "checkpoint": [workspace.name(path) for path in workspace.checkpoints()],
        "data": [workspace.name(path) for path in workspace.data_files()],
        "tokenizer": ["bytes", *sorted(tokenizers)],
    }


def apart(root: Path, work: Callable[..., Made], *given: Any) -> Made:
    """Do work in a process of its own that stands in the workspace, and return what it made."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=os.chdir, initargs=(root,)) as pool:
        return pool.submit(work, *given).result()


def checked_form(workspace: Workspace, filled: Filled) -> dict[str, Any]:
    """Return what a form amounts to: what is wrong with it, its recipe and its command."""
    checked = recipe_forms.check(workspace, filled.verb, filled.values)
    return {
        "problems": checked.problems,
        "recipe": recipe_forms.to_recipe(checked.values),
        "command": recipe_forms.to_command(filled.verb, checked.values),
    }


def estimate(workspace: Workspace, filled: Filled) -> dict[str, Any]:
    """Return what a form's recipe would cost; raises ApiError for one that is not right."""
    checked = recipe_forms.check(workspace, filled.verb, filled.values)
    if checked.problems:
        key, told = next(iter(checked.problems.items()))
        raise ApiError(400, told, param=key or None)
    return apart(workspace.root, dry_run.dry_run, filled.verb, checked.values)


def hardware_presets(workspace: Workspace, asked: Hardware) -> list[dict[str, Any]]:
    """Return what this machine can train in some times, with the vocabulary of a tokenizer."""
    if asked.tokenizer != "bytes":
        workspace.find(asked.tokenizer)
    return apart(workspace.root, dry_run.presets, asked.tokenizer, asked.max_seq_len)


def routes(studio: Studio) -> Routes:
    """Return the routes of the page."""
    trainer, watcher, workspace = Trainer(studio.workspace), Watcher(), studio.workspace
    # One at a time and not among the threads that answer all pages: it takes seconds and all cores.
    measuring = replace(studio, threads=ThreadPoolExecutor(1, "measure"))

    async def listed(request: Request) -> Response:
        return reply(await studio.aside(lambda: {"trainings": trainer.listed()}))

    async def form(request: Request) -> Response:
        verb = query(request, "verb")
        fields = await studio.aside(lambda: recipe_forms.form(verb))
        return reply({**fields, "choices": await studio.aside(lambda: choices(workspace))})

    async def points(request: Request) -> Response:
        return reply({"points": await studio.aside(lambda: recipe_forms.starting_points(workspace))})

    async def begin(request: Request) -> Response:
        name = query(request, "from")
        return reply(await studio.aside(lambda: recipe_forms.begin_with(workspace, name)))

    async def check(request: Request) -> Response:
        filled = await read(request, Filled)
        return reply(await studio.aside(lambda: checked_form(workspace, filled)))

    async def cost(request: Request) -> Response:
        filled = await read(request, Filled)
        return reply(await measuring.aside(lambda: estimate(workspace, filled)))

    async def presets(request: Request) -> Response:
        asked = await read(request, Hardware)
        return reply({"presets": await measuring.aside(lambda: hardware_presets(workspace, asked))})

    async def watch(request: Request) -> Response:
        run, after, file = (query(request, name) for name in ("run", "after", "file"))
        step = int(after) if after.isdecimal() else 0
        return reply(await studio.aside(lambda: watcher.watch(workspace.find(run), after=step, file=file)))

    return {
        "GET /train": listed,
        "GET /train/form": form,
        "GET /train/points": points,
        "GET /train/begin": begin,
        "POST /train/check": check,
        "POST /train/cost": cost,
        "POST /train/presets": presets,
        "GET /train/watch": watch,
        **changes(studio, trainer),
    }


def changes(studio: Studio, trainer: Trainer) -> Routes:
    """Return the routes that start, resume, pause and stop trainings."""

    async def begin_training(request: Request) -> Response:
        await studio.administer(request)
        wanted = await read(request, Wanted)
        return reply({"run": await studio.aside(lambda: trainer.start(wanted))})

    async def resume(request: Request) -> Response:
        await studio.administer(request)
        named = await read(request, Named)
        await studio.aside(lambda: trainer.resume(named.run, alongside=named.alongside))
        return reply({"ok": True})

    def asking(wish: Asked) -> Callable[[Request], Any]:
        async def route(request: Request) -> Response:
            await studio.administer(request)
            named = await read(request, Named)
            await studio.aside(lambda: ask(trainer.folder(named.run), wish))
            return reply({"ok": True})

        return route

    return {
        "POST /train/start": begin_training,
        "POST /train/resume": resume,
        "POST /train/pause": asking("pause"),
        "POST /train/stop": asking("stop"),
    }
