"""What a model says about a text: words for its blanks, a vector, the label of a text or of a pair.

Texts get the tokens around them that their tokenizer's template names, are padded into batches, and are read with one
forward each. Labels of words are in `word_readings`, answers inside a text in `span_readings`. A text that is longer
than the model's context is an error, as cutting it would change what it says.

Ref: BERT, arXiv:1810.04805, 3 and 4. Ref: Sentence-BERT, arXiv:1908.10084, 3 (mean of the tokens' vectors).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from smelt.core.errors import UsageError
from smelt.models.encoder_decoder import Network
from smelt.models.heads import Output
from smelt.models.transformer import Transformer
from smelt.nn.spec import ModelSpec, TaskSpec
from smelt.tokenizers.pipeline import Pipeline

Pooling = Literal["mean", "cls", "pooled"]
BATCH_ROWS = 32
_STEP = re.compile(r"(.*?)(?::(\d+))?$", re.DOTALL)


@dataclass(frozen=True)
class Choice:
    """A word or a label, and its probability."""

    text: str
    probability: float


class LabelReading(Protocol):
    """How texts are laid before a model, and how the scores of labels are read off it."""

    def encode(self, text: str, second: str | None = None) -> list[list[int]]:
        """Return the tokens of a text, or of each of a pair."""
        ...

    def surround(self, texts: Sequence[Sequence[int]]) -> "Row":
        """Return the row that such tokens, which may have been cut, are read in."""
        ...

    def __call__(self, model: Network, ids: Tensor, **context: Tensor) -> Tensor:
        """Score the labels of rows: ids (B, T) -> (B, N)."""
        ...


@dataclass(frozen=True)
class HeadLabels:
    """Read texts as a tokenizer's template surrounds them, and score labels with the model's head of that name."""

    tokenizer: Pipeline
    task: str

    def encode(self, text: str, second: str | None = None) -> list[list[int]]:
        """Return the tokens of a text, or of each of a pair."""
        return [self.tokenizer.encode(part) for part in (text, second) if part is not None]

    def surround(self, texts: Sequence[Sequence[int]]) -> "Row":
        """Return the row that such tokens are read in."""
        return surround(self.tokenizer, *texts)

    def __call__(self, model: Network, ids: Tensor, **context: Tensor) -> Tensor:
        """Score the labels of rows: ids (B, T) -> (B, N)."""
        scores: Tensor = model(ids, **context, project=False).tasks[self.task]
        return scores


@dataclass(frozen=True)
class Row:
    """One text or pair as a model reads it; `places` are where each text's tokens stand."""

    ids: list[int]
    types: list[int]
    places: tuple[range, ...]


@torch.inference_mode()
def fill(model: Network, tokenizer: Pipeline, texts: Sequence[str], *, top_k: int = 5) -> list[list[list[Choice]]]:
    """Return the likeliest tokens for every mask of every text, the best first; masks are filled independently.

    Raises UsageError for a model without a language head, a tokenizer without a mask, a text without one.
    """
    encoder = encoder_with(model, model.spec.language_head, "a language head, which fills masks")
    name = mask_token(tokenizer)
    rows = [surround(tokenizer, tokenizer.encode(text, allow_special=True)) for text in texts]
    mask_id, found = tokenizer.special[name], []
    for text, row in zip(texts, rows, strict=True):
        if mask_id not in row.ids:
            raise UsageError(f"there is no {name} in {text!r}", accepted=f"a text with {name} where words are missing")
    for batch, output in forwards(encoder, rows):
        for row, hidden in zip(batch, output.hidden, strict=True):
            places = [place for place, token in enumerate(row.ids) if token == mask_id]
            logits = encoder.project(hidden[places])[:, : tokenizer.vocab_size]  # (masks, V)
            best = logits.float().softmax(-1).topk(min(top_k, tokenizer.vocab_size))
            words = [[tokenizer.decode([token]).strip() for token in tokens] for tokens in best.indices.tolist()]
            found.append([_choices(*pair) for pair in zip(words, best.values.tolist(), strict=True)])
    return found


