"""Prompt tuning, P-tuning and prefix tuning as methods: their settings, how they begin, what their files say.

What prompts and prefixes begin as decides how fast they learn: tokens of the vocabulary, or the keys and values that
the model itself makes of them, are where the model knows its way; numbers drawn at random are not.

Ref: arXiv:2104.08691, 3.2 and figure 3b (initialization). Ref: arXiv:2101.00190, 7.4 (real activations).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from smelt.core.config import Config
from smelt.core.errors import CheckpointError
from smelt.models.transformer import Transformer
from smelt.nn.spec import ModelSpec
from smelt.peft import prompts
from smelt.peft.method import Method
from smelt.peft.prompts import LayerPrompts, Prompt, Recurrent, check_model, common_config, is_causal, mlp, number_of

Initial = Literal["vocabulary", "random"]
DRAWN = "SAMPLE_VOCAB"
"""What files call embeddings that begin as those of drawn tokens."""
LOOKS_AHEAD = "reads text both ways, so that virtual tokens would look at it; prefix does not need that they do not"


class PromptSettings(Config):
    """Virtual tokens whose embeddings are learned."""

    num_virtual_tokens: int = Field(default=16, ge=1)
    """How many stand before each text; they take room of the context."""
    initial: Initial = "vocabulary"
    """What they begin as: embeddings of tokens drawn from the vocabulary, or random numbers."""


class PTuningSettings(Config):
    """Virtual tokens whose embeddings are learned through a network."""

    num_virtual_tokens: int = Field(default=16, ge=1)
    """How many stand before each text; they take room of the context."""
    encoder: Literal["lstm", "mlp"] = "lstm"
    """The network: an LSTM that reads them both ways, or three linear layers for each alone."""
    hidden_dim: int | None = Field(default=None, ge=1)
    """Its width; none: that of the embeddings."""
    num_layers: int = Field(default=2, ge=1)
    """Layers of the LSTM."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of numbers dropped between layers of the LSTM."""

    @model_validator(mode="after")
    def of_the_lstm(self) -> PTuningSettings:
        """Refuse settings that nothing would look at."""
        if self.encoder != "lstm" and (self.num_layers != 2 or self.dropout):
            raise ValueError("num_layers and dropout are those of encoder=lstm")
        if self.dropout and self.num_layers == 1:
            raise ValueError("dropout is between layers, and num_layers is 1")
        return self


class PrefixSettings(Config):
    """Virtual tokens whose keys and values are learned, those of every layer."""

    num_virtual_tokens: int = Field(default=16, ge=1)
    """How many stand before each text; they take room of the context."""
    projection: bool = False
    """Learn them through a network of two linear layers, which is thrown away afterwards."""
    hidden_dim: int | None = Field(default=None, ge=1)
    """Width of the projection; none: that of a layer's keys."""
    initial: Initial = "vocabulary"
    """What they begin as without a projection: keys and values that the model makes of drawn tokens, or random."""

    @model_validator(mode="after")
    def of_the_projection(self) -> PrefixSettings:
        """Refuse a width that nothing would have."""
        if self.hidden_dim is not None and not self.projection:
            raise ValueError("hidden_dim is that of projection=true")
        return self


def width(spec: ModelSpec) -> int:
    """Return how many numbers an embedding has."""
    return spec.embedding_dim or spec.dim


def attach_prompt(model: Transformer, settings: PromptSettings, seed: int) -> None:
    """Freeze a model and put learned embeddings before its texts, in place; raises ConfigError as `check_model`."""
    number = settings.num_virtual_tokens
    check_model(model, "prompt", number, odd={LOOKS_AHEAD: not is_causal(model.spec)})

    def make(generator: torch.Generator) -> Prompt:
        if settings.initial == "random":
            return Prompt(torch.randn(number, width(model.spec), generator=generator))
        return Prompt(model.look_up(prompts.some_tokens(model, number, generator)).float())

    prompts.put_on(model, make, seed)


def attach_p_tuning(model: Transformer, settings: PTuningSettings, seed: int) -> None:
    """Freeze a model and put encoded embeddings before its texts, in place; raises ConfigError as `check_model`."""
    number, dim = settings.num_virtual_tokens, width(model.spec)
    check_model(model, "p-tuning", number, odd={LOOKS_AHEAD: not is_causal(model.spec)})
    hidden = settings.hidden_dim or dim

    def make(generator: torch.Generator) -> Prompt:
        encoder: nn.Module
        if settings.encoder == "lstm":
            encoder = Recurrent(dim, hidden, settings.num_layers, settings.dropout)
        else:
            encoder = mlp(dim, hidden, hidden, dim)
        return Prompt(torch.randn(number, dim, generator=generator), encoder)

    prompts.put_on(model, make, seed)


def attach_prefix(model: Transformer, settings: PrefixSettings, seed: int) -> None:
    """Freeze a model and put learned keys and values before those of its texts, in place; raises ConfigError."""
    kinds = {layer.attention.cached for layer in model.spec.layers}
    odd = {
        "makes keys and values of a latent": any(layer.attention.latent is not None for layer in model.spec.layers),
        "has layers with other numbers of keys than others": len(kinds) > 1,
    }
    number = settings.num_virtual_tokens
    check_model(model, "prefix", number, odd=odd)
    num_layers, (num_heads, head_dim) = model.spec.num_layers, next(iter(kinds))[0]
    dim = num_heads * head_dim

    def make(generator: torch.Generator) -> LayerPrompts:
        if settings.projection:
            hidden = settings.hidden_dim or dim
            encoder = mlp(dim, hidden, 2 * num_layers * dim, activation=nn.Tanh)
            return LayerPrompts(torch.randn(number, dim, generator=generator), num_heads, head_dim, encoder)
        if settings.initial == "random":
            return LayerPrompts(torch.randn(number, 2 * num_layers * dim, generator=generator), num_heads, head_dim)
        tokens = model.look_up(prompts.some_tokens(model, number, generator))
        return LayerPrompts(table_of(model.read(tokens[None])), num_heads, head_dim)

    prompts.put_on(model, make, seed)


