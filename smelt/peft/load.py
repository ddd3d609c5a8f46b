"""A checkpoint that is an adapter: a few numbers beside the name of the base that they were trained on.

The directory is in the layout of the peft library, with the tokenizer and our lineage beside it. The lineage holds the
hash of the base's weights, and another base is refused: an adapter on other weights gives answers that nobody trained.
Whoever opens checkpoints opens these through `load`, which gives a plain model wherever the method can be merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from smelt.core.errors import CheckpointError, UsageError
from smelt.core.storage import MANIFEST, checkpoint_at, read_manifest, sha256_file, verify_directory, write_json
from smelt.models import hub
from smelt.models.encoder_decoder import Network
from smelt.models.hub import GENERATION, LINEAGE, load_spec, published_ids, usual_dtype, write_config, write_generation
from smelt.models.loading import Devices, Dtypes
from smelt.models.partial import under_another_top
from smelt.models.shards import read_json
from smelt.peft.beside import fill_beside, modules_beside, parameters_beside, tensors_beside
from smelt.peft.files import CONFIG, WEIGHTS
from smelt.peft.method import Method
from smelt.peft.methods import METHODS
from smelt.quant.model import quantize_base, restore_plain
from smelt.tokenizers.base import Tokenizer
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.formats import has_tokenizer, load_tokenizer, save_tokenizer
from smelt.tokenizers.pipeline import Pipeline

BASE = "base_model_name_or_path"
BESIDE = "modules_to_save"
HASHES, BITS = "base_weights_sha256", "base_bits"  # of the lineage


@dataclass(frozen=True)
class Base:
    """What an adapter is trained on: a checkpoint, the SHA-256 of its files of weights, and bits if it is quantized.

    The model of an adapter that `has_another_top` than its base, such as a new head, is described beside it.
    """

    path: str
    hashes: tuple[str, ...]
    bits: int | None = None
    has_another_top: bool = False


def is_adapter(directory: Path) -> bool:
    """Tell whether a checkpoint directory holds an adapter instead of a whole model."""
    return (directory / CONFIG).is_file()


def load(
    path: Path | str, *, dtype: Dtypes = torch.float32, device: Devices = "cpu", verify: bool = True
) -> tuple[Network, Pipeline]:
    """Load a model and its tokenizer; of an adapter, its base with the adapter merged.

    Arguments and errors are those of `models.hub.load`. What no weights could say stays on the model as modules of its
    own, and the model is called as any other.
    """
    directory = checkpoint_at(path)
    if not is_adapter(directory):
        return hub.load(directory, dtype=dtype, device=device, verify=verify)
    model, tokenizer, method, _ = load_unmerged(directory, verify=verify)
    if method.merge is not None:
        merge(model, method)
        model.requires_grad_(True)
    if not (isinstance(dtype, torch.dtype) and isinstance(device, str | torch.device)):
        raise UsageError("types and devices by name, for an adapter", accepted="one type and one device")
    return model.to(device, dtype), tokenizer


def load_unmerged(
    path: Path | str, *, base: Path | str | None = None, verify: bool = True
) -> tuple[Network, Pipeline, Method, Any]:
    """Load an adapter on its base, frozen, in fp32; return also the method and its settings.

    `base` takes another base than the adapter's own, whose hash is then not compared. Raises CheckpointError for a
    damaged file, a base that is gone or has other weights, and a method or setting that is not known here; ConfigError
    for a base of a kind that the method is not for.
    """
    directory = checkpoint_at(path)
    if verify and (directory / MANIFEST).is_file():
        verify_directory(directory)
    config = read_json(directory / CONFIG)
    kind = config.get("peft_type")
    method = next((method for method in METHODS.values() if method.peft_type == kind), None)
    if method is None:
        known = ", ".join(method.peft_type for method in METHODS.values())
        raise CheckpointError(f"{directory / CONFIG}: peft_type = {kind!r:.80}", accepted=known)
    model, tokenizer = load(base_of(directory, config) if base is None else base)
    tensors = read_tensors(directory / WEIGHTS)
    model, tensors = put_beside(model, directory, config.get(BESIDE), tensors)
    lineage = read_json(directory / LINEAGE) if (directory / LINEAGE).is_file() else {}
    if lineage.get(BITS) is not None:
        quantize_base(model)  # an adapter on rounded weights made up for the rounding
    settings = method.read({**config, BESIDE: None}, model.spec)
    method.attach(model, settings, 0)
    method.fill(model, tensors)
    if (directory / GENERATION).is_file():  # tuned to chat, a model stops where its base did not
        ends = read_json(directory / GENERATION).get("eos_token_id", [])
        ids = replace(model.spec.token_ids, end=tuple(ends) if isinstance(ends, list) else (ends,))
        model.spec = replace(model.spec, token_ids=ids)
    own = load_tokenizer(directory) if has_tokenizer(directory) else tokenizer
    return model, own, method, settings


def put_beside(
    model: Network, directory: Path, modules: object, tensors: dict[str, Tensor]
) -> tuple[Network, dict[str, Tensor]]:
    """Return a base with what was trained beside an adapter put in, and the other tensors, which are the method's.

    `modules` are those that the adapter's configuration names. A base that lacks one, such as a new head, becomes the
    network of the config.json beside the adapter. Raises CheckpointError where modules and tensors do not fit.
    """
    named = modules or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise CheckpointError(f"{directory / CONFIG}: {BESIDE} = {modules!r:.80}", accepted="names of modules")
    drawn: set[str] = set()
    if (directory / hub.CONFIG).is_file():
        model, report = under_another_top(model, load_spec(directory), seed=0, where=str(directory))
        drawn = {*report.new, *report.resized}
    if named:
        tensors = fill_beside(model, named, tensors)
    if missing := sorted(drawn - parameters_beside(model, named)):
        raise CheckpointError(
            f"{directory}: {missing[0]} is not in the base and not among {BESIDE}", fix="save the adapter again"
        )
    return model, tensors


def merge(model: Network, method: Method) -> None:
    """Put what a method added to a model into its weights, plain and in fp32, in place."""
    assert method.merge is not None, "a method that can be merged"
    method.merge(model)
    restore_plain(model)


def base_of(directory: Path, config: Mapping[str, Any]) -> Path:
    """Return the checkpoint that an adapter was trained on; raises CheckpointError where it is gone or was changed."""
    named = config.get(BASE)
    if not isinstance(named, str) or not named:
        raise CheckpointError(f"{directory / CONFIG} names no base", fix=f"write its path under {BASE}")
    try:
        base = checkpoint_at(named)
    except CheckpointError as error:
        raise CheckpointError(
            f"{directory}: its base {named} is not there ({error.what})", fix=f"correct {BASE} in {CONFIG}"
        ) from None
    lineage = read_json(directory / LINEAGE) if (directory / LINEAGE).is_file() else {}
    expected = lineage.get(HASHES)
    if expected and expected != weights_hashes(base):
        raise CheckpointError(
            f"{directory}: its base {base} has other weights than those it was trained on",
            accepted=f"weights with SHA-256 {str(expected[0])[:12]}",
            fix=f"write the path of the right base under {BASE} in {CONFIG}",
        )
    return base


def weights_hashes(directory: Path) -> list[str]:
    """Return the SHA-256 of each file of weights of a checkpoint, from its manifest where it has one."""
    files = sorted(directory.glob("*.safetensors"))
    if (directory / MANIFEST).is_file():
        known = read_manifest(directory)
        return [str(known[file.name]["sha256"]) for file in files]
    return [sha256_file(file) for file in files]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of an adapter's file in fp32; raises CheckpointError where it is missing or damaged."""
    try:
        found = {name: tensor.float() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is missing or damaged ({error})", fix="save the adapter again, with safe_serialization"
        ) from error
    wrong = next((name for name, tensor in found.items() if not bool(tensor.isfinite().all())), None)
    if wrong is not None:
        raise CheckpointError(f"{path}: {wrong} holds numbers that are not finite", fix="use an earlier state")
    return found


