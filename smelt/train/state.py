"""What a run is at one instant: model, optimizers, source and counters, as named tensors plus a little JSON.

Everything that decides the next step is here, so a run that is saved, killed and loaded takes bit for bit the
step that it would have taken. Tensors go to safetensors under readable names
(`optimizer.0.blocks.0.attention.qkv.weight.exp_avg`), the rest to JSON; nothing is pickled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from smelt.core.errors import CheckpointError
from smelt.models.encoder_decoder import Network
from smelt.train.sources import RowSource


@dataclass
class TrainState:
    """The mutable state of a run; `stop` holds the reason once a hook wants the loop to end.

    `extra` are modules that train along with the model (an objective's own) and are published with none. With
    `keeps_parameters` the model's trainable parameters are part of the state, as what is published does not hold them
    as they are; so are the model's persistent buffers, which only what is added to a model has.
    """

    model: Network
    optimizers: list[torch.optim.Optimizer]
    source: RowSource
    extra: nn.Module | None = None
    keeps_parameters: bool = False
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_loss: float = float("inf")
    best_step: int = 0
    validations_without_gain: int = 0
    stop: str = field(default="", repr=False)

    COUNTERS = ("step", "tokens", "seconds", "best_loss", "best_step", "validations_without_gain")

    def tensors(self) -> dict[str, Tensor]:
        """Return optimizer state, random state and extra parameters as named tensors."""
        found = {"rng.torch": torch.get_rng_state()}
        found |= {name: tensor.detach().contiguous() for name, tensor in self._kept()}
        for i, optimizer in enumerate(self.optimizers):
            for name, parameter in self._parameters_of(optimizer):
                for key, value in optimizer.state.get(parameter, {}).items():
                    found[f"optimizer.{i}.{name}.{key}"] = value.detach().contiguous()
        return found

    def load_tensors(self, saved: dict[str, Tensor]) -> None:
        """Take over what `tensors` returned in another process.

        Raises:
            CheckpointError: a tensor belongs to no parameter, or has another shape.
        """
        saved = dict(saved)
        torch.set_rng_state(saved.pop("rng.torch"))
        self.load_kept(saved)
        for name, _ in self._kept():
            del saved[name]
        for i, optimizer in enumerate(self.optimizers):
            for name, parameter in self._parameters_of(optimizer):
                prefix = f"optimizer.{i}.{name}."
                state = {key.removeprefix(prefix): saved.pop(key) for key in list(saved) if key.startswith(prefix)}
                if any(value.ndim and value.shape != parameter.shape for value in state.values()):
                    raise CheckpointError(f"the optimizer state of '{name}' has another shape than the parameter")
                if state:
                    optimizer.state[parameter] = state
        if saved:
            raise CheckpointError(
                f"the checkpoint holds optimizer state that nothing here uses: {sorted(saved)[0]}",
                fix="resume with the recipe of the run (same model and optimizer)",
            )

    def load_kept(self, saved: dict[str, Tensor]) -> None:
        """Take over parameters and buffers alone; raises CheckpointError as `load_tensors` does."""
        for name, tensor in self._kept():
            if name not in saved or saved[name].shape != tensor.shape:
                raise CheckpointError(
                    f"the checkpoint has no '{name}' of this shape",
                    fix="resume with the recipe of the run (same objective, same tuning)",
                )
            with torch.no_grad():
                tensor.copy_(saved[name])

    def counters(self) -> dict[str, Any]:
        """Return the JSON part of the state."""
        return {**{name: getattr(self, name) for name in self.COUNTERS}, "source": self.source.state_dict()}

    def load_counters(self, saved: dict[str, Any]) -> None:
        """Take over what `counters` returned in another process."""
        self.source.load_state_dict(saved["source"])
        for name in self.COUNTERS:
            setattr(self, name, saved[name])

    def _parameters_of(self, optimizer: torch.optim.Optimizer) -> list[tuple[str, Tensor]]:
        owned = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        every = [*self.model.named_parameters(), *self._extra_parameters()]
        return [(name, parameter) for name, parameter in every if id(parameter) in owned]

    def _kept(self) -> list[tuple[str, Tensor]]:
        """Return the tensors of the state that belong to no optimizer, under the names they are saved by."""
        found = self._extra_parameters()
        if self.keeps_parameters:
            own = [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]
            names = {name for name, _ in self.model.named_parameters(remove_duplicate=False)}
            own += [(name, value) for name, value in self.model.state_dict().items() if name not in names]
            found += [(f"model.{name}", tensor) for name, tensor in own]
        return found

    def _extra_parameters(self) -> list[tuple[str, Tensor]]:
        if self.extra is None:
            return []
        return [(f"extra.{name}", parameter) for name, parameter in self.extra.named_parameters()]
