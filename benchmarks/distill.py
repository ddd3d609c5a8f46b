"""Does a teacher help? Small students at equal steps, with and without one, over several seeds.

    PYTHONPATH=. python benchmarks/distill.py --text ../shared/data/text/tinyshakespeare.txt

One teacher is pretrained on the text; then, for each seed, the same student (same first weights, same rows in the same
order) is trained by itself and by each way of distillation. What is shown is the held-out cross-entropy in nats a
token, its mean and 95 % interval over the seeds, and the same of the differences from the student by itself, seed by
seed; a difference counts where its interval does not reach 0. Steps are equal, time is not: the seconds stand beside.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from typing import Any

from lines import spread

from smelt.train.stages.common import StageResult
from smelt.train.stages.distill import DistillRecipe, distill
from smelt.train.stages.pretrain import PretrainRecipe, pretrain

ALONE = "no teacher"
WAYS: dict[str, dict[str, Any]] = {
    "forward_kl": {"loss": "forward_kl"},
    "forward_kl, temperature 2": {"loss": "forward_kl", "temperature": 2.0},
    "forward_kl, hard_weight 0": {"loss": "forward_kl", "hard_weight": 0.0},
    "reverse_kl": {"loss": "reverse_kl"},
    "jsd": {"loss": "jsd"},
    "hidden": {"loss": "hidden"},
    "forward_kl, on_policy 0.25": {"loss": "forward_kl", "on_policy": 0.25},
}


def shape(text: str) -> dict[str, Any]:
    """Return the network of a text such as 128x4: width and number of blocks, heads of 16 or 32."""
    dim, layers = (int(part) for part in text.split("x"))
    return {"family": "llama", "dim": dim, "num_layers": layers, "num_heads": max(2, dim // 32)}


def common(arguments: argparse.Namespace, folder: str, name: str, **changes: Any) -> dict[str, Any]:
    """Return what all runs are told."""
    return {
        "name": name, "out": folder, "data": arguments.text, "validation_split": "tail", "validation_fraction": 0.1,
        "max_seq_len": 64, "batch_rows": 12, "validate_every": 0, "save_every": 0, "compile": "no", "dtype": "float32",
        "optimizer": {"name": "muon", "learning_rate": 4e-3, "schedule": "wsd"}, **changes,
    }  # fmt: skip


def shown(way: str, seed: int, result: StageResult) -> float:
    """Print one run and return its held-out loss."""
    assert result.validation_loss is not None
    row = {"way": way, "seed": seed, "loss": round(result.validation_loss, 4), "seconds": result.seconds}
    print(json.dumps(row), flush=True)
    return result.validation_loss


def main() -> None:
    """Train the teacher and the students, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True)
    parser.add_argument("--seeds", type=int, default=3, help="how many, at least two")
    parser.add_argument("--teacher", type=shape, default="128x4", metavar="WIDTHxBLOCKS")
    parser.add_argument("--student", type=shape, default="64x2", metavar="WIDTHxBLOCKS")
    parser.add_argument("--steps", type=int, default=500, help="of a student")
    parser.add_argument("--teacher-steps", type=int, default=2000)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    arguments = parser.parse_args()
    losses: dict[str, list[float]] = {ALONE: [], **{way: [] for way in arguments.ways}}
    with tempfile.TemporaryDirectory() as folder:
        told = common(
            arguments, folder, "teacher", steps=arguments.teacher_steps, tokenizer="bytes", model=arguments.teacher
        )
        teacher = pretrain(PretrainRecipe.model_validate(told))
        shown("the teacher", 0, teacher)
        for seed in range(arguments.seeds):
            told = common(arguments, folder, f"alone-{seed}", steps=arguments.steps, seed=seed, model=arguments.student)
            recipe = PretrainRecipe.model_validate({**told, "tokenizer": "bytes"})
            losses[ALONE].append(shown(ALONE, seed, pretrain(recipe)))
            for number, way in enumerate(arguments.ways):
                changes = {"name": f"{number}-{seed}", "teacher": teacher.checkpoint, **WAYS[way]}
                taught = distill(DistillRecipe.model_validate({**told, **changes}))
                losses[way].append(shown(way, seed, taught))
    print(f"\n{'student':<28} {'held-out nats a token':>22} {'less than alone':>20}")
    for way, found in losses.items():
        gains = [alone - loss for alone, loss in zip(losses[ALONE], found, strict=True)]
        print(f"{way:<28} {spread(found, '.4f'):>22} {'' if way == ALONE else spread(gains, '+.4f'):>20}")


if __name__ == "__main__":
    main()
