"""Grow a vocabulary by the words of a domain, for a model that goes on training on it.

A tokenizer of everyday text cuts the words of medicine or of another language into crumbs. Here the old merges stay,
the domain's words are encoded with them, and BPE's training goes on from there: the most frequent pair of neighbouring
tokens becomes a new one, which ranks behind all that are there. So no old id changes, and a text is encoded as before
except where it holds what was learned.

    "hepatitis" is  he | pat | it | is :  learned  pat+it, he+patit, hepatit+is

Instead of texts a tokenizer of the domain will do. Its tokens are taken in their order if the merges of the moment
leave two pieces of them: those two are the merge. To Unigram are added the domain's pieces with the scores that
expectation-maximization gives them on the domain, none below the lowest of the old ones, which says what an unknown
character costs. To WordPiece are added the domain's tokens; there the longest match wins, so new tokens do change how
old words are cut wherever they match.

Ref: BPE, arXiv:1508.07909, algorithm 1; Domain adaptation of vocabularies, exBERT, 2020.findings-emnlp.129.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import regex

from smelt.core.errors import TokenizerError
from smelt.tokenizers.bpe import BPE
from smelt.tokenizers.bpe_train import learn_further
from smelt.tokenizers.merging import Pair, merge_word
from smelt.tokenizers.pipeline import Pipeline
from smelt.tokenizers.pretokenize import PATTERNS
from smelt.tokenizers.splitters import SPACE_MARK
from smelt.tokenizers.surgery import absorbed, byte_symbols, ranked_merges, rebuilt, remade
from smelt.tokenizers.unigram import Unigram
from smelt.tokenizers.unigram_train import train_unigram
from smelt.tokenizers.wordpiece import WordPiece
from smelt.tokenizers.wordpiece_train import train_wordpiece

Progress = Callable[[int, int], None]
_WORDS = regex.compile(rf"{SPACE_MARK}?[^{SPACE_MARK}]+|{SPACE_MARK}")


def merge_vocabulary(
    tokenizer: Pipeline,
    domain: Iterable[str] | Pipeline,
    num_tokens: int,
    *,
    on_progress: Progress | None = None,
) -> Pipeline:
    """Return the tokenizer with up to `num_tokens` tokens of a domain behind its own.

    Args:
        tokenizer: stays as it is; BPE over bytes, Unigram or WordPiece.
        domain: texts to learn from, or a tokenizer of the same kind that was trained on them.
        num_tokens: fewer are added where the texts have no more pairs that occur twice.
        on_progress: called with (tokens so far, tokens wanted) while BPE learns.

    Raises:
        TokenizerError: the number is not positive, there is no text, the domain's tokenizer is of another kind, or
            this one is BPE over characters.
    """
    if num_tokens < 1:
        raise TokenizerError(f"cannot add {num_tokens} tokens", accepted="1 or more")
    model = absorbed(tokenizer.model, tokenizer.added)
    if isinstance(domain, Pipeline):
        _check_alike(tokenizer, domain)
    if isinstance(model, BPE):
        if model.level != "bytes":
            raise TokenizerError(
                "BPE over characters (SentencePiece) takes no new merges: they would join spelled-out bytes",
                accepted="a tokenizer of kind BPE over bytes, Unigram or WordPiece",
            )
        grown: BPE | WordPiece | Unigram = (
            _with_domain_merges(model, domain, num_tokens)
            if isinstance(domain, Pipeline)
            else _with_learned_merges(model, count_domain_words(tokenizer, domain), num_tokens, on_progress)
        )
    elif isinstance(model, WordPiece):
        grown = _with_more_wordpieces(model, _domain_wordpieces(tokenizer, model, domain, num_tokens), num_tokens)
    else:
        grown = _with_more_pieces(model, _domain_pieces(tokenizer, model, domain, num_tokens), num_tokens)
    return rebuilt(tokenizer, grown, tokenizer.added)


def _check_alike(tokenizer: Pipeline, domain: Pipeline) -> None:
    """Refuse a tokenizer whose tokens this one could not use."""
    ours, theirs = type(tokenizer.model).__name__, type(domain.model).__name__
    if ours != theirs:
        raise TokenizerError(f"the domain's tokenizer is {theirs}, this one {ours}", accepted=f"{ours}, or texts")
    if tokenizer.splitters != domain.splitters or tokenizer.normalizers != domain.normalizers:
        raise TokenizerError(
            "the domain's tokenizer cuts text into other words",
            accepted="a tokenizer with the same normalizers and splitters, or texts",
            fix=f"train it with pattern={tokenizer.pattern}" if tokenizer.pattern else "give texts",
        )


def count_domain_words(tokenizer: Pipeline, texts: Iterable[str]) -> Mapping[str, int]:
    """Count the distinct words of some texts as a tokenizer's model sees them, added tokens left out.

    Raises:
        TokenizerError: there is none, or a text holds a lone surrogate.
    """
    pieces = _between_added(tokenizer, texts)
    counts: Counter[str] = Counter()
    if tokenizer.pattern in PATTERNS:
        from smelt.tokenizers.kernels.fast_train import count_texts
        from smelt.tokenizers.kernels.scan import PATTERN_NUMBER

        for table in count_texts(map(tokenizer.normalize, pieces), PATTERN_NUMBER[tokenizer.pattern]):
            counts.update({word.decode("utf-8"): count for word, count in table.items()})
    else:
        for piece in pieces:
            counts.update(tokenizer.words(piece))
    if not counts:
        raise TokenizerError("no text to learn tokens from", fix="check that the files are not empty")
    return counts


def _between_added(tokenizer: Pipeline, texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for piece in tokenizer.raw_pieces(text, allow_special=True):
            if isinstance(piece, str):
                yield piece


def _with_learned_merges(model: BPE, counts: Mapping[str, int], num_tokens: int, on_progress: Progress | None) -> BPE:
    words = [model.encode_word(word) for word in counts]
    tokens, merges = learn_further(model.tokens, words, list(counts.values()), num_tokens, on_progress)
    return _with_merges(model, tokens, merges)


def _with_domain_merges(model: BPE, domain: Pipeline, num_tokens: int) -> BPE:
    """Add the domain's tokens that are one merge away, again and again: what was added brings others near."""
    special = {token.id for token in domain.added}
    wanted = [token for number, token in enumerate(domain.model.tokens) if number not in special]
    waiting = [token for token in wanted if isinstance(token, bytes) and token not in model.id_of]
    ranked, first = ranked_merges(model), max(model.ranks, default=-1) + 1
    tokens: list[bytes] = []
    merges: list[Pair] = []
    progress = True
    while progress and len(tokens) < num_tokens:
        progress, others = False, []
        for token in waiting:
            ids = merge_word(byte_symbols(model, token), ranked)
            if len(ids) == 2 and len(tokens) < num_tokens:
                ranked[ids[0], ids[1]] = (first + len(merges), len(model.tokens) + len(tokens))
                merges.append((ids[0], ids[1]))
                tokens.append(token)
                progress = True
            else:
                others.append(token)
        waiting = others
    return _with_merges(model, tokens, merges)


