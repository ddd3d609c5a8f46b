"""Runs: what was trained here, how far it came, and runs side by side.

A list of names in an address is joined by commas; a comma or a percent sign in a name is written as in any address.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from smelt.core.config import read_yaml
from smelt.core.errors import SmeltError
from smelt.core.extras import need
from smelt.models.scaling_fit import fit
from smelt.serve.errors import ApiError, invalid
from smelt.studio.context import Request, Response, Routes, Studio, query, reply
from smelt.studio.curves import KEPT_BYTES, Asked, Curves, as_values, curve, held_out
from smelt.studio.lines import Lines, read_numbers, smoothed
from smelt.studio.run_export import as_csv, as_json, as_markdown
from smelt.studio.run_facts import Summaries, find_run, picture, settings_by_stage, whole
from smelt.train.finished import read_runs
from smelt.train.reading import differences, flatten, read_events, validations

MOST_RUNS = 500  # at once
MOST_POINTS = 20_000  # of one curve
NAMES_BYTES = 60_000  # of an address
AXES = ("step", "tokens", "seconds", "flops")


def routes(studio: Studio) -> Routes:
    """Return the routes of the page."""
    runs = Runs(studio)
    threading.Thread(target=runs.read_ahead, name="runs", daemon=True).start()
    return {
        "GET /runs": runs.listed,
        "GET /runs/run": runs.one,
        "GET /runs/curves": runs.curves,
        "GET /runs/differences": runs.differences,
        "GET /runs/law": runs.law,
        "GET /runs/export": runs.export,
        "GET /runs/picture": runs.picture,
    }


class Runs:
    """The routes, and what they keep between requests."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.summaries = Summaries(studio.workspace)
        self.numbers = Curves()

    def read_ahead(self) -> None:
        """Load what the first list and the first curves need, the newest runs first, so that nobody waits for it."""
        settings_by_stage()
        smoothed(read_numbers(b'{"step": 1}\n').columns["step"], 0.5)
        for run in self.studio.workspace.run_directories():
            if self.numbers.num_bytes > KEPT_BYTES // 2:  # what is read later must not push out what was read first
                break
            with suppress(SmeltError, OSError):  # the page says so when it is asked for that run
                self.summaries.of(run)
                self.numbers.of(run)

    async def listed(self, request: Request) -> Response:
        """Return every run, the newest first."""
        return reply({"runs": await self.studio.aside(self.summaries.all)})

    async def one(self, request: Request) -> Response:
        """Return a run, without its curves."""
        name = query(request, "name")

        def look() -> dict[str, Any]:
            run = find_run(self.studio.workspace, name)
            return whole(self.summaries.of(run), run)

        return reply(await self.studio.aside(look))

    async def curves(self, request: Request) -> Response:
        """Return points of metrics of some runs; `metrics=*` means all there are."""
        names, asked, metrics = names_in(request), asked_in(request), query(request, "metrics") or "loss"

        def look() -> list[dict[str, Any]]:
            return [self.drawn(name, metrics, asked) for name in names]

        return reply({"x": asked.x, "runs": await self.studio.aside(look)})

    def drawn(self, name: str, metrics: str, asked: Asked) -> dict[str, Any]:
        """Return one run's curves, its validations where the loss is among them, and its lines that are broken."""
        run = find_run(self.studio.workspace, name)
        lines = self.numbers.of(run)
        flops = self.summaries.of(run)["flops_a_token"] if asked.x == "flops" else None
        chosen = [one for one in lines.columns if one not in AXES] if metrics == "*" else metrics.split(",")
        losses = validations(read_events(run)[0]) if "loss" in chosen else []
        return {
            "name": name,
            "metrics": list(lines.columns),
            "curves": [curve(lines, metric, asked, flops) for metric in chosen],
            "validations": held_out(lines, losses, asked, flops),
            "broken": as_values(lines.broken),
        }

    async def differences(self, request: Request) -> Response:
        """Return the settings that are not the same in all of some recipes."""
        names = names_in(request)
        found = await self.studio.aside(lambda: differences(*self.recipes(names)))
        return reply({"runs": names, "differences": [{"key": key, "values": row} for key, row in found.items()]})

    def recipes(self, names: list[str]) -> list[dict[str, Any]]:
        """Return the recipes of runs, flat."""
        return [flatten(read_yaml(find_run(self.studio.workspace, name) / "recipe.yaml")) for name in names]

    async def law(self, request: Request) -> Response:
        """Fit the scaling law to the finished pretraining runs among some, and say why others do not count."""
        names = names_in(request)

        def look() -> dict[str, Any]:
            group = read_runs([find_run(self.studio.workspace, name) for name in names])
            name = self.studio.workspace.name
            found: dict[str, Any] = {
                "unit": group.unit,
                "skipped": [{"name": name(Path(path)), "reason": reason} for path, reason in group.skipped],
                "runs": [
                    {"name": name(run.path), "parameters": run.parameters, "tokens": run.tokens, "flops": run.flops,
                     "loss": group.loss(run)}
                    for run in group.runs
                ],
            }  # fmt: skip
            try:
                law = fit(group.observations()).law
            except SmeltError as error:
                return {**found, "law": None, "why": str(error)}
            for row, seen in zip(found["runs"], group.observations(), strict=True):
                row["predicted"] = float(law.loss(seen.parameters, seen.tokens))
            return {**found, "law": asdict(law), "why": None}

        return reply(await self.studio.aside(look))

    async def export(self, request: Request) -> Response:
        """Return runs as a file: csv and json hold every step, md what they reached and where they differ."""
        names, form = names_in(request), query(request, "form")
        if form == "md":
            page = await self.studio.aside(lambda: self.page(names))
            return file(page.encode(), "runs.md", "text/markdown; charset=utf-8")
        if form not in ("csv", "json"):
            raise invalid(f"form={form!r} is none of csv, json and md", param="form")
        read = await self.studio.aside(lambda: [(name, self.lines(name)) for name in names])
        if form == "csv":
            return file(as_csv(read), "runs.csv", "text/csv; charset=utf-8")
        losses = {name: validations(read_events(find_run(self.studio.workspace, name))[0]) for name in names}
        return file(as_json(read, losses), "runs.json", "application/json")

    def lines(self, name: str) -> Lines:
        """Return the numbers of a run."""
        return self.numbers.of(find_run(self.studio.workspace, name))

    def page(self, names: list[str]) -> str:
        """Return a run's own report where it is one that has one, else a page about the runs."""
        paths = [find_run(self.studio.workspace, name) for name in names]
        if len(paths) == 1 and (paths[0] / "report.md").is_file():
            return (paths[0] / "report.md").read_text(encoding="utf-8", errors="replace")
        return as_markdown([self.summaries.of(path) for path in paths], self.recipes(names))

    async def picture(self, request: Request) -> Response:
        """Return a picture of a run's report."""
        name, wanted = query(request, "name"), query(request, "file")
        path = await self.studio.aside(lambda: picture(find_run(self.studio.workspace, name), wanted))
        sent = need("fastapi.responses", extra="serve").FileResponse(path, headers={"cache-control": "no-cache"})
        return cast("Response", sent)


