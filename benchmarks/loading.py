"""Measure loading a 1.1B checkpoint beside reading its files and beside transformers, each in a process of its own.

    python benchmarks/loading.py            warm, then from disk; needs 2.3 GB of disk and 6 GB of memory
    python benchmarks/loading.py --layers 2 the same, small

A network of TinyLlama's shape with random bf16 weights is saved by `save_model` in shards of 500 MB. Then, in turn:
`read` reads the files in pieces of 16 MB; `smelt` loads them as stored; `transformers` does. Both then read one number
of every page of every weight. With `fp32` they load as fp32, which copies; each of these first takes as much memory and
gives it back, since a virtual machine hands out memory several times faster when it has just been in use. `sealed` is
`smelt.load` with the SHA-256 of every byte. Times are the medians of three processes, taken after imports; memory is
what a load adds: the most of this process's own (anonymous) pages, and at its end those and the file's pages that it
has mapped. "From disk" drops the files from the page cache first. Last, saving again: seconds, and the most memory
beside the model.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

# Beside this file stands one with the name of a library that transformers imports.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

PIECE_BYTES = 16 * 2**20
RUNS = 3


def read_files(folder: Path) -> None:
    """Read the weights and drop them."""
    buffer = bytearray(PIECE_BYTES)
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def memory() -> tuple[int, int]:
    """Return this process's own bytes, and those of files that it has mapped and touched."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, of_files = (int(status[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))
    return own, of_files


class Watch:
    """Note the most memory of its own that this process has while a block runs."""

    def __enter__(self) -> Watch:
        self.before, self.most, self.done = memory(), 0, threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        self.started = time.perf_counter()
        return self

    def look(self) -> None:
        """Look a few hundred times a second."""
        while not self.done.wait(0.003):
            self.most = max(self.most, memory()[0])

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self.started
        self.done.set()
        self.thread.join()
        self.after = memory()

    def result(self) -> dict[str, float]:
        """Return seconds and bytes."""
        own, of_files = (now - before for now, before in zip(self.after, self.before, strict=True))
        return {"seconds": self.seconds, "peak": max(self.most - self.before[0], own), "end": own + of_files}


def loader(kind: str, folder: Path) -> Callable[[], object]:
    """Return what loads in one way, everything imported."""
    import torch

    import smelt
    from smelt.models.hub import load_model

    if kind.startswith("transformers"):
        from transformers import AutoModelForCausalLM
        from transformers.models.llama import modeling_llama  # noqa: F401

        dtype = torch.float32 if kind.endswith("fp32") else torch.bfloat16
        return lambda: AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return {
        "read": lambda: read_files(folder),
        "smelt": lambda: load_model(folder, dtype=torch.bfloat16),
        "smelt fp32": lambda: load_model(folder, dtype=torch.float32),
        "sealed": lambda: smelt.load(folder, dtype=torch.bfloat16)[0],
    }[kind]


def take_and_give_back(num_bytes: int) -> None:
    """Write to so much new memory, and free it."""
    import torch

    torch.empty(num_bytes, dtype=torch.uint8).fill_(1)


def measure(kind: str, folder: Path) -> dict[str, float]:
    """Load once and touch every page."""
    from smelt.models.hub import load_model, save_model

    if kind == "save":
        import torch

        model = load_model(folder, dtype=torch.bfloat16)
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        with tempfile.TemporaryDirectory(dir=folder.parent) as target, Watch() as watch:
            save_model(model, target)
        return watch.result()
    load = loader(kind, folder)
    if kind.endswith("fp32"):
        take_and_give_back(2 * sum(path.stat().st_size for path in folder.glob("*.safetensors")))
    with Watch() as watch:
        model = load()
        if kind != "read":
            for parameter in model.parameters():  # type: ignore[attr-defined]
                parameter.detach().flatten()[:: 4096 // parameter.element_size()].sum().item()
    return watch.result()


def make(folder: Path, num_layers: int) -> None:
    """Save a random network with a tokenizer, sealed."""
    from dataclasses import replace

    import torch

    from smelt.core.storage import seal
    from smelt.models.build import blank
    from smelt.models.families import Shape, spec_for
    from smelt.models.hub import publish, save_model
    from smelt.tokenizers.bpe_train import train_bpe

    spec = spec_for("llama", Shape(32_000, 2048, num_layers, 32, 2048, num_kv_heads=4, hidden_dim=5632))
    model = blank(spec, dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.02)
    publish(model, train_bpe(["abc"], vocab_size=300), folder)
    save_model(model, folder, token_ids=replace(model.spec.token_ids, end=(0,)), max_shard_bytes=500 * 10**6)
    seal(folder)


def run(kind: str, folder: Path, *, cold: bool) -> dict[str, float]:
    """Measure in a process of its own."""
    for path in folder.glob("*.safetensors"):
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED if cold else os.POSIX_FADV_NORMAL)
        os.close(file)
    if not cold:
        read_files(folder)
    command = [sys.executable, __file__, "--measure", kind, "--folder", str(folder)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    return result


def table(folder: Path, kinds: list[str], *, cold: bool) -> None:
    """Measure every kind in turn and print medians."""
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    taken: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(RUNS):
        for kind in kinds:
            taken[kind].append(run(kind, folder, cold=cold))
    title = "from disk" if cold else "warm"
    print(f"\n{title:<18}{'seconds':>9}{'x read':>8}{'own peak / file':>17}{'memory / file':>15}")
    read = statistics.median(each["seconds"] for each in taken[kinds[0]])
    for kind, runs in taken.items():
        seconds, peak, end = (statistics.median(each[name] for each in runs) for name in ("seconds", "peak", "end"))
        print(f"{kind:<18}{seconds:>9.3f}{seconds / read:>8.2f}{peak / size:>17.2f}{end / size:>15.2f}", flush=True)


def main() -> None:
    """Make the checkpoint, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure == "make":
        make(options.folder, options.layers)
        return
    if options.measure:
        print(json.dumps(measure(options.measure, options.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        folder.mkdir()
        command = [sys.executable, __file__, "--measure", "make", "--layers", str(options.layers)]
        subprocess.run([*command, "--folder", str(folder)], check=True)
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        print(f"{size / 1e9:.2f} GB in {len(list(folder.glob('*.safetensors')))} files")
        table(folder, ["read", "smelt", "transformers", "sealed", "smelt fp32", "transformers fp32"], cold=False)
        table(folder, ["read", "smelt", "transformers"], cold=True)
        saved = run("save", folder, cold=False)
        share = saved["peak"] / size
        print(f"\nsave: {saved['seconds']:.2f} s, {share:.3f} of the file's size in memory beside the model")


if __name__ == "__main__":
    main()
