"""Measure tokenizers beside the fastest others, in the same run: encoding, training, memory, the first call.

    python benchmarks/tokenizers.py encode      one long string and 8 kB documents: tiktoken, tokenizers, tokie
    python benchmarks/tokenizers.py train       100 MB, 32,768 tokens: rustbpe, tokenizers
    python benchmarks/tokenizers.py threads     how many times as fast two threads are as one, training and encoding
    python benchmarks/tokenizers.py bandwidth   the share of memory bandwidth that finding words and encoding reach
    python benchmarks/tokenizers.py other       WordPiece and Unigram: tokenizers, sentencepiece
    python benchmarks/tokenizers.py memory      peak memory of training on 1 GB and of encoding it
    python benchmarks/tokenizers.py start       the first call in a new process

Every figure is a median of runs that alternate between the libraries, so that a machine whose speed drifts is unfair to
none. `--threads 1` binds the process to one core. Texts: English books, Chinese poems, Python's own source. A library
that is not installed is left out and said so (`pip install tiktoken tokenizers sentencepiece tokie rustbpe`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# This file has the name of a library that it measures: the folder of a script must not come first, or at all.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "text"
RUNS = 5
DOCUMENT = 8000


def texts_of(name: str, megabytes: float) -> str:
    """Return the first megabytes of one kind of text."""
    folders = {
        "books-en": sorted((DATA / "books-en").glob("*.md")),
        "poetry-zh": sorted((DATA / "poetry-zh").glob("*.json")),
        "source": sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")),
    }
    parts, size = [], 0
    for path in folders[name]:
        data = path.read_bytes()
        try:
            parts.append(data.decode("utf-8"))
        except UnicodeDecodeError:  # a few files of the standard library are tests of encodings
            continue
        size += len(data)
        if size >= megabytes * 1e6:
            break
    return "".join(parts).encode()[: int(megabytes * 1e6)].decode(errors="ignore")


def alternate(jobs: dict[str, Callable[[], Any]], runs: int = RUNS) -> dict[str, float]:
    """Return the median seconds of each job, run in turn; what a job returns is dropped before the next."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(runs):
        for name, job in jobs.items():
            started = time.perf_counter()
            kept = job()
            seconds[name].append(time.perf_counter() - started)
            del kept
    return {name: statistics.median(found) for name, found in seconds.items()}


def show(title: str, seconds: dict[str, float], megabytes: float) -> None:
    """Print a line a library: its speed, and how many times as fast smelt is."""
    ours = seconds["smelt"]
    for name, found in seconds.items():
        ratio = "" if name == "smelt" else f"   smelt is {found / ours:5.1f}x"
        print(f"{title:38} {name:12} {megabytes / found:8.1f} MB/s {found * 1e3:9.1f} ms{ratio}", flush=True)


