"""Llama-Adapter: prompts that the last layers read beside the text, behind a gate that is closed to begin with.

A layer's queries attend twice, to the text and to P learned vectors, which the layer's own projections make into keys
and values; each has a softmax of its own, and what is read of the prompts is multiplied by a learned gate before it is
added. The gate begins at 0, so that the model begins as it was, bit for bit, and prompts drawn at random do no harm.
Prompts have no positions and take no room of the context.

Ref: LLaMA-Adapter, arXiv:2303.16199, eq. 3 to 6 (one gate a layer).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from smelt.core.config import Config
from smelt.core.errors import CheckpointError, ConfigError
from smelt.models.families import FAMILIES
from smelt.models.transformer import Transformer
from smelt.models.weights import mapped
from smelt.nn.attention import Attention, attend
from smelt.nn.spec import ModelSpec
from smelt.peft.method import Method
from smelt.peft.published import PREFIX, task_type

LEFT_ALONE = 2  # layers without prompts where nobody says how many have them, as 30 of 32 have in the paper
KNOWN = (
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "target_modules", "adapter_len", "adapter_layers",
)  # fmt: skip


class LlamaAdapterSettings(Config):
    """Learned prompts that the last layers read through a gate."""

    num_virtual_tokens: int = Field(default=10, ge=1)
    """How many each layer has; they take no room of the context."""
    num_layers: int | None = Field(default=None, ge=1)
    """How many layers have them, counted from the last; none: all but the first two."""


class GatedPrompt(nn.Module):
    """Hold a layer's prompt (P, D) and its gate (1,)."""

    def __init__(self, prompt: Tensor) -> None:
        super().__init__()
        self.prompt = nn.Parameter(prompt)
        self.gate = nn.Parameter(torch.zeros(1, device=prompt.device))

    def forward(self, attention: Attention, queries: Tensor) -> Tensor:
        """Return what queries (B, H, T, C) read of the prompt, times the gate: (B, H, T, C)."""
        spec, prompt = attention.spec, self.prompt.to(queries.dtype)
        keys = attention.key(prompt).unflatten(-1, (-1, spec.head_dim))  # (P, K, C)
        values = attention.value(prompt).unflatten(-1, (-1, spec.head_dim))
        if attention.key_norm is not None:
            keys = attention.key_norm(keys)
        keys, values = (part.transpose(0, 1).expand(len(queries), -1, -1, -1) for part in (keys, values))
        read = attend(queries, keys.to(queries.dtype), values, causal=False, scale=spec.scale, softcap=spec.softcap)
        return read * self.gate.to(read.dtype)


def attach(model: Transformer, settings: LlamaAdapterSettings, seed: int) -> None:
    """Freeze a model and give its last layers prompts, in place, drawn from the seed; its output stays what it is.

    Raises ConfigError for a model whose attention they do not fit, and for more layers than there are.
    """
    spec = model.spec
    kinds = [layer.attention for layer in spec.layers]
    reasons = {
        "has an encoder": spec.encoder is not None,
        "has recurrent layers": spec.recurrent is not None,
        "makes keys and values of a latent": any(kind.latent is not None for kind in kinds),
        "has layers that share weights": spec.shared_layers,
        "has biases behind its attention, which published code adds twice or not at all": any(
            kind.output_bias for kind in kinds
        ),
    }
    if (reason := next((reason for reason, is_so in reasons.items() if is_so), None)) is not None:
        raise ConfigError(
            f"tune.method=llama-adapter: this {spec.family} model {reason}",
            accepted="a model of attention layers without output biases, such as llama",
            fix="tune.method=prefix",
        )
    number = num_adapted(spec, settings)
    if number > spec.num_layers:
        raise ConfigError(
            f"tune.method=llama-adapter: {number} layers with prompts", accepted=f"1 to {spec.num_layers}, all layers"
        )
    if gated_prompts(model):
        raise ConfigError("tune.method=llama-adapter: the model has such prompts already", fix="tune the base alone")
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    device = model.token_embedding.weight.device
    for place in range(spec.num_layers - number, spec.num_layers):
        prompt = torch.randn(settings.num_virtual_tokens, spec.dim, generator=generator)
        model.get_submodule(f"blocks.{place}.attention").addition = GatedPrompt(prompt.to(device))


