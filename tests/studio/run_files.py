"""Run directories as training leaves them, with losses of our choice and no training."""

import json
import math
import random
from pathlib import Path
from typing import Any

from smelt.core.config import load_recipe, to_yaml
from smelt.train.stages.pretrain import PretrainRecipe

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
REPORT = """# Run one

| | |
|---|---|
| stage | pretrain |

![loss](loss.png)

<script>window.broken = 1</script><img src=x onerror="window.broken = 1">
"""


def make_run(run: Path, steps: int, *, rate: float = 0.003, lines: list[str] | None = None) -> list[dict[str, Any]]:
    """Write the files of a run that lost something each step, and return its metrics."""
    random.seed(run.name)
    run.mkdir(parents=True)
    words = (f"name={run.name}", "data=book.txt", "tokenizer=tok", f"steps={steps}", f"optimizer.learning_rate={rate}")
    (run / "recipe.yaml").write_text(to_yaml(load_recipe(PretrainRecipe, None, words)))
    rows = [
        {
            "step": step,
            "tokens": step * 4096,
            "loss": 3 + 4 * math.exp(-step / 40) + random.gauss(0, 0.1),
            "gradient_norm": random.random(),
            "learning_rate": rate * (1 - step / steps),
            "seconds": round(step * 0.9137, 4),
            "tokens_per_second": round(4483.0 + random.random(), 1),
            "memory_bytes": 1202724864,
        }
        for step in range(1, steps + 1)
    ]
    text = lines or [json.dumps(row) for row in rows]
    (run / "metrics.jsonl").write_text("".join(f"{line}\n" for line in text))
    events: list[dict[str, Any]] = [
        {"event": "validation", "time": 1795407053.2, "step": steps // 2, "loss": 3.5, "best_step": steps // 2},
        {"event": "sample", "time": 1795407054.2, "step": steps, "prompt": "Once", "text": " <b>upon</b> a time"},
        {"event": "validation", "time": 1795407055.2, "step": steps, "loss": 3.25, "best_step": steps},
    ]
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return rows


def make_runs(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Make three runs, one of them long and one with a broken line; return the metrics of the sound ones."""
    rows = {
        "runs/one": make_run(root / "runs" / "one", 100),
        "runs/long": make_run(root / "runs" / "long", 5000, rate=0.001),
    }
    (root / "runs" / "one" / "report.md").write_text(REPORT)
    (root / "runs" / "one" / "loss.png").write_bytes(PIXEL)
    lines = ['{"step": 1, "loss": 5.0}', '{"step": 2, "lo{"step": 3, "loss": 4.0}', '{"step": 4, "loss": NaN}']
    make_run(root / "runs" / "a, b", 9, lines=lines)
    with open(root / "runs" / "a, b" / "metrics.jsonl", "a") as handle:
        handle.write('{"step": 5, "lo')  # as a kill leaves it
    return rows
