"""Which parameters of a run's model train: all, a chosen part, or what a method adds to a base that stays as it is.

A stage asks `tune` once, after it has built its model, and keeps the answer: it says how the result is published (a
whole checkpoint, or the few numbers of an adapter beside the name of its base, with what of the model's own trained
beside them), which parameters a checkpoint keeps for going on, and by what each one's learning rate is multiplied.

Ref: ULMFiT, arXiv:1801.06146, 3.2 (discriminative rates). Ref: QLoRA, arXiv:2305.14314, 3.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from smelt.core.config import Config
from smelt.core.errors import ConfigError, nearest
from smelt.core.log import say
from smelt.core.storage import checkpoint_at
from smelt.models.encoder_decoder import Network
from smelt.models.hub import publish
from smelt.models.transformer import Transformer
from smelt.nn.surgery import inside
from smelt.peft.adalora_settings import AdaLoraSettings
from smelt.peft.bottleneck import BottleneckSettings
from smelt.peft.gated_prompts import LlamaAdapterSettings
from smelt.peft.ia3 import Ia3Settings
from smelt.peft.load import Base, merge, publish_adapter, weights_hashes
from smelt.peft.lora_tuning import LoraSettings
from smelt.peft.method import Method
from smelt.peft.methods import METHODS
from smelt.peft.prompt_methods import PrefixSettings, PromptSettings, PTuningSettings
from smelt.quant.model import quantize_base
from smelt.tokenizers.base import Tokenizer
from smelt.tokenizers.chat import ChatTemplate
from smelt.train.objectives import Objective

WHOLE = "full"
ON_TOP = ("norm", "head", "head_transform", "pooler", "tasks", "tied_bias")
"""What stands above the last block."""


class TuneRecipe(Config):
    """What trains, and how fast."""

    method: str = WHOLE
    """full: the model's own parameters; else a method, which adds parameters and leaves the model's as they are."""
    train: tuple[str, ...] = ()
    """Of the model's own parameters those that train, as patterns (norm*, token_embedding, blocks.3); empty: all, and
    beside a method none."""
    last_blocks: int | None = Field(default=None, ge=0)
    """Train the last so many blocks and what stands above them; 0 = only that."""
    rates: dict[str, float] = Field(default_factory=dict)
    """Factors of the learning rate by pattern of parameter names; the first that matches counts."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor of the learning rate from each block to the one below it; the embeddings are below the first."""
    base_bits: Literal[4] | None = None
    """4: keep the base's layers in NF4 while something is added to them (QLoRA)."""
    whole: bool | None = None
    """Publish a whole model, with what the method added merged, instead of an adapter; none: where it has a new head
    and the method can be merged."""
    lora: LoraSettings = LoraSettings()
    """Low ranks beside the linear layers."""
    adalora: AdaLoraSettings = AdaLoraSettings()
    """Low ranks beside the linear layers, more of them where they matter."""
    ia3: Ia3Settings = Ia3Settings()
    """Vectors that multiply keys, values and what the feed-forward's last layer reads."""
    bottleneck: BottleneckSettings = BottleneckSettings()
    """Small networks behind the parts of every block."""
    prompt: PromptSettings = PromptSettings()
    """method=prompt: embeddings of virtual tokens before each text."""
    p_tuning: PTuningSettings = PTuningSettings()
    """method=p-tuning: the same, learned through a network."""
    prefix: PrefixSettings = PrefixSettings()
    """method=prefix: keys and values of virtual tokens, in every layer."""
    llama_adapter: LlamaAdapterSettings = LlamaAdapterSettings()
    """method=llama-adapter: prompts that the last layers read through a gate."""

    @model_validator(mode="after")
    def one_way(self) -> TuneRecipe:
        """Refuse an unknown method, and settings that the chosen one would not look at."""
        if self.method != WHOLE and self.method not in METHODS:
            known = (WHOLE, *METHODS)
            raise ValueError(f"no method '{self.method}'.{nearest(self.method, known)} Known: {', '.join(known)}")
        for name, method in METHODS.items():
            if name != self.method and getattr(self, field_of(name)) != method.settings():
                raise ValueError(f"{field_of(name)} has settings, and the method is {self.method}")
        if self.method != WHOLE and self.last_blocks is not None:
            raise ValueError(f"last_blocks is for method={WHOLE}; train names what trains beside {self.method}")
        if self.method == WHOLE and self.base_bits is not None:
            raise ValueError("base_bits is for a base that stays as it is; choose a method, such as lora")
        if self.method == WHOLE and self.whole is False:
            raise ValueError("whole=false is for what a method adds; choose one, such as lora")
        if self.train and self.last_blocks is not None:
            raise ValueError("give one of train and last_blocks")
        return self

    @property
    def num_virtual_tokens(self) -> int:
        """Return how many tokens of the context the method takes from every text."""
        return 0 if self.method == WHOLE else METHODS[self.method].virtual_tokens(settings_of(self))


