"""Normalisation: LayerNorm centres and scales a vector, RMSNorm only scales it, which is cheaper and as good.

Both run torch's own kernels, which keep the sums in fp32 for narrower inputs. One function chooses by spec.

Ref: Layer Normalization, arXiv:1607.06450. Ref: Root Mean Square Layer Normalization, arXiv:1910.07467.
"""

from torch import nn

from smelt.nn.spec import NormSpec


def make_norm(spec: NormSpec, dim: int) -> nn.Module:
    """Build the norm over the last axis: (.., D) -> (.., D)."""
    if spec.kind == "rms":
        return nn.RMSNorm(dim, eps=spec.eps)
    return nn.LayerNorm(dim, eps=spec.eps)
