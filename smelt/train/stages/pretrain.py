"""Pretraining: prediction of tokens over a stream of documents, from nothing or from a checkpoint.

What is predicted is the objective's matter (`train/pretraining`): the next token unless said otherwise. How text, or
several texts by weight, become rows is in `train/texts`. Continued pretraining is the same stage with `checkpoint` in
place of a model and a tokenizer; it tells what was learned and what was forgotten (`train/forgetting`).
"""

from __future__ import annotations

import time
from dataclasses import replace

from pydantic import Field, model_validator

from smelt.core.config import Config
from smelt.core.errors import ConfigError
from smelt.models.build import build
from smelt.models.encoder_decoder import Network
from smelt.models.families import Shape, preset, spec_for
from smelt.nn.spec import ModelSpec, TokenIds
from smelt.tokenizers.bpe_train import byte_tokenizer
from smelt.tokenizers.formats import load_tokenizer
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.pretraining.loss import make_objective
from smelt.train.pretraining.recipe import Kind, ObjectiveRecipe, check_network, kind_of
from smelt.train.pretraining.rows import Setup, document_end
from smelt.train.recipes import NamedText, named
from smelt.train.stages.common import Job, StageResult, load_to_train, parents, recipe_of_run, run_job
from smelt.train.texts import TextRecipe, similar_texts, texts


class ModelRecipe(Config):
    """Which network to build: a preset, or a family with sizes. The vocabulary comes from the tokenizer."""

    preset: str | None = None
    """Name of a published or shipped size (`smelt info --presets` lists them); replaces the sizes below."""
    family: str = "llama"
    """Published layout that a checkpoint is written in."""
    dim: int = Field(default=256, gt=0)
    """Width."""
    num_layers: int = Field(default=4, gt=0)
    """Number of blocks."""
    num_heads: int = Field(default=4, gt=0)
    """Query heads."""
    num_kv_heads: int | None = Field(default=None, gt=0)
    """Key and value heads; as many as query heads when empty."""
    hidden_dim: int | None = Field(default=None, gt=0)
    """Inner width of the feed-forward part; the family's usual when empty."""
    tied: bool = True
    """Share the embedding table with the head."""

    def spec(self, *, vocab_size: int, max_seq_len: int) -> ModelSpec:
        """Return the network of this recipe for a vocabulary and a context."""
        if self.preset is not None:
            return preset(self.preset, vocab_size=vocab_size, max_seq_len=max_seq_len)
        sizes = self.model_dump(exclude={"preset", "family"})
        return spec_for(self.family, Shape(vocab_size=vocab_size, max_seq_len=max_seq_len, **sizes))


class PretrainRecipe(TextRecipe):
    """Train a base model on text."""

    tokenizer: str | None = None
    """A tokenizer.json, a directory with one, or "bytes" for one token a byte."""
    checkpoint: str | None = None
    """Continue from this checkpoint instead of building a model."""
    model: ModelRecipe = ModelRecipe()
    """The network to build."""
    objective: ObjectiveRecipe = ObjectiveRecipe()
    """What is predicted: a name, or a name with its numbers."""

    @model_validator(mode="after")
    def one_origin(self) -> PretrainRecipe:
        """Ask for a tokenizer, or for a checkpoint that brings one; only the latter has something to forget."""
        if (self.tokenizer is None) == (self.checkpoint is None):
            raise ValueError("give either a tokenizer (new model) or a checkpoint (continue)")
        if self.remember and self.checkpoint is None:
            raise ValueError("a new model has nothing to remember; leave remember out, or give a checkpoint")
        named((*self.data, *self.remember))
        if self.validation is not None:
            named((*self.remember, NamedText(path=self.validation, name="validation")))
        return self


