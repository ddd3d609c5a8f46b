"""The form of AdaLoRA: a linear layer's weight becomes W + s P diag(lambda) Q, whose triplets can be let go one by one.

A triplet is a column of P, a number of lambda and a row of Q. Lambda begins as zero, so that a new layer gives what its
base gives, bit for bit. Our layers of one published module, as GPT-2's query, key and value, have lambda and Q in
common, and each has its own rows of P; the first of them has what is common as a module, so that a state holds it once.
Beside its numbers each part keeps two running means of their importance, and the triplets which are kept, as buffers:
a training state that holds the buffers goes on where it stopped.

Costs R (in + out + 1) trainable numbers in fp32, and twice that in running means.

Ref: AdaLoRA, arXiv:2303.10512, eq. 3 (the form), eq. 4 (orthogonality).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from smelt.peft.low_rank import dense_weight


class Measured(nn.Module):
    """Parameters with two running means each, of the same shape: what a change of a number would do to the loss."""

    def measure(self, names: tuple[str, ...]) -> None:
        """Make the means, zeros, for parameters of these names."""
        for name in names:
            for kind in ("sensitivity", "uncertainty"):
                self.register_buffer(f"{name}_{kind}", torch.zeros_like(self.get_parameter(name).detach()))

    def means(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the means of a parameter: sensitivity and uncertainty."""
        return self.get_buffer(f"{name}_sensitivity"), self.get_buffer(f"{name}_uncertainty")

    @torch.no_grad()
    def put(self, name: str, numbers: Tensor) -> None:
        """Give a parameter other numbers; of another shape they are a new parameter, whose means begin again."""
        parameter = self.get_parameter(name)
        if parameter.shape == numbers.shape:
            parameter.copy_(numbers)
            return
        setattr(self, name, nn.Parameter(numbers.to(parameter), requires_grad=parameter.requires_grad))
        self.measure((name,))


class Triplets(Measured):
    """Hold what the layers of a published module have in common: `right` Q (R, in), `values` lambda (R,), `kept` (R,).

    `scale` multiplies the product; it stays what it was when triplets are let go.
    """

    kept: Tensor

    def __init__(self, right: Tensor, *, scale: float) -> None:
        super().__init__()
        self.right = nn.Parameter(right)
        self.values = nn.Parameter(right.new_zeros(len(right)))
        self.register_buffer("kept", torch.ones(len(right), dtype=torch.bool, device=right.device))
        self.scale = scale
        self.measure(("right", "values"))

    def put_triplets(self, right: Tensor, values: Tensor) -> None:
        """Give it other numbers; where there are fewer triplets than there were, all of them are kept."""
        if len(values) != len(self.kept):
            self.kept = torch.ones(len(values), dtype=torch.bool, device=self.kept.device)
        self.put("right", right)
        self.put("values", values)


class AdaLoraLinear(Measured):
    """A base layer with `left`, its rows of P (out, R), and the triplets that it has in common with others.

    One of the layers `owns` the triplets: in it alone they are a module with parameters and buffers to be found.
    """

    def __init__(self, base: nn.Module, left: Tensor, triplets: Triplets, *, owns: bool, dropout: float) -> None:
        super().__init__()
        self.in_features, self.out_features = cast(int, base.in_features), cast(int, base.out_features)
        self.base, self.common = base, triplets if owns else None
        self._triplets = (triplets,)  # what is in a tuple is not registered
        self.left = nn.Parameter(left)
        self.dropout = nn.Dropout(dropout)
        self.measure(("left",))

    @property
    def triplets(self) -> Triplets:
        """Return the triplets, whoever owns them."""
        return self._triplets[0]

    @property
    def bias(self) -> Tensor | None:
        """Return the base's bias (out,), which stays as it is."""
        return cast("Tensor | None", getattr(self.base, "bias", None))

    @property
    def weight(self) -> Tensor:
        """Return the changed weight (out, in) in fp32, for whoever asks a layer for it; gradients flow."""
        parts = self.triplets
        with torch.autocast(self.left.device.type, enabled=False):
            left, right = self.left.float() * parts.values.float(), parts.right.float()
            return torch.addmm(dense_weight(self.base).float(), left, right, alpha=parts.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map (.., in) to (.., out), in the type that the base answers in."""
        out: Tensor = self.base(x)
        parts = self.triplets
        narrowed = torch.is_autocast_enabled(x.device.type)
        inner = functional.linear(self.dropout(x if narrowed else x.to(self.left.dtype)), parts.right)  # (.., R)
        change = functional.linear(inner * (parts.values * parts.scale).to(inner.dtype), self.left)
        return out + change.to(out.dtype)

    def merged(self) -> nn.Linear:
        """Return a plain layer that computes the same, in the base's type; the base stays as it is."""
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        dtype = dense_weight(self.base).dtype
        plain.weight = nn.Parameter(self.weight.detach().to(dtype), requires_grad=False)
        plain.bias = cast(nn.Parameter, self.bias)
        return plain.train(self.training)


def by_triplets(model: nn.Module) -> list[tuple[Triplets, dict[str, AdaLoraLinear]]]:
    """Return each published module's triplets with the layers that have them, by name, in the model's order."""
    found: dict[int, tuple[Triplets, dict[str, AdaLoraLinear]]] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, AdaLoraLinear):
            found.setdefault(id(layer.triplets), (layer.triplets, {}))[1][name] = layer
    return list(found.values())


def orthogonality(model: nn.Module) -> Tensor:
    """Return how far P and Q of all modules are from orthogonal: the mean norm |P' P - I| and |Q Q' - I|.

    The paper squares the norms and sums them; peft, as the paper's own code, does neither.
    """
    norms: list[Tensor] = []
    for triplets, layers in by_triplets(model):
        inner = torch.stack([layer.left.mT @ layer.left for layer in layers.values()]).sum(dim=0)  # P' P (R, R)
        for product in (inner, triplets.right @ triplets.right.mT):
            identity = torch.eye(len(product), dtype=product.dtype, device=product.device)
            norms.append(torch.linalg.matrix_norm(product - identity))
    return torch.stack(norms).mean()
