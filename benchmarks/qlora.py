"""Measure QLoRA beside LoRA over 16-bit weights: memory of a step at 1.1B, the loss it ends at, and how fast NF4 is.

    python benchmarks/qlora.py memory            1.1B Llama, random weights, a step of 1 row of 512 tokens
    python benchmarks/qlora.py speed             quantize and dequantize one layer of it, beside a copy
    python benchmarks/qlora.py loss --base runs/books --data ../shared/data/instruct/raschka-1100.json

A checkpoint of random bf16 weights is written to a temporary folder (2.2 GB of disk). Then, each in a new process,
LoRA is put on it as it is, and on it in NF4: loaded as a run loads it, gradient checkpointing on, bf16 autocast, rank 8
on all linear layers, AdamW with 8-bit moments in both. The peak is VmHWM of /proc/self/status, from the end of loading
to the end of the step; while loading it counts the file's pages that were in the page cache anyway. What the
interpreter and its libraries take before anything is loaded is shown and taken off, as it would not be in an
accelerator's memory. The ratio of whole processes is shown, too.

The loss is that of all held-out instructions after the last step, in nats a token, of two runs that differ in the bits
of the base alone: the same seed, rows, order and adapters as they begin. A finished run is kept in --out and not made
again, one that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lines import spread

from smelt.core import runtime
from smelt.models.build import blank
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load_model, save_model
from smelt.models.transformer import Transformer
from smelt.optim.build import OptimizerRecipe, build_optimizers
from smelt.peft.lora_tuning import LoraSettings, attach
from smelt.quant import nf4
from smelt.quant.linear import NF4Linear
from smelt.quant.model import quantize_base
from smelt.train.loop import FitSettings, StepResult, fit
from smelt.train.measure import random_rows
from smelt.train.objectives import OBJECTIVES
from smelt.train.sources import ArrayRows, RowSource
from smelt.train.stages.sft import SftRecipe, sft
from smelt.train.state import TrainState

BAR, LOSS_BAR = 0.45, 1.01
STEPS = 1
TOKENS = 512
SHAPES = {
    "1.1b": Shape(32000, 2048, 22, 32, TOKENS, num_kv_heads=4, hidden_dim=5632, tied=False),
    "tiny": Shape(512, 128, 2, 4, TOKENS, num_kv_heads=2),  # to try the script
}


def peak_bytes() -> int:
    """Return the most memory that this process has held at once."""
    # Not getrusage: a new process begins with the peak of the one that started it.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def forget_peak() -> None:
    """Let the peak begin anew, at what is held now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def write(shape: str, directory: Path) -> None:
    """Write a checkpoint of random weights."""
    model = blank(spec_for("llama", SHAPES[shape]), dtype=torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0) if parameter.ndim < 2 else parameter.normal_(0.0, 0.02, generator=generator)
    save_model(model, directory)


def train(kind: str, directory: Path) -> None:
    """Take a step and print what it took, as JSON."""
    runtime.prepare_process(saves_memory=True)  # as a run with gradient checkpointing does
    libraries = peak_bytes()
    started = time.perf_counter()
    model = load_model(directory, dtype="auto")
    assert isinstance(model, Transformer)
    if kind == "qlora":
        quantize_base(model)
    loading, loaded = time.perf_counter() - started, peak_bytes()
    forget_peak()
    attach(model, LoraSettings(rank=8), 0)
    model.gradient_checkpointing = True
    recipe = OptimizerRecipe(name="adamw8bit", learning_rate=1e-4)
    seconds: list[float] = []

    def note(state: TrainState, result: StepResult) -> None:
        seconds.append(result.seconds)

    source = RowSource(ArrayRows(random_rows(model.spec, STEPS)), seed=0)
    state = TrainState(model, build_optimizers(model, recipe), source)
    fit(state, OBJECTIVES["token_cross_entropy"](), FitSettings(STEPS, 1, 1, recipe, torch.bfloat16), [note])
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    figures = {"libraries": libraries, "loaded": loaded, "peak": peak_bytes()}
    print(json.dumps({**figures, "loading_seconds": loading, "step_seconds": seconds[-1], "trained": trained}))


