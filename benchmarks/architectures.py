"""Compare RNN, LSTM, GRU and Transformer at equal parameters and tokens on one book, with the n-gram as the line.

    OMP_NUM_THREADS=1 python benchmarks/architectures.py BOOK.txt

The book is cut into a head to train on, a part to choose with and a tail to report. All models read the same tokens, a
BPE of the head. The Transformer (llama family) sets the number of parameters; each recurrent width is the one that
comes nearest. Every network has its own optimizer and learning rate, the best of four pairs in short runs; the n-gram
its own order. All go through `smelt pretrain` in float32, see the same rows, and are scored by the same windows.
Writes a figure of the curves and prints the table of docs/architectures.md; about 15 minutes on one free core.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from matplotlib.figure import Figure

from smelt.evals.ngram import bits_per_byte as ngram_bits
from smelt.evals.text import bits_per_byte
from smelt.models.build import count_parameters
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load
from smelt.models.ngram import NgramModel
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.formats import save_tokenizer
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.run import RunDirectory
from smelt.train.stages.pretrain import PretrainRecipe, pretrain

Choice = tuple[str, float]  # an optimizer and its learning rate

NAMES = {"llama": "Transformer", "lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
VOCAB_SIZE, MAX_SEQ_LEN, BATCH_ROWS = 1024, 256, 4
DIM, NUM_LAYERS, NUM_HEADS = 96, 4, 4  # of the Transformer
RECURRENT_LAYERS = 2
OPTIMIZERS = ("adamw", "muon")
LEARNING_RATES = (3e-3, 1e-2)
SHORT = 0.1  # of the steps, to choose an optimizer and a learning rate
ORDERS = range(3, 10)
HELD_OUT = 0.05  # of the book, twice


@dataclass
class Book:
    """The parts of a book as texts and files, and their tokenizer."""

    folder: Path
    parts: dict[str, str]
    tokenizer: Pipeline

    def __post_init__(self) -> None:
        for name, text in self.parts.items():
            (self.folder / f"{name}.txt").write_text(text, encoding="utf-8")
        save_tokenizer(self.tokenizer, self.folder / "tokenizer", template=None, max_seq_len=MAX_SEQ_LEN)

    def num_tokens(self, part: str) -> int:
        """Return the length of a part."""
        return len(self.tokenizer.encode(self.parts[part]))


@dataclass
class Row:
    """A line of the table, and the curve (tokens, bits a byte of the part to choose with) behind it."""

    name: str
    size: str
    parameters: int
    chosen: str
    bits: float
    curve: list[tuple[int, float]]
    tokens_per_second: float = math.nan


def cut(path: Path, folder: Path) -> Book:
    """Cut the book by length, at line ends, and learn a tokenizer from the part to train on."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    first, second = (round(len(lines) * (1 - share * HELD_OUT)) for share in (2, 1))
    texts = ("".join(part) for part in (lines[:first], lines[first:second], lines[second:]))
    parts = dict(zip(("train", "choose", "test"), texts, strict=True))
    return Book(folder, parts, train_bpe([parts["train"]], vocab_size=VOCAB_SIZE))


def shape_of(family: str, target: int) -> Shape:
    """Return the sizes whose parameters come nearest to the target."""
    if family == "llama":
        return Shape(VOCAB_SIZE, DIM, NUM_LAYERS, NUM_HEADS, MAX_SEQ_LEN, tied=True)
    shapes = [Shape(VOCAB_SIZE, dim, RECURRENT_LAYERS, 1, MAX_SEQ_LEN, tied=True) for dim in range(DIM, 4 * DIM)]
    return min(shapes, key=lambda shape: abs(count_parameters(spec_for(family, shape)) - target))


