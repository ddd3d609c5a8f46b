"""(IA)^3: vectors that multiply the keys and values of attention, and what the feed-forward's last layer reads.

Nothing else learns: a vector of ones beside a layer, of its outputs or of its inputs, so that a new one gives what its
base gives, bit for bit. That is some ten thousandths of a model's numbers, and merged they cost nothing.

Outputs of our layers that are one published module are rows of its vector, ones where a layer was not targeted. Inputs
of such layers are the same inputs there, so they share one vector, and are targeted together or not at all.

Ref: (IA)^3, arXiv:2205.05638, eq. 1. Ref: the layout that `PeftModel.save_pretrained` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from smelt.core.config import Config, validate
from smelt.core.errors import CheckpointError, ConfigError, UsageError
from smelt.models.encoder_decoder import Network
from smelt.nn.spec import ModelSpec
from smelt.nn.surgery import select, swap
from smelt.peft.checks import CONFIG, WEIGHTS, check_fields, check_tensors
from smelt.peft.lora_config import WITHOUT_EFFECT, targeted
from smelt.peft.lora_method import patterns_for
from smelt.peft.low_rank import dense_weight, device_of
from smelt.peft.method import Method
from smelt.peft.published import PREFIX, Place, Places, by_module, published_layers, task_type

FIXED = {"peft_type": ("IA3",), "init_ia3_weights": (True, False)}
FEED_FORWARD = "feedforward_modules"
KEY = "ia3_l"
Value = TypeVar("Value")


class Ia3Settings(Config):
    """Vectors that multiply outputs or inputs of linear layers."""

    targets: tuple[str, ...] = ("attention.key", "attention.value")
    """Patterns over our names of the layers whose outputs are multiplied."""
    inputs: tuple[str, ...] = ("feed_forward.down",)
    """Patterns over our names of the layers whose inputs are multiplied."""


class Ia3Linear(nn.Module):
    """A base layer with a vector `factors` of its outputs (out,), or of its inputs (in,) where `of_inputs`."""

    def __init__(self, base: nn.Module, factors: nn.Parameter, *, of_inputs: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = cast(int, base.in_features), cast(int, base.out_features)
        self.base, self.factors, self.of_inputs = base, factors, of_inputs

    @property
    def bias(self) -> Tensor | None:
        """Return the changed bias (out,)."""
        bias = cast("Tensor | None", getattr(self.base, "bias", None))
        return bias if bias is None or self.of_inputs else (bias * self.factors).to(bias.dtype)

    @property
    def weight(self) -> Tensor:
        """Return the changed weight (out, in) in fp32, for whoever asks a layer for it; gradients flow."""
        return dense_weight(self.base).float() * (self.factors if self.of_inputs else self.factors[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """Map (.., in) to (.., out), in the type that the base answers in; products are made in that of the factors."""
        if self.of_inputs:
            narrowed: Tensor = self.base((x * self.factors).to(x.dtype))
            return narrowed
        out: Tensor = self.base(x)
        return (out * self.factors).to(out.dtype)

    def merged(self) -> nn.Linear:
        """Return a plain layer that computes the same, in the base's type; the base stays as it is."""
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        weight = self.weight.detach().to(dense_weight(self.base).dtype)
        plain.weight = nn.Parameter(weight, requires_grad=False)
        if self.bias is not None:
            plain.bias = nn.Parameter(self.bias.detach(), requires_grad=False)
        return plain.train(self.training)


def attach(model: Network, settings: Ia3Settings, seed: int) -> None:
    """Freeze a model and put vectors of ones beside its targeted layers, in place; nothing is drawn from the seed.

    Raises ConfigError for patterns that match nothing, and for what no published file can say.
    """
    if layers_of(model):
        raise UsageError("the model has (IA)^3 layers already", fix="merge them first")
    places = published_layers(model.spec)
    outputs = select(places, settings.targets, setting="ia3.targets")
    inputs = select(places, settings.inputs, setting="ia3.inputs")
    check_targets(outputs, inputs, places)
    model.requires_grad_(False)
    vectors: dict[str, nn.Parameter] = {}
    for name in (*outputs, *inputs):
        base, of_inputs = model.get_submodule(name), name in inputs
        width = cast(int, base.in_features if of_inputs else base.out_features)
        factors = nn.Parameter(torch.ones(width, device=device_of(base)))
        if of_inputs:
            factors = vectors.setdefault(places[name].module, factors)
        swap(model, name, Ia3Linear(base, factors, of_inputs=of_inputs).train(base.training))


def check_targets(outputs: list[str], inputs: list[str], places: Places) -> None:
    """Raise ConfigError where nothing is targeted, a layer is twice, or a part of a module by its inputs."""
    if not outputs and not inputs:
        raise ConfigError("ia3.targets and ia3.inputs are both empty", accepted="layers to be multiplied")
    if twice := [name for name in inputs if name in outputs]:
        raise ConfigError(f"{twice[0]} is in ia3.targets and in ia3.inputs", accepted="one of both")
    wanted = set(inputs)
    for module, names in by_module(places).items():
        if wanted.intersection(names) and not wanted.issuperset(names):
            raise ConfigError(
                f"ia3.inputs: {', '.join(names)} are one matrix in the published layout, {module}, with one input",
                accepted="all of them or none",
            )


