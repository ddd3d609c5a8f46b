"""Pretraining: next-token prediction over a stream of documents, from nothing or from a checkpoint.

Text is tokenized once into memory-mapped shards inside the run directory (or taken from shards made by
`smelt data pack`), so a resumed run starts at once and a corpus may be larger than memory. Continued pretraining
is the same stage with `checkpoint` in place of a model and a tokenizer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from smelt.core.config import Config
from smelt.core.errors import ConfigError
from smelt.core.log import say
from smelt.data.formats import read_text
from smelt.data.order import split_documents, split_tail
from smelt.data.packing import StreamRows, pack_stream
from smelt.data.shards import META, TokenShards, source_fingerprints, write_shards
from smelt.models.build import build
from smelt.models.encoder_decoder import Network
from smelt.models.families import Shape, preset, spec_for
from smelt.nn.spec import ModelSpec
from smelt.tokenizers.base import END_OF_TEXT, SPECIAL
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.formats import load_tokenizer
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.objectives import OBJECTIVES
from smelt.train.recipes import RunRecipe
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
    train_shards, validation_shards = corpus(recipe, tokenizer, run.path / "data")
    rows = pack_stream(train_shards, recipe.max_seq_len)
    job = Job(
        stage="pretrain",
        recipe=recipe,
        run=run,
        model=model,
        tokenizer=tokenizer,
        template=None,
        rows=rows,
        validation=validation_rows(validation_shards, recipe.max_seq_len),
        objective=OBJECTIVES["token_cross_entropy"](),
        started=started,
        prompts=[(text, prompt_ids(tokenizer, text)) for text in recipe.sample_prompts],
        stop_ids=(tokenizer.special[END_OF_TEXT],),
        lineage={
            "parents": parents(recipe.checkpoint),
            "data": {"tokens": train_shards.meta.num_tokens, "sources": train_shards.meta.sources},
        },
        next_steps=lambda checkpoint: (
            f'generate: `smelt generate {checkpoint} --prompt "Once"`',
            f"teach it to chat: `smelt sft name={recipe.name}-chat checkpoint={checkpoint} data=YOUR_CHATS.jsonl`",
            f"train longer: `smelt pretrain name={recipe.name}-2 checkpoint={checkpoint} data={recipe.data}`",
        ),
    )
    return run_job(job)


def starting_point(recipe: PretrainRecipe) -> tuple[Network, Pipeline]:
    """Return a new model with its tokenizer, or those of the checkpoint to continue from."""
    if recipe.checkpoint is not None:
        return load_to_train(recipe.checkpoint, recipe.max_seq_len)
    tokenizer = open_tokenizer(recipe.tokenizer or "")
    spec = recipe.model.spec(vocab_size=tokenizer.vocab_size, max_seq_len=recipe.max_seq_len)
    return build(spec, seed=recipe.seed), tokenizer


def open_tokenizer(name: str) -> Pipeline:
    """Return the tokenizer of a path, or the built-in one with a token a byte."""
    if name == "bytes":
        return train_bpe([], vocab_size=256 + len(SPECIAL))
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
            write_shards(folder / part, chosen, tokenizer, end_id=tokenizer.special[END_OF_TEXT], sources=fingerprints)
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

    def texts() -> Iterator[str]:
        for row in read_text(source):
            yield row.text

    write_shards(folder, texts(), tokenizer, end_id=tokenizer.special[END_OF_TEXT], sources=fingerprints)
    return TokenShards.open(folder, tokenizer_fingerprint=tokenizer.fingerprint)


def reusable(folder: Path, tokenizer: Pipeline, fingerprints: dict[str, str]) -> TokenShards | None:
    """Return shards that were made before from the same files with the same tokenizer."""
    if not (folder / META).exists():
        return None
    shards = TokenShards.open(folder)
    same = shards.meta.sources == fingerprints and shards.meta.tokenizer_fingerprint == tokenizer.fingerprint
    return shards if same else None


def validation_rows(shards: TokenShards, max_seq_len: int) -> StreamRows | None:
    """Return the rows of the held-out shards; with too few tokens for one row the run goes without, and says so."""
    if shards.meta.num_tokens <= max_seq_len:
        say(f"warning: the held-out part has {shards.meta.num_tokens} tokens, less than one row; no validation loss")
        return None
    return pack_stream(shards, max_seq_len)


def prompt_ids(tokenizer: Pipeline, text: str) -> list[int]:
    """Return a prompt as pretraining saw beginnings: after an end of text."""
    return [tokenizer.special[END_OF_TEXT], *tokenizer.encode(text)]
