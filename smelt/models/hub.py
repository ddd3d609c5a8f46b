"""A checkpoint directory in the layout that transformers, vLLM and llama.cpp read, to a model and back.

config.json says what the network is, safetensors hold its weights, generation_config.json says where to stop, the
tokenizer files how text becomes ids, smelt.json where all of it came from. Nothing here runs code from a checkpoint,
and a setting that we could not honour is refused by name instead of being ignored. Everything is checked against the
configuration before memory is allocated; then parameters that are stored as they are needed are mapped from the file,
and the others copied, two at a time.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smelt.core.errors import CheckpointError
from smelt.core.storage import MANIFEST, atomic_directory, checkpoint_at, verify_directory
from smelt.models.build import blank
from smelt.models.encoder_decoder import Network
from smelt.models.families import FAMILIES, check_representable, family_for
from smelt.models.families.base import Family, Fields, check_same
from smelt.models.loading import Devices, Dtypes, choose_places, fill, stored_dtypes
from smelt.models.partial import Report, compare, draw_new, fill_rows
from smelt.models.shard_writer import MAX_SHARD_BYTES, write_weights
from smelt.models.shards import Shards, read_json
from smelt.models.weights import (
    OLD_ENDINGS,
    Rules,
    check_shapes,
    check_ties,
    export_weights,
    import_weights,
    mapped,
    plan_export,
    with_endings,
    without_prefix,
)
from smelt.nn.spec import ModelSpec, TokenIds
from smelt.tokenizers.base import END_OF_TEXT, TURN_END, Tokenizer
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.formats import load_tokenizer, save_tokenizer
from smelt.tokenizers.pipeline import Pipeline

CONFIG, GENERATION, LINEAGE = "config.json", "generation_config.json", "smelt.json"


def save_model(
    model: Network,
    directory: Path | str,
    *,
    token_ids: TokenIds | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write config.json, generation_config.json and the weights into an existing directory.

    Args:
        model: what to save; beside it, memory holds one tensor.
        directory: where to write; it may be the one that the model was loaded from.
        token_ids: what to say instead of the spec's.
        max_shard_bytes: weights of more than this become several files and an index.

    Raises:
        CheckpointError: the family's published layout cannot hold the model.
        ResourceError: the disk is full; the old weights are whole.
    """
    directory = Path(directory)
    spec = model.spec if token_ids is None else replace(model.spec, token_ids=token_ids)
    write_config(spec, usual_dtype(model.parameters()), directory)
    rules, parameters = FAMILIES[spec.family].rules(spec), dict(model.named_parameters())
    write_weights(plan_export(rules, parameters), export_weights(rules, parameters), directory, max_shard_bytes)


def write_config(spec: ModelSpec, dtype: str, directory: Path) -> None:
    """Write config.json and generation_config.json; `dtype` is what most numbers will have, such as "bfloat16".

    Raises:
        CheckpointError: the family's published layout cannot hold the model; nothing was written.
    """
    config = FAMILIES[spec.family].hf_from_spec(spec)
    check_representable(spec)
    _write_json(directory / CONFIG, {**config, "dtype": dtype, "torch_dtype": dtype, "use_cache": True})
    write_generation(spec.token_ids, directory)


def write_generation(ids: TokenIds, directory: Path) -> None:
    """Write generation_config.json: which tokens begin, end and pad a text."""
    generation = {"bos_token_id": ids.begin, "eos_token_id": list(ids.end), "pad_token_id": ids.padding}
    generation |= {"decoder_start_token_id": ids.decoder_start}
    _write_json(directory / GENERATION, {name: value for name, value in generation.items() if value not in (None, [])})


def load_spec(directory: Path | str) -> ModelSpec:
    """Read the spec of a checkpoint directory from its config.json alone."""
    return _read_config(Path(directory))[1]


def check_weights(directory: Path | str) -> int:
    """Check that the tensors of a checkpoint are those that its config.json asks for, and return how many there are.

    Only the files' headers are read. Raises CheckpointError that lists the missing, unexpected or misshapen ones.
    """
    return len(_fitting(Path(directory))[2].shapes)


def load_model(directory: Path | str, *, dtype: Dtypes = torch.float32, device: Devices = "cpu") -> Network:
    """Load a model from config.json and single or sharded safetensors.

    Args:
        directory: a checkpoint in the Hugging Face layout.
        dtype: the type of all parameters, "auto" for the one they are stored in, or shell patterns of our parameter
            names with types: {"*norm*": torch.float32, "*": "auto"}. The first pattern that matches counts.
        device: where all parameters go, or patterns with devices; a network over several needs its inputs moved.

    Raises:
        CheckpointError: anything is missing, corrupt, pickled, unknown or misfitting.
        UsageError: a map does not fit the names, or this machine lacks a type or a device.
    """
    model, rules, shards = open_mapped(Path(directory))
    stored = stored_dtypes(mapped(rules), shards)
    fill(model, rules, shards, choose_places(stored, dtype, device))
    return model


