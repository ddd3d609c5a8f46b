"""What a recipe says of AdaLoRA: ranks at the start and at the end, and how a run gets from one to the other."""

from __future__ import annotations

from pydantic import Field, model_validator

from smelt.core.config import Config
from smelt.peft.lora import MAX_RANK

NEVER_ZERO = 1e-5
"""What peft adds to the rank that divides alpha; we do, too, for files hold numbers that were learned with it."""


class AdaLoraSettings(Config):
    """Low ranks beside the linear layers, more of them where they matter."""

    initial_rank: int = Field(default=12, ge=1, le=MAX_RANK)
    """Rank of every layer at the start."""
    target_rank: int = Field(default=8, ge=1)
    """Mean rank of the layers at the end."""
    alpha: float = Field(default=16.0, gt=0, allow_inf_nan=False)
    """What is learned is multiplied by alpha / initial_rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of a layer's inputs that its low ranks do not see in a step."""
    targets: tuple[str, ...] = ()
    """Patterns over our names, such as `query` or `blocks.0.*`; none: all linear layers of the blocks."""
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps at the start in which every layer keeps its rank."""
    final_fraction: float = Field(default=0.3, ge=0, lt=1)
    """Share of the steps at the end in which ranks do not change any more."""
    choose_every: int = Field(default=10, ge=1)
    """Steps from one choice of what to keep to the next."""
    beta1: float = Field(default=0.85, gt=0, lt=1)
    """Decay of the running mean of a number's sensitivity."""
    beta2: float = Field(default=0.85, gt=0, lt=1)
    """Decay of the running mean of how far the sensitivity strays."""
    orthogonality: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    """Weight of the penalty that keeps the directions of a layer apart."""

    @model_validator(mode="after")
    def _go_together(self) -> AdaLoraSettings:
        if self.target_rank > self.initial_rank:
            raise ValueError(f"target_rank {self.target_rank} is above initial_rank {self.initial_rank}")
        if self.warmup_fraction + self.final_fraction >= 1:
            raise ValueError("warmup_fraction and final_fraction leave no steps between them")
        return self

    @property
    def scale(self) -> float:
        """Return by what the product of P, lambda and Q is multiplied."""
        return self.alpha / (self.initial_rank + NEVER_ZERO)
