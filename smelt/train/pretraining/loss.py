"""From the name of an objective to its loss: the token cross-entropy for all that are nothing but rows.

A teacher is opened here, and refused where it reads other tokens than the student, or fewer at a time.
"""

from __future__ import annotations

from smelt.core import runtime
from smelt.core.errors import ConfigError
from smelt.models.encoder_decoder import Network
from smelt.peft.load import load
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.objectives import OBJECTIVES, Objective
from smelt.train.pretraining.recipe import ObjectiveRecipe


def make_objective(settings: ObjectiveRecipe, model: Network, tokenizer: Pipeline, max_seq_len: int) -> Objective:
    """Return the loss of an objective for a model that `check_network` let pass.

    Raises:
        ConfigError: the teacher does not fit.
    """
    objective: Objective
    if settings.name in ("next_sentence", "sentence_order"):
        objective = OBJECTIVES["sentence_pairs"](settings.name)
    elif settings.name == "future_tokens":
        objective = OBJECTIVES["future_tokens"](model, settings.num_further)
    elif settings.name == "similar_pairs":
        objective = OBJECTIVES["similar_pairs"]()
    elif settings.name == "distillation":
        teacher = open_teacher(settings.teacher or "", tokenizer, max_seq_len)
        objective = OBJECTIVES["distillation"](teacher, model.spec, temperature=settings.temperature)
    else:
        objective = OBJECTIVES["token_cross_entropy"]()
    return objective


def open_teacher(checkpoint: str, tokenizer: Pipeline, max_seq_len: int) -> Network:
    """Load the encoder to learn from.

    Raises:
        ConfigError: it is no encoder with a language head, or has another tokenizer or a shorter context.
    """
    teacher, its_tokenizer = load(checkpoint)
    if teacher.spec.is_causal or not teacher.spec.language_head:
        raise ConfigError(f"{checkpoint} cannot fill in masked tokens", accepted="an encoder with a language head")
    if its_tokenizer.fingerprint != tokenizer.fingerprint:
        raise ConfigError(f"{checkpoint} has another tokenizer", accepted=f"tokenizer={checkpoint} for both")
    if teacher.spec.max_seq_len < max_seq_len:
        raise ConfigError(f"max_seq_len={max_seq_len} is longer than the teacher's context, {teacher.spec.max_seq_len}")
    return teacher.to(runtime.device())
