"""How published files name labels, and how decoder families publish a network that labels texts or their tokens.

`id2label` numbers the names, `problem_type` says whether a text may have several. A decoder that labels texts has a
matrix without bias, `score`, in place of the language head, on the state of a text's last token; readers find that
token by `pad_token_id`. The layout cannot say that another token is read, so that is a field of ours, `smelt`; other
programs leave it out and would read the last token of such a file. One that labels tokens has a matrix with a bias; a
CRF behind it is a field of ours too, `use_crf`, as in the files of encoders.

Ref: Improving Language Understanding by Generative Pre-Training (2018), 3.2 (the last token's state).
"""

from dataclasses import replace
from typing import Any, get_args

from smelt.core.errors import CheckpointError
from smelt.models.families.base import Family, HfConfig
from smelt.models.weights import Rules, rename
from smelt.nn.spec import ModelSpec, Reads, TaskSpec

SEVERAL = "multi_label_classification"
DECODER_READS = tuple(reads for reads in get_args(Reads) if reads in ("last", "first", "mean"))
"""What the head of a decoder may read."""
CRF_PARTS = ("start_transitions", "end_transitions", "transitions")


def read_labels(config: HfConfig, task: TaskSpec) -> TaskSpec:
    """Return a task with the number of labels, their names and whether there may be several of a config.json.

    Raises CheckpointError when the numbers have gaps.
    """
    labels = {str(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    num_labels = len(labels) or config.get("num_labels") or 2
    numbers = [str(number) for number in range(num_labels)]
    if labels and set(labels) != set(numbers):
        raise CheckpointError(
            f"config.json: id2label has the numbers {sorted(labels)}", accepted=f"0 to {num_labels - 1}"
        )
    names = tuple(labels[number] for number in numbers) if labels else ()
    is_named = names != plain_names(num_labels)
    several = task.reads != "token" and config.get("problem_type") == SEVERAL
    return replace(task, num_labels=num_labels, label_names=names if is_named else (), multi_label=several)


def write_labels(task: TaskSpec) -> dict[str, Any]:
    """Write the same."""
    names = task.label_names or plain_names(task.num_labels)
    found: dict[str, Any] = {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }
    return found | {"problem_type": SEVERAL} if task.multi_label else found


def plain_names(num_labels: int) -> tuple[str, ...]:
    """Return what labels without names are called."""
    return tuple(f"LABEL_{number}" for number in range(num_labels))


def token_architecture(family: Family) -> str:
    """Return the architecture of a family that labels tokens, which is called as the one that labels texts is."""
    return family.text_labels.replace("ForSequence", "ForToken")


def with_labels(family: Family, architecture: str, *, of_tokens: str = "score") -> Family:
    """Return a decoder family that also reads and writes the architecture which labels texts, and that for tokens.

    `of_tokens` is what the matrix for tokens is called, which has a bias.
    """
    labelled = replace(family, text_labels=architecture)

    def spec_from_hf(config: HfConfig) -> ModelSpec:
        spec = family.spec_from_hf(config)
        name = (config.get("architectures") or [""])[0]
        if name not in (architecture, token_architecture(labelled)):
            return spec
        if name == architecture:
            task = read_labels(config, TaskSpec("text", 2, _reads(config), bias=False))
        else:
            task = replace(read_labels(config, TaskSpec("token", 2)), crf=bool(config.get("use_crf")))
        return replace(spec, language_head=False, tied=False, tasks=(task,))

    def hf_from_spec(spec: ModelSpec) -> dict[str, Any]:
        if not spec.tasks:
            return family.hf_from_spec(spec)
        task = spec.tasks[0]
        name = token_architecture(labelled) if task.reads == "token" else architecture
        found = {**family.hf_from_spec(spec), "architectures": [name], **write_labels(task)}
        if task.reads not in ("last", "token"):
            found["smelt"] = {"reads": task.reads}
        return found | {"use_crf": True} if task.crf else found

    def rules(spec: ModelSpec) -> Rules:
        if not spec.tasks:
            return family.rules(spec)
        if spec.tasks[0].reads != "token":
            return (*family.rules(spec), rename("score.weight", "tasks.text.labels.weight"))
        added = [rename(f"{of_tokens}.{part}", f"tasks.token.labels.{part}") for part in ("weight", "bias")]
        if spec.tasks[0].crf:
            added += [rename(f"crf.{part}", f"tasks.token.crf.{part}") for part in CRF_PARTS]
        return (*family.rules(spec), *added)

    return replace(labelled, spec_from_hf=spec_from_hf, hf_from_spec=hf_from_spec, rules=rules)


def _reads(config: HfConfig) -> Reads:
    """Read what the head for texts reads; raises CheckpointError where the field of ours holds something else."""
    ours = dict(config.get("smelt") or {})
    reads: Reads = ours.pop("reads", "last")
    if reads not in DECODER_READS or ours:
        raise CheckpointError(
            f"config.json: smelt = {config['smelt']!r}", accepted=f'{{"reads": one of {", ".join(DECODER_READS)}}}'
        )
    return reads
