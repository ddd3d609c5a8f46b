"""Compare RNN, LSTM, GRU and Transformer at equal parameters and tokens on one book, with the n-gram as the line.

    OMP_NUM_THREADS=1 python benchmarks/architectures.py BOOK.txt

The book is cut into a head to train on, a part to choose with and a tail to report. All models read the same tokens, a
BPE of the head. The Transformer (llama family) sets the number of parameters; each recurrent width is the one that
comes nearest. Every network has its own learning rate, the better of two in short runs; the n-gram its own order. All
go through `smelt pretrain` with AdamW in float32, see rows of the same length, and are scored by the same windows.
Writes a figure of the curves and prints the table of docs/architectures.md; about ten minutes on one free core.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import dataclass
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

NAMES = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU", "llama": "Transformer"}
VOCAB_SIZE, MAX_SEQ_LEN, BATCH_ROWS = 1024, 128, 4
DIM, NUM_LAYERS, NUM_HEADS = 96, 4, 4  # of the Transformer
RECURRENT_LAYERS = 2
LEARNING_RATES = (3e-3, 1e-2)
SHORT = 0.1  # of the steps, to choose a learning rate
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


def train(book: Book, family: str, shape: Shape, rate: float, steps: int, name: str) -> tuple[PretrainRecipe, float]:
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
            "optimizer": {"name": "adamw", "learning_rate": rate, "schedule": "cosine"},
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


def network_row(book: Book, family: str, target: int, steps: int) -> Row:
    """Choose a learning rate, train, score."""
    shape, short = shape_of(family, target), round(SHORT * steps)
    tried = [train(book, family, shape, rate, short, f"{family}-{rate:g}")[0] for rate in LEARNING_RATES]
    found = {recipe.optimizer.learning_rate: losses(recipe)[-1][1] for recipe in tried}
    rate = min(found, key=lambda each: found[each])
    print(f"{family}: after {short} steps", {f"{each:g}": round(loss, 3) for each, loss in found.items()}, flush=True)
    recipe, speed = train(book, family, shape, rate, steps, family)
    model, tokenizer = load(Path(recipe.out) / recipe.name)
    bits = bits_per_byte(model, tokenizer, [book.parts["test"]]).bits_per_byte
    per_token = book.num_tokens("choose") / len(book.parts["choose"].encode()) / math.log(2)
    curve = [(step * BATCH_ROWS * MAX_SEQ_LEN, loss * per_token) for step, loss in losses(recipe)]
    size = f"{shape.num_layers} x {shape.dim}"
    return Row(NAMES[family], size, count_parameters(model.spec), f"rate {rate:g}", bits, curve, speed)


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
    parser.add_argument("--epochs", type=float, default=3.0)
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