@dataclass(frozen=True)
class Tuning:
    """What was done to a run's model: `method` is None where its own parameters train; `base` is where it began.

    `whole` publishes a model with what was added merged, as one that got a new head has no base that had it.
    """

    recipe: TuneRecipe
    num_blocks: int
    method: Method | None = None
    base: Base | None = None
    whole: bool = True
    num_parameters: int = 0
    num_trained: int = 0

    @property
    def parameters(self) -> str:
        """Say how many parameters a model has, those that are quantized too, and how many train where not all do."""
        total, trained = self.num_parameters, self.num_trained
        return f"{total:,}" if trained == total else f"{total:,}, of which {trained:,} train ({trained / total:.2%})"

    @property
    def settings(self) -> Any:
        """Return what the method was told."""
        return settings_of(self.recipe)

    def factor(self, name: str) -> float:
        """Return by what a parameter's learning rate is multiplied."""
        of_method = 1.0 if self.method is None else self.method.factor(name, self.settings)
        given = next((rate for pattern, rate in self.recipe.rates.items() if inside(name, pattern)), 1.0)
        return of_method * given * self.recipe.layer_decay ** blocks_above(name, self.num_blocks)

    def publish(
        self,
        model: Network,
        tokenizer: Tokenizer,
        directory: Path,
        template: ChatTemplate | None,
        lineage: Mapping[str, Any],
    ) -> None:
        """Write the model, or what was added to its base, into an existing directory."""
        if self.method is not None and not self.whole:
            assert self.base is not None
            publish_adapter(self.method, self.settings, model, tokenizer, directory, self.base, template, lineage)
            return
        if self.method is not None and self.method.merge is not None:
            model = copy.deepcopy(model)
            merge(model, self.method)
        publish(model, tokenizer, directory, template=template, lineage=lineage)


def settings_of(recipe: TuneRecipe) -> Any:
    """Return the settings of the chosen method."""
    return getattr(recipe, field_of(recipe.method))


def field_of(method: str) -> str:
    """Return the recipe's key for a method's settings: "p-tuning" -> "p_tuning"."""
    return method.replace("-", "_")


def tune(model: Network, recipe: TuneRecipe, *, seed: int, base: str | None, new: Sequence[str] = ()) -> Tuning:
    """Freeze what a run leaves as it is, add what a method adds, and say how much trains.

    Args:
        model: a built model, changed in place.
        recipe: what trains.
        seed: what new parameters are drawn from.
        base: the checkpoint that the model was loaded from.
        new: parts of the model that its base does not have, which always train.

    Raises:
        ConfigError: a pattern that matches nothing, more blocks than there are, a method without a base, or settings
            that do not fit the model.
    """
    own = {name for name, _ in model.named_parameters()}
    refuse_unmatched(sorted(own), recipe.train, "tune.train", "in this model")
    total = sum(parameter.numel() for parameter in model.parameters())  # before any of them is quantized
    method = None if recipe.method == WHOLE else METHODS[recipe.method]
    num_blocks = checked_blocks(model, recipe)
    beside = None
    if method is not None:
        beside = Base(*checked_base(recipe, base), recipe.base_bits, has_another_top=bool(new))
        if recipe.base_bits:
            quantize_base(model)
            model.float()  # the little that is not in layers
        method.attach(model, settings_of(recipe), seed)
        refuse_changed(model, recipe, own)
    for name, parameter in model.named_parameters():
        if any(inside(name, part) for part in new):
            parameter.requires_grad_(True)
        elif method is None:
            parameter.requires_grad_(trains(name, recipe, num_blocks))
        elif name in own and any(inside(name, pattern) for pattern in recipe.train):
            parameter.requires_grad_(True)
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    refuse_unmatched(learning, tuple(recipe.rates), "tune.rates", "that trains")
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if method is not None:
        total += sum(p.numel() for name, p in model.named_parameters() if p.requires_grad and name not in own)
    tuning = Tuning(recipe, num_blocks, method, beside, is_whole(recipe, method, new), total, trained)
    if trained < total:
        say(f"parameters: {tuning.parameters}")
    return tuning