def pretrain(recipe: PretrainRecipe, *, resume: bool = False) -> StageResult:
    """Run the stage; with `resume`, go on with the run of the same name where there is one.

    Raises:
        SmeltError: bad data, recipe, checkpoint or machine; see the message.
    """
    started = time.perf_counter()
    recipe, run = recipe_of_run(recipe, resume)
    model, tokenizer = starting_point(recipe)
    check_network(recipe.objective, model.spec)
    objective = make_objective(recipe.objective, model, tokenizer, recipe.max_seq_len)
    origin = recipe.checkpoint or recipe.tokenizer or ""
    setup = Setup(recipe.objective, model.spec, tokenizer, recipe.max_seq_len, recipe.seed, origin)
    is_pairs = recipe.objective.name == "similar_pairs"
    found = similar_texts(recipe, setup) if is_pairs else texts(recipe, setup, run.path / "data")
    job = Job(
        stage="pretrain",
        recipe=recipe,
        run=run,
        model=model,
        tokenizer=tokenizer,
        template=None,
        rows=found.rows,
        order=found.order,
        counts=found.counts,
        validation=found.validation,
        measured=found.measured,
        objective=objective,
        started=started,
        prompts=prompts(recipe, model, tokenizer),
        stop_ids=(document_end(tokenizer),),
        lineage={"parents": parents(recipe.checkpoint), "data": found.facts},
        next_steps=lambda checkpoint: next_steps(recipe, kind_of(model.spec), checkpoint),
    )
    return run_job(job)


def prompts(recipe: PretrainRecipe, model: Network, tokenizer: Pipeline) -> list[tuple[str, list[int]]]:
    """Return the prompts that samples continue.

    Raises:
        ConfigError: the model is no decoder, which alone goes on with a text.
    """
    if recipe.sample_prompts and kind_of(model.spec) != "decoder":
        raise ConfigError(
            f"sample_prompts with an {kind_of(model.spec)}", accepted="a decoder", fix="leave sample_prompts out"
        )
    return [(text, prompt_ids(tokenizer, text)) for text in recipe.sample_prompts]


def prompt_ids(tokenizer: Pipeline, text: str) -> list[int]:
    """Return a prompt as pretraining saw beginnings: after an end of text."""
    return [document_end(tokenizer), *tokenizer.encode(text)]


def next_steps(recipe: PretrainRecipe, kind: Kind, checkpoint: str) -> tuple[str, ...]:
    """Return what to do with the checkpoint, as commands."""
    text = recipe.data[0].path if len(recipe.data) == 1 else "MORE_TEXT"
    longer = f"train longer: `smelt pretrain name={recipe.name}-2 checkpoint={checkpoint} data={text}"
    longer += "`" if recipe.objective.name == "causal" else f" objective={recipe.objective.name}`"
    if kind != "decoder":
        return (longer,)
    return (
        f'generate: `smelt generate {checkpoint} --prompt "Once"`',
        f"teach it to chat: `smelt sft name={recipe.name}-chat checkpoint={checkpoint} data=YOUR_CHATS.jsonl`",
        longer,
    )


def starting_point(recipe: PretrainRecipe) -> tuple[Network, Pipeline]:
    """Return a new model with its tokenizer, or those of the checkpoint to continue from."""
    if recipe.checkpoint is not None:
        return load_to_train(recipe.checkpoint, recipe.max_seq_len, tune=recipe.tune)
    tokenizer = open_tokenizer(recipe.tokenizer or "")
    spec = recipe.model.spec(vocab_size=tokenizer.vocab_size, max_seq_len=recipe.max_seq_len)
    if spec.encoder is not None:
        end = document_end(
            tokenizer
        )  # what a target begins with must stand in the checkpoint: generation reads it there
        spec = replace(spec, token_ids=TokenIds(end, (end,), end, end))
    return build(spec, seed=recipe.seed), tokenizer


def open_tokenizer(name: str) -> Pipeline:
    """Return the tokenizer of a path, or the built-in one with a token a byte."""
    if name == "bytes":
        return byte_tokenizer()
    return load_tokenizer(name)