def table_of(found: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Lay keys and values of each layer, (1, K, P, C), into rows of virtual tokens: (P, 2 L K C), in fp32."""
    parts = torch.stack([torch.cat(pair) for pair in found])  # (L, 2, K, P, C)
    return parts.permute(3, 0, 1, 2, 4).flatten(1).float()


def prompt_config(model: Transformer, settings: PromptSettings) -> dict[str, Any]:
    """Return what adapter_config.json says of prompt tuning."""
    how = DRAWN if settings.initial == "vocabulary" else "RANDOM"
    return {**embedding_config(model), "peft_type": PROMPT.peft_type, "prompt_tuning_init": how}


def p_tuning_config(model: Transformer, settings: PTuningSettings) -> dict[str, Any]:
    """Return what adapter_config.json says of P-tuning."""
    return {
        **embedding_config(model),
        "peft_type": P_TUNING.peft_type,
        "encoder_reparameterization_type": settings.encoder.upper(),
        "encoder_hidden_size": settings.hidden_dim or width(model.spec),
        "encoder_num_layers": settings.num_layers,
        "encoder_dropout": settings.dropout,
    }


def prefix_config(model: Transformer, settings: PrefixSettings) -> dict[str, Any]:
    """Return what adapter_config.json says of prefix tuning."""
    num_heads, head_dim = model.spec.layers[0].attention.cached[0]
    return {
        **common_config(model, token_dim=num_heads * head_dim, num_heads=num_heads),
        "peft_type": PREFIX.peft_type,
        "encoder_hidden_size": settings.hidden_dim or num_heads * head_dim,
        "prefix_projection": settings.projection,
        "init_weights": None,
    }


def embedding_config(model: Transformer) -> dict[str, Any]:
    """Return what adapter_config.json says of virtual tokens that are embeddings."""
    heads = model.spec.layers[0].attention.num_heads
    return common_config(model, token_dim=width(model.spec), num_heads=heads)


def expected_of(spec: ModelSpec, token_dim: int) -> dict[str, Any]:
    """Return the fields that a file for a model of this spec has, or leaves out."""
    return {"token_dim": token_dim, "num_layers": spec.num_layers, "num_transformer_submodules": 1}


def read_prompt(config: Mapping[str, Any], spec: ModelSpec) -> PromptSettings:
    """Return the settings of a file; raises CheckpointError as `number_of`."""
    number = number_of(config, expected_of(spec, width(spec)), ())
    drawn = config.get("prompt_tuning_init") == DRAWN
    return PromptSettings(num_virtual_tokens=number, initial="vocabulary" if drawn else "random")


def read_p_tuning(config: Mapping[str, Any], spec: ModelSpec) -> PTuningSettings:
    """Return the settings of a file; raises CheckpointError as `number_of`, and for another encoder."""
    fields = {
        "encoder_reparameterization_type": "encoder",
        "encoder_hidden_size": "hidden_dim",
        "encoder_num_layers": "num_layers",
        "encoder_dropout": "dropout",
    }
    number = number_of(config, expected_of(spec, width(spec)), tuple(fields))
    given = {ours: config[theirs] for theirs, ours in fields.items() if config.get(theirs) is not None}
    given["encoder"] = str(given.get("encoder", "MLP")).lower()
    if given["encoder"] == "mlp":
        given = {name: value for name, value in given.items() if name in ("encoder", "hidden_dim")}
    try:
        return PTuningSettings(num_virtual_tokens=number, **given)
    except ValueError as error:
        raise CheckpointError(
            f"adapter_config.json describes no encoder: {given!r:.120}", accepted="an LSTM or an MLP and their sizes"
        ) from error


def read_prefix(config: Mapping[str, Any], spec: ModelSpec) -> PrefixSettings:
    """Return the settings of a file, which does not say what began as what; raises CheckpointError as `number_of`."""
    num_heads, head_dim = spec.layers[0].attention.cached[0] if spec.layers else (0, 0)
    expected = {**expected_of(spec, num_heads * head_dim), "num_attention_heads": num_heads}
    number = number_of(config, expected, ("encoder_hidden_size", "prefix_projection"))
    projection = bool(config.get("prefix_projection"))
    hidden = config.get("encoder_hidden_size") if projection else None
    return PrefixSettings(num_virtual_tokens=number, initial="random", projection=projection, hidden_dim=hidden)


def number_in(settings: PromptSettings | PTuningSettings | PrefixSettings) -> int:
    """Return how many tokens of the context the virtual ones take."""
    return settings.num_virtual_tokens


PROMPT = Method(
    name="prompt",
    peft_type="PROMPT_TUNING",
    settings=PromptSettings,
    attach=attach_prompt,
    config=prompt_config,
    tensors=prompts.tensors,
    read=read_prompt,
    fill=prompts.fill,
    virtual_tokens=number_in,
)
P_TUNING = Method(
    name="p-tuning",
    peft_type="P_TUNING",
    settings=PTuningSettings,
    attach=attach_p_tuning,
    config=p_tuning_config,
    tensors=prompts.tensors,
    read=read_p_tuning,
    fill=prompts.fill,
    virtual_tokens=number_in,
)
PREFIX = Method(
    name="prefix",
    peft_type="PREFIX_TUNING",
    settings=PrefixSettings,
    attach=attach_prefix,
    config=prefix_config,
    tensors=prompts.tensors,
    read=read_prefix,
    fill=prompts.fill,
    virtual_tokens=number_in,
)
