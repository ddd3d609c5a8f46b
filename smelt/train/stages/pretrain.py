"""Pretraining: prediction of tokens over a stream of documents, from nothing or from a checkpoint.

What is predicted is the objective's matter (`train/pretraining`): the next token unless said otherwise. Text is
tokenized once into memory-mapped shards inside the run directory (or taken from shards made by `smelt data pack`), so a
resumed run starts at once and a corpus may be larger than memory. Continued pretraining is the same stage with
`checkpoint` in place of a model and a tokenizer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from smelt.core.config import Config
from smelt.core.errors import ConfigError
from smelt.core.log import say
from smelt.data.formats import read_pairs, read_text
from smelt.data.order import split_documents, split_tail
from smelt.data.shards import META, TokenShards, source_fingerprints, write_shards
from smelt.models.build import build
from smelt.models.encoder_decoder import Network
from smelt.models.families import Shape, preset, spec_for
from smelt.nn.spec import ModelSpec, TokenIds
from smelt.tokenizers.bpe_train import byte_tokenizer
from smelt.tokenizers.formats import load_tokenizer
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.pretraining.loss import make_objective
from smelt.train.pretraining.recipe import Kind, ObjectiveRecipe, check_network, kind_of
from smelt.train.pretraining.rows import MakeRows, Setup, document_end, row_maker, similar_rows
from smelt.train.recipes import RunRecipe
from smelt.train.sources import Rows
from smelt.train.stages.common import Job, StageResult, load_to_train, parents, recipe_of_run, run_job


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


class PretrainRecipe(RunRecipe):
    """Train a base model on text."""

    data: str
    """Text (file, folder or glob) or a directory of token shards."""
    validation: str | None = None
    """Held-out text or shards; a part of the data when empty."""
    validation_fraction: float = Field(default=0.02, gt=0, lt=1)
    """Share of the data held out when `validation` is empty."""
    validation_split: Literal["documents", "tail"] = "documents"
    """Hold out whole documents, or the end of every document (for one long text)."""
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
        """Ask for a tokenizer, or for a checkpoint that brings one."""
        if (self.tokenizer is None) == (self.checkpoint is None):
            raise ValueError("give either a tokenizer (new model) or a checkpoint (continue)")
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
    rows, validation, facts = (similar_texts if recipe.objective.name == "similar_pairs" else texts)(
        recipe, setup, run.path / "data"
    )
    job = Job(
        stage="pretrain",
        recipe=recipe,
        run=run,
        model=model,
        tokenizer=tokenizer,
        template=None,
        rows=rows,
        validation=validation,
        objective=objective,
        started=started,
        prompts=prompts(recipe, model, tokenizer),
        stop_ids=(document_end(tokenizer),),
        lineage={"parents": parents(recipe.checkpoint), "data": facts},
        next_steps=lambda checkpoint: next_steps(recipe, kind_of(model.spec), checkpoint),
    )
    return run_job(job)


def texts(recipe: PretrainRecipe, setup: Setup, folder: Path) -> tuple[Rows, Rows | None, dict[str, object]]:
    """Return training and validation rows of a stream of documents, and what the lineage says of them."""
    rows_of = row_maker(setup)  # before anything is tokenized: it knows what is missing
    train, held_out = corpus(recipe, setup.tokenizer, folder)
    facts: dict[str, object] = {"tokens": train.meta.num_tokens, "sources": train.meta.sources}
    return rows_of(train), validation_rows(held_out, rows_of, setup.max_seq_len), facts


def similar_texts(recipe: PretrainRecipe, setup: Setup, folder: Path) -> tuple[Rows, Rows | None, dict[str, object]]:
    """Return the same of pairs of texts, which stay in memory: rows of a source and a target."""
    rows_of = similar_rows(setup)
    pairs = [(row.source, row.target) for row in read_pairs(recipe.data)]
    if recipe.validation is not None:
        held_out = [(row.source, row.target) for row in read_pairs(recipe.validation)]
    else:
        mask = split_documents(len(pairs), recipe.validation_fraction, recipe.seed)
        held_out = [pair for pair, out in zip(pairs, mask, strict=True) if out]
        pairs = [pair for pair, out in zip(pairs, mask, strict=True) if not out]
    facts: dict[str, object] = {"pairs": len(pairs), "sources": source_fingerprints(recipe.data)}
    return rows_of(pairs), rows_of(held_out), facts


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
    longer = f"train longer: `smelt pretrain name={recipe.name}-2 checkpoint={checkpoint} data={recipe.data}"
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


def corpus(recipe: PretrainRecipe, tokenizer: Pipeline, folder: Path) -> tuple[TokenShards, TokenShards]:
    """Return training and validation shards, tokenizing text into `folder` unless that was done before."""
    if (Path(recipe.data) / META).exists():
        train = TokenShards.open(recipe.data, tokenizer_fingerprint=tokenizer.fingerprint)
        if recipe.validation is None:
            raise ConfigError(
                "data is a directory of token shards, but there is no validation", fix="validation=SHARDS_OR_TEXT"
            )
        return train, open_or_write(recipe.validation, tokenizer, folder / "validation")
    if recipe.validation is not None:
        return open_or_write(recipe.data, tokenizer, folder / "train"), open_or_write(
            recipe.validation, tokenizer, folder / "validation"
        )
    fingerprints = source_fingerprints(recipe.data)
    parts = [reusable(folder / part, tokenizer, fingerprints) for part in ("train", "validation")]
    if parts[0] is None or parts[1] is None:
        say(f"tokenizing {recipe.data}")
        texts = [row.text for row in read_text(recipe.data)]
        held_out, kept = divide(texts, recipe)
        for part, chosen in (("train", kept), ("validation", held_out)):
            write_shards(folder / part, chosen, tokenizer, end_id=document_end(tokenizer), sources=fingerprints)
    opened = [
        TokenShards.open(folder / part, tokenizer_fingerprint=tokenizer.fingerprint) for part in ("train", "validation")
    ]
    return opened[0], opened[1]


def divide(texts: Sequence[str], recipe: PretrainRecipe) -> tuple[list[str], list[str]]:
    """Return the held-out texts and the others."""
    if recipe.validation_split == "tail":
        pairs = [split_tail(text, recipe.validation_fraction) for text in texts]
        return [tail for _, tail in pairs], [body for body, _ in pairs]
    mask = split_documents(len(texts), recipe.validation_fraction, recipe.seed)
    return [t for t, out in zip(texts, mask, strict=True) if out], [
        t for t, out in zip(texts, mask, strict=True) if not out
    ]


def open_or_write(source: str, tokenizer: Pipeline, folder: Path) -> TokenShards:
    """Open shards, or tokenize text into `folder` unless that was done before."""
    if (Path(source) / META).exists():
        return TokenShards.open(source, tokenizer_fingerprint=tokenizer.fingerprint)
    fingerprints = source_fingerprints(source)
    if (found := reusable(folder, tokenizer, fingerprints)) is not None:
        return found
    say(f"tokenizing {source}")

    def documents() -> Iterator[str]:
        for row in read_text(source):
            yield row.text

    write_shards(folder, documents(), tokenizer, end_id=document_end(tokenizer), sources=fingerprints)
    return TokenShards.open(folder, tokenizer_fingerprint=tokenizer.fingerprint)


def reusable(folder: Path, tokenizer: Pipeline, fingerprints: dict[str, str]) -> TokenShards | None:
    """Return shards that were made before from the same files with the same tokenizer."""
    if not (folder / META).exists():
        return None
    shards = TokenShards.open(folder)
    same = shards.meta.sources == fingerprints and shards.meta.tokenizer_fingerprint == tokenizer.fingerprint
    return shards if same else None


def validation_rows(shards: TokenShards, rows_of: MakeRows, max_seq_len: int) -> Rows | None:
    """Return the rows of the held-out shards; with too few tokens for one row the run goes without, and says so."""
    rows = rows_of(shards) if shards.meta.num_tokens > max_seq_len else None
    if rows is not None and rows.num_rows:
        return rows
    say(f"warning: the held-out part has {shards.meta.num_tokens} tokens, less than one row; no validation loss")
    return None