def publish_adapter(
    method: Method,
    settings: Any,
    model: Network,
    tokenizer: Tokenizer,
    directory: Path,
    base: Base,
    template: ChatTemplate | None,
    lineage: Mapping[str, Any],
) -> None:
    """Write what was added to a base into an existing directory: adapter files, tokenizer, chat template, lineage.

    The model's own parameters that train, if any, are written with them, module by module.
    """
    if not isinstance(tokenizer, Pipeline):
        raise CheckpointError(f"cannot save a tokenizer of type {type(tokenizer).__name__}", accepted="a Pipeline")
    config = {"peft_type": method.peft_type, BASE: str(checkpoint_at(base.path).resolve()), "inference_mode": True}
    modules = modules_beside(model)
    write_json(
        directory / CONFIG, {**method.config(model, settings), **config, **({BESIDE: modules} if modules else {})}
    )
    added = method.tensors(model) | tensors_beside(model, modules)
    tensors = {name: tensor.detach().contiguous() for name, tensor in added.items()}
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    save_tokenizer(tokenizer, directory, template=template, max_seq_len=model.spec.max_seq_len)
    if base.has_another_top:
        write_config(model.spec, usual_dtype(model.parameters()), directory)
    write_generation(published_ids(model.spec, tokenizer, template), directory)
    own = {"tokenizer_sha256": tokenizer.fingerprint, HASHES: list(base.hashes), BITS: base.bits}
    write_json(directory / LINEAGE, {**lineage, **own})