def num_adapted(spec: ModelSpec, settings: LlamaAdapterSettings) -> int:
    """Return how many layers have prompts."""
    return max(1, spec.num_layers - LEFT_ALONE) if settings.num_layers is None else settings.num_layers


def gated_prompts(model: Transformer) -> dict[int, GatedPrompt]:
    """Return the prompts of a model by the number of their layer."""
    found = ((place, getattr(block.attention, "addition", None)) for place, block in enumerate(model.blocks))
    return {place: held for place, held in found if isinstance(held, GatedPrompt)}


def published_names(spec: ModelSpec) -> list[str]:
    """Return the name of each layer's attention in the published layout."""
    theirs = {ours: rule.theirs[0] for rule in mapped(FAMILIES[spec.family].rules(spec)) for ours in rule.ours}
    return [theirs[f"blocks.{place}.attention.query.weight"].rsplit(".", 2)[0] for place in range(spec.num_layers)]


def config(model: Transformer, settings: LlamaAdapterSettings) -> dict[str, Any]:
    """Return what adapter_config.json says."""
    return {
        "peft_type": METHOD.peft_type,
        "task_type": task_type(model.spec),
        "inference_mode": True,
        "target_modules": published_names(model.spec)[0].rsplit(".", 1)[-1],
        "adapter_len": settings.num_virtual_tokens,
        "adapter_layers": num_adapted(model.spec, settings),
    }


def parameters(model: Transformer) -> dict[str, tuple[nn.Parameter, tuple[int, ...]]]:
    """Return the parameters by their names in a file, with the shape that each has there."""
    names, found = published_names(model.spec), {}
    for place, held in gated_prompts(model).items():
        found[f"{PREFIX}{names[place]}.adaption_prompt"] = held.prompt, (1, *held.prompt.shape)
        found[f"{PREFIX}{names[place]}.adaption_gate"] = held.gate, tuple(held.gate.shape)
    return found


def tensors(model: Transformer) -> dict[str, Tensor]:
    """Return what a file holds."""
    return {name: part.detach().reshape(shape).clone() for name, (part, shape) in parameters(model).items()}


def read(found: Mapping[str, Any], spec: ModelSpec) -> LlamaAdapterSettings:
    """Return the settings of a file; raises CheckpointError for what does not fit the model or is not known here."""
    for name, value in found.items():
        if name not in KNOWN and value not in (None, False, [], {}, ""):
            raise CheckpointError(f"{name:.80} = {value!r:.80} in adapter_config.json", accepted="a file without it")
    own = {published.rsplit(".", 1)[-1] for published in published_names(spec)}
    if found.get("target_modules") not in (None, *own):
        raise CheckpointError(
            f"target_modules = {found['target_modules']!r:.80} in adapter_config.json", accepted=", ".join(own)
        )
    for name, most in (("adapter_len", None), ("adapter_layers", spec.num_layers)):
        value = found.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (most is not None and value > most):
            raise CheckpointError(
                f"{name} = {value!r:.80} in adapter_config.json", accepted=f"1 to {most}" if most else "1 or more"
            )
    return LlamaAdapterSettings(num_virtual_tokens=found["adapter_len"], num_layers=found["adapter_layers"])


def fill(model: Transformer, found: Mapping[str, Tensor]) -> None:
    """Put a file's numbers into the prompts and gates of an attached model."""
    own = parameters(model)
    if odd := sorted(own.keys() ^ found.keys()):
        missing = odd[0] in own
        raise CheckpointError(
            f"{odd[0]} is {'not in' if missing else 'no part of this model, but in'} the adapter",
            fix="use the base that the adapter was made for",
        )
    for name, (parameter, shape) in own.items():
        if tuple(found[name].shape) != shape:
            raise CheckpointError(f"{name} {tuple(found[name].shape)}", accepted=str(shape))
        parameter.data.copy_(found[name].reshape(parameter.shape))


METHOD = Method(
    name="llama-adapter",
    peft_type="ADAPTION_PROMPT",
    settings=LlamaAdapterSettings,
    attach=attach,
    config=config,
    tensors=tensors,
    read=read,
    fill=fill,
)
