"""Make a whole checkpoint of an adapter and its base, and measure what the merge changed in the model's answers.

Weights are merged in fp32 and saved so: 16 bits would round away part of what an adapter adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from smelt.core.errors import UsageError
from smelt.core.storage import atomic_directory, checkpoint_at, write_json
from smelt.models.encoder_decoder import EncoderDecoder, Network
from smelt.models.hub import LINEAGE, save_model
from smelt.models.shards import read_json
from smelt.peft.files import CONFIG
from smelt.peft.load import BITS, HASHES, base_of, load_unmerged, merge, weights_hashes
from smelt.peft.methods import METHODS
from smelt.tokenizers.formats import has_tokenizer, save_tokenizer, settings_beside
from smelt.tokenizers.pipeline import Pipeline

PROMPTS = (
    "The",
    "Once upon a time there was",
    "What is 12 + 30?",
    "def main():",
    "从前有座山，",
    "1, 2, 3, 4, 5, 6, 7,",
)


@dataclass(frozen=True)
class MergedAdapter:
    """Say what was merged, and the largest difference that it made to a logit beside the largest logit itself.

    Of a model without a language head the hidden states stand for the logits.
    """

    method: str
    parents: list[dict[str, str]]
    num_parameters: int
    largest_difference: float
    largest_logit: float


def merge_adapter(path: Path | str, out: Path | str) -> MergedAdapter:
    """Merge an adapter into the base that it names, as a sealed artefact at `out`.

    Raises:
        UsageError: the method adds what no weights could say.
        CheckpointError: the adapter is damaged, or its base is gone or was changed.
    """
    directory = checkpoint_at(path)
    base = base_of(directory, read_json(directory / CONFIG))
    model, tokenizer, method, _ = load_unmerged(directory)
    if method.merge is None:
        mergeable = ", ".join(name for name, other in METHODS.items() if other.merge is not None)
        raise UsageError(
            f"{directory}: what {method.name} adds cannot become weights",
            accepted=mergeable,
            fix=f"use {directory} as it is: every verb loads it on its base",
        )
    before = answers(model, tokenizer)
    merge(model, method)
    after = answers(model, tokenizer)
    differences = [float((one - other).abs().max()) for one, other in zip(before, after, strict=True)]
    parents = [
        {"path": str(folder), "weights_sha256": digest, "role": role}
        for folder, role in ((base, "base"), (directory, "adapter"))
        for digest in weights_hashes(folder)
    ]
    with atomic_directory(out) as folder:
        save_model(model, folder)
        written = directory if has_tokenizer(directory) else base
        save_tokenizer(tokenizer, folder, **settings_beside(written, tokenizer))
        # How the adapter's run wants its model to be asked, such as its template, and what it measured go on to hold.
        told = read_json(directory / LINEAGE) if (directory / LINEAGE).is_file() else {}
        told = {name: value for name, value in told.items() if name not in (HASHES, BITS)}
        own = {"stage": "merge", "step": 0, "parents": parents, "merge": {"method": method.name}}
        write_json(folder / LINEAGE, {**told, **own, "tokenizer_sha256": tokenizer.fingerprint})
    return MergedAdapter(
        method.name,
        parents,
        sum(parameter.numel() for parameter in model.parameters()),
        max(differences),
        max(float(one.abs().max()) for one in before),
    )


@torch.inference_mode()
def answers(model: Network, tokenizer: Pipeline) -> list[Tensor]:
    """Return the logits (1, T, V) of a model for fixed prompts, or its hidden states (1, T, D) without a head.

    Where there are two networks, each reads the prompt.
    """
    model.eval()
    found = []
    for prompt in PROMPTS:
        ids = torch.tensor([tokenizer.encode(prompt)[: model.spec.max_seq_len]])
        output = model(ids, source=ids) if isinstance(model, EncoderDecoder) else model(ids)
        found.append(output.hidden if output.logits is None else output.logits)
    return found