def load_partial(
    directory: Path | str, spec: ModelSpec, *, dtype: Dtypes = torch.float32, device: Devices = "cpu", seed: int = 0
) -> tuple[Network, Report]:
    """Load a checkpoint into a network with another vocabulary or another head; return it and the list of what fits.

    Args:
        directory, dtype, device: as `load_model` takes them.
        spec: the network to make, such as `replace(load_spec(directory), vocab_size=..)`.
        seed: what the new parameters are drawn from.

    Raises:
        CheckpointError: the file does not fit its own config.json, or the networks differ elsewhere.
        UsageError: a map does not fit the names, or this machine lacks a type or a device.
    """
    directory = Path(directory)
    stored_model, rules, shards = open_mapped(directory)
    report = compare(stored_model.spec, spec, str(directory))
    model = blank(spec, device="meta")
    stored = stored_dtypes(mapped(rules), shards)
    usual = max(stored.values(), key=list(stored.values()).count)
    places = choose_places({name: stored.get(name, usual) for name, _ in model.named_parameters()}, dtype, device)
    draw_new(model, spec, report, places, seed)
    fill(model, rules, shards, {name: places[name] for name in report.loaded})
    fill_rows(model, rules, shards, report)
    return model, report


def load_weights_into(model: Network, directory: Path | str) -> None:
    """Replace a model's parameters in place by a checkpoint's; raises CheckpointError when the networks differ."""
    directory = Path(directory)
    family, spec = _read_config(directory)
    check_same(replace(model.spec, token_ids=spec.token_ids), spec, f"{directory} holds another network")
    shards = Shards(directory)
    rules = _as_published(family, spec, shards)
    parameters = dict(model.named_parameters())
    import_weights(rules, shards.shapes, shards.read, parameters, str(directory), shards.release)