def trained(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return, by library, what loads the same 32,768-token byte-level BPE tokenizer."""
    from smelt.tokenizers.bpe_train import train_bpe
    from smelt.tokenizers.formats import load_tokenizer, save_as
    from smelt.tokenizers.pretokenize import PATTERNS

    mixture = [texts_of("books-en", 10), texts_of("poetry-zh", 10), texts_of("source", 10)]
    path = str(folder / "tokenizer.json")
    tokenizer = train_bpe(mixture, vocab_size=32768, special=())
    save_as(tokenizer, path, "json")
    ranks = {token: number for number, token in enumerate(tokenizer.model.tokens)}
    [pattern] = PATTERNS["gpt4"]

    def ours() -> Any:
        loaded = load_tokenizer(path)
        assert loaded.fast is not None  # its tables are made now: loading is not what is measured
        return loaded

    found: dict[str, Callable[[], Any]] = {"smelt": ours}
    if tiktoken := library("tiktoken"):
        found["tiktoken"] = lambda: tiktoken.Encoding("ours", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    if tokenizers := library("tokenizers"):
        found["tokenizers"] = lambda: tokenizers.Tokenizer.from_file(path)
    if tokie := library("tokie"):
        found["tokie"] = lambda: tokie.Tokenizer.from_json(path)
    return found


def library(name: str) -> Any:
    """Return a library, or None with a word about it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed: left out")
        return None


# How each library encodes one text to a list or to an array, many to lists, many to arrays; each is given the tokenizer
# it loaded. tokie's own objects count as arrays: their ids are not Python's until they are asked for.
ONE: dict[str, Callable[..., Any]] = {
    "smelt": lambda it, text, threads: it.encode(text),
    "tiktoken": lambda it, text, threads: it.encode_ordinary(text),
    "tokenizers": lambda it, text, threads: it.encode(text).ids,
    "tokie": lambda it, text, threads: it.encode(text).ids,
}
ONE_ARRAY: dict[str, Callable[..., Any]] = {
    "smelt": lambda it, text, threads: it.encode_to_array([text], end_id=None),
    "tiktoken": lambda it, text, threads: it.encode_to_numpy(text),
    "tokie": lambda it, text, threads: it.encode(text),
}
MANY: dict[str, Callable[..., Any]] = {
    "smelt": lambda it, texts, threads: it.encode_batch(texts),
    "tiktoken": lambda it, texts, threads: it.encode_ordinary_batch(texts, num_threads=threads),
    "tokenizers": lambda it, texts, threads: [found.ids for found in it.encode_batch_fast(texts)],
    "tokie": lambda it, texts, threads: [found.ids for found in it.encode_batch(texts)],
}
ARRAYS: dict[str, Callable[..., Any]] = {
    "smelt": lambda it, texts, threads: it.encode_to_array(texts, end_id=None),
    "tiktoken": lambda it, texts, threads: [it.encode_to_numpy(text) for text in texts],
    "tokie": lambda it, texts, threads: it.encode_batch_flat(texts),
}


def encode(arguments: argparse.Namespace) -> None:
    """Encode one long string with a new cache, then 8 kB documents, to lists and to arrays."""
    with tempfile.TemporaryDirectory() as folder:
        load = trained(Path(folder))
        for name in ("books-en", "poetry-zh", "source"):
            encode_text(name, texts_of(name, arguments.megabytes), load, arguments.threads)


def encode_text(name: str, text: str, load: dict[str, Callable[[], Any]], threads: int) -> None:
    """Measure one text; every library must give the same ids."""
    megabytes = len(text.encode()) / 1e6
    documents = [text[start : start + DOCUMENT] for start in range(0, len(text), DOCUMENT)]
    kept = {library: make() for library, make in load.items()}
    expected = ONE["smelt"](kept["smelt"], text, threads)
    for library, it in kept.items():
        some = text[:100_000] if library == "tokenizers" else text
        assert ONE[library](it, some, threads) == (expected if some is text else kept["smelt"].encode(some)), library
    for title, table in (("lists", ONE), ("arrays", ONE_ARRAY)):
        found = alternate(with_new_caches(load, table, text, threads, RUNS, without="tokenizers"))
        if "tokenizers" in table and "tokenizers" in load:  # slow: fewer runs
            slow = {"tokenizers": load["tokenizers"]}
            found |= alternate(with_new_caches(slow, table, text, threads, 2), runs=2)
        show(f"{name}: one string, new cache, {title}", found, megabytes)
    for title, table in (("lists", MANY), ("arrays", ARRAYS)):
        jobs = {
            library: lambda library=library, table=table: table[library](kept[library], documents, threads)
            for library in table
            if library in kept
        }
        show(f"{name}: 8 kB documents, {title}", alternate(jobs), megabytes)


def with_new_caches(
    load: dict[str, Callable[[], Any]],
    table: dict[str, Callable[..., Any]],
    text: str,
    threads: int,
    runs: int,
    without: str = "",
) -> dict[str, Callable[[], Any]]:
    """Return jobs that encode a text, each time with a tokenizer that has not seen any."""
    libraries = [library for library in table if library in load and library != without]
    fresh = {library: iter([load[library]() for _ in range(runs)]) for library in libraries}
    return {library: lambda library=library: table[library](next(fresh[library]), text, threads) for library in fresh}


def train(arguments: argparse.Namespace) -> None:
    """Train byte-level BPE on 100 MB."""
    from smelt.tokenizers.bpe_train import train_bpe

    texts = corpus(arguments.megabytes)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    vocab_size = 32768
    jobs: dict[str, Callable[[], Any]] = {"smelt": lambda: train_bpe(texts, vocab_size=vocab_size, special=())}
    jobs["smelt"]()  # compiles, once on a machine
    found = alternate(jobs, runs=3)
    from smelt.tokenizers.pretokenize import PATTERNS

    [pattern] = PATTERNS["gpt4"]
    if rustbpe := library("rustbpe"):

        def their_training() -> None:
            rustbpe.Tokenizer().train_from_iterator(iter(texts), vocab_size, pattern=pattern)

        found |= alternate({"rustbpe": their_training}, runs=2)
    if library("tokenizers"):
        found |= alternate({"tokenizers": lambda: train_tokenizers(texts, vocab_size, pattern)}, runs=2)
    show(f"train BPE {vocab_size:,} on {megabytes:.0f} MB", found, megabytes)


def threads(arguments: argparse.Namespace) -> None:
    """Run on one core and on two in turn."""
    from smelt.tokenizers.bpe_train import train_bpe

    cores = sorted(os.sched_getaffinity(0))[:2]
    texts = corpus(arguments.megabytes)
    tokenizer = train_bpe(texts, vocab_size=32768, special=())
    documents = [text[start : start + DOCUMENT] for text in texts for start in range(0, len(text), DOCUMENT)]
    whole = "".join(texts)
    jobs = {
        "train BPE 32,768": lambda: train_bpe(texts, vocab_size=32768, special=()),
        "encode 8 kB documents": lambda: tokenizer.encode_to_array(documents, end_id=None),
        "encode one string": lambda: tokenizer.encode_to_array([whole], end_id=None),
    }
    for name, job in jobs.items():
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(15):
            for number, found in seconds.items():
                os.sched_setaffinity(0, cores[:number])
                started = time.perf_counter()
                job()
                found.append(time.perf_counter() - started)
        one, two = (statistics.quantiles(found) for found in seconds.values())
        ratios = ", ".join(f"{alone / both:.2f}x" for alone, both in zip(one, two, strict=True))
        print(f"{name:24} {one[1] * 1e3:8.1f} ms {two[1] * 1e3:8.1f} ms   quartiles {ratios}", flush=True)


def bandwidth(arguments: argparse.Namespace) -> None:
    """Set what finding words and encoding must move, text read and results written, beside copying memory."""
    import numpy as np

    from smelt.tokenizers.bpe_train import train_bpe
    from smelt.tokenizers.kernels.ascii_words import BYTES_AT_ONCE
    from smelt.tokenizers.kernels.loads import padded
    from smelt.tokenizers.kernels.scan import PATTERN_NUMBER, scan_words
    from smelt.tokenizers.kernels.unicode import character_classes

    source, target = np.ones(1 << 28, np.uint8), np.zeros(1 << 28, np.uint8)
    copied = 2 * source.size / alternate({"copy": lambda: np.copyto(target, source)})["copy"]
    print(f"copying memory: {copied / 1e9:.1f} GB/s, read and written")
    classes, pattern = character_classes(), PATTERN_NUMBER["gpt4"]
    for name in ("books-en", "poetry-zh", "source"):
        text = texts_of(name, arguments.megabytes)
        data = text.encode()
        array, stops = padded(data), np.empty(len(data) + 1 + BYTES_AT_ONCE, np.int64)
        num_words = scan_words(array, len(data), classes, pattern, stops)
        tokenizer = train_bpe([text], vocab_size=32768, special=())
        documents = [text[start : start + DOCUMENT] for start in range(0, len(text), DOCUMENT)]
        num_tokens = len(tokenizer.encode_to_array(documents, end_id=None)[0])
        jobs: dict[str, tuple[Callable[[], Any], int]] = {
            "find words": (lambda: scan_words(array, len(data), classes, pattern, stops), 8 * num_words),  # noqa: B023
            "encode": (lambda: tokenizer.encode_to_array(documents, end_id=None), 4 * num_tokens),  # noqa: B023
        }
        for job, (call, written) in jobs.items():  # not in turn: each has the caches to itself, as in use
            seconds = alternate({job: call}, runs=9)[job]
            share = (len(data) + written) / seconds / copied
            print(f"{name}: {job:10} {len(data) / seconds / 1e6:8.0f} MB/s of text, {share:6.1%} of copying")


def train_tokenizers(texts: list[str], vocab_size: int, pattern: str) -> Any:
    """Train the same with Hugging Face tokenizers."""
    import tokenizers

    pre = tokenizers.pre_tokenizers
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    split = pre.Split(tokenizers.Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre.Sequence([split, pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def corpus(megabytes: float) -> list[str]:
    """Return a mixture of the three kinds of text, each as documents of about 100 kB."""
    parts = [texts_of("books-en", 0.45 * megabytes), texts_of("poetry-zh", 0.2 * megabytes)]
    parts.append(texts_of("source", 0.35 * megabytes))
    return [part[start : start + 100_000] for part in parts for start in range(0, len(part), 100_000)]


def other(arguments: argparse.Namespace) -> None:
    """Train and run WordPiece beside tokenizers, Unigram beside sentencepiece."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("books-en", "poetry-zh"):
            text = texts_of(name, min(arguments.megabytes, 5))
            wordpiece(name, text)
            unigram(name, text, Path(folder) / "text.txt", arguments.threads)


def wordpiece(name: str, text: str) -> None:
    """Measure WordPiece on one text."""
    from smelt.tokenizers.training import train_tokenizer

    tokenizers = library("tokenizers")
    lines, megabytes = text.splitlines(), len(text.encode()) / 1e6
    documents = [text[start : start + DOCUMENT] for start in range(0, len(text), DOCUMENT)]

    def ours() -> Any:
        return train_tokenizer(lines, algorithm="wordpiece", vocab_size=8192, special=())

    def theirs() -> Any:
        tokenizer = tokenizers.BertWordPieceTokenizer(lowercase=True)
        tokenizer.train_from_iterator(lines, vocab_size=8192, show_progress=False)
        return tokenizer

    one, other_one = ours(), theirs()
    show(f"{name}: train WordPiece 8,192", alternate({"smelt": ours, "tokenizers": theirs}, 3), megabytes)
    jobs = {
        "smelt": lambda: one.encode_batch(documents),
        "tokenizers": lambda: [it.ids for it in other_one.encode_batch(documents, add_special_tokens=False)],
    }
    show(f"{name}: encode WordPiece", alternate(jobs, 3), megabytes)


def unigram(name: str, text: str, path: Path, threads: int) -> None:
    """Measure Unigram on one text."""
    from smelt.tokenizers.formats import load_tokenizer
    from smelt.tokenizers.training import train_tokenizer

    sentencepiece = library("sentencepiece")
    path.write_text(text, encoding="utf-8")
    lines, megabytes = text.splitlines(), len(text.encode()) / 1e6
    documents = [text[start : start + DOCUMENT] for start in range(0, len(text), DOCUMENT)]

    def ours() -> Any:
        return train_tokenizer(lines, algorithm="unigram", vocab_size=8192, special=())

    def theirs() -> Any:
        return sentencepiece.SentencePieceTrainer.train(
            input=str(path), model_prefix=str(path), vocab_size=8192, model_type="unigram", byte_fallback=True,
            num_threads=threads, minloglevel=2,
        )  # fmt: skip

    ours()
    show(f"{name}: train Unigram 8,192", alternate({"smelt": ours, "sentencepiece": theirs}, 3), megabytes)
    same = load_tokenizer(f"{path}.model")
    processor = sentencepiece.SentencePieceProcessor(model_file=f"{path}.model")
    assert same.encode_batch(documents[:20]) == processor.encode(documents[:20])
    jobs = {
        "smelt": lambda: same.encode_batch(documents),
        "sentencepiece": lambda: processor.encode(documents, num_threads=threads),
    }
    show(f"{name}: encode Unigram (their model)", alternate(jobs, 3), megabytes)


def memory(arguments: argparse.Namespace) -> None:
    """Train on a 1 GB file and encode it, each in a process of its own, and print their peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gigabyte.txt"
        block = "".join(corpus(100)).encode()
        with path.open("wb") as file:
            for number in range(10):  # the same words, each time with some that are new
                file.write(block)
                file.write("".join(f" w{number}x{other}" for other in range(200_000)).encode())
        size = path.stat().st_size / 1e9
        for verb in ("train", "encode"):
            child = subprocess.run(
                [sys.executable, __file__, f"_{verb}", str(path)], capture_output=True, text=True, check=True
            )
            seconds, peak = json.loads(child.stdout.splitlines()[-1])
            print(f"{verb} {size:.2f} GB: peak {peak:,.0f} MB, {seconds:.1f} s, {1e3 * size / seconds:.0f} MB/s")


def _blocks(path: str, size: int = 1 << 18) -> Iterator[str]:
    with open(path, encoding="utf-8") as file:
        while block := file.read(size):
            yield block


def _train(arguments: argparse.Namespace) -> None:
    from smelt.tokenizers.bpe_train import train_bpe
    from smelt.tokenizers.formats import save_as

    started = time.perf_counter()
    tokenizer = train_bpe(_blocks(arguments.path), vocab_size=32768)
    _say(started)
    save_as(tokenizer, Path(arguments.path).with_name("tokenizer.json"), "json")


def _encode(arguments: argparse.Namespace) -> None:
    from smelt.tokenizers.formats import load_tokenizer

    tokenizer = load_tokenizer(Path(arguments.path).with_name("tokenizer.json"))
    started = time.perf_counter()
    for _ids, _ends in tokenizer.fast.arrays(_blocks(arguments.path)):
        pass
    _say(started)


def _say(started: float) -> None:
    # Not getrusage: a new process begins with the peak of the one that started it.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps([time.perf_counter() - started, int(peak.split()[1]) / 1024]))


def start(arguments: argparse.Namespace) -> None:
    """Print how long the first call in a new process takes, and importing smelt."""
    with tempfile.TemporaryDirectory() as folder:
        from smelt.tokenizers.bpe_train import train_bpe
        from smelt.tokenizers.formats import save_as

        save_as(train_bpe(corpus(5), vocab_size=32768), Path(folder) / "tokenizer.json", "json")
        script = (
            "import time; a = time.perf_counter(); import smelt; b = time.perf_counter()\n"
            f"t = smelt.load_tokenizer({folder!r}); c = time.perf_counter()\n"
            "t.encode('the mill ' * 10_000); d = time.perf_counter(); print(b - a, c - b, d - c)"
        )
        for _ in range(3):
            found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
            imported, loaded, first = (float(value) for value in found.split())
            print(f"import smelt {imported:.3f} s, load a tokenizer {loaded:.3f} s, first long encode {first:.3f} s")


def main() -> None:
    """Run one part."""
    parts = {part.__name__: part for part in (encode, train, threads, bandwidth, other, memory, start, _train, _encode)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=parts)
    parser.add_argument("path", nargs="?")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--megabytes", type=float, default=10)
    arguments = parser.parse_args()
    if arguments.part != "threads" and not arguments.part.startswith("_"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
        os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)
    if "train" in arguments.part or arguments.part == "threads":
        from smelt.core.runtime import keep_freed_memory

        keep_freed_memory()  # for all libraries alike, as `smelt tokenizer train` does
    parts[arguments.part](arguments)


if __name__ == "__main__":
    main()
