"""Measure word vectors beside gensim's, in the same run: words a second of training, and what the vectors are worth.

    python benchmarks/word_vectors.py speed              skip-gram, CBOW and fastText on one thread and on two
    python benchmarks/word_vectors.py quality            neighbours of the same word among the first ten, after training

The text is English books, the words, their counts and all settings are the same for both, and gensim reads its text
from a file of words, which is its fastest way (`corpus_file`). Reading the text and counting words is not measured.
Without skipping (sample 0) both do the same work; with it, gensim keeps some more of the frequent words than equation 5
says. Every speed is a median of runs that alternate between the libraries: of one thread by the processor's time, which
a busy machine does not change, of two by the clock. A library that is not installed is left out and said so
(`pip install gensim`).
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "text" / "books-en"
DIM, WINDOW, NEGATIVES, MIN_COUNT = 100, 5, 5, 5
BUCKETS = 200_000


def library(name: str) -> Any:
    """Return a library, or None with a word about it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed: left out")
        return None


def read(folder: Path, num_books: int) -> tuple[Any, list[list[str]]]:
    """Return the corpus and its paragraphs without rare words, as gensim is to read them."""
    from smelt.models.word_vectors.corpus import paragraphs, read_corpus

    rows = list(paragraphs(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))[:num_books]))
    corpus = read_corpus(rows, min_count=MIN_COUNT)
    known = corpus.vocabulary.index
    return corpus, [kept for row in rows if (kept := [word for word in row if word in known])]


def ours(corpus: Any, kind: str, epochs: int, threads: int, sample: float) -> Any:
    """Train smelt's vectors."""
    from smelt.models.word_vectors.subwords import Subwords
    from smelt.models.word_vectors.train import Settings, train

    settings = Settings(
        kind, dim=DIM, window=WINDOW, negatives=NEGATIVES, epochs=epochs, learning_rate=0.025, sample=sample,
        subwords=Subwords(3, 6, BUCKETS), threads=threads,
    )  # fmt: skip
    return train(corpus, settings)


def theirs(gensim: Any, file: Path, kind: str, threads: int, sample: float) -> Any:
    """Return a gensim model that knows the words and is not trained yet."""
    settings = {
        "vector_size": DIM, "window": WINDOW, "negative": NEGATIVES, "min_count": 1, "sample": sample, "alpha": 0.025,
        "min_alpha": 0.0001, "sg": int(kind != "cbow"), "workers": threads, "seed": 1,
    }  # fmt: skip
    make = gensim.FastText if kind == "fasttext" else gensim.Word2Vec
    model = make(**settings, **({"min_n": 3, "max_n": 6, "bucket": BUCKETS} if kind == "fasttext" else {}))
    model.build_vocab(corpus_file=str(file))
    return model


def fit(model: Any, file: Path, epochs: int) -> Any:
    """Train a gensim model."""
    words = model.corpus_total_words
    model.train(corpus_file=str(file), total_words=words, total_examples=model.corpus_count, epochs=epochs)
    return model


def timed(job: Callable[[], Any], threads: int) -> float:
    """Return the seconds that a job takes: of the processor for one thread, by the clock for more."""
    clock = time.process_time if threads == 1 else time.perf_counter
    started = clock()
    job()
    return clock() - started


def speed(arguments: argparse.Namespace, corpus: Any, file: Path) -> None:
    """Train one epoch with each library in turn."""
    gensim = library("gensim.models")
    print(f"{corpus.num_words:,} words, {len(corpus.vocabulary):,} different; medians of {arguments.runs} runs")
    for kind, sample, threads in product(arguments.kinds, (0.0, 1e-3), (1, 2)):
        jobs = {"smelt": lambda kind=kind, sample=sample, threads=threads: ours(corpus, kind, 1, threads, sample)}
        jobs["smelt"]()  # compile, or load what is compiled
        seconds: dict[str, list[float]] = {"smelt": [], "gensim": []}
        for _ in range(arguments.runs):
            if gensim:
                model = theirs(gensim, file, kind, threads, sample)
                jobs["gensim"] = lambda model=model: fit(model, file, 1)
            for name, job in jobs.items():
                seconds[name].append(timed(job, threads))
        found = {name: corpus.num_words / statistics.median(times) for name, times in seconds.items() if times}
        shown = " · ".join(f"{name} {rate:10,.0f} words/s" for name, rate in found.items())
        ratio = f" · {found['smelt'] / found['gensim']:.2f}x" if "gensim" in found else ""
        print(f"{kind:9} sample {sample:<6g} {threads} thread(s): {shown}{ratio}", flush=True)


def quality(arguments: argparse.Namespace, corpus: Any, file: Path) -> None:
    """Count how often a word and its regular form are neighbours: the plural, the past, the -ing."""
    gensim = library("gensim.models")
    known = corpus.vocabulary.words[:8000]
    pairs = [(word, word + end) for word in known for end in ("s", "ed", "ing") if word + end in set(known)]
    for kind in arguments.kinds:
        model = ours(corpus, kind, arguments.epochs, 1, 1e-3)
        finders = {"smelt": lambda word, it=model: [w for w, _ in it.nearest(it.vector(word), 10, [word])]}
        if gensim:
            other = fit(theirs(gensim, file, kind, 1, 1e-3), file, arguments.epochs)
            finders["gensim"] = lambda word, it=other.wv: [w for w, _ in it.most_similar(word, topn=10)]
        for name, finder in finders.items():
            hits = sum(form in finder(word) for word, form in pairs)
            print(f"{kind:9} {name:7} {hits / len(pairs):6.1%} of {len(pairs):,} pairs", flush=True)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "quality"))
    parser.add_argument("--kinds", nargs="+", default=["skipgram", "cbow", "fasttext"])
    parser.add_argument("--books", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    corpus, rows = read(DATA, arguments.books)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "words.txt"
        file.write_text("".join(" ".join(row) + "\n" for row in rows), encoding="utf-8")
        {"speed": speed, "quality": quality}[arguments.what](arguments, corpus, file)


if __name__ == "__main__":
    main()