def checked_blocks(model: Network, recipe: TuneRecipe) -> int:
    """Return the number of a model's blocks, 0 of two networks; raises ConfigError for what would count theirs."""
    if isinstance(model, Transformer):
        if recipe.last_blocks is not None and recipe.last_blocks > len(model.blocks):
            what = f"tune.last_blocks={recipe.last_blocks}"
            raise ConfigError(what, accepted=f"0 to {len(model.blocks)}, the model's blocks")
        return len(model.blocks)
    for name, given in (("last_blocks", recipe.last_blocks is not None), ("layer_decay", recipe.layer_decay != 1)):
        if given:
            raise ConfigError(
                f"tune.{name}={getattr(recipe, name)} on an encoder-decoder, whose networks stand side by side",
                accepted="tune.train and tune.rates, with patterns such as decoder.blocks.5",
            )
    return 0


def checked_base(recipe: TuneRecipe, base: str | None) -> tuple[str, tuple[str, ...]]:
    """Return a method's base and the hashes of its weights; raises ConfigError where there is none, or no whole model.

    What cannot be merged is no whole model.
    """
    if base is None:
        raise ConfigError(
            f"tune.method={recipe.method} on a new model", accepted="a checkpoint to tune", fix="checkpoint=BASE"
        )
    if recipe.whole and METHODS[recipe.method].merge is None:
        mergeable = ", ".join(name for name, other in METHODS.items() if other.merge is not None)
        raise ConfigError(f"tune.whole=true: what {recipe.method} adds cannot become weights", accepted=mergeable)
    return base, tuple(weights_hashes(checkpoint_at(base)))


def is_whole(recipe: TuneRecipe, method: Method | None, new: Sequence[str]) -> bool:
    """Tell whether what is published is a whole model."""
    if method is None:
        return True
    return (bool(new) and method.merge is not None) if recipe.whole is None else recipe.whole


def refuse_changed(model: Network, recipe: TuneRecipe, own: Set[str]) -> None:
    """Raise ConfigError for a pattern of own parameters inside a layer that the method has changed or quantized."""
    left = {name for name, _ in model.named_parameters()}
    for pattern in recipe.train:
        gone = next((name for name in sorted(own - left) if inside(name, pattern)), None)
        if gone is not None:
            raise ConfigError(
                f"tune.train: '{pattern}' matches {gone.rpartition('.')[0]}, which "
                f"{recipe.method} changes" + (" or 4 bits hold" if recipe.base_bits else ""),
                accepted="parts that it leaves as they are, such as token_embedding, head or *norm",
            )


def refuse_unmatched(names: Sequence[str], patterns: Sequence[str], setting: str, where: str) -> None:
    """Raise ConfigError, with the nearest part, for a pattern that no parameter is inside."""
    parts = list(dict.fromkeys(part for name in names for part in name.split(".")))
    for pattern in patterns:
        if not any(inside(name, pattern) for name in names):
            raise ConfigError(
                f"{setting}: '{pattern}' matches nothing {where}.{nearest(pattern, parts)}",
                accepted=f"parts of names such as {names[0]} or {names[-1]}",
            )


def trains(name: str, recipe: TuneRecipe, num_blocks: int) -> bool:
    """Tell whether one of the model's own parameters trains."""
    if recipe.last_blocks is not None:
        return blocks_above(name, num_blocks) < recipe.last_blocks or name.split(".")[0] in ON_TOP
    return not recipe.train or any(inside(name, pattern) for pattern in recipe.train)


def blocks_above(name: str, num_blocks: int) -> int:
    """Return how many blocks stand above a parameter: 0 in the last block and on top, all of them for embeddings."""
    parts = name.split(".")
    if parts[0] == "blocks":
        return num_blocks - 1 - int(parts[1])
    return 0 if parts[0] in ON_TOP else num_blocks


class Penalized:
    """An objective with what a method adds to the mean loss; a measurement, which takes no gradient, is without."""

    def __init__(self, objective: Objective, penalty: Callable[[Any], Tensor]) -> None:
        self.objective, self.penalty = objective, penalty
        self.weight = objective.weight

    def __call__(self, model: Any, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Return the objective's sums, the first with its share of the penalty, and its metrics."""
        sums, metrics = self.objective(model, batch)
        if not torch.is_grad_enabled():
            return sums, metrics
        first = torch.tensor(self.weight(batch)).flatten()[0].item()
        added = self.penalty(model) * first
        return (sums + added if sums.ndim == 0 else torch.cat((sums[:1] + added, sums[1:]))), metrics
