"""Do encoder-decoders learn? Copying and reversing strings, and adding numbers of two digits, each from nothing.

A tiny T5 and a tiny transformer of 2017 are trained by `smelt seq2seq` on pairs written here. No string and no sum that
is measured was trained on. Every checkpoint answers a part of the held-out sources by greedy generation and the last
one all of them; an answer counts when it is the target to the letter. Shows one JSON line a run and draws the curves.

    PYTHONPATH=. python benchmarks/learning/seq2seq.py --plot docs/learning-seq2seq.png

Four runs take minutes on one core. Ref: arXiv:1706.03762. Ref: arXiv:1910.10683.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import tempfile
import time
from pathlib import Path
from typing import Any

from smelt.infer import Sampling, generate
from smelt.models.hub import load
from smelt.train.checkpoint import saved_steps
from smelt.train.run import RunDirectory
from smelt.train.stages.seq2seq import Seq2SeqRecipe, seq2seq, source_ids

Pair = tuple[str, str]
FAMILIES = ("t5", "transformer2017")
STEPS = {"strings": 960, "sums": 480}
NUM_HELD_OUT = 1000
NUM_ON_THE_WAY = 200  # sources that a checkpoint on the way answers
BATCH_ROWS, ROW_TOKENS = 32, 64


def strings(rng: random.Random) -> tuple[list[Pair], list[Pair]]:
    """Return training and held-out pairs: `=abc` to `abc` and `<abc` to `cba`, of 3 to 10 letters."""
    texts = set[str]()
    while len(texts) < 20_000:
        texts.add("".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 10))))
    pairs = [(f"={text}", text) if rng.random() < 0.5 else (f"<{text}", text[::-1]) for text in sorted(texts)]
    rng.shuffle(pairs)
    return pairs[NUM_HELD_OUT:], pairs[:NUM_HELD_OUT]


def sums(rng: random.Random) -> tuple[list[Pair], list[Pair]]:
    """Return training and held-out pairs of all sums of two numbers below 100; b+a is held out where a+b is."""
    both = [(one, other) for one in range(100) for other in range(one, 100)]
    rng.shuffle(both)
    held_out, kept = list[Pair](), list[Pair]()
    for one, other in both:
        side = held_out if len(held_out) < NUM_HELD_OUT else kept
        side += [(f"{a:02}+{b:02}", f"{a + b:03}") for a, b in {(one, other), (other, one)}]
    return kept, held_out


TASKS = {"strings": strings, "sums": sums}


def exact_match(checkpoint: Path, pairs: list[Pair]) -> float:
    """Return the share of sources whose greedy answer is the target to the letter."""
    model, tokenizer = load(checkpoint)
    model.eval()
    sources = [source_ids(tokenizer, source, model.spec) for source, _ in pairs]
    sampling = Sampling(max_new_tokens=16, temperature=0)
    answers = generate(model, tokenizer, sources, sampling, stop_ids=model.spec.token_ids.end)
    return sum(answer.text == target for answer, (_, target) in zip(answers, pairs, strict=True)) / len(pairs)


def run(task: str, family: str, folder: Path, seed: int) -> dict[str, Any]:
    """Train one model on one task; return what it learned and when."""
    train, held_out = TASKS[task](random.Random(seed))
    for name, pairs in (("train", train), ("held-out", held_out)):
        lines = (json.dumps({"source": source, "target": target}) + "\n" for source, target in pairs)
        (folder / f"{task}-{name}.jsonl").write_text("".join(lines))
    started = time.process_time()  # of one core: others may be at work
    recipe = Seq2SeqRecipe.model_validate(
        {
            "name": f"{task}-{family}",
            "out": str(folder),
            "data": str(folder / f"{task}-train.jsonl"),
            "validation": str(folder / f"{task}-held-out.jsonl"),
            "tokenizer": "bytes",
            "model": {"family": family, "dim": 64, "num_layers": 2, "num_heads": 4},
            "max_seq_len": ROW_TOKENS,
            "batch_rows": BATCH_ROWS,
            "steps": STEPS[task],
            "save_every": STEPS[task] // 12,
            "keep": 12,
            "validate_every": 0,
            "compile": "no",
            "dtype": "float32",
            "seed": seed,
        }
    )
    result = seq2seq(recipe)
    seconds = time.process_time() - started
    files = RunDirectory(folder, recipe.name)
    steps = sorted(saved_steps(files.checkpoints))
    curve = [(int(step.name.removeprefix("step-")), exact_match(step, held_out[:NUM_ON_THE_WAY])) for step in steps]
    return {
        "task": task,
        "family": family,
        "trained_pairs": len(train),
        "held_out_pairs": len(held_out),
        "exact_match": exact_match(Path(result.checkpoint), held_out),
        "held_out_loss": result.validation_loss,
        "core_seconds": round(seconds, 1),
        "curve": curve,
        "loss": [line["loss"] for line in files.read_metrics()],
    }


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """Draw exact match on held-out pairs and the training loss, one column a task."""
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(row["task"] for row in found))
    figure, axes = pyplot.subplots(2, len(tasks), figsize=(5 * len(tasks), 6), sharex="col", squeeze=False)
    titles = {"strings": "copy or reverse 3 to 10 letters", "sums": "add two numbers below 100"}
    for row in found:
        column = tasks.index(row["task"])
        steps, shares = zip(*row["curve"], strict=True)
        label = f"{row['family']}: {row['exact_match']:.1%} of {row['held_out_pairs']:,}"
        axes[0, column].plot(steps, [100 * share for share in shares], marker="o", markersize=3, label=label)
        axes[1, column].plot(range(1, len(row["loss"]) + 1), row["loss"], linewidth=0.8, label=row["family"])
    for column, task in enumerate(tasks):
        axes[0, column].set(title=titles[task], ylabel="held-out answers exact, %", ylim=(-3, 103))
        axes[1, column].set(xlabel="step", ylabel="training loss, nats a token", yscale="log")
        axes[0, column].legend(loc="lower right")
        for axis in axes[:, column]:
            axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run what is asked for, show one line a run, draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    found = list[dict[str, Any]]()
    for task in options.tasks:
        for family in options.families:
            with tempfile.TemporaryDirectory() as folder:
                found.append(run(task, family, Path(folder), options.seed))
            print(json.dumps({name: value for name, value in found[-1].items() if name != "loss"}), flush=True)
    if options.plot is not None:
        draw(found, options.plot)


if __name__ == "__main__":
    main()