def _with_merges(model: BPE, tokens: list[bytes], merges: list[Pair]) -> BPE:
    first = max(model.ranks, default=-1) + 1
    ranks = [*model.ranks, *range(first, first + len(merges))]
    return remade(model, tokens=[*model.tokens, *tokens], merges=[*model.merges, *merges], ranks=ranks)


def _domain_wordpieces(
    tokenizer: Pipeline, model: WordPiece, domain: Iterable[str] | Pipeline, num_tokens: int
) -> list[str]:
    """Return the domain's tokens in the order in which they were learned."""
    if isinstance(domain, Pipeline):
        special = {token.content for token in domain.added}
        return [text for text in domain.spelling if text not in special]
    counts = count_domain_words(tokenizer, domain)
    prefix = model.continuing_subword_prefix
    return train_wordpiece(counts, len(model.tokens) + num_tokens, special=[model.unk_token], prefix=prefix)


def _with_more_wordpieces(model: WordPiece, texts: list[str], num_tokens: int) -> WordPiece:
    new = [text for text in texts if text not in model.id_of]
    return remade(model, tokens=[*model.tokens, *new[:num_tokens]])


def _domain_pieces(
    tokenizer: Pipeline, model: Unigram, domain: Iterable[str] | Pipeline, num_tokens: int
) -> list[tuple[str, float]]:
    """Return the domain's pieces and their scores, the most probable first."""
    if isinstance(domain, Pipeline) and isinstance(domain.model, Unigram):
        special = {token.content for token in domain.added}
        pieces = [
            (text, score)
            for number, (text, score) in enumerate(zip(domain.model.tokens, domain.model.scores, strict=True))
            if number not in domain.model.hidden and text not in special
        ]
        return sorted(pieces, key=lambda piece: -piece[1])
    assert not isinstance(domain, Pipeline)
    counts: Counter[str] = Counter()
    for word, count in count_domain_words(tokenizer, domain).items():
        for part in _WORDS.findall(word):
            counts[part] += count
    return list(zip(*train_unigram(counts, len(model.tokens) + num_tokens), strict=True))


def _with_more_pieces(model: Unigram, pieces: list[tuple[str, float]], num_tokens: int) -> Unigram:
    taken = set(model.tokens)
    new = [piece for piece in pieces if piece[0] not in taken][:num_tokens]
    lowest = min(score for number, score in enumerate(model.scores) if number not in model.hidden)
    return remade(
        model,
        tokens=[*model.tokens, *(text for text, _ in new)],
        scores=[*model.scores, *(max(score, lowest) for _, score in new)],
    )
