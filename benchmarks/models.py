"""Measure forward and training passes beside transformers and LitGPT: GPT-2 124M, a Llama of 110M, a small mixture.

    python benchmarks/models.py gpt2                    forward, and forward with loss and backward, eager
    python benchmarks/models.py llama --compiled        the same, compiled
    python benchmarks/models.py moe --experts 64        against transformers' loop over experts and its grouped kernel
    python benchmarks/models.py all --dtype bfloat16    under autocast

Each figure is made in a process of its own, as each library is used: weights in fp32, two threads, its own loss. The
libraries take turns, and a figure is the median over all rounds of each round's median, so that a machine whose speed
drifts is unfair to none. A forward makes the logits of all tokens; a training pass has the loss and all gradients. A
library that is not installed is left out and said so (`pip install transformers litgpt`).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MODELS = ("gpt2", "llama", "moe")
LIBRARIES = ("smelt", "transformers", "litgpt")
SECONDS, LEAST_RUNS = 4.0, 3


def ours(arguments: argparse.Namespace) -> tuple[Callable[[Tensor], Any], Callable[[Tensor], Any]]:
    """Return our forward and our training pass."""
    from dataclasses import replace

    from smelt.core.runtime import prepare_process
    from smelt.models.build import build
    from smelt.models.families import Shape, preset, spec_for
    from smelt.nn.spec import FeedForwardSpec, MoESpec
    from smelt.train.objectives import OBJECTIVES
    from smelt.train.sources import TokenBatch

    prepare_process()
    if arguments.model == "gpt2":
        spec = preset("gpt2-124m")
    elif arguments.model == "llama":
        spec = spec_for("llama", Shape(32_000, 768, 12, 12, 1024, hidden_dim=2048, tied=True))
    else:
        spec = spec_for("qwen3_moe", Shape(8_000, 512, 4, 8, 1024, num_kv_heads=4, hidden_dim=arguments.width))
        experts = MoESpec(FeedForwardSpec(arguments.width, "swiglu"), arguments.experts, arguments.taken)
        spec = replace(spec, layers=tuple(replace(layer, feed_forward=experts) for layer in spec.layers))
    model = build(spec, seed=0)
    if arguments.compiled:
        for block in model.blocks:
            block.compile(dynamic=False)
    objective = OBJECTIVES["token_cross_entropy"](balance=0.0, z=0.0)

    def train(ids: Tensor) -> None:
        loss, _ = objective(model, TokenBatch(ids, ids.roll(-1, 1), None, None))
        (loss / ids.numel()).backward()
        model.zero_grad(set_to_none=True)

    return lambda ids: model(ids).logits, train


def transformers(arguments: argparse.Namespace) -> tuple[Callable[[Tensor], Any], Callable[[Tensor], Any]]:
    """Return theirs: sdpa attention, their own loss."""
    import transformers

    transformers.logging.set_verbosity_error()
    if arguments.model == "gpt2":
        config = transformers.GPT2Config(attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)
    elif arguments.model == "llama":
        config = transformers.LlamaConfig(
            vocab_size=32_000,
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            intermediate_size=2048,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
        )
    else:
        config = transformers.Qwen3MoeConfig(
            vocab_size=8_000,
            hidden_size=512,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=64,
            max_position_embeddings=1024,
            num_experts=arguments.experts,
            num_experts_per_tok=arguments.taken,
            moe_intermediate_size=arguments.width,
            norm_topk_prob=True,
        )
    config.use_cache = False
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    if arguments.model == "moe":
        model.set_experts_implementation(arguments.implementation)
    model.train()
    run = torch.compile(model) if arguments.compiled else model

    def train(ids: Tensor) -> None:
        run(input_ids=ids, labels=ids).loss.backward()
        model.zero_grad(set_to_none=True)

    return lambda ids: run(input_ids=ids).logits, train


def litgpt(arguments: argparse.Namespace) -> tuple[Callable[[Tensor], Any], Callable[[Tensor], Any]]:
    """Return LitGPT's; it has no learned positions, so its GPT-2 goes without any."""
    from litgpt.model import GPT, Config
    from litgpt.utils import chunked_cross_entropy

    common = {"block_size": 1024, "n_layer": 12, "n_head": 12, "n_embd": 768}
    llama = {"parallel_residual": False, "bias": False, "norm_class_name": "RMSNorm", "rotary_percentage": 1.0}
    if arguments.model == "gpt2":
        sizes = {"vocab_size": 50_257, "padded_vocab_size": 50_257, "parallel_residual": False}
        config = Config(**common, **sizes, rotary_percentage=0.0, gelu_approximate="tanh")
    elif arguments.model == "llama":
        sizes = {"vocab_size": 32_000, "padded_vocab_size": 32_000, "intermediate_size": 2048}
        config = Config(**common, **sizes, **llama, mlp_class_name="LLaMAMLP")
    else:
        small = {"block_size": 1024, "n_layer": 4, "n_head": 8, "n_embd": 512, "n_query_groups": 4}
        sizes = {"vocab_size": 8_000, "padded_vocab_size": 8_000, "norm_qk": True}
        experts = {"n_expert": arguments.experts, "n_expert_per_token": arguments.taken}
        width = {"intermediate_size": arguments.width, "moe_intermediate_size": arguments.width}
        config = Config(**small, **sizes, **llama, **experts, **width, mlp_class_name="LLaMAMoE")
    model = GPT(config)
    run = torch.compile(model) if arguments.compiled else model

    def train(ids: Tensor) -> None:
        logits = run(ids)
        chunked_cross_entropy(logits[:, :-1, :], ids[:, 1:], chunk_size=0).backward()
        model.zero_grad(set_to_none=True)

    return run, train


