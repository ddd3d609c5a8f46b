"""From the name of an objective to rows: special tokens are looked up, and the corruption is given its numbers.

Each objective is a function below and a line in the table at the end. Missing special tokens are one error that names
all of them, before a token is read.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from numpy.random import Generator

from smelt.core.errors import ConfigError
from smelt.data.corruption.blank import Blanking, blank_out
from smelt.data.corruption.example import Example, as_ids
from smelt.data.corruption.fill_in_the_middle import Middle, fill_in_the_middle
from smelt.data.corruption.masked import Masking, mask_tokens
from smelt.data.corruption.prefix import prefix_and_rest
from smelt.data.corruption.rows import Draw, PieceRows, SentencePairRows, SpanRows
from smelt.data.corruption.similar import SimilarRows
from smelt.data.corruption.span import SpanCorruption
from smelt.data.corruption.unilm import Mixture, mixed_reading
from smelt.data.corruption.words import continues_word, ends_sentence, is_special
from smelt.data.packing import Array, TokenStream, pack_stream
from smelt.data.windows import cut_windows
from smelt.nn.spec import ModelSpec
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.pretraining.recipe import ObjectiveRecipe
from smelt.train.sources import Rows

MakeRows = Callable[[TokenStream], Rows]

SHOWN = 5  # missing tokens that a message names one by one
NUM_SENTINELS = 1000  # more than any row is cut into
MIDDLE_SLOTS = 8  # four marks, the end token before the text, and what encoding the parts apart may add

TOKEN_NAMES: dict[str, tuple[str, ...]] = {
    "mask": ("[MASK]", "<mask>", "<|mask|>"),
    "class": ("[CLS]", "<s>"),
    "separator": ("[SEP]", "</s>"),
    "sentence_mask": ("[sMASK]",),
    "tail_mask": ("[gMASK]",),
    "begin": ("<|startofpiece|>", "<sop>", "sop"),
    "end": ("<|endofpiece|>", "<eop>", "eop"),
    "prefix": ("<|fim_prefix|>", "<fim_prefix>", "<fim-prefix>"),
    "middle": ("<|fim_middle|>", "<fim_middle>", "<fim-middle>"),
    "suffix": ("<|fim_suffix|>", "<fim_suffix>", "<fim-suffix>"),
}
"""How published tokenizers write the tokens that objectives need; the first is what is asked for."""


@dataclass(frozen=True)
class Setup:
    """Hold what rows are made with; `origin` is where the tokenizer came from, for error messages."""

    settings: ObjectiveRecipe
    spec: ModelSpec
    tokenizer: Pipeline
    max_seq_len: int
    seed: int
    origin: str

    @property
    def draw(self) -> Draw:
        """Return how rows are drawn."""
        return Draw(self.seed, self.settings.dynamic)

    @property
    def end_id(self) -> int:
        """Return the token that closes a document."""
        return document_end(self.tokenizer)

    def ids(self, *roles: str) -> list[int]:
        """Return the ids of special tokens by their roles.

        Raises:
            ConfigError: the tokenizer lacks some; the message names all of them.
        """
        found = [_id_of(self.tokenizer, TOKEN_NAMES[role]) for role in roles]
        missing = [TOKEN_NAMES[role][0] for role, number in zip(roles, found, strict=True) if number is None]
        if missing:
            raise self.lacks(missing)
        return [number for number in found if number is not None]

    def lacks(self, missing: Sequence[str]) -> ConfigError:
        """Return the error for special tokens that are not there."""
        names = ", ".join(missing if len(missing) <= SHOWN else [*missing[:2], "..", missing[-1]])
        words = " ".join(f'--add-special "{token}"' for token in missing)
        return ConfigError(
            f"the tokenizer has no {names}, which objective={self.settings.name} needs",
            accepted="a tokenizer with these special tokens",
            fix=f"smelt tokenizer extend {shlex.quote(self.origin)} {words} --out extended",
        )

    def masking(self) -> Masking:
        """Return how tokens are masked."""
        continues = continues_word(self.tokenizer) if self.settings.whole_words else None
        return Masking(self.ids("mask")[0], is_special(self.tokenizer), self.settings.rate, continues)


def document_end(tokenizer: Pipeline) -> int:
    """Return the id of the token that closes a document: ours, or the end or separator that a tokenizer names.

    Raises:
        ConfigError: there is none.
    """
    named = (tokenizer.named_tokens.get(part) for part in ("eos_token", "sep_token"))
    for name in (END_OF_TEXT, *named, "</s>", "[SEP]"):
        if name in tokenizer.special:
            return tokenizer.special[name]
    raise ConfigError(
        "the tokenizer has no token for the end of a document",
        accepted=f"{END_OF_TEXT}, </s> or [SEP]",
        fix=f'smelt tokenizer extend TOKENIZER --add-special "{END_OF_TEXT}"',
    )


def row_maker(setup: Setup) -> MakeRows:
    """Return what turns a token stream into rows for the objective of a setup; raises DataError on too little text.

    Raises:
        ConfigError: the tokenizer lacks special tokens, or max_seq_len is too small.
    """
    return ROWS[setup.settings.name](setup)


def causal_rows(setup: Setup) -> MakeRows:
    """Every token from those before it."""
    return lambda stream: pack_stream(stream, setup.max_seq_len)


def masked_rows(setup: Setup) -> MakeRows:
    """Masked tokens of pieces in the frame that the tokenizer gives a text ([CLS] text [SEP])."""
    masking = setup.masking()
    head, tail = frame(setup.tokenizer)

    def corrupt(piece: Array, rng: Generator) -> Example:
        return Example(*mask_tokens(as_ids(head, piece, tail), masking, rng))

    return piece_rows(setup, corrupt, fixed=len(head) + len(tail), drop_end=bool(tail))


def pair_rows(setup: Setup) -> MakeRows:
    """One masked pair a row, with its label."""
    _, class_id, separator_id = setup.ids("mask", "class", "separator")
    masking, sentence_ends = setup.masking(), ends_sentence(setup.tokenizer)
    return lambda stream: SentencePairRows(
        cut_windows(stream, setup.max_seq_len, fixed=3, alone=True),
        masking,
        setup.draw,
        setup.max_seq_len,
        class_id,
        separator_id,
        setup.end_id,
        sentence_ends,
        is_order=setup.settings.name == "sentence_order",
    )


def span_rows(setup: Setup) -> MakeRows:
    """Source and target of span corruption."""
    settings, known = setup.settings, setup.tokenizer
    names = [f"<extra_id_{number}>" for number in range(NUM_SENTINELS)]
    ideal = SpanCorruption(tuple(range(NUM_SENTINELS)), setup.end_id, settings.rate, settings.mean_span_tokens)
    num_tokens = ideal.num_tokens_for(setup.max_seq_len)
    found = [_id_of(known, (name,)) for name in names[: ideal.counts(num_tokens)[1]]]
    if None in found:
        raise setup.lacks([name for name, number in zip(names, found, strict=False) if number is None])
    sentinels = tuple(number for number in found if number is not None)
    corruption, start = replace(ideal, sentinels=sentinels), setup.spec.token_ids.decoder_start
    start_id = setup.end_id if start is None else start
    return lambda stream: SpanRows(stream, corruption, setup.draw, num_tokens, start_id)


def blank_rows(setup: Setup) -> MakeRows:
    """Blanks of pieces, filled in one after the other."""
    settings = setup.settings
    roles = ["mask", "begin", "end"]
    roles += ["sentence_mask"] if settings.sentence_share else []
    roles += ["tail_mask"] if settings.tail_share else []
    ids = dict(zip(roles, setup.ids(*roles), strict=True))
    blanking = Blanking(
        mask_id=ids["mask"],
        sentence_mask_id=ids.get("sentence_mask", ids["mask"]),
        tail_mask_id=ids.get("tail_mask", ids["mask"]),
        begin_id=ids["begin"],
        end_id=ids["end"],
        sentence_ends=ends_sentence(setup.tokenizer),
        rate=settings.rate,
        mean_span_tokens=settings.mean_span_tokens,
        sentence_share=settings.sentence_share,
        tail_share=settings.tail_share,
    )

    def corrupt(piece: Array, rng: Generator) -> Example:
        return blank_out(piece, blanking, rng).example()

    return piece_rows(setup, corrupt, fixed=2, ratio=blanking.slots_per_token)


def prefix_rows(setup: Setup) -> MakeRows:
    """Pieces read both ways up to a random place and written from there on."""
    end_id = setup.end_id

    def corrupt(piece: Array, rng: Generator) -> Example:
        return prefix_and_rest(as_ids(end_id, piece), rng)

    return piece_rows(setup, corrupt, drop_end=False)


def unilm_rows(setup: Setup) -> MakeRows:
    """Masked tokens of pieces that are read in one of four ways."""
    _, class_id, separator_id = setup.ids("mask", "class", "separator")
    mixture = Mixture(setup.masking(), class_id, separator_id)
    has_types = setup.spec.num_types > 1

    def corrupt(piece: Array, rng: Generator) -> Example:
        example = mixed_reading(piece, mixture, rng)
        return example if has_types else replace(example, types=None)

    return piece_rows(setup, corrupt, fixed=3)


def middle_rows(setup: Setup) -> MakeRows:
    """Pieces of which some have their middle at the end."""
    tokenizer, settings = setup.tokenizer, setup.settings
    prefix_id, suffix_id, middle_id = setup.ids("prefix", "suffix", "middle")
    marks = Middle(
        prefix_id,
        suffix_id,
        middle_id,
        setup.end_id,
        encode=lambda text: tokenizer.encode(text, continued=True),
        decode_bytes=lambda ids: tokenizer.decode_bytes(ids, continued=True),
        share=settings.middle_share,
        suffix_first_share=settings.suffix_first_share,
    )

    def corrupt(piece: Array, rng: Generator) -> Example:
        return fill_in_the_middle(piece, marks, rng, len(piece) + MIDDLE_SLOTS)

    return piece_rows(setup, corrupt, fixed=MIDDLE_SLOTS)


def piece_rows(
    setup: Setup,
    corrupt: Callable[[Array, Generator], Example],
    *,
    fixed: int = 0,
    ratio: float = 0.0,
    drop_end: bool = True,
) -> MakeRows:
    """Return what makes rows of pieces that cost `fixed` slots and `ratio` slots a token more than they have tokens."""

    def rows(stream: TokenStream) -> Rows:
        windows = cut_windows(stream, setup.max_seq_len, fixed=fixed, ratio=ratio)
        return PieceRows(windows, corrupt, setup.draw, setup.max_seq_len, setup.end_id, drop_end)

    return rows


def frame(tokenizer: Pipeline) -> tuple[list[int], list[int]]:
    """Return the ids that a tokenizer puts before and behind a text, none where it has no template."""
    names = [name.split(":")[0] if name.startswith("$") else name for name in tokenizer.template.single]
    ids, place = {token: number for number, token in enumerate(tokenizer.spelling)}, names.index("$A")
    return [ids[name] for name in names[:place]], [ids[name] for name in names[place + 1 :]]


def similar_rows(setup: Setup) -> Callable[[Sequence[tuple[str, str]]], Rows]:
    """Return what makes rows of pairs of texts that mean the same."""
    class_id, separator_id = setup.ids("class", "separator")
    encode, has_types = setup.tokenizer.encode, setup.spec.num_types > 1

    def rows(pairs: Sequence[tuple[str, str]]) -> Rows:
        ids = [(as_ids(encode(one)), as_ids(encode(other))) for one, other in pairs]
        return SimilarRows(ids, setup.max_seq_len, class_id, separator_id, setup.end_id, has_types)

    return rows


def _id_of(tokenizer: Pipeline, names: Sequence[str]) -> int | None:
    every = {**tokenizer.literal, **tokenizer.special}
    return next((every[name] for name in names if name in every), None)


ROWS: dict[str, Callable[[Setup], MakeRows]] = {
    "causal": causal_rows,
    "future_tokens": causal_rows,
    "prefix": prefix_rows,
    "blank": blank_rows,
    "fill_in_the_middle": middle_rows,
    "masked": masked_rows,
    "distillation": masked_rows,
    "next_sentence": pair_rows,
    "sentence_order": pair_rows,
    "unilm": unilm_rows,
    "span": span_rows,
}
