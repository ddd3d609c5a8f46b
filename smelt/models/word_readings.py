"""What a model says about the words of a text: a label for each.

A word is cut into tokens; its label is read at one of them, by a CRF where the head has one. Names of several words are
put together in `token_labels`; what points at pieces of a text is in `span_readings`.

Ref: BERT, arXiv:1810.04805, 5.3 (first token of a word).
"""

from collections.abc import Sequence

import regex
import torch

from smelt.core.errors import UsageError
from smelt.models.encoder_decoder import Network
from smelt.models.heads import TaskHead
from smelt.models.readings import forwards, label_names, lacking, surround
from smelt.models.transformer import Transformer
from smelt.tokenizers.pipeline import Pipeline

_WORDS = regex.compile(r"\p{Han}|(?:(?!\p{Han})[\p{L}\p{M}\p{N}])+|\S")


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
