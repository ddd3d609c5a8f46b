"""A network under a new head: built from random weights, or the layers of a checkpoint with another top.

What stands on top is the caller's matter, a function from one spec to another; parts that the checkpoint does not have
are drawn anew and named, as they train whatever else a recipe freezes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pydantic import model_validator

from smelt.core.errors import ConfigError
from smelt.models.build import blank, build
from smelt.models.partial import under_another_top
from smelt.models.transformer import Transformer
from smelt.nn.spec import ModelSpec
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.recipes import RunRecipe
from smelt.train.stages.common import load_to_train
from smelt.train.stages.pretrain import ModelRecipe, open_tokenizer

PADDINGS = (END_OF_TEXT, "[PAD]", "<pad>", "</s>", "<|end_of_text|>")
"""Tokens that pad, in the order in which a tokenizer is published with them."""


class HeadedRecipe(RunRecipe):
    """Put a head on a network, from random weights or a checkpoint, and test it at the end."""

    data: str
    """What it learns from: a file, folder or glob."""
    validation: str | None = None
    """Data of the same kind to validate with; a part of the data when empty."""
    test: str | None = None
    """Data of the same kind to test with at the end; a part of the data when empty."""
    split: tuple[float, float, float] = (0.7, 0.1, 0.2)
    """Shares of the data that train, validate and test; those of parts with files of their own do not count."""
    checkpoint: str | None = None
    """Start from this checkpoint instead of random weights."""
    tokenizer: str | None = None
    """For random weights: a tokenizer.json or vocab.txt, a directory with one, or "bytes" for one token a byte."""
    model: ModelRecipe = ModelRecipe()
    """The network to build for random weights."""

    @model_validator(mode="after")
    def one_origin_and_whole_shares(self) -> HeadedRecipe:
        """Ask for one origin and for shares of the data; refuse samples, which nothing here writes."""
        if (self.tokenizer is None) == (self.checkpoint is None):
            raise ValueError("give either a tokenizer (random weights) or a checkpoint")
        if min(self.split) < 0 or abs(sum(self.split) - 1) > 1e-6:
            raise ValueError(f"the shares {self.split} of split do not sum to 1")
        if self.sample_prompts or self.sample_every:
            raise ValueError("this stage writes no samples; leave sample_prompts and sample_every out")
        return self


def starting_point(
    recipe: HeadedRecipe, head: Callable[[ModelSpec], ModelSpec]
) -> tuple[Transformer, Pipeline, tuple[str, ...]]:
    """Return the network under `head`, its tokenizer, and which of its parts are new; rows pad as its spec says.

    Raises:
        ConfigError: the head does not go with this checkpoint or preset.
    """

    def headed(spec: ModelSpec, tokenizer: Pipeline) -> ModelSpec:
        return head(replace(spec, token_ids=replace(spec.token_ids, padding=padding_of(spec, tokenizer))))

    if recipe.checkpoint is None:
        tokenizer = open_tokenizer(recipe.tokenizer or "")
        spec = recipe.model.spec(vocab_size=tokenizer.vocab_size, max_seq_len=recipe.max_seq_len)
        model = build(headed(spec, tokenizer), seed=recipe.seed)
        assert isinstance(model, Transformer)  # only such have a layout with labels
        return model, tokenizer, ()
    base, tokenizer = load_to_train(recipe.checkpoint, recipe.max_seq_len, writes=False, tune=recipe.tune)
    spec = headed(base.spec, tokenizer)
    ours, theirs = ({name for name, _ in net.named_parameters()} for net in (blank(base.spec, device="meta"), base))
    if ours != theirs:
        raise ConfigError(
            f"checkpoint={recipe.checkpoint} is an adapter that cannot be merged", accepted="a base, or a LoRA of one"
        )
    base.spec = replace(base.spec, token_ids=spec.token_ids)
    model, report = under_another_top(base, spec, seed=recipe.seed, where=recipe.checkpoint)
    assert isinstance(model, Transformer)
    return model, tokenizer, tuple(sorted({name.partition(".")[0] for name in report.new}))


def padding_of(spec: ModelSpec, tokenizer: Pipeline) -> int:
    """Return the id that rows are padded with, by which readers of the layout find a text's last token.

    Raises:
        ConfigError: neither tokenizer nor checkpoint has a token for it.
    """
    if spec.position_offset:
        return spec.position_offset - 1
    named = tokenizer.named_tokens.get("pad_token")
    for name in (END_OF_TEXT, *([named] if named else []), *PADDINGS):
        if name in tokenizer.special:
            return tokenizer.special[name]
    found = [number for number in (spec.token_ids.padding, *spec.token_ids.end) if number is not None]
    if not found:
        raise ConfigError("the tokenizer has no token to pad with", accepted=f"one of {', '.join(PADDINGS)}")
    return found[0]