def train(book: Book, family: str, shape: Shape, chosen: Choice, steps: int, name: str) -> tuple[PretrainRecipe, float]:
    """Train a network; return its recipe and its tokens a second."""
    model = {"family": family, "dim": shape.dim, "num_layers": shape.num_layers, "num_heads": shape.num_heads}
    recipe = PretrainRecipe.model_validate(
        {
            "name": name,
            "out": str(book.folder / "runs"),
            "data": str(book.folder / "train.txt"),
            "validation": str(book.folder / "choose.txt"),
            "tokenizer": str(book.folder / "tokenizer"),
            "model": model,
            "steps": steps,
            "max_seq_len": MAX_SEQ_LEN,
            "batch_rows": BATCH_ROWS,
            "optimizer": {"name": chosen[0], "learning_rate": chosen[1], "schedule": "cosine"},
            "dtype": "float32",
            "compile": "no",
            "validate_every": max(1, steps // 16),
            "save_every": 0,
        }
    )
    return recipe, pretrain(recipe).tokens_per_second


def losses(recipe: PretrainRecipe) -> list[tuple[int, float]]:
    """Return the measurements of a run: step, nats a token."""
    events = RunDirectory(recipe.out, recipe.name).read_events()
    return [(event["step"], event["loss"]) for event in events if event["event"] == "validation"]


def text_of(chosen: Choice) -> str:
    """Return an optimizer and its rate in words."""
    return f"{chosen[0]} {chosen[1]:g}"


def network_row(book: Book, family: str, target: int, steps: int) -> Row:
    """Choose an optimizer and a learning rate, train, score."""
    shape, short = shape_of(family, target), round(SHORT * steps)
    found: dict[Choice, float] = {}
    for name, rate in product(OPTIMIZERS, LEARNING_RATES):
        recipe, _ = train(book, family, shape, (name, rate), short, f"{family}-{name}-{rate:g}")
        found[name, rate] = losses(recipe)[-1][1]
    best = min(found, key=lambda each: found[each])
    print(f"{family}: after {short} steps", {text_of(each): round(loss, 3) for each, loss in found.items()}, flush=True)
    recipe, speed = train(book, family, shape, best, steps, family)
    model, tokenizer = load(Path(recipe.out) / recipe.name)
    bits = bits_per_byte(model, tokenizer, [book.parts["test"]]).bits_per_byte
    per_token = book.num_tokens("choose") / len(book.parts["choose"].encode()) / math.log(2)
    curve = [(step * BATCH_ROWS * MAX_SEQ_LEN, loss * per_token) for step, loss in losses(recipe)]
    size = f"{shape.num_layers} x {shape.dim}"
    print(f"{family}: {bits:.4f}", curve, flush=True)
    return Row(NAMES[family], size, count_parameters(model.spec), text_of(best), bits, curve, speed)


def ngram_row(book: Book) -> Row:
    """Choose an order, score."""
    start = book.tokenizer.special[END_OF_TEXT]
    stream = [start, *book.tokenizer.encode(book.parts["train"])]
    models = [NgramModel.train([stream], vocab_size=VOCAB_SIZE, order=order) for order in ORDERS]
    found = [ngram_bits(model, book.tokenizer, [book.parts["choose"]]) for model in models]
    best = models[found.index(min(found))]
    bits = ngram_bits(best, book.tokenizer, [book.parts["test"]])
    num_ngrams = sum(len(level.keys) for level in best.levels)
    return Row("n-gram", f"{num_ngrams:,} n-grams", 0, f"order {best.order}", bits, [(0, min(found))])


def draw(rows: list[Row], line: Row, path: Path) -> None:
    """Draw the curves and the n-gram's line."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for row in rows:
        tokens, bits = zip(*row.curve, strict=True)
        axes.plot(tokens, bits, marker=".", label=f"{row.name}, {row.size}")
    axes.axhline(line.curve[0][1], color="black", linestyle="--", label=f"n-gram, {line.chosen}")
    axes.set(xlabel="tokens read", ylabel="bits per byte, held out", ylim=(None, rows[0].curve[1][1]))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, score, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("book", type=Path, help="a text of about a megabyte")
    parser.add_argument("--epochs", type=float, default=5.0)
    parser.add_argument("--figure", type=Path, default=Path("docs/architectures.png"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        book = cut(arguments.book, Path(folder))
        target = count_parameters(spec_for("llama", shape_of("llama", 0)))
        tokens = book.num_tokens("train")
        steps = round(arguments.epochs * tokens / (BATCH_ROWS * MAX_SEQ_LEN))
        print(f"{tokens:,} tokens to train on, {steps} steps", flush=True)
        line = ngram_row(book)
        rows = [network_row(book, family, target, steps) for family in NAMES]
    assert all(abs(row.parameters / target - 1) < 0.02 for row in rows)
    draw(rows, line, arguments.figure)
    print("\n| model | layers x width | parameters | chosen | tokens/s | bits per byte |\n|---|---|---|---|---|---|")
    for row in rows:
        sizes = f"{row.name} | {row.size} | {row.parameters:,} | {row.chosen} | {row.tokens_per_second:,.0f}"
        print(f"| {sizes} | {row.bits:.3f} |")
    print(f"| n-gram | {line.size} | | {line.chosen} | | {line.bits:.3f} |")


if __name__ == "__main__":
    main()
