"""A checkpoint directory in the layout that transformers, vLLM and llama.cpp read, to a model and back.

config.json says what the network is, safetensors hold its weights, generation_config.json says where to stop, the
tokenizer files how text becomes ids, smelt.json where all of it came from. Nothing here runs code from a checkpoint,
and a setting that we could not honour is refused by name instead of being ignored. Everything is checked against the
configuration before memory is allocated; loading then copies one tensor at a time.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from smelt.core.errors import CheckpointError
from smelt.core.storage import MANIFEST, atomic_directory, checkpoint_at, verify_directory
from smelt.models.build import blank
from smelt.models.encoder_decoder import Network
from smelt.models.families import FAMILIES, check_representable, family_for
from smelt.models.families.base import Family, Fields, check_same
from smelt.models.shards import WEIGHTS, Shards, read_json
from smelt.models.weights import Rules, check_shapes, export_weights, import_weights, without_prefix
from smelt.nn.spec import ModelSpec, TokenIds
from smelt.tokenizers.base import END_OF_TEXT, TURN_END, Tokenizer
from smelt.tokenizers.chat import ChatTemplate
from smelt.tokenizers.formats import load_tokenizer, save_tokenizer
from smelt.tokenizers.pipeline import Pipeline

CONFIG, GENERATION, LINEAGE = "config.json", "generation_config.json", "smelt.json"


def save_model(model: Network, directory: Path | str, *, token_ids: TokenIds | None = None) -> None:
    """Write config.json, generation_config.json and model.safetensors into an existing directory.

    `token_ids` replace those of the model's spec. Raises CheckpointError when the family's published layout cannot
    hold the model.
    """
    directory = Path(directory)
    spec = model.spec if token_ids is None else replace(model.spec, token_ids=token_ids)
    family, ids = FAMILIES[spec.family], spec.token_ids
    config = family.hf_from_spec(spec)
    check_representable(spec)
    dtype = str(model.head_weight.dtype).removeprefix("torch.")
    _write_json(directory / CONFIG, {**config, "dtype": dtype, "torch_dtype": dtype, "use_cache": True})
    generation = {"bos_token_id": ids.begin, "eos_token_id": list(ids.end), "pad_token_id": ids.padding}
    generation |= {"decoder_start_token_id": ids.decoder_start}
    _write_json(directory / GENERATION, {name: value for name, value in generation.items() if value not in (None, [])})
    tensors = dict(export_weights(family.rules(spec), dict(model.named_parameters())))
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})


def load_spec(directory: Path | str) -> ModelSpec:
    """Read the spec of a checkpoint directory from its config.json alone."""
    return _read_config(Path(directory))[1]


def load_model(directory: Path | str, *, dtype: torch.dtype = torch.float32) -> Network:
    """Load a model from config.json and single or sharded safetensors, its parameters cast to `dtype`.

    Raises CheckpointError on anything missing, corrupt, pickled, unknown or misfitting.
    """
    directory = Path(directory)
    family, spec = _read_config(directory)
    shards = Shards(directory)
    model = blank(spec, device="meta", dtype=dtype)
    rules = _as_published(family, spec, shards)
    check_shapes(rules, shards.shapes, dict(model.named_parameters()), str(directory))
    model = model.to_empty(device="cpu")
    import_weights(rules, shards.shapes, shards.read, dict(model.named_parameters()), str(directory))
    return model


def load_weights_into(model: Network, directory: Path | str) -> None:
    """Replace a model's parameters in place by a checkpoint's; raises CheckpointError when the networks differ."""
    directory = Path(directory)
    family, spec = _read_config(directory)
    check_same(replace(model.spec, token_ids=spec.token_ids), spec, f"{directory} holds another network")
    shards = Shards(directory)
    rules = _as_published(family, spec, shards)
    import_weights(rules, shards.shapes, shards.read, dict(model.named_parameters()), str(directory))


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
    end_of_text = tokenizer.special.get(END_OF_TEXT)
    stops = template.stop_ids if template else () if end_of_text is None else (end_of_text,)
    start = model.spec.token_ids.decoder_start
    token_ids = TokenIds(end_of_text, stops, end_of_text, start) if stops else None
    save_model(model, directory, token_ids=token_ids)
    save_tokenizer(tokenizer, directory, template=template, max_seq_len=model.spec.max_seq_len)
    _write_json(directory / LINEAGE, {**(lineage or {}), "tokenizer_sha256": tokenizer.fingerprint})


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


def load(path: Path | str, *, dtype: torch.dtype = torch.float32) -> tuple[Network, Pipeline]:
    """Load a model and its tokenizer from a checkpoint, or the newest one of a run; a sealed one is verified first.

    Raises CheckpointError when a file is damaged or the two do not belong together.
    """
    directory = checkpoint_at(path)
    if (directory / MANIFEST).is_file() or (directory / LINEAGE).is_file():
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
    model = load_model(directory, dtype=dtype)
    _check_vocabulary(model, tokenizer, str(directory))
    return model, tokenizer


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
    family, found = family_for(str(config["model_type"])), Fields(config)
    if config.get("auto_map") and not family.own_code:
        raise CheckpointError(
            f"{path}: auto_map asks to run code from the checkpoint, which smelt never does",
            fix="use a checkpoint of a stock architecture",
        )
    spec = family.spec_from_hf(found)
    found.refuse_unread(family.name)
    return family, spec


def _as_published(family: Family, spec: ModelSpec, shards: Shards) -> Rules:
    """Return the rules for the names in the file, which base-model checkpoints publish without the prefix."""
    rules = family.rules(spec)
    bare = family.prefix and not any(key.startswith(family.prefix) for key in shards.shapes)
    return without_prefix(rules, family.prefix) if bare else rules


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
