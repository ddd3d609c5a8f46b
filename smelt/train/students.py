"""Teacher and student: what a student starts as, and whether the two can work together.

Distributions over tokens compare only where a number means the same token to both, so two tokenizers that differ are
refused, with the first thing in which they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from smelt.core import runtime
from smelt.core.errors import ConfigError
from smelt.core.log import say
from smelt.models.build import blank, count_parameters
from smelt.models.encoder_decoder import Network
from smelt.models.families import check_representable
from smelt.models.transformer import Transformer
from smelt.peft.load import load
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.pretraining.recipe import kind_of


def open_teacher(checkpoint: str, max_seq_len: int) -> tuple[Transformer, Pipeline]:
    """Load the model to learn from, without gradients, on the device of the run; with its tokenizer.

    Raises:
        ConfigError: it predicts no tokens, is an encoder-decoder, or reads fewer tokens than a row has.
    """
    teacher, tokenizer = load(checkpoint)
    if not isinstance(teacher, Transformer) or not teacher.spec.language_head:
        what = "an encoder-decoder" if not isinstance(teacher, Transformer) else "a model without a language head"
        raise ConfigError(f"teacher={checkpoint} is {what}", accepted="a decoder, or an encoder with a language head")
    if max_seq_len > teacher.max_text_tokens:
        raise ConfigError(
            f"max_seq_len={max_seq_len} is longer than the context of teacher={checkpoint}, {teacher.max_text_tokens}",
            fix=f"max_seq_len={teacher.max_text_tokens}",
        )
    return teacher.to(runtime.device()).eval().requires_grad_(False), tokenizer


def some_blocks(teacher: Transformer, layers: Sequence[int]) -> Transformer:
    """Return a new model of some of a teacher's blocks, from 0, in this order, and all that is not in blocks.

    Ref: DistilBERT, arXiv:1910.01108, section 3 (student initialization).

    Raises:
        ConfigError: a block is not there or is named twice, all blocks of the teacher are one, or something was added
            to the teacher that is in no block.
        CheckpointError: the family cannot say which layers of its pattern are left.
    """
    num_layers = len(teacher.spec.layers)
    if teacher.spec.shared_layers:
        raise ConfigError(f"layers={list(layers)} of a teacher whose blocks share their weights", fix="model.dim=...")
    ours, theirs = (
        {name for name, _ in net.named_parameters()} for net in (blank(teacher.spec, device="meta"), teacher)
    )
    if ours != theirs:
        raise ConfigError(
            f"layers={list(layers)} of a teacher with an adapter that cannot be merged", accepted="a whole checkpoint"
        )
    if len(set(layers)) < len(layers) or not all(0 <= layer < num_layers for layer in layers):
        raise ConfigError(
            f"layers={list(layers)} of a teacher with {num_layers} blocks",
            accepted=f"different numbers from 0 to {num_layers - 1}",
        )
    spec = replace(teacher.spec, layers=tuple(teacher.spec.layers[layer] for layer in layers))
    check_representable(spec)  # now, not when the first checkpoint is written
    student = blank(spec)
    taken = teacher.state_dict()
    with torch.no_grad():
        for name, values in student.state_dict().items():
            part, _, rest = name.partition(".")
            if part == "blocks":
                number, _, rest = rest.partition(".")
                name = f"blocks.{layers[int(number)]}.{rest}"
            values.copy_(taken[name])
    assert isinstance(student, Transformer)
    return student


def check_pair(
    teacher: Network, student: Network, tokenizers: tuple[Pipeline, Pipeline], names: tuple[str, str]
) -> None:
    """Refuse a teacher and a student, given with their tokenizers and names, that cannot work together.

    A student that is larger than its teacher is possible, and said aloud.

    Raises:
        ConfigError: they differ in tokenizer or in kind; the message says in what first.
    """
    different = first_difference(*tokenizers)
    if different:
        raise ConfigError(
            f"teacher={names[0]} and student {names[1]} read different tokens: {different}",
            accepted="two models with one tokenizer: probabilities of other tokens do not compare",
            fix=f"--write-answers FILE teacher={names[0]} data=QUESTIONS, then smelt sft: text knows no tokenizer",
        )
    kinds = [kind_of(model.spec) for model in (teacher, student)]
    if kinds[0] != kinds[1]:
        what = f"teacher={names[0]} is of the kind {kinds[0]}, the student {names[1]} of the kind {kinds[1]}"
        raise ConfigError(what, accepted=f"a student of the kind {kinds[0]}")
    sizes = [count_parameters(model.spec) for model in (teacher, student)]
    if sizes[1] > sizes[0]:
        say(f"warning: the student has {sizes[1]:,} parameters, its teacher {sizes[0]:,}")


def first_difference(teacher: Pipeline, student: Pipeline) -> str:
    """Return in words where two tokenizers first differ: size, a token, or how they cut text; "" where they do not."""
    if teacher.fingerprint == student.fingerprint:
        return ""
    if teacher.vocab_size != student.vocab_size:
        return f"{teacher.vocab_size:,} tokens and {student.vocab_size:,}"
    pairs = zip(teacher.spelling, student.spelling, strict=True)
    found = next(((number, *pair) for number, pair in enumerate(pairs) if pair[0] != pair[1]), None)
    if found is not None:
        return "number {} is {!r} to one and {!r} to the other".format(*found)
    return f"the same tokens, but other rules (SHA-256 {teacher.fingerprint[:12]} and {student.fingerprint[:12]})"
