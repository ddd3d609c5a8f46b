"""Train every family for 200 steps on real text and draw the curves: masked, causal, spans and the other objectives.

    python benchmarks/learning/families.py --text FOLDER --plot docs/learning-families.png

Each run is `smelt pretrain` with two small layers and the family's usual parts, on one thread: the same text, tokens
and steps for all of one objective, so that curves of one panel compare. Runs of another panel predict something else,
and their losses do not. The dashed line is the entropy of tokens taken alone, what a model knows that has only counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from smelt.data.formats import read_text
from smelt.models.families import FAMILIES, Shape, spec_for
from smelt.tokenizers.base import SPECIAL
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.formats import save_tokenizer
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.pretraining.recipe import ObjectiveRecipe, kind_of
from smelt.train.stages.pretrain import ModelRecipe, PretrainRecipe, pretrain

MARKS = (
    *SPECIAL, "[MASK]", "[CLS]", "[SEP]", "[sMASK]", "[gMASK]", "<sop>", "<eop>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", *(f"<extra_id_{number}>" for number in range(40)),
)  # fmt: skip
VOCABULARY, CONTEXT, ROWS, NUM_DOCUMENTS = 1024, 64, 16, 200
USUAL = {"decoder": "causal", "encoder": "masked", "encoder-decoder": "span"}
OTHERS = (
    ("llama", "future_tokens"), ("llama", "prefix"), ("llama", "blank"), ("llama", "fill_in_the_middle"),
    ("bert", "unilm"), ("bert", "next_sentence"), ("albert", "sentence_order"),
)  # fmt: skip


def runs() -> list[tuple[str, str]]:
    """Return pairs of family and objective: each family under its usual one, some under others."""
    kinds = {name: kind_of(spec_for(name, Shape(64, 64, 2, 4, CONTEXT, tied=True))) for name in FAMILIES}
    return [*((name, USUAL[kind]) for name, kind in kinds.items()), *OTHERS]


def prepare(text: str, folder: Path, megabytes: float) -> tuple[Path, Path, float]:
    """Write the text and a tokenizer; return both and the entropy of single tokens in nats."""
    body = "\n".join(row.text for row in read_text(text)).encode()[: int(megabytes * 1e6)].decode(errors="ignore")
    corpus, size = folder / "texts", len(body) // NUM_DOCUMENTS
    corpus.mkdir()
    for number in range(NUM_DOCUMENTS):  # pairs of sentences need more than one document
        part = body[number * size : (number + 1) * size]
        (corpus / f"{number:02}.txt").write_text(part, encoding="utf-8")
    tokenizer: Pipeline = train_bpe([body], vocab_size=VOCABULARY, special=MARKS)
    (folder / "tokenizer").mkdir()
    save_tokenizer(tokenizer, folder / "tokenizer", template=None, max_seq_len=CONTEXT)
    counts = np.array(list(Counter(tokenizer.encode(body)).values()), dtype=np.float64)
    shares = counts / counts.sum()
    return corpus, folder / "tokenizer", float(-(shares * np.log(shares)).sum())


def curve(family: str, objective: str, corpus: Path, tokenizer: Path, folder: Path, steps: int) -> list[float]:
    """Train one model and return its loss at each step, read from the run's files."""
    recipe = PretrainRecipe(
        name=f"{family}-{objective}",
        out=str(folder / "runs"),
        data=str(corpus),
        tokenizer=str(tokenizer),
        model=ModelRecipe(family=family, dim=64, num_layers=2, num_heads=4, tied=True),
        objective=objective,
        steps=steps,
        batch_rows=ROWS,
        max_seq_len=CONTEXT,
        validate_every=0,
        save_every=0,
        dtype="float32",
        compile="no",
    )
    result = pretrain(recipe)
    lines = (Path(result.run) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    heads = 1 + ObjectiveRecipe().num_further if objective == "future_tokens" else 1  # whose losses are summed
    return [json.loads(line)["loss"] / heads for line in lines]


def draw(curves: dict[tuple[str, str], list[float]], entropy: float, path: str) -> None:
    """Draw a panel for each of the usual objectives and one for the others."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = [*USUAL.values(), "others"]
    figure, axes = plt.subplots(1, len(panels), figsize=(18, 5), sharey=True)
    for axis, panel in zip(axes, panels, strict=True):
        chosen = {
            key: losses for key, losses in curves.items() if key[1] == panel or (panel == "others" and key in OTHERS)
        }
        colors = plt.get_cmap("turbo")(np.linspace(0.05, 0.95, max(2, len(chosen))))
        for color, ((family, objective), losses) in zip(colors, chosen.items(), strict=False):
            smooth = np.convolve(losses, np.ones(10) / 10, mode="valid")
            label = family if panel != "others" else f"{family}, {objective}"
            axis.plot(np.arange(len(smooth)) + 10, smooth, color=color, label=label, linewidth=1.3)
        axis.axhline(entropy, color="gray", linestyle="--", linewidth=1)
        axis.set_title({"causal": "next token", "masked": "masked tokens", "span": "spans"}.get(panel, panel))
        axis.set_xlabel("step (mean of ten)")
        axis.set_ylim(entropy - 1.7, entropy + 1.7)  # one family begins far above, and comes down within 100 steps
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, ncol=3 if len(chosen) > 12 else 1, loc="upper right")
    axes[0].set_ylabel("loss (nats a predicted token)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--megabytes", type=float, default=2.0)
    parser.add_argument("--only", nargs="*", help="families")
    parser.add_argument("--plot")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, tokenizer, entropy = prepare(arguments.text, folder, arguments.megabytes)
        curves = {}
        for family, objective in runs():
            if arguments.only and family not in arguments.only:
                continue
            losses = curve(family, objective, corpus, tokenizer, folder, arguments.steps)
            curves[family, objective] = losses
            last = sum(losses[-10:]) / 10
            label = f"{family:16} {objective:20}"
            print(f"{label} first {losses[0]:6.3f}  last ten {last:6.3f}  alone {entropy:.3f}", flush=True)
        if arguments.plot:
            draw(curves, entropy, arguments.plot)


if __name__ == "__main__":
    main()
