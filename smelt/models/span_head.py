"""The network that points at pieces of a text with the layers of another: the same encoder under two scores a token."""

from smelt.core.errors import CheckpointError, ConfigError
from smelt.models.families import FAMILIES
from smelt.models.families.encoder_layout import Top, with_top
from smelt.nn.spec import ModelSpec, TaskSpec

POINTS = Top(tasks=(TaskSpec("span", 2),))


def for_spans(spec: ModelSpec) -> ModelSpec:
    """Return the spec of a network that points at spans, its layers being those of `spec`.

    Raises:
        ConfigError: it reads forwards only, or its family publishes no such network.
    """
    fault = ConfigError(
        f"a {spec.family} network has no published layout that points at pieces of a text",
        accepted="an encoder: bert, roberta, xlm-roberta, albert, distilbert",
    )
    if spec.is_causal or spec.encoder is not None:
        raise fault
    found = with_top(spec, POINTS, None)
    family = FAMILIES[spec.family]
    try:
        return family.spec_from_hf(family.hf_from_spec(found))
    except CheckpointError:
        raise fault from None
