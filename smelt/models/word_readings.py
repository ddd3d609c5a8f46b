"""What a model says about the words of a text: a label for each, and where the answer to a question stands.

A word is cut into tokens; its label is read at one of them, by a CRF where the head has one. An answer is the best pair
of a first and a last token inside the context. Names of several words are put together in `token_labels`.

Ref: BERT, arXiv:1810.04805, 4.2 (spans) and 5.3 (first token of a word).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import regex
import torch
from torch import Tensor

from smelt.core.errors import UsageError
from smelt.models.encoder_decoder import Network
from smelt.models.heads import TaskHead
from smelt.models.readings import encoder_with, forwards, label_names, lacking, surround
from smelt.models.transformer import Transformer
from smelt.tokenizers.pipeline import Pipeline

_WORDS = regex.compile(r"\p{Han}|(?:(?!\p{Han})[\p{L}\p{M}\p{N}])+|\S")


@dataclass(frozen=True)
class Answer:
    """A piece of a context, text[start:stop], and the probability of its first and last token."""

    text: str
    start: int
    stop: int
    probability: float


def cut_words(text: str) -> list[tuple[int, int]]:
    """Return where the words of a text begin and end: letters and digits in a row, else each character.

    "It's 3 河流" -> It | ' | s | 3 | 河 | 流
    """
    return [match.span() for match in _WORDS.finditer(text)]


@torch.inference_mode()
def tag(model: Network, tokenizer: Pipeline, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the label of every word of every sentence, read at the first token of each.

    Raises UsageError for a model without a head that labels tokens, or a word that has no token.
    """
    pieces = [[_pieces(tokenizer, word, number) for number, word in enumerate(words)] for words in sentences]
    for words, parts in zip(sentences, pieces, strict=True):
        if [] in parts:
            raise UsageError(f"the word {words[parts.index([])]!r} has no token", accepted="words with a letter")
    firsts = [[sum(map(len, parts[:number])) for number in range(len(parts))] for parts in pieces]
    return word_labels(model, tokenizer, [[token for part in parts for token in part] for parts in pieces], firsts)


@torch.inference_mode()
def word_labels(
    model: Network, tokenizer: Pipeline, texts: Sequence[Sequence[int]], places: Sequence[Sequence[int]]
) -> list[list[str]]:
    """Return the labels that stand at these places of texts of tokens, scored together by a CRF where there is one.

    Raises UsageError for a model without a head that labels tokens.
    """
    tasks = [task for task in model.spec.tasks if task.reads == "token" and task.name != "span"]
    if not isinstance(model, Transformer) or not tasks:
        raise lacking(model, "a head that labels words", "a checkpoint")
    head, names = model.tasks[tasks[0].name], label_names(tasks[0])
    assert isinstance(head, TaskHead)
    rows = [surround(tokenizer, ids) for ids in texts]
    waiting, found = iter(places), list[list[str]]()
    for batch, output in forwards(model, rows):
        scores = output.tasks[tasks[0].name]
        mask = torch.zeros(scores.shape[:2], dtype=torch.bool)
        for number, row in enumerate(batch):
            mask[number, [row.places[0].start + place for place in next(waiting)]] = True
        mask = mask.to(scores.device)
        best = scores.argmax(-1) if head.crf is None else head.crf.decode(scores, mask)
        found += [[names[label] for label in labels[here].tolist()] for labels, here in zip(best, mask, strict=True)]
    return found


def _pieces(tokenizer: Pipeline, word: str, number: int) -> list[int]:
    """Return the ids of a word at its place in a sentence: all but the first stand behind a space."""
    return tokenizer.encode(f" {word}" if number else word, continued=number > 0)


@torch.inference_mode()
def answer(model: Network, tokenizer: Pipeline, question: str, context: str, *, max_answer_tokens: int = 30) -> Answer:
    """Return the likeliest answer to a question among the pieces of a context.

    Raises UsageError for a model without a head that points at spans, or a context without a word.
    """
    encoder = encoder_with(
        model, any(task.name == "span" for task in model.spec.tasks), "a head that points at answers"
    )
    words, before = cut_words(context), 0
    tokens, owners = list[int](), list[int]()
    for number, (_, stop) in enumerate(words):
        part = tokenizer.encode(context[before:stop], continued=number > 0)  # with the white space before the word
        tokens, owners, before = tokens + part, owners + [number] * len(part), stop
    if not tokens:
        raise UsageError("a context without a word", accepted="a text that holds the answer")
    row = surround(tokenizer, tokenizer.encode(question), tokens)
    [(_, output)] = forwards(encoder, [row])
    first, last, probability = best_span(output.tasks["span"][0, list(row.places[1])], max_answer_tokens)
    start, stop = words[owners[first]][0], words[owners[last]][1]
    return Answer(context[start:stop], start, stop, probability)


def best_span(scores: Tensor, max_tokens: int) -> tuple[int, int, float]:
    """Return the best first and last token under scores (T, 2) of at most so many tokens, and their probability."""
    first, last = scores.float().log_softmax(0).unbind(1)  # (T,)
    allowed = torch.ones(len(scores), len(scores), dtype=torch.bool, device=scores.device).triu().tril(max_tokens - 1)
    pairs = (first[:, None] + last).masked_fill(~allowed, -torch.inf)
    start, stop = divmod(int(pairs.argmax()), len(scores))
    return start, stop, pairs[start, stop].exp().item()