def publish(
    model: Network,
    tokenizer: Tokenizer,
    directory: Path | str,
    *,
    template: ChatTemplate | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> None:
    """Write a whole artefact into an existing directory: model, tokenizer, chat template, lineage.

    Begin, end and padding ids are the tokenizer's, where it has such tokens. Raises CheckpointError when the
    tokenizer has more tokens than the model.
    """
    directory = Path(directory)
    _check_vocabulary(model, tokenizer, str(directory))
    if not isinstance(tokenizer, Pipeline):
        raise CheckpointError(f"cannot save a tokenizer of type {type(tokenizer).__name__}", accepted="a Pipeline")
    spec = model.spec
    save_model(model, directory, token_ids=published_ids(spec, tokenizer, template))
    save_tokenizer(tokenizer, directory, template=template, max_seq_len=spec.max_seq_len, has_types=spec.num_types > 1)
    _write_json(directory / LINEAGE, {**(lineage or {}), "tokenizer_sha256": tokenizer.fingerprint})


def published_ids(spec: ModelSpec, tokenizer: Tokenizer, template: ChatTemplate | None) -> TokenIds:
    """Return the begin, end and padding ids to publish: the tokenizer's, where it has such tokens, else the spec's."""
    end_of_text = tokenizer.special.get(END_OF_TEXT)
    stops = template.stop_ids if template else () if end_of_text is None else (end_of_text,)
    if not stops or (spec.writes_answers and spec.encoder is None):
        return spec.token_ids  # an encoder's marks are those that it learned to write with
    # Where learned positions begin later, the layout counts them from the padding id on.
    padding = spec.position_offset - 1 if spec.position_offset else end_of_text
    start = spec.token_ids.decoder_start
    if spec.encoder is not None and start is None:
        start = end_of_text  # as a new one was trained
    return TokenIds(end_of_text, stops, padding, start)


def save(model: Network, tokenizer: Tokenizer, path: Path | str, *, lineage: Mapping[str, Any] | None = None) -> None:
    """Save an artefact as a sealed directory that appears whole or not at all, replacing an earlier artefact.

    The chat template is written when the model stops at the end of a turn, that is, when it was taught to chat. Raises
    CheckpointError when `path` holds something that is not an artefact of ours.
    """
    path = Path(path)
    if path.is_dir() and any(path.iterdir()) and not (path / LINEAGE).is_file():
        raise CheckpointError(
            f"{path}: holds files that are not a smelt checkpoint, and saving would replace them",
            accepted="a new directory, an empty one, or an earlier checkpoint",
            fix="save to another path",
        )
    turns = TURN_END in tokenizer.special and tokenizer.special[TURN_END] in model.spec.token_ids.end
    chats = turns or getattr(tokenizer, "chat_template", None) is not None
    with atomic_directory(path) as directory:
        publish(model, tokenizer, directory, template=ChatTemplate(tokenizer) if chats else None, lineage=lineage)


def load(
    path: Path | str, *, dtype: Dtypes = torch.float32, device: Devices = "cpu", verify: bool = True
) -> tuple[Network, Pipeline]:
    """Load a model and its tokenizer.

    Args:
        path: a checkpoint, a run (its newest checkpoint), or the id of a public repository: "org/name", "org/name@v1".
        dtype, device: as `load_model` takes them.
        verify: compare every byte of a checkpoint of ours with its manifest, which takes a second a gigabyte and core.

    Raises:
        CheckpointError: a file is damaged, the two do not belong together, or the repository cannot be reached.
    """
    directory = checkpoint_at(path)
    tokenizer = load_its_tokenizer(directory, verify=verify)
    model = load_model(directory, dtype=dtype, device=device)
    _check_vocabulary(model, tokenizer, str(directory))
    return model, tokenizer


def load_its_tokenizer(directory: Path, *, verify: bool = True) -> Pipeline:
    """Load the tokenizer that the weights in a directory were trained with, after the check of every file.

    Raises:
        CheckpointError: a file is damaged, or the tokenizer is another one.
    """
    if verify and ((directory / MANIFEST).is_file() or (directory / LINEAGE).is_file()):
        verify_directory(directory)  # ours are always sealed; those of others have no manifest
    tokenizer = load_tokenizer(directory)
    lineage = read_json(directory / LINEAGE) if (directory / LINEAGE).is_file() else {}
    expected = str(lineage.get("tokenizer_sha256", tokenizer.fingerprint))
    if expected != tokenizer.fingerprint:
        raise CheckpointError(
            f"{directory}: tokenizer.json has SHA-256 {tokenizer.fingerprint[:12]}, {LINEAGE} says {expected[:12]}",
            accepted="the tokenizer that these weights were trained with",
            fix="restore the tokenizer.json that was saved with them",
        )
    return tokenizer


def usual_dtype(tensors: Iterable[Tensor]) -> str:
    """Return the type that most numbers of some tensors have: "float32"."""
    counts: Counter[torch.dtype] = Counter()
    for tensor in tensors:
        counts[tensor.dtype] += tensor.numel()
    return str(counts.most_common(1)[0][0]).removeprefix("torch.")


def _check_vocabulary(model: Network, tokenizer: Tokenizer, where: str) -> None:
    if tokenizer.vocab_size > model.spec.vocab_size:
        raise CheckpointError(
            f"{where}: the tokenizer has {tokenizer.vocab_size} tokens, the model only {model.spec.vocab_size}",
            accepted="a tokenizer whose ids the model all has",
            fix="use the tokenizer that this model was trained with",
        )


def _read_config(directory: Path) -> tuple[Family, ModelSpec]:
    path = directory / CONFIG
    if not path.is_file():
        raise CheckpointError(f"{directory} has no {CONFIG}", accepted="a directory in the Hugging Face layout")
    config = read_json(path)
    if config.get("quantization_config"):
        raise CheckpointError(f"{path}: quantization_config is not supported", accepted="plain weights")
    if "model_type" not in config:
        raise CheckpointError(f"{path} has no model_type", fix="use the config.json published with the weights")
    family, found = family_for(str(config["model_type"]), config), Fields(config)
    if config.get("auto_map") and not family.own_code:
        raise CheckpointError(
            f"{path}: auto_map asks to run code from the checkpoint, which smelt never does",
            fix="use a checkpoint of a stock architecture",
        )
    spec = family.spec_from_hf(found)
    found.refuse_unread(family.name)
    return family, spec


def open_mapped(directory: Path) -> tuple[Network, Rules, Shards]:
    """Return a checkpoint's network without memory and how to fill it, with names, shapes and ties checked.

    The rules are for the names in its files, in the order of the family's own. Raises CheckpointError on any misfit.
    """
    model, rules, shards = _fitting(directory)
    check_ties(rules, shards.shapes, shards.read, str(directory))
    return model, rules, shards


def _fitting(directory: Path) -> tuple[Network, Rules, Shards]:
    """Return the same with names and shapes checked, which reads no numbers."""
    family, spec = _read_config(directory)
    shards = Shards(directory)
    rules, model = _as_published(family, spec, shards), blank(spec, device="meta")
    check_shapes(rules, shards.shapes, dict(model.named_parameters()), str(directory))
    return model, rules, shards


def _as_published(family: Family, spec: ModelSpec, shards: Shards) -> Rules:
    """Return the rules for the names in the file: base models leave out the prefix, old files spell otherwise."""
    rules = family.rules(spec)
    bare = family.prefix and not any(key.startswith(family.prefix) for key in shards.shapes)
    return with_endings(without_prefix(rules, family.prefix) if bare else rules, OLD_ENDINGS, shards.shapes)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
