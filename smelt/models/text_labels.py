"""The network that labels texts with the layers of another: the same spec under the head that its layout publishes."""

from collections.abc import Sequence
from dataclasses import replace

from smelt.core.errors import ConfigError
from smelt.models.families import FAMILIES
from smelt.models.families.label_layout import DECODER_READS, write_labels
from smelt.nn.spec import ModelSpec, Reads, TaskSpec

TASK = "text"
"""What the task is called in `Output.tasks`."""


def for_text_labels(
    spec: ModelSpec, label_names: Sequence[str], *, reads: Reads | None = None, multi_label: bool = False
) -> ModelSpec:
    """Return the spec of a network that labels texts, its layers being those of `spec`.

    `reads` is what the head reads: of a decoder `last` (if None), `first` or `mean`; an encoder's layout settles it.

    Raises:
        ConfigError: the family publishes no such network, or its head reads something else.
    """
    family = FAMILIES[spec.family]
    if not family.text_labels:
        able = ", ".join(other.name for other in FAMILIES.values() if other.text_labels)
        raise ConfigError(f"a {family.name} network has no published layout that labels texts", accepted=able)
    if spec.is_causal and reads not in (None, *DECODER_READS):
        raise ConfigError(f"reads={reads} with a decoder", accepted=", ".join(DECODER_READS))
    task = TaskSpec(TASK, len(label_names), label_names=tuple(label_names))
    config = {**family.hf_from_spec(spec), "architectures": [family.text_labels], **write_labels(task)}
    found = family.spec_from_hf(
        {name: value for name, value in config.items() if name not in ("smelt", "problem_type")}
    )
    head = found.tasks[0]
    if not spec.is_causal and reads not in (None, head.reads):
        raise ConfigError(f"reads={reads} with a {family.name}", accepted=f"{head.reads}, which its layout reads")
    if spec.is_causal and reads is not None:
        head = replace(head, reads=reads)
    return replace(found, tasks=(replace(head, multi_label=multi_label),))