@torch.inference_mode()
def embed(
    model: Network, tokenizer: Pipeline, texts: Sequence[str], *, pooling: Pooling = "mean", normalized: bool = True
) -> Tensor:
    """Return a vector for each text, (N, D) in fp32 on the CPU, of length 1 where `normalized`.

    It is the mean over the text's tokens, the first token's hidden state (`cls`), or what the pooler made of that.
    Raises UsageError for a model that reads forwards only, or without a pooler where that is asked for.
    """
    what = "a pooler" if pooling == "pooled" else "layers that read a text both ways"
    encoder = encoder_with(model, pooling != "pooled" or model.spec.pooler, what)
    rows = [surround(tokenizer, tokenizer.encode(text)) for text in texts]
    found = [torch.empty(0, model.spec.dim)]
    for batch, output in forwards(encoder, rows):
        if pooling == "pooled" and output.pooled is not None:
            vectors = output.pooled
        elif pooling == "cls":
            vectors = output.hidden[:, 0]
        else:
            vectors = torch.stack(
                [x[: len(row.ids)].float().mean(0) for row, x in zip(batch, output.hidden, strict=True)]
            )
        found.append(vectors.float().cpu())
    whole = torch.cat(found)
    return functional.normalize(whole, dim=-1) if normalized else whole


@torch.inference_mode()
def classify(
    model: Network,
    tokenizer: Pipeline,
    texts: Sequence[str],
    *,
    seconds: Sequence[str] = (),
    temperature: float = 1.0,
) -> list[list[Choice]]:
    """Return the labels of each text, or of each pair with the text in `seconds`, the likeliest first.

    The scores are divided by the `temperature` first. Where a text may have several labels, each has a probability of
    its own. Raises UsageError for a model without a head that labels texts, or with one that gives a single number.
    """
    tasks = [task for task in model.spec.tasks if task.reads != "token"]
    if not isinstance(model, Transformer) or not tasks:
        raise lacking(model, "a head that labels texts", "a checkpoint")
    if tasks[0].num_labels == 1:
        raise UsageError(f"the head {tasks[0].name} gives one number, not labels", accepted="two labels or more")
    if seconds and len(seconds) != len(texts):
        raise UsageError(f"{len(texts)} texts and {len(seconds)} second ones", accepted="as many")
    scores = scores_of(HeadLabels(tokenizer, tasks[0].name), model, texts, seconds) / temperature
    shares = scores.sigmoid() if tasks[0].multi_label else scores.softmax(-1)
    return best_first(label_names(tasks[0]), shares)


def scores_of(reading: LabelReading, model: Transformer, texts: Sequence[str], seconds: Sequence[str] = ()) -> Tensor:
    """Return the labels' scores of texts, or of pairs with the texts in `seconds`, in fp32 on the CPU: (R, N)."""
    rows = [reading.surround(reading.encode(first, second)) for first, second in zip_longest(texts, seconds)]
    found = [reading(model, ids, **context).float().cpu() for _, ids, context in batches(model, rows)]
    return torch.cat(found) if found else torch.empty(0, 0)


def best_first(names: Sequence[str], shares: Tensor) -> list[list[Choice]]:
    """Return the labels of each row with their shares (R, N), the likeliest first."""
    return [sorted(_choices(names, row), key=lambda choice: -choice.probability) for row in shares.tolist()]


def _choices(texts: Sequence[str], probabilities: Sequence[float]) -> list[Choice]:
    return [Choice(text, share) for text, share in zip(texts, probabilities, strict=True)]


def label_names(task: TaskSpec) -> tuple[str, ...]:
    """Return the names of a task's labels, or what stands for them where they have none."""
    return task.label_names or tuple(f"LABEL_{number}" for number in range(task.num_labels))


