"""Hand a checkpoint to an installed vLLM, for those who outgrow one machine: the same flags, vLLM's own process.

What vLLM has no word for is refused rather than left out: a server without its keys would be open to all.

Ref: docs.vllm.ai, `vllm serve`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from smelt.core.errors import UsageError
from smelt.core.extras import available
from smelt.infer.limits import EngineSettings
from smelt.peft.load import is_adapter

DTYPES = {None: "auto", "bf16": "bfloat16", "fp32": "float32"}


def command(
    checkpoint: Path, name: str, host: str, port: int, settings: EngineSettings, adapters: Mapping[str, Path]
) -> list[str]:
    """Return vLLM's command line; raises UsageError for an adapter, and for settings that it does not have."""
    if is_adapter(checkpoint):
        what = f"{checkpoint} is an adapter, and vLLM serves adapters beside their base"
        raise UsageError(what, fix=f"smelt serve BASE --engine vllm --adapter NAME={checkpoint}")
    if settings.weights not in DTYPES:
        raise UsageError(f"--weights {settings.weights} with vLLM", accepted="bf16, fp32, or as the model has them")
    if settings.cache_dtype is not None:
        raise UsageError(f"--cache-dtype {settings.cache_dtype} with vLLM", fix="leave it out")
    found = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(checkpoint)]
    found += ["--served-model-name", name, "--host", host, "--port", str(port)]
    found += ["--dtype", DTYPES[settings.weights], "--max-num-seqs", str(settings.max_running)]
    found += ["--block-size", str(settings.page_tokens)]
    if settings.cache_tokens is not None:
        found += ["--num-gpu-blocks-override", str(-(-settings.cache_tokens // settings.page_tokens))]
    if adapters:
        found += ["--enable-lora", "--lora-modules", *(f"{own}={path}" for own, path in adapters.items())]
    return found


def become_vllm(arguments: list[str]) -> NoReturn:
    """Become the process of that command line; raises UsageError where vLLM is not installed."""
    if not available("vllm"):
        raise UsageError("--engine vllm, and vLLM is not installed here", fix="pip install vllm, or --engine smelt")
    os.execv(arguments[0], arguments)
