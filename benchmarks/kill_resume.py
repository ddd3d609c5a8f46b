"""Kill -9 training at random instants; every killed run must resume to the very same weights.

For pretraining and for instruction tuning: one uninterrupted run gives the SHA-256 to reach. Then, again and again,
a run is started, killed at a random instant between its start and its end, resumed with `--resume`, and its final
weights are compared. Every fourth run is killed a second time while it resumes.

    python benchmarks/kill_resume.py --kills 30
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from smelt.core.storage import sha256_file
from smelt.data import town


def command(stage: str, out: Path, name: str, settings: list[str]) -> list[str]:
    """Return the command line of a small run that saves every third step."""
    words = [
        f"name={name}",
        f"out={out}",
        "steps=60",
        "batch_rows=4",
        "save_every=3",
        "validate_every=20",
        "compile=no",
    ]
    return [sys.executable, "-m", "smelt.cli.main", stage, *words, *settings, "--json"]


def final_hash(directory: Path) -> str:
    """Return the SHA-256 of the weights of a finished run."""
    step = (directory / "checkpoints" / "latest").read_text().strip()
    assert step == "step-0000060", f"{directory} ended at {step}"
    return sha256_file(directory / "checkpoints" / step / "model.safetensors")


def run(words: list[str]) -> float:
    """Run to the end and return the seconds it took."""
    started = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return time.monotonic() - started


def killed(words: list[str], after_seconds: float) -> bool:
    """Start, kill -9 after a while, and tell whether the run was still going."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(timeout=after_seconds)
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def check_stage(stage: str, folder: Path, settings: list[str], kills: int, chance: random.Random) -> int:
    """Kill and resume until `kills` runs were hit while running; return how many ended with other weights."""
    seconds = run(command(stage, folder, f"{stage}-whole", settings))
    expected = final_hash(folder / f"{stage}-whole")
    wrong = killed_runs = number = 0
    while killed_runs < kills:
        name = f"{stage}-{number}"
        words = command(stage, folder, name, settings)
        killed_runs += killed(words, chance.uniform(0.15, 1.0) * seconds)
        if number % 4 == 0:
            killed([*words, "--resume"], chance.uniform(0.3, 0.9) * seconds)
        run([*words, "--resume"])
        same = final_hash(folder / name) == expected
        wrong += not same
        number += 1
        print(f"{stage} kill {killed_runs}/{kills}: {'same weights' if same else 'OTHER WEIGHTS'}", flush=True)
    print(f"{stage}: {number} runs, {killed_runs} killed on the way, {wrong} with other weights than {expected[:16]}")
    return wrong


def main(kills: int, seed: int = 0, *, both: bool = True) -> int:
    """Test pretraining, and `both` stages; return the number of runs that did not come back to the same weights."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        town.write(folder / "town", split="train", seed=0, num_documents=300, num_instructions=300)
        base = [
            f"data={folder}/town/pretrain.jsonl",
            "tokenizer=bytes",
            "max_seq_len=128",
            'model={"dim": 32, "num_layers": 2, "num_heads": 2}',
        ]
        wrong = check_stage("pretrain", folder, base, kills, chance)
        if not both:
            return wrong
        chats = [
            json.loads(line)
            for line in (folder / "town" / "instructions.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        short = [row for row in chats if len(json.dumps(row["messages"])) < 300]
        (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in short), encoding="utf-8")
        tuned = [f"checkpoint={folder}/pretrain-whole", f"data={folder}/chats.jsonl", "max_seq_len=128"]
        return wrong + check_stage("sft", folder, tuned, kills, chance)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30, help="runs to kill on their way in each stage")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.exit(1 if main(arguments.kills, arguments.seed) else 0)
