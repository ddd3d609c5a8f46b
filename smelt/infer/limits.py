"""How much an engine does at once, and which models it can answer with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from smelt.core import runtime
from smelt.core.errors import ResourceError, SmeltError, UsageError
from smelt.core.log import say
from smelt.infer.fused import FusedDecoder, added_to, supports
from smelt.infer.kernels.step import run_step
from smelt.infer.packing import Weights
from smelt.infer.paged_cache import Pool
from smelt.models.encoder_decoder import Network
from smelt.models.transformer import Transformer
from smelt.nn.spec import ModelSpec
from smelt.tokenizers.kernels.jit import is_compiled

MEMORY_SHARE = 0.25  # of the free memory, for keys and values where nobody says how much


@dataclass(frozen=True)
class EngineSettings:
    """Say how much an engine does at once.

    Args:
        max_running: requests that decode together.
        max_waiting: requests in line; one more is refused.
        page_tokens: tokens in a page of the cache.
        cache_tokens: tokens whose keys and values are kept; None for a quarter of the free memory, and no more than
            all running requests could fill.
        prefill_tokens: tokens of prompts that are read in one step, so that those who decode need not wait long.
        weights: how a step of decoding on the processor keeps the model's matrices: fp32, bf16, int8, int4; None as
            the model has them. Prompts are read by the model as it is.
        cache_dtype: how keys and values are kept: int8, a quarter or a half of the room, or None as the model's
            numbers. Answers then differ a little from the plain loop's.
    """

    max_running: int = 64
    max_waiting: int = 256
    page_tokens: int = 16
    cache_tokens: int | None = None
    prefill_tokens: int = 512
    weights: Weights | None = None
    cache_dtype: Literal["int8"] | None = None

    def __post_init__(self) -> None:
        for name in ("max_running", "max_waiting", "page_tokens", "cache_tokens", "prefill_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name}: {value}", accepted="a whole number, 1 or more")
        if self.weights is not None and self.weights not in get_args(Weights):
            raise UsageError(f"weights: {self.weights!r}", accepted=", ".join(get_args(Weights)))
        if self.cache_dtype not in (None, "int8"):
            raise UsageError(f"cache_dtype: {self.cache_dtype!r}", accepted="int8, or None")

    def cache_in(self, dtype: torch.dtype) -> torch.dtype:
        """Return the type of the cache's numbers for a model's."""
        return torch.int8 if self.cache_dtype == "int8" else dtype


class QueueFull(SmeltError):
    """No room in line; those who ask later may find some."""


def reason_against(model: Network) -> str | None:
    """Return why a model's answers need more than the keys and values of its tokens, None where they do not."""
    spec = model.spec
    reasons = {
        "has an encoder": spec.encoder is not None,
        "fills in masked tokens and has no next one": not spec.is_causal,
        "has recurrent layers": spec.recurrent is not None,
        "reads a context both ways": spec.context is not None,
        "attends among blocks": any(layer.attention.blocks for layer in spec.layers),
        "has virtual tokens before its texts": isinstance(model, Transformer) and model.prefix is not None,
    }
    return next((reason for reason, is_so in reasons.items() if is_so), None)


def check_model(model: Network) -> None:
    """Raise UsageError for a model that the engine cannot answer with."""
    if (reason := reason_against(model)) is not None:
        raise UsageError(
            f"this {model.spec.family} model {reason}, which the engine does not know",
            accepted="a decoder with attention over its own tokens; of tuned ones, those whose method can be merged",
            fix="smelt.infer.generate answers with any model, one batch at a time",
        )


def count_pages(spec: ModelSpec, settings: EngineSettings, dtype: torch.dtype) -> int:
    """Return how many pages the cache has."""
    if settings.cache_tokens is not None:
        return -(-settings.cache_tokens // settings.page_tokens)
    page_bytes = Pool.bytes_per_token(spec, settings.cache_in(dtype)) * settings.page_tokens
    fit = int(runtime.free_memory_bytes() * MEMORY_SHARE) // page_bytes
    if fit < 1:
        raise ResourceError(
            f"no memory for {settings.page_tokens} tokens of the cache, {page_bytes / 1e6:.0f} MB",
            fix="close other programs, or use a smaller model",
        )
    return min(fit, settings.max_running * -(-spec.max_seq_len // settings.page_tokens))


def fused_step(model: Transformer, pool: Pool, settings: EngineSettings, *, rows: int) -> FusedDecoder | None:
    """Return the fast step of decoding up to so many tokens; None for a model that it does not know.

    Raises UsageError for such a model where weights are asked for in a type of their own.
    """
    weight = model.head_weight
    reason = supports(model.spec)
    if reason is None and (reason := added_to(model)) is not None:
        say(f"decoding without the fused step: {reason}")
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.bfloat16):
        reason = f"it is in {str(weight.dtype).removeprefix('torch.')} on {weight.device.type}"
    if reason is not None:
        if settings.weights is None:
            return None
        raise UsageError(
            f"weights in {settings.weights} for this {model.spec.family} model: {reason}",
            accepted="weights=None, the model as it is",
        )
    weights = settings.weights or ("fp32" if weight.dtype is torch.float32 else "bf16")
    if not is_compiled(run_step):
        say("compiling the step of decoding, once on a machine: about half a minute")
    step = FusedDecoder(model, weights=weights, max_rows=rows)
    keys, values = zip(*pool.layers, strict=True)
    step.attach(keys, values, pool.page_tokens)
    return step
