"""What an encoder says about the words of a text: a label for each.

A word is cut into tokens; its label is read at the first of them, by a CRF where the head has one, and names of several
words are put together from their labels. What points at pieces of a text is in `span_readings`.

Ref: BERT, arXiv:1810.04805, 5.3 (first token of a word).
Ref: Text Chunking using Transformation-Based Learning, cmp-lg/9505040 (B, I and O).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import regex
import torch

from smelt.core.errors import UsageError
from smelt.models.encoder_decoder import Network
from smelt.models.heads import TaskHead
from smelt.models.readings import encoder_with, forwards, label_names, surround
from smelt.tokenizers.pipeline import Pipeline

_WORDS = regex.compile(r"\p{Han}|(?:(?!\p{Han})[\p{L}\p{M}\p{N}])+|\S")
OPENING, CLOSING = ("B", "S"), ("E", "S")


@dataclass(frozen=True)
class Span:
    """Words `start` to `stop` (not included) of a sentence, which are one thing of this kind."""

    label: str
    start: int
    stop: int


def cut_words(text: str) -> list[tuple[int, int]]:
    """Return where the words of a text begin and end: letters and digits in a row, else each character.

    "It's 3 河流" -> It | ' | s | 3 | 河 | 流
    """
    return [match.span() for match in _WORDS.finditer(text)]


@torch.inference_mode()
def tag(model: Network, tokenizer: Pipeline, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the label of every word of every sentence.

    Raises UsageError for a model without a head that labels tokens, or a word that has no token.
    """
    tasks = [task for task in model.spec.tasks if task.reads == "token" and task.name != "span"]
    encoder = encoder_with(model, bool(tasks), "a head that labels words")
    head, names = encoder.tasks[tasks[0].name], label_names(tasks[0])
    assert isinstance(head, TaskHead)
    pieces = [[_pieces(tokenizer, word, number) for number, word in enumerate(words)] for words in sentences]
    for words, parts in zip(sentences, pieces, strict=True):
        if [] in parts:
            raise UsageError(f"the word {words[parts.index([])]!r} has no token", accepted="words with a letter")
    rows = [surround(tokenizer, [token for part in parts for token in part]) for parts in pieces]
    waiting, found = iter(pieces), list[list[str]]()
    for batch, output in forwards(encoder, rows):
        scores = output.tasks[tasks[0].name]
        mask = torch.zeros(scores.shape[:2], dtype=torch.bool)
        for number, (row, parts) in enumerate(zip(batch, waiting, strict=False)):
            place = row.places[0].start
            for part in parts:
                mask[number, place] = True
                place += len(part)
        mask = mask.to(scores.device)
        best = scores.argmax(-1) if head.crf is None else head.crf.decode(scores, mask)
        found += [[names[label] for label in labels[here].tolist()] for labels, here in zip(best, mask, strict=True)]
    return found


def _pieces(tokenizer: Pipeline, word: str, number: int) -> list[int]:
    """Return the ids of a word at its place in a sentence: all but the first stand behind a space."""
    return tokenizer.encode(f" {word}" if number else word, continued=number > 0)


def spans_of(labels: Sequence[str]) -> list[Span]:
    """Put words together by the marks before their labels: B and S begin, I, M and E go on, E and S end, O is nothing.

    B-PER I-PER O B-LOC -> [Span("PER", 0, 2), Span("LOC", 3, 4)]; a label without a mark is a span of its own.
    """
    found, is_open = list[Span](), False
    for place, label in enumerate(labels):
        mark, _, kind = label.partition("-") if "-" in label else ("S", "-", label)
        if label == "O":
            is_open = False
            continue
        if is_open and mark not in OPENING and found[-1].label == kind:
            found[-1] = Span(kind, found[-1].start, place + 1)
        else:
            found.append(Span(kind, place, place + 1))
        is_open = mark not in CLOSING
    return found
