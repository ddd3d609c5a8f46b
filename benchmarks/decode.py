"""Measure decoding of one stream beside llama.cpp and transformers, with the same random weights, in one run.

    python benchmarks/decode.py --llama-python OTHER/bin/python          15M, 110M and 1.1B; bf16, 8 and 4 bits
    python benchmarks/decode.py --sizes 110m --bits bf16 int4 --rows 1 16

llama.cpp runs under a Python of its own with `llama-cpp-python`, `gguf` and `safetensors` (built with clang, for this
processor: CC=clang CXX=clang++ CMAKE_ARGS="-DGGML_NATIVE=ON"); without one it is left out, as is transformers where it
is not installed. Weights are drawn once and kept under --folder, as a checkpoint and as GGUF files whose matrices are
all of one type (BF16, Q8_0, Q4_0: the same bits a weight as ours).

A round is: a text of 32 tokens is read token by token, then new ones are chosen, the likeliest each time. Engines wait
in processes of their own and take turns; a figure is the median over rounds, since other programs may run beside. The
bound is how fast two threads add up a buffer that no cache holds, measured before and after each round, over the bytes
of the weights that a token reads.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"15m": "llama-15m", "110m": "llama-110m", "1.1b": "tinyllama-1.1b"}
BITS = {"bf16": "BF16", "int8": "Q8_0", "int4": "Q4_0"}
PROMPT, ANSWERS = 32, {"15m": 192, "110m": 128, "1.1b": 32}
BUFFER_BYTES = 1 << 29
REST_SECONDS = 0.5  # after a round an engine's threads look for more work for a while
Round = Callable[[int], float]  # new tokens -> tokens a second


def chosen(step: Callable[[np.ndarray, int], np.ndarray], rows: int, new_tokens: int) -> float:
    """Read the prompt, choose new tokens and return how many a second, of all rows; `step` gives logits (rows, V)."""
    ids, started = np.ones(rows, np.int64), 0.0
    for position in range(PROMPT + new_tokens):
        if position == PROMPT:
            started = time.perf_counter()
        ids = step(ids, position).argmax(axis=1)
    return rows * new_tokens / (time.perf_counter() - started)


def fused(arguments: argparse.Namespace) -> tuple[Round, int]:
    """Return our round and the bytes of weights that a token reads."""
    import torch

    from smelt.infer.fused import FusedDecoder
    from smelt.models.hub import load_model

    torch.set_num_threads(arguments.threads)
    model = load_model(folder_of(arguments) / "checkpoint")
    decoder = FusedDecoder(model, weights=arguments.bit, threads=arguments.threads, max_rows=arguments.row)
    attention, page = model.spec.layers[0].attention, 16
    shape = (arguments.row * 512, attention.num_kv_heads, attention.head_dim)
    decoder.attach(*([torch.zeros(shape, dtype=torch.bfloat16) for _ in model.spec.layers] for _ in range(2)), page)
    pages = np.arange(arguments.row * 512 // page).reshape(arguments.row, -1)

    def step(ids: np.ndarray, position: int) -> np.ndarray:
        return decoder.decode(ids, np.full(len(ids), position), pages).numpy()

    return lambda new: chosen(step, arguments.row, new), decoder.weight_bytes


def llama_cpp(arguments: argparse.Namespace) -> tuple[Round, int]:
    """Return llama.cpp's round, by its own functions, and the bytes of its file."""
    import llama_cpp

    path, rows = folder_of(arguments) / f"{arguments.bit}.gguf", arguments.row
    if not path.exists():
        write_gguf(folder_of(arguments) / "checkpoint", path, BITS[arguments.bit])
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_seq_max = 512 * rows, 512, rows
    settings.n_threads = settings.n_threads_batch = arguments.threads
    context = llama_cpp.llama_init_from_model(model, settings)
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    batch = llama_cpp.llama_batch_init(rows, 0, 1)

    def step(ids: np.ndarray, position: int) -> np.ndarray:
        if position == 0:
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        batch.n_tokens = rows
        for row in range(rows):
            batch.token[row], batch.pos[row], batch.logits[row] = int(ids[row]), position, 1
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, row
        assert llama_cpp.llama_decode(context, batch) == 0
        logits = ctypes.cast(llama_cpp.llama_get_logits(context), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(logits, (rows, size))

    return lambda new: chosen(step, rows, new), path.stat().st_size


def hugging_face(arguments: argparse.Namespace) -> tuple[Round, int]:
    """Return the round of transformers' generate, in the faster of fp32 and bf16, and the bytes of its weights."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(arguments.threads)
    dtype = getattr(torch, arguments.dtype)
    model = AutoModelForCausalLM.from_pretrained(folder_of(arguments) / "checkpoint", dtype=dtype).eval()
    prompt = torch.ones(arguments.row, PROMPT, dtype=torch.long)

    @torch.inference_mode()
    def seconds(new: int) -> float:
        started = time.perf_counter()
        model.generate(prompt, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0)
        return time.perf_counter() - started

    def run(new: int) -> float:
        return arguments.row * (new - 1) / (seconds(new) - seconds(1))  # without the prompt

    return run, sum(weight.numel() * weight.element_size() for weight in model.parameters())


ENGINES = {"smelt": fused, "llama.cpp": llama_cpp, "transformers": hugging_face}


def write_gguf(checkpoint: Path, path: Path, kind: str) -> None:
    """Write a Llama checkpoint for llama.cpp, all matrices of one type, without a vocabulary."""
    import gguf
    from safetensors import safe_open

    config = json.loads((checkpoint / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base((config.get("rope_parameters") or config).get("rope_theta", 10_000.0))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    quant = gguf.GGMLQuantizationType[kind]
    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, "numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118, it is no dict
                tensor = tensors.get_tensor(name).astype(np.float32)
                for part, count in (("q_proj", heads), ("k_proj", kv_heads)):
                    if part in name:  # pairs of a head side by side
                        tensor = tensor.reshape(count, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)
                new = names.get_name(name, try_suffixes=(".weight",))
                if tensor.ndim == 1:
                    writer.add_tensor(new, tensor)
                else:
                    writer.add_tensor(new, gguf.quants.quantize(tensor, quant), raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def folder_of(arguments: argparse.Namespace) -> Path:
    """Return where the weights of a size lie."""
    return Path(arguments.folder) / arguments.size


def write_checkpoint(folder: Path, size: str) -> None:
    """Draw the weights of a size, once."""
    if (folder / "checkpoint" / "config.json").exists():
        return
    from smelt.models.build import build
    from smelt.models.families import FAMILIES
    from smelt.models.hub import save_model

    (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
    save_model(build(FAMILIES["llama"].presets[SIZES[size]], seed=0), folder / "checkpoint")


def bandwidth(buffer: np.ndarray, num_threads: int) -> float:
    """Return how many bytes a second threads read of a buffer."""
    import numba

    @numba.njit(nogil=True)
    def total(numbers: np.ndarray) -> int:
        first = second = third = fourth = np.uint64(0)
        quarter = numbers.size // 4
        for place in range(quarter):  # four streams keep more reads under way than one
            first += numbers[place]
            second += numbers[place + quarter]
            third += numbers[place + 2 * quarter]
            fourth += numbers[place + 3 * quarter]
        return first + second + third + fourth

    total(buffer[:4])
    best = 0.0
    for _ in range(3):
        threads = [threading.Thread(target=total, args=(part,)) for part in np.array_split(buffer, num_threads)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        best = max(best, buffer.nbytes / (time.perf_counter() - started))
    return best


def serve(arguments: argparse.Namespace) -> None:
    """Be one engine: for each line, a number of new tokens, write tokens a second; first the bytes of the weights."""
    run, num_bytes = ENGINES[arguments.engine](arguments)
    run(4)
    print(num_bytes, flush=True)
    for line in sys.stdin:
        print(run(int(line)), flush=True)


def start(engine: str, python: str, words: list[str]) -> tuple[subprocess.Popen[str], int]:
    """Start an engine's process and wait until it is ready."""
    command = [python, "-P", __file__, "--engine", engine, *words]  # not this folder: it has a tokenizers.py
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{engine} did not start: {' '.join(command)}")
    return process, int(line)


def cells(arguments: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Yield size, bits and rows of each table row."""
    for size in arguments.sizes:
        write_checkpoint(Path(arguments.folder) / size, size)
        for bit in arguments.bits:
            for rows in arguments.rows:
                yield size, bit, rows


def compare(arguments: argparse.Namespace, size: str, bit: str, rows: int) -> dict[str, Any]:
    """Let the engines take turns and return the medians."""
    words = ["--folder", arguments.folder, "--size", size, "--bit", bit, "--row", str(rows)]
    words += ["--threads", str(arguments.threads), "--dtype", arguments.dtype]
    pythons = {"smelt": sys.executable}
    if arguments.llama_python:
        pythons["llama.cpp"] = arguments.llama_python
    if bit == "bf16" and importlib.util.find_spec("transformers") and size in arguments.transformers:
        pythons["transformers"] = sys.executable
    engines = {name: start(name, python, words) for name, python in pythons.items()}
    buffer = np.ones(BUFFER_BYTES // 8, np.uint64)
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    rates = [bandwidth(buffer, arguments.threads)]
    for _ in range(arguments.rounds):
        for name, (process, _) in engines.items():
            assert process.stdin is not None and process.stdout is not None
            time.sleep(REST_SECONDS)
            process.stdin.write(f"{ANSWERS[size]}\n")
            process.stdin.flush()
            speeds[name].append(float(process.stdout.readline()))
        rates.append(bandwidth(buffer, arguments.threads))
    for process, _ in engines.values():
        process.communicate()
    found = {name: statistics.median(values) for name, values in speeds.items()}
    best = {name: max(values) for name, values in speeds.items()}
    rate, num_bytes = statistics.median(rates), engines["smelt"][1]
    return {
        "size": size, "bits": bit, "rows": rows, "tokens_per_second": found, "best": best, "rounds": arguments.rounds,
        "gigabytes_per_second": rate / 1e9, "bound": rate / num_bytes, "weight_megabytes": num_bytes / 1e6,
    }  # fmt: skip


def show(row: dict[str, Any]) -> str:
    """Write a result as one line."""
    found, ours = row["tokens_per_second"], row["tokens_per_second"]["smelt"]
    others = [f"{name} {speed:.1f} ({ours / speed:.2f}x)" for name, speed in found.items() if name != "smelt"]
    share = f"{ours / row['rows'] / row['bound']:.0%} of {row['gigabytes_per_second']:.1f} GB/s"
    best = ", ".join(f"{name} {speed:.1f}" for name, speed in row["best"].items())
    cell = f"{row['size']:>5} {row['bits']} x{row['rows']}"
    return f"{cell}: smelt {ours:.1f} tokens/s, {share}; {', '.join(others)} [best: {best}]"


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--bits", nargs="+", default=list(BITS), choices=BITS)
    parser.add_argument("--rows", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", default="decode-weights")
    parser.add_argument("--llama-python", help="a Python that has llama-cpp-python, gguf and safetensors")
    parser.add_argument("--transformers", nargs="*", default=["15m", "110m"], help="sizes at which it takes part")
    parser.add_argument("--dtype", default="float32", help="transformers' type")
    parser.add_argument("--out", help="a JSON file of the figures")
    for name in ("--engine", "--size", "--bit"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine:
        serve(arguments)
        return
    found = []
    for cell in cells(arguments):
        found.append(compare(arguments, *cell))
        print(show(found[-1]), flush=True)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