def child(*words: str) -> str:
    """Run this script in a new process and return what it prints."""
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def compare_memory(shape: str) -> None:
    """Print both peaks and their ratio."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        child("write", "--shape", shape, "--folder", folder)
        print(f"{'':8}{'libraries':>10}{'loaded':>10}{'peak':>10}{'less libraries':>16}{'loading':>10}{'a step':>9}")
        for kind in ("lora", "qlora"):
            found[kind] = figures = json.loads(child("train", "--kind", kind, "--folder", folder))
            sizes = [figures["libraries"], figures["loaded"], figures["peak"], figures["peak"] - figures["libraries"]]
            text = "".join(f"{size / 1e6:>{width}.0f}" for size, width in zip(sizes, (10, 10, 10, 16), strict=True))
            print(f"{kind:8}{text}{figures['loading_seconds']:>9.1f}s{figures['step_seconds']:>8.1f}s")
    ratio, whole = (
        (found["qlora"]["peak"] - take * found["qlora"]["libraries"])
        / (found["lora"]["peak"] - take * found["lora"]["libraries"])
        for take in (1, 0)
    )
    print(f"MB; {found['qlora']['trained']:,} numbers are trained")
    print(f"QLoRA / LoRA {ratio:.3f} (bar {BAR}); of whole processes {whole:.3f}")


def nanoseconds(function: Callable[[], object], count: int) -> float:
    """Return the least time of five calls, a number."""
    function()
    found = []
    for _ in range(5):
        started = time.perf_counter()
        function()
        found.append(time.perf_counter() - started)
    return min(found) * 1e9 / count


def measure_speed() -> None:
    """Print the time a number of each way through a layer of 2048 by 5632."""
    runtime.prepare_process()
    weight = torch.randn(5632, 2048).bfloat16()
    layer = NF4Linear(weight)
    ways: dict[str, Callable[[], object]] = {
        "copy bf16": weight.clone,
        "quantize bf16": lambda: nf4.quantize(weight),
        "with double quantization": lambda: NF4Linear(weight),
        "dequantize to bf16": lambda: layer.dequantize(torch.bfloat16),
        "dequantize to fp32": layer.dequantize,
    }
    print(f"{torch.get_num_threads()} threads; nanoseconds a number, and seconds for 1.1e9 of them")
    for name, way in ways.items():
        each = nanoseconds(way, weight.numel())
        print(f"{name:26}{each:>8.2f}{each * 1.1:>8.2f}")


def loss_of(kind: str, seed: int, words: argparse.Namespace) -> float:
    """Return the held-out loss of a run, made where it is not there yet."""
    kept = words.out / f"{kind}-{seed}.json"
    if not kept.is_file():
        tune = {"method": "lora", "base_bits": 4 if kind == "qlora" else None, "lora": {"rank": words.rank}}
        recipe = SftRecipe.model_validate(
            dict(
                name=f"{kind}-{seed}", out=str(words.out), checkpoint=words.base, data=str(words.data), seed=seed,
                validation_fraction=0.1, max_seq_len=256, batch_rows=8, epochs=words.epochs, validate_every=0,
                save_every=0, keep=1, compile="no", tune=tune,
                optimizer={"name": "adamw", "learning_rate": words.learning_rate},
            )
        )  # fmt: skip
        result = sft(recipe, resume=True)
        if result.validation_loss is None:
            sys.exit(f"{recipe.name} was stopped after step {result.steps}; the same command goes on")
        found = {"validation_loss": result.validation_loss, "steps": result.steps, "seconds": result.seconds}
        kept.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return float(json.loads(kept.read_text(encoding="utf-8"))["validation_loss"])


def compare_losses(words: argparse.Namespace) -> None:
    """Print both losses of every seed, and their ratio with its interval."""
    words.out.mkdir(parents=True, exist_ok=True)
    ratios = []
    print(f"{'seed':>4}{'LoRA':>10}{'QLoRA':>10}{'ratio':>10}")
    for seed in words.seeds:
        plain, quantized = (loss_of(kind, seed, words) for kind in ("lora", "qlora"))
        ratios.append(quantized / plain)
        print(f"{seed:>4}{plain:>10.4f}{quantized:>10.4f}{ratios[-1]:>10.4f}", flush=True)
    print(f"QLoRA / LoRA {spread(ratios, '.4f')} (bar {LOSS_BAR})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("memory", "loss", "speed", "write", "train"))
    parser.add_argument("--shape", choices=SHAPES, default="1.1b")
    parser.add_argument("--kind", choices=("lora", "qlora"), default="qlora")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--base", default="runs/books", help="of loss: a checkpoint or run")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/instruct/raschka-1100.json"))
    parser.add_argument("--out", type=Path, default=Path("runs/qlora-loss"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    arguments = parser.parse_args()
    if arguments.what == "memory":
        compare_memory(arguments.shape)
    elif arguments.what == "loss":
        compare_losses(arguments)
    elif arguments.what == "speed":
        measure_speed()
    elif arguments.what == "write":
        write(arguments.shape, arguments.folder)
    else:
        train(arguments.kind, arguments.folder)