def seconds_of(job: Callable[[], Any]) -> float:
    """Return the median seconds of a job after two runs that warm it up."""
    for _ in range(2):
        job()
    found: list[float] = []
    while len(found) < LEAST_RUNS or sum(found) < SECONDS:
        started = time.perf_counter()
        job()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def measure(arguments: argparse.Namespace) -> None:
    """Print the seconds of one library, as JSON."""
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    forward, train = {"smelt": ours, "transformers": transformers, "litgpt": litgpt}[arguments.library](arguments)
    torch.set_num_threads(arguments.threads)
    ids = torch.randint(8_000, (arguments.rows, arguments.tokens))
    with torch.autocast("cpu", torch.bfloat16, enabled=arguments.dtype == "bfloat16"):
        with torch.no_grad():
            alone = seconds_of(lambda: forward(ids))
        print(json.dumps({"forward": alone, "training": seconds_of(lambda: train(ids))}))


def run_all(arguments: argparse.Namespace, model: str) -> None:
    """Print the table of one model."""
    libraries = [name for name in LIBRARIES if name == "smelt" or importlib.util.find_spec(name) is not None]
    for name in sorted(set(LIBRARIES) - set(libraries)):
        print(f"{name} is not installed")
    kinds = [(name, "eager") for name in libraries]
    if model == "moe":
        kinds.insert(2, ("transformers", "grouped_mm"))
    found: dict[tuple[str, str], list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(arguments.rounds):
        for library, implementation in kinds:
            command = [sys.executable, __file__, model, *sys.argv[2:], "--library", library]
            command += ["--implementation", implementation]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                why = done.stderr.strip() or f"ended by signal {-done.returncode}"
                print(f"{library} failed: {why.splitlines()[-1]}")
                continue
            found[library, implementation].append(json.loads(done.stdout.splitlines()[-1]))
    how = f"{arguments.dtype}, {'compiled' if arguments.compiled else 'eager'}, {arguments.rows} x {arguments.tokens}"
    for what in ("forward", "training"):
        medians = {kind: statistics.median(run[what] for run in runs) for kind, runs in found.items() if runs}
        mine = medians[kinds[0]]
        for (library, implementation), seconds in medians.items():
            label = f"{library}{'' if implementation == 'eager' else f' ({implementation})'}"
            rate = arguments.rows * arguments.tokens / seconds
            ratio = "" if library == "smelt" else f"   smelt is {seconds / mine:5.2f}x"
            print(
                f"{model} {how}: {what:8} {label:26} {1000 * seconds:8.1f} ms {rate:10,.0f} tokens/s{ratio}", flush=True
            )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=(*MODELS, "all"))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--experts", type=int, default=64)
    parser.add_argument("--taken", type=int, default=8)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--library", choices=LIBRARIES)
    parser.add_argument("--implementation", default="eager")
    arguments = parser.parse_args()
    if arguments.library:
        measure(arguments)
        return
    for model in MODELS if arguments.model == "all" else (arguments.model,):
        run_all(arguments, model)


if __name__ == "__main__":
    # This folder has files with the names of packages: it must not come first.
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]
    main()
