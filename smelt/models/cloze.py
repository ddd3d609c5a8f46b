"""A text in a template with a gap: labels are the words that may fill it, and the language head says how well they do.

    template "{text} It was {word}", words {praise: [fine], complaint: [cold, bad]}
    a decoder reads    A quiet room. It was          and how likely "fine", "cold" and "bad" are as the next token
    an encoder reads   A quiet room. It was [MASK]   and how likely they are behind the mask

A label's score is the mean of its words' logits, and the softmax runs over the labels alone. Nothing is drawn at
random, so a model labels texts untrained, as well as it knows the language, and a few examples are enough to tune it.
Each word must be one token: of several, each would need a place and a forward of its own.

Ref: PET, arXiv:2001.07676, eq. 1-2; PETAL, arXiv:2010.13641 (several words of a label). Ref: LM-BFF, arXiv:2012.15723.
Ref: Calibrate Before Use, arXiv:2102.09690, 3.2 (texts that say nothing).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from smelt.core.errors import ConfigError, nearest
from smelt.models.encoder_decoder import Network
from smelt.models.heads import last_token
from smelt.models.readings import Choice, Row, best_first, lacking, mask_token, scores_of, surround
from smelt.models.transformer import Transformer
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.bpe import BPE
from smelt.tokenizers.pipeline import Pipeline

CLOZE = "cloze"  # where a checkpoint's lineage keeps one
PLACES = ("text", "second", "word")
PLACE = re.compile(r"( ?)\{(\w*)\}")  # the space before a place belongs to what is put there: " fine" is one token


@dataclass(frozen=True)
class Cloze:
    """Lay texts into a template, and score the words of each label at its gap; `make_cloze` checks and builds it.

    Args:
        tokenizer: the model's.
        template: with {text}, {word} and for pairs {second}.
        words: by label, in the order of the scores.
        word_ids: each label's words as tokens, in the same order.
        mask_id: what an encoder reads at the gap; a decoder, without one, scores what comes next.
        offsets: what is taken from each label's score: log-shares of the labels for a text that says nothing.
    """

    tokenizer: Pipeline
    template: str
    words: Mapping[str, Sequence[str]]
    word_ids: tuple[tuple[int, ...], ...]
    mask_id: int | None
    offsets: tuple[float, ...] = ()

    def encode(self, text: str, second: str | None = None) -> list[list[int]]:
        """Return the tokens of a text, or of a pair, as they are inside the template."""
        given, found = {"text": text, "second": second or ""}, dict[str, list[int]]()
        for before, space, place in pieces(self.template):
            if place in given:
                behind = bool(before) or bool(found)
                found[place] = self.tokenizer.encode(space + given[place], continued=behind)
        return [found[place] for place in given if place in found]

    def surround(self, texts: Sequence[Sequence[int]]) -> Row:
        """Put the template around the tokens of a text or a pair, and the gap into it."""
        given = dict(zip(PLACES, texts, strict=False))
        given["word"] = [] if self.mask_id is None else [self.mask_id]
        ids = list[int]()
        for before, _, place in pieces(self.template):
            ids += self.tokenizer.encode(before, continued=bool(ids))
            ids += given.get(place, ())
        if self.mask_id is not None:
            return surround(self.tokenizer, ids)
        ids = [*beginning(self.tokenizer), *ids]
        return Row(ids, [0] * len(ids), (range(len(ids)),))

    def __call__(self, model: Network, ids: Tensor, **context: Tensor) -> Tensor:
        """Score the labels of rows: ids (B, T) -> (B, N)."""
        hidden = model(ids, **context, project=False).hidden
        if self.mask_id is None:
            at_gap = last_token(hidden, context.get("segments"))
        else:
            gaps = (ids == self.mask_id).int().argmax(dim=1)
            at_gap = hidden[torch.arange(len(ids), device=ids.device), gaps]  # (B, D)
        logits = model.project(at_gap).float()  # (B, V)
        scores = torch.stack([logits[:, list(tokens)].mean(dim=1) for tokens in self.word_ids], dim=1)
        return scores - torch.tensor(self.offsets, device=scores.device) if self.offsets else scores

    def as_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it: the arguments of `make_cloze`."""
        words = {label: list(words) for label, words in self.words.items()}
        return {"template": self.template, "words": words, "offsets": list(self.offsets)}


