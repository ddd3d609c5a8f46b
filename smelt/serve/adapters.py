"""Adapters over HTTP: models of their own names over the one base, loaded and dropped while the server runs.

Which ones may be loaded is said at the start, by a directory that holds them: a request names one of its folders and
can lead nowhere else.

Ref: vLLM's `/v1/load_lora_adapter` and `/v1/unload_lora_adapter`, whose fields these are.
"""

from __future__ import annotations

import re

from pydantic import Field

from smelt.core.errors import SmeltError
from smelt.peft.files import load_lora
from smelt.peft.lora import Lora
from smelt.serve.errors import ApiError, invalid
from smelt.serve.prepare import Served
from smelt.serve.protocol import Fields

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MAX_ADAPTERS = 256


class AdapterRequest(Fields):
    """The body of both routes; the path is the name of a folder, by default the adapter's own."""

    lora_name: str = Field(max_length=128)
    lora_path: str | None = Field(default=None, max_length=128)


def is_free_name(name: str, model_name: str) -> bool:
    """Tell whether an adapter of this model can have a name."""
    return NAME.fullmatch(name) is not None and name != model_name


def stored_adapter(served: Served, asked: AdapterRequest) -> Lora:
    """Read the adapter that a request names; raises ApiError for one that is not there, or cannot be used."""
    name, folder = asked.lora_name, asked.lora_name if asked.lora_path is None else asked.lora_path
    if not is_free_name(name, served.name):
        accepted = "letters, digits, '.', '_' and '-', and not the model's name"
        raise invalid(f"lora_name: {name!r}; accepted: {accepted}", "lora_name")
    if served.adapter_root is None:
        raise ApiError(403, "this server loads no adapters; --adapter-root says from where", kind="permission_error")
    root = served.adapter_root.resolve()
    if not NAME.fullmatch(folder) or not (root / folder).resolve().is_relative_to(root):
        raise invalid(f"lora_path: {folder!r}; the name of a folder is expected", "lora_path")
    if not (root / folder).is_dir():
        raise ApiError(404, f"there is no adapter {folder!r} to load", param="lora_path", code="not_found")
    if len(served.adapters.names) >= MAX_ADAPTERS:
        raise invalid(f"{MAX_ADAPTERS} adapters are loaded, which is the most; drop one first", "lora_name")
    try:
        return load_lora(root / folder, served.adapters.model.spec)
    except SmeltError as error:
        told = " ".join(str(error).replace(f"{root}/", "").splitlines())  # where the root is, is nobody's business
        raise invalid(f"lora_path: {told}", "lora_path") from error


def check_loaded(served: Served, name: str) -> None:
    """Raise ApiError (404) for an adapter that is not loaded."""
    if name not in served.adapters.names:
        raise ApiError(404, f"there is no adapter {name!r}", param="lora_name", code="not_found")