def mask_token(tokenizer: Pipeline) -> str:
    """Return the token that stands for a missing word; raises UsageError where there is none."""
    for name in (tokenizer.named_tokens.get("mask_token"), "[MASK]", "<mask>"):
        if name in tokenizer.special:
            return name
    accepted = "a tokenizer with [MASK] or <mask>, as `smelt tokenizer train --algorithm wordpiece` makes"
    raise UsageError("this tokenizer has no token for a missing word", accepted=accepted)


def encoder_with(model: Network, is_there: bool, what: str) -> Transformer:
    """Return a model that reads both ways; raises UsageError, with what it does have, when it or a part is missing."""
    if isinstance(model, Transformer) and not model.spec.is_causal and is_there:
        return model
    raise lacking(model, what, "a checkpoint of an encoder")


def lacking(model: Network, what: str, wanted: str) -> UsageError:
    """Return the error for a model that lacks a part, with what it does have."""
    return UsageError(
        f"this {model.spec.family} model lacks {what}; it has {', '.join(parts_of(model.spec))}",
        accepted=f"{wanted} with {what.split(',')[0]}",
        fix="`smelt info CKPT` shows what a checkpoint has",
    )


def parts_of(spec: ModelSpec) -> Iterator[str]:
    """Say what a model has that can be read."""
    yield "layers that read forwards only" if spec.is_causal else "layers that read both ways"
    yield from ["a language head"] * spec.language_head + ["a pooler"] * spec.pooler
    for task in spec.tasks:
        yield f"{task.num_labels} labels of {'each token' if task.reads == 'token' else 'a text'} ({task.name})"


def surround(tokenizer: Pipeline, first: Sequence[int], second: Sequence[int] | None = None) -> Row:
    """Put the template's tokens around a text or a pair.

    Template [CLS] $A [SEP] $B:1 [SEP]:1 of [7, 8] and [9] -> ids [CLS] 7 8 [SEP] 9 [SEP], types 0 0 0 0 1 1
    """
    texts = {"$A": first} if second is None else {"$A": first, "$B": second}
    ids, types, places = list[int](), list[int](), dict[str, range]()
    for step in tokenizer.template.single if second is None else tokenizer.template.pair:
        name, kind = _STEP.fullmatch(step).groups()  # type: ignore[union-attr]
        part = texts[name] if name in texts else [tokenizer.spelling.index(name)]
        places[name] = range(len(ids), len(ids) + len(part))
        ids += part
        types += [int(kind or 0)] * len(part)
    return Row(ids, types, tuple(places[name] for name in texts))


def forwards(model: Transformer, rows: Sequence[Row]) -> Iterator[tuple[Sequence[Row], Output]]:
    """Yield rows in batches with what the model makes of them, all but the logits."""
    for batch, ids, context in batches(model, rows):
        yield batch, model(ids, **context, project=False)


def batches(model: Transformer, rows: Sequence[Row]) -> Iterator[tuple[Sequence[Row], Tensor, dict[str, Tensor]]]:
    """Yield rows in batches with their ids (B, T), padded, and what the model is told beside them."""
    padding, device = model.spec.token_ids.padding or 0, model.head_weight.device
    for start in range(0, len(rows), BATCH_ROWS):
        batch = rows[start : start + BATCH_ROWS]
        width = max(len(row.ids) for row in batch)
        ids = torch.full((len(batch), width), padding)
        segments, types = torch.zeros_like(ids), torch.zeros_like(ids)
        for number, row in enumerate(batch):
            ids[number, : len(row.ids)] = torch.tensor(row.ids)
            types[number, : len(row.ids)] = torch.tensor(row.types)
            segments[number, : len(row.ids)] = 1
        types.clamp_(max=max(model.spec.num_types - 1, 0))  # some models have one type for both texts
        yield batch, ids.to(device), {"segments": segments.to(device), "types": types.to(device)}