def make_cloze(
    model: Network,
    tokenizer: Pipeline,
    template: str,
    words: Mapping[str, Sequence[str]],
    *,
    offsets: Sequence[float] = (),
) -> Cloze:
    """Return the cloze of a template and of each label's words, for a decoder or an encoder with a language head.

    Raises:
        ConfigError: a template without a place, or with one that a decoder cannot read; a label without a word, or a
            word that is not one token, not in the vocabulary, or another label's too.
        UsageError: the model has no language head, or its tokenizer no mask.
    """
    if not isinstance(model, Transformer) or not model.spec.language_head or model.spec.context is not None:
        raise lacking(model, "a language head, which scores words", "a decoder or an encoder")
    mask_id = None if model.spec.is_causal else tokenizer.special[mask_token(tokenizer)]
    check_template(template, reads_on=mask_id is not None)
    before, space = next((before, space) for before, space, place in pieces(template) if place == "word")
    behind = not template.startswith(f"{before}{space}{{word}}")
    found: dict[int, str] = {}
    for label, given in words.items():
        if not given:
            raise ConfigError(f"words: the label '{label}' has none", accepted="a word or more for each label")
        for word in given:
            token = token_of(tokenizer, word, before, space, behind=behind)
            if token in found:
                raise ConfigError(f"words: '{word}' of '{label}' stands for '{found[token]}' too", accepted="one label")
            found[token] = label
    word_ids = tuple(tuple(token for token, label in found.items() if label == wanted) for wanted in words)
    return Cloze(tokenizer, template, dict(words), word_ids, mask_id, tuple(offsets))


def pieces(template: str) -> list[tuple[str, str, str]]:
    """Cut a template into (what is fixed, a space, a place), the last place "": "{text} It was {word}." ->

    [("", "", "text"), (" It was", " ", "word"), (".", "", "")]
    """
    parts = PLACE.split(template)
    return [*zip(parts[::3], parts[1::3], parts[2::3], strict=False), (parts[-1], "", "")]


def check_template(template: str, *, reads_on: bool) -> None:
    """Raise ConfigError for a template whose places are not right; an encoder `reads_on` behind its gap."""
    places = [place for _, _, place in pieces(template)[:-1]]
    where = f"template={template!r}"
    for place in places:
        if place not in PLACES:
            raise ConfigError(
                f"{where} has a place {{{place}}}.{nearest(place, PLACES)}",
                accepted="{text}, {word}, and {second} for pairs",
            )
        if places.count(place) > 1:
            raise ConfigError(f"{where} has {{{place}}} twice", accepted="each place once")
    if "text" not in places:
        raise ConfigError(f"{where} has no place for the text", fix=f"template='{{text}} {template}'")
    if "word" not in places:
        raise ConfigError(f"{where} has no place for the word", fix=f"template='{template} {{word}}'")
    if not reads_on and not template.endswith("{word}"):
        raise ConfigError(
            f"{where} goes on behind {{word}}, and a decoder reads forwards only", accepted="a template that ends there"
        )


def token_of(tokenizer: Pipeline, word: str, before: str, space: str, *, behind: bool) -> int:
    """Return the one token that a word is `behind` other text and what is fixed before it; raises ConfigError."""
    stem = tokenizer.encode(before, continued=behind)
    whole = tokenizer.encode(before + space + word, continued=behind)
    if whole[: len(stem)] != stem:
        raise ConfigError(
            f"words: '{word}' is joined with the '{before}' before it, so that it never comes by itself",
            accepted="words that begin a token where they stand",
            fix="end the template with a comma or a space before {word}, or take another word",
        )
    own = whole[len(stem) :]
    if not own or (not isinstance(tokenizer.model, BPE) and tokenizer.model.unk_id in own):
        raise ConfigError(f"words: '{word}' is not in the vocabulary", accepted="a word that is one token")
    if len(own) > 1:
        shown = " ".join(f"'{tokenizer.spelling[token]}'" for token in own)
        raise ConfigError(
            f"words: '{word}' is {len(own)} tokens ({shown:.80}), and the gap has room for one",
            accepted="a word that is one token, perhaps the first of these",
        )
    return own[0]


def beginning(tokenizer: Pipeline) -> list[int]:
    """Return what a decoder's texts begin with: the end of the text before, where the tokenizer has such a token."""
    return [tokenizer.special[END_OF_TEXT]] if END_OF_TEXT in tokenizer.special else []


@torch.inference_mode()
def calibrated(cloze: Cloze, model: Transformer, content_free: Sequence[str]) -> Cloze:
    """Return the cloze with offsets that make texts which say nothing, such as "N/A", as likely of every label.

    The labels' shares are averaged over those texts and divided by; as log-shares they are taken from the scores.
    """
    plain = replace(cloze, offsets=())
    shares = scores_of(plain, model, content_free).softmax(dim=-1).mean(dim=0)
    return replace(cloze, offsets=tuple(round(offset, 6) for offset in shares.log().tolist()))


@torch.inference_mode()
def fill_labels(
    cloze: Cloze, model: Network, texts: Sequence[str], seconds: Sequence[str] = (), temperature: float = 1.0
) -> list[list[Choice]]:
    """Return the labels of each text, or of each pair with the text in `seconds`, the likeliest first.

    Raises ConfigError where there is a second text and no {second} in the template, or the reverse.
    """
    if bool(seconds) != ("{second}" in cloze.template):
        raise ConfigError(
            f"template={cloze.template!r} with {'a' if seconds else 'no'} second text", accepted="{second} for pairs"
        )
    assert isinstance(model, Transformer)  # as `make_cloze` saw to
    shares = (scores_of(cloze, model, texts, seconds) / temperature).softmax(dim=-1)
    return best_first(list(cloze.words), shares)