def layers_of(model: nn.Module) -> dict[str, Ia3Linear]:
    """Return a model's layers with vectors, by our names."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Ia3Linear)}


def merge(model: Network) -> None:
    """Put what was learned into weights and biases, in place. Raises UsageError where there is none."""
    layers = layers_of(model)
    if not layers:
        raise UsageError("the model has no (IA)^3 layers to merge", fix="attach or load an adapter first")
    for name, layer in layers.items():
        swap(model, name, layer.merged())


def config(model: Network, settings: Ia3Settings) -> dict[str, Any]:
    """Return the fields of adapter_config.json; the caller fills in base_model_name_or_path."""
    modules = _modules(model)
    return {
        "peft_type": "IA3",
        "task_type": task_type(model.spec),
        "base_model_name_or_path": None,
        "inference_mode": True,
        "target_modules": list(modules),
        FEED_FORWARD: [module for module, (layer, _) in modules.items() if _first(layer).of_inputs],
        "fan_in_fan_out": any(place.transposed for _, places in modules.values() for place in places.values()),
        "init_ia3_weights": True,
    }


def tensors(model: Network) -> dict[str, Tensor]:
    """Return the numbers of adapter_model.safetensors; outputs of layers that were not targeted have ones."""
    found: dict[str, Tensor] = {}
    for module, (layers, places) in _modules(model).items():
        first = _first(layers).factors.detach()
        whole = first[None]  # (1, in)
        if not _first(layers).of_inputs:
            whole = first.new_ones(_first(places).num_rows, 1)  # (out, 1)
            for name, layer in layers.items():
                whole[places[name].rows, 0] = layer.factors.detach()
        found[f"{PREFIX}{module}.{KEY}"] = whole
    return found


def read(config: Mapping[str, Any], spec: ModelSpec) -> Ia3Settings:
    """Return the settings of an adapter_config.json. Raises CheckpointError for what cannot be honoured."""
    check_fields(config, FIXED, (*WITHOUT_EFFECT, FEED_FORWARD), accepted="(IA)^3 without anything beside it")
    places = published_layers(spec)
    parts = by_module(places)
    modules = targeted(config, list(parts), CONFIG)
    of_inputs, wanted = [], config.get(FEED_FORWARD)
    if isinstance(wanted, list):
        of_inputs = [module for module in modules if module.endswith(tuple(map(str, wanted)))]
    elif isinstance(wanted, str):
        of_inputs = targeted({"target_modules": wanted}, modules, CONFIG)
    else:
        raise CheckpointError(f"{CONFIG}: {FEED_FORWARD} = {wanted!r:.80}", accepted="names of modules")
    kinds = (
        [name for module in modules if (module in of_inputs) is kind for name in parts[module]]
        for kind in (False, True)
    )
    targets, inputs = (patterns_for(names, places) or ("*",) if names else () for names in kinds)
    return validate(Ia3Settings, {"targets": targets, "inputs": inputs}, source=CONFIG)


@torch.no_grad()
def fill(model: Network, tensors: Mapping[str, Tensor]) -> None:
    """Put the numbers of a file into a model, in place.

    Raises CheckpointError for tensors that are missing, unknown, misshapen, or change layers that were not targeted.
    """
    modules = _modules(model)
    shapes = {
        f"{PREFIX}{module}.{KEY}": (1, place.num_columns) if _first(layers).of_inputs else (place.num_rows, 1)
        for module, (layers, places) in modules.items()
        for place in [_first(places)]
    }
    check_tensors(tensors, shapes)
    for module, (layers, places) in modules.items():
        whole = tensors[f"{PREFIX}{module}.{KEY}"].flatten()
        others = torch.ones_like(whole, dtype=torch.bool)
        for name, layer in layers.items():
            rows = slice(None) if layer.of_inputs else places[name].rows
            layer.factors.copy_(whole[rows])
            others[rows] = False
        if bool((whole[others] != 1).any()):
            raise CheckpointError(f"{WEIGHTS}: {module} is changed in more rows than those of {', '.join(layers)}")


def _modules(model: Network) -> dict[str, tuple[dict[str, Ia3Linear], dict[str, Place]]]:
    """Return, by the published module, our layers of it that have vectors, and their places."""
    places = published_layers(model.spec)
    found: dict[str, tuple[dict[str, Ia3Linear], dict[str, Place]]] = {}
    for name, layer in layers_of(model).items():
        layers, own = found.setdefault(places[name].module, ({}, {}))
        layers[name], own[name] = layer, places[name]
    return found


def _first(values: Mapping[str, Value]) -> Value:
    """Return any one, where all are alike."""
    return next(iter(values.values()))


METHOD = Method(
    name="ia3",
    peft_type="IA3",
    settings=Ia3Settings,
    attach=attach,
    config=config,
    tensors=tensors,
    read=read,
    fill=fill,
    merge=merge,
)
