"""The network that labels the tokens of a text with the layers of another, and a text cut into what it reads at once.

A label belongs to a word, and stands at one of its tokens: the first, as is usual, of a network that reads both ways,
and the last of one that reads forwards only, which has not seen the word before. A text of more tokens than fit is read
in stretches, cut behind sentences where there are any. Training and reading cut the same way, with this file.

Ref: BERT, arXiv:1810.04805, 5.3 (first token of a word).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import regex
import torch

from smelt.core.errors import ConfigError
from smelt.data.records import Entity
from smelt.data.spans import spans_of
from smelt.models.encoder_decoder import Network
from smelt.models.families import FAMILIES
from smelt.models.families.label_layout import token_architecture, write_labels
from smelt.models.readings import surround
from smelt.models.word_readings import cut_words, word_labels
from smelt.nn.spec import ModelSpec, TaskSpec
from smelt.tokenizers.pipeline import Pipeline

TASK = "token"
"""What the task is called in `Output.tasks`."""
_SENTENCE_END = regex.compile(r"[。！？；!?;]|\.(?=\s)|(?=\n)")


def for_token_labels(spec: ModelSpec, label_names: Sequence[str], *, crf: bool) -> ModelSpec:
    """Return the spec of a network that labels tokens, its layers being those of `spec`.

    Raises:
        ConfigError: the family publishes no such network.
    """
    family = FAMILIES[spec.family]
    if not family.text_labels:
        able = ", ".join(other.name for other in FAMILIES.values() if other.text_labels)
        raise ConfigError(f"a {family.name} network has no published layout that labels tokens", accepted=able)
    names = write_labels(TaskSpec(TASK, len(label_names), label_names=tuple(label_names)))
    config = {**family.hf_from_spec(spec), **names, "architectures": [token_architecture(family)], "use_crf": crf}
    return family.spec_from_hf({name: value for name, value in config.items() if name not in ("smelt", "problem_type")})


@dataclass(frozen=True)
class Stretch:
    """Hold words that are read together: where each stands in its text, and its tokens, one at least."""

    places: list[tuple[int, int]]
    pieces: list[list[int]]

    def label_places(self, is_causal: bool) -> list[int]:
        """Return the number of the token of each word that its label stands at, counted from the first word's first.

        Words of 2, 1 and 3 tokens -> 0, 2, 3, and if a token sees only earlier ones 1, 2, 5
        """
        found, before = list[int](), 0
        for piece in self.pieces:
            found.append(before + (len(piece) - 1) * is_causal)
            before += len(piece)
        return found

    @property
    def ids(self) -> list[int]:
        """Return all tokens."""
        return [token for piece in self.pieces for token in piece]


def stretches_of(tokenizer: Pipeline, text: str, max_tokens: int) -> list[Stretch]:
    """Cut a text into stretches that fit `max_tokens` with the tokens around them; none of a text without words.

    A stretch ends behind the last sentence that ends in its second half, else behind its last word. Words have a space
    before them where the text has any white space. Those that the tokenizer makes nothing of are left out; of one that
    does not fit by itself the first tokens are read.
    """
    most = max(1, max_tokens - len(surround(tokenizer, []).ids))
    ends = {match.end() for match in _SENTENCE_END.finditer(text)}
    places, pieces = list[tuple[int, int]](), list[list[int]]()
    for start, stop in cut_words(text):
        space = " " if start and text[start - 1].isspace() else ""
        if piece := tokenizer.encode(space + text[start:stop], continued=start > 0)[:most]:
            places.append((start, stop))
            pieces.append(piece)
    found, first, used = list[Stretch](), 0, 0
    sizes = [len(piece) for piece in pieces]
    for number, size in enumerate(sizes):
        while used + size > most:  # again where what is left behind the sentence and a long word do not fit
            halfway = first + next(i for i in range(1, number - first + 1) if sum(sizes[first : first + i]) * 2 >= used)
            cut = next((i for i in range(number, halfway - 1, -1) if places[i - 1][1] in ends), number)
            found.append(Stretch(places[first:cut], pieces[first:cut]))
            first, used = cut, sum(sizes[cut:number])
        used += size
    return [*found, Stretch(places[first:], pieces[first:])] if places else []


@torch.inference_mode()
def find_entities(
    model: Network, tokenizer: Pipeline, texts: Sequence[str], *, max_tokens: int | None = None
) -> list[list[Entity]]:
    """Return what each text names, in order of the places; texts are read in stretches of `max_tokens`.

    Without that a stretch takes the model's context. Raises UsageError for a model without a head that labels tokens.
    """
    cut = [stretches_of(tokenizer, text, max_tokens or model.spec.max_seq_len) for text in texts]
    owners = [number for number, stretches in enumerate(cut) for _ in stretches]
    flat = [stretch for stretches in cut for stretch in stretches]
    marks = [stretch.label_places(model.spec.is_causal) for stretch in flat]
    labels = word_labels(model, tokenizer, [stretch.ids for stretch in flat], marks)
    found: list[list[Entity]] = [[] for _ in texts]
    for owner, stretch, named in zip(owners, flat, labels, strict=True):
        for span in spans_of(named):
            found[owner].append(Entity(span.label, stretch.places[span.start][0], stretch.places[span.stop - 1][1]))
    return found