def names_in(request: Request) -> list[str]:
    """Return the runs that an address names; raises ApiError for none or too many."""
    given = query(request, "runs", NAMES_BYTES)
    names = list(dict.fromkeys(unquote(name) for name in given.split(",") if name))
    if not 0 < len(names) <= MOST_RUNS:
        raise invalid(f"runs names {len(names)}, accepted: 1 to {MOST_RUNS}, joined by commas", param="runs")
    return names


def asked_in(request: Request) -> Asked:
    """Return how curves are to be cut; raises ApiError for what is no number or out of range."""
    x = query(request, "x") or "step"
    if x not in AXES:
        raise invalid(f"x={x!r} is none of {', '.join(AXES)}", param="x")
    return Asked(
        x,
        int(number_in(request, "points", 2000, lambda value: 4 <= value <= MOST_POINTS, f"4 to {MOST_POINTS}")),
        number_in(request, "smooth", 0.0, lambda value: 0 <= value < 1, "0 to below 1"),
        number_in(request, "from", -math.inf, lambda value: True, "a number"),
        number_in(request, "to", math.inf, lambda value: True, "a number"),
    )


def number_in(request: Request, name: str, default: float, fits: Callable[[float], bool], accepted: str) -> float:
    """Return a number of the address."""
    text = query(request, name)
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if math.isnan(value) or not fits(value):
        raise ApiError(400, f"{name}={text!r}, accepted: {accepted}", param=name)
    return value


def file(content: Any, name: str, media_type: str) -> Response:
    """Return something to be saved; pieces are sent as they are made."""
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    if isinstance(content, bytes):
        return Response(content, headers=headers, media_type=media_type)
    streaming = need("fastapi.responses", extra="serve").StreamingResponse
    return cast("Response", streaming(content, headers=headers, media_type=media_type))
