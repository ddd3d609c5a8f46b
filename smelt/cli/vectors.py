"""`smelt vectors`: train word vectors, ask for a word's neighbours, measure them; fast baselines without torch.

Wherever vectors are wanted, a directory of `smelt vectors train` or a file in word2vec's text format will do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smelt.cli.common import Json, make_app, print_json, print_table
from smelt.cli.tokenizer_texts import Progress, texts_of
from smelt.core.errors import UsageError
from smelt.core.log import LiveLine

if TYPE_CHECKING:
    from smelt.evals.word_vectors import WordScore
    from smelt.models.word_vectors.model import WordVectors

Source = Annotated[str, typer.Argument(metavar="VECTORS", help="A directory of `train`, or a word2vec text file.")]
Column = Annotated[str | None, typer.Option(help="The column that holds the text, where it is not 'text'.")]

app = make_app(help="Train word vectors (skip-gram, CBOW, fastText, GloVe), look into them, measure them.")


@app.command()
def train(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT ...", help="Files, folders or globs of text or chats.")],
    kind: Annotated[str, typer.Option(help="skipgram, cbow, fasttext or glove.")] = "skipgram",
    dim: Annotated[int, typer.Option(help="Numbers a vector.")] = 100,
    window: Annotated[int, typer.Option(help="The most words to each side that count as near.")] = 5,
    min_count: Annotated[int, typer.Option(min=1, help="Leave out words that occur less often.")] = 5,
    epochs: Annotated[int, typer.Option(help="How often the text (for glove: its pairs) is gone through.")] = 5,
    negatives: Annotated[int, typer.Option(help="Words drawn against each predicted one; not for glove.")] = 5,
    sample: Annotated[float, typer.Option(help="Skip words above this share at times; 0: none. Not for glove.")] = 1e-3,
    learning_rate: Annotated[
        float | None, typer.Option(help="At the beginning [default: 0.025 for skipgram, else 0.05]")
    ] = None,
    min_n: Annotated[int, typer.Option(help="fasttext: characters of the shortest n-grams.")] = 3,
    max_n: Annotated[int, typer.Option(help="fasttext: characters of the longest n-grams.")] = 6,
    buckets: Annotated[int, typer.Option(help="fasttext: vectors that n-grams share.")] = 200_000,
    threads: Annotated[int, typer.Option(help="Above 1: faster, but no two runs are the same.")] = 1,
    seed: Annotated[int, typer.Option(help="On one thread the same seed gives the same vectors.")] = 0,
    column: Column = None,
    out: Annotated[
        Path, typer.Option(help="Directory for the vectors, vectors.txt for other tools among them.")
    ] = Path("vectors"),
    json: Json = False,
) -> None:
    """Learn a vector for each word of a text.

    Example: smelt vectors train books/ --kind skipgram --dim 100 --out vectors
    """
    from smelt.models.word_vectors.corpus import paragraphs, read_corpus
    from smelt.models.word_vectors.subwords import Subwords
    from smelt.models.word_vectors.train import Settings
    from smelt.models.word_vectors.train import train as train_vectors

    settings = Settings(
        kind=kind,  # type: ignore[arg-type]  # checked there
        dim=dim, window=window, negatives=negatives, epochs=epochs, learning_rate=learning_rate, sample=sample,
        subwords=Subwords(min_n, max_n, buckets), seed=seed, threads=threads,
    )  # fmt: skip
    line = LiveLine()
    reading, training = Progress(line, "reading", "MB", 1e6), Progress(line, "training", "million", 1e6)
    corpus = read_corpus(paragraphs(texts_of(texts, column, reading)), min_count=min_count)
    started = time.perf_counter()
    vectors = train_vectors(corpus, settings, training.show)
    seconds = time.perf_counter() - started
    line.close()
    vectors.save(out)
    speed = corpus.num_words * epochs / max(seconds, 1e-9)
    if json:
        values = {"vectors": str(out), "kind": kind, "words": len(vectors.words), "dim": dim}
        print_json(
            values | {"tokens": corpus.num_words, "seconds": round(seconds, 2), "words_per_second": round(speed)}
        )
        return
    print(f"vectors  {out} · {len(vectors.words):,} words of {dim} numbers, by {kind}")
    print(f"trained  {corpus.num_words:,} words, {epochs} times · {seconds:.1f} s · {speed:,.0f} words/s")
    print(f"next     smelt vectors nearest {out} WORD")


@app.command()
def nearest(
    vectors: Source,
    words: Annotated[list[str], typer.Argument(metavar="WORD ...", help="Words to look for.")],
    count: Annotated[int, typer.Option(min=1, help="Neighbours of each word.")] = 10,
    json: Json = False,
) -> None:
    """Show the words whose vectors point nearly the same way, with the cosines.

    Example: smelt vectors nearest vectors water king
    """
    from smelt.models.word_vectors.model import WordVectors

    found = WordVectors.load(vectors)
    neighbours = {word: found.nearest(found.vector(word), count, without=[word]) for word in words}
    if json:
        print_json({"nearest": neighbours})
        return
    for word, near in neighbours.items():
        print_table((word, "cosine"), [(other, f"{cosine:.3f}") for other, cosine in near], numeric=("cosine",))
        print()


@app.command(name="eval")
def evaluate(
    vectors: Source,
    analogies: Annotated[Path | None, typer.Option(help="Lines 'a b c d': a is to b as c is to d.")] = None,
    similarity: Annotated[Path | None, typer.Option(help="Lines 'word word score', by people.")] = None,
    text: Annotated[str | None, typer.Option(help="Text (file, folder or glob): bits per word and per byte.")] = None,
    ngram_text: Annotated[
        list[str] | None, typer.Option(help="With --text: train a word n-gram model on this text, to compare.")
    ] = None,
    order: Annotated[int, typer.Option(min=1, help="Words of the longest n-grams of that model.")] = 3,
    words_out: Annotated[Path | None, typer.Option(help="With --text: write the words that were scored here.")] = None,
    column: Column = None,
    json: Json = False,
) -> None:
    """Measure vectors on analogies, on similarity judgements, and as predictors of the next word.

    Example: smelt vectors eval vectors --similarity judgements.tsv --text held-out.txt
    """
    if analogies is None and similarity is None and text is None:
        raise UsageError("nothing to measure", accepted="--analogies FILE, --similarity FILE or --text TEXT")
    if text is None and (ngram_text or words_out):
        raise UsageError("--ngram-text and --words-out belong to --text", fix="add --text TEXT")
    from smelt.models.word_vectors.model import WordVectors

    found = WordVectors.load(vectors)
    values: dict[str, Any] = {}
    if analogies is not None:
        values |= measure_analogies(found, analogies, quiet=json)
    if similarity is not None:
        values |= measure_similarity(found, similarity, quiet=json)
    if text is not None:
        values |= measure_text(found, text, ngram_text or [], order, column, quiet=json)
    if text is not None and words_out is not None:
        write_words(text, column, words_out)
    if json:
        print_json(values)


def measure_analogies(vectors: WordVectors, path: Path, *, quiet: bool) -> dict[str, Any]:
    """Answer analogies and show the rates by section."""
    from smelt.evals.word_vectors import read_questions, solve_analogies

    score = solve_analogies(vectors, read_questions(path))
    rates = {**score.by_section, "together": score.overall}
    if not quiet:
        rows = [(name, str(rate)) for name, rate in rates.items()]
        print_table(("analogies", "right first answers"), rows)
        print(f"{score.num_skipped:,} questions left out: a word of theirs has no vector\n")
    return {
        "analogies": score.overall.value,
        "analogies_by_section": {name: rate.value for name, rate in score.by_section.items()},
        "analogies_asked": score.overall.total,
        "analogies_skipped": score.num_skipped,
    }


def measure_similarity(vectors: WordVectors, path: Path, *, quiet: bool) -> dict[str, Any]:
    """Compare cosines with judgements and show the correlation of their ranks."""
    from smelt.evals.word_vectors import rank_similarities, read_judgements

    score = rank_similarities(vectors, read_judgements(path))
    if not quiet:
        pairs = f"{score.num_pairs:,} pairs, {score.num_skipped:,} left out: a word of theirs has no vector"
        print(f"similarity: Spearman {score.spearman:.3f} ({pairs})\n")
    return {"similarity": score.spearman, "similarity_pairs": score.num_pairs, "similarity_skipped": score.num_skipped}


def measure_text(
    vectors: WordVectors, source: str, ngram_text: list[str], order: int, column: str | None, *, quiet: bool
) -> dict[str, Any]:
    """Score the words of a text by the vectors, by their frequencies and, where asked, by an n-gram model."""
    from smelt.evals import word_vectors as scoring

    vocabulary = scoring.vocabulary_of(vectors)
    assert vectors.predictor is not None  # seen by `vocabulary_of`
    judges = {
        vectors.kind: scoring.by_vectors(vectors.predictor, vocabulary),
        "unigram": scoring.by_unigram(vocabulary),
    }
    if ngram_text:
        model = scoring.train_word_ngram(vocabulary, rows_of(ngram_text, column), order)
        judges["ngram"] = scoring.by_ngram(model, vocabulary)
    rows = list(rows_of([source], column))
    scores = {name: scoring.score_words(judge, vocabulary, rows) for name, judge in judges.items()}
    if not quiet:
        show_scores(source, scores)
    score = scores.pop(vectors.kind)
    values = {"bits_per_word": score.bits_per_word, "bits_per_byte": score.bits_per_byte, "bytes": score.num_bytes}
    others = {name: {"bits_per_word": s.bits_per_word, "bits_per_byte": s.bits_per_byte} for name, s in scores.items()}
    return values | {"words": score.num_words, "unknown_words": score.num_unknown} | others


def show_scores(source: str, scores: dict[str, WordScore]) -> None:
    """Print a row for each judge of a text."""
    some = next(iter(scores.values()))
    rows = [(name, f"{score.bits_per_word:.3f}", f"{score.bits_per_byte:.4f}") for name, score in scores.items()]
    numeric = ("bits/word", "bits/byte")
    print_table((source, *numeric), rows, numeric=numeric)
    print(
        f"{some.num_words:,} words, {some.num_unknown:,} of them unknown · {some.num_bytes:,} bytes with a space each"
    )


def rows_of(sources: list[str], column: str | None) -> Iterator[list[str]]:
    """Yield the words of each paragraph of some files."""
    from smelt.models.word_vectors.corpus import paragraphs

    return paragraphs(texts_of(sources, column))


def write_words(source: str, column: str | None, path: Path) -> None:
    """Write the words of a text as they were scored, for other models to be measured on."""
    from smelt.core.storage import atomic_write_text
    from smelt.evals.word_vectors import scored_text

    atomic_write_text(path, "".join(scored_text(rows_of([source], column))))
