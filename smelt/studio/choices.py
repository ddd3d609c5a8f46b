"""What can be asked to answer: the workspace's checkpoints, as every list of models on a page shows them.

Nothing is loaded: a checkpoint's config.json says what its network is, and what was found is remembered until that
file changes. One that no engine can run is listed with the reason, so that nobody looks for it in vain.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from smelt.core.errors import SmeltError
from smelt.core.storage import checkpoint_at
from smelt.infer.limits import reason_against
from smelt.models.build import blank, count_parameters
from smelt.models.hub import load_spec
from smelt.models.shards import read_json
from smelt.peft.files import CONFIG as ADAPTER_CONFIG
from smelt.peft.load import base_of, is_adapter
from smelt.studio.context import Request, Response, Routes, Studio, reply
from smelt.studio.workspace import Workspace
from smelt.tokenizers.chat import read_template

REMEMBERED = 1024


def routes(studio: Studio) -> Routes:
    """Return the route of the list."""

    async def choices(request: Request) -> Response:
        return reply({"models": await studio.aside(lambda: list_choices(studio.workspace))})

    return {"GET /choices": choices}


def list_choices(workspace: Workspace) -> list[dict[str, Any]]:
    """Describe every checkpoint: its name, family, size, whether it has learned to chat, and why it cannot answer."""
    return [{"name": workspace.name(path), **choice(path)} for path in workspace.checkpoints()]


def choice(path: Path) -> dict[str, Any]:
    """Describe one checkpoint; `fault` says why it cannot answer, None where it can."""
    try:
        directory = checkpoint_at(path)
        config = directory / (ADAPTER_CONFIG if is_adapter(directory) else "config.json")
        return described(directory, config.stat().st_mtime_ns)
    except (SmeltError, OSError) as error:
        unknown = {"family": None, "parameters": None, "max_seq_len": None, "chat": False, "adapter": False}
        return {**unknown, "fault": str(error).splitlines()[0]}


@functools.lru_cache(REMEMBERED)
def described(directory: Path, _: int) -> dict[str, Any]:
    """Describe a checkpoint directory, whose configuration was written at a time."""
    adapter = is_adapter(directory)
    base = base_of(directory, read_json(directory / ADAPTER_CONFIG)) if adapter else directory
    spec = load_spec(base)
    reason = reason_against(blank(spec, device="meta"))
    return {
        "family": spec.family,
        "parameters": count_parameters(spec),
        "max_seq_len": spec.max_seq_len,
        "chat": any(read_template(folder)[0] is not None for folder in (directory, base)),
        "adapter": adapter,
        "fault": None if reason is None else f"this {spec.family} model {reason}",
    }
