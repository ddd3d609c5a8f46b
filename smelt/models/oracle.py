"""GPT-2 and Llama in plain NumPy: from a checkpoint directory to the logits of one text, in float64.

The shortest way to see what these networks compute, and a witness for the fast ones, with which it shares no code.
Ref: arXiv:1706.03762, eq. 1. Ref: Language Models are Unsupervised Multitask Learners (2019), 2.3. Ref: LLaMA,
arXiv:2302.13971, 2.2. Ref: arXiv:1607.06450 and arXiv:1910.07467 (norms). Ref: arXiv:2104.09864, 3.2 (rotary).
"""
# mypy: disable-error-code="no-any-return, no-untyped-call"

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import deserialize

from smelt.core.errors import CheckpointError

STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1", "BOOL": "?"}  # bf16: its bits
ACCEPTED: dict[str, list[Any]] = {
    "model_type": ["gpt2", "llama"], "activation_function": ["gelu_new", "gelu_pytorch_tanh", "relu"],
    "scale_attn_weights": [True], "scale_attn_by_inverse_layer_idx": [False], "quantization_config": [None],
    "hidden_act": ["silu"], "rope_type": ["default", "linear", "llama3"], "partial_rotary_factor": [1.0, None],
}  # fmt: skip


def logits(directory: Path | str, ids: list[int]) -> np.ndarray:
    """Score what follows each token of a text: (T,) -> (T, V); raises CheckpointError on what it cannot honour."""
    config = json.loads((Path(directory) / "config.json").read_bytes())
    rotary = (config.get("rope_scaling") or {}) | (config.get("rope_parameters") or {})  # of older and newer files
    config |= {"rope_type": rotary.get("type", "default")} | rotary
    for name, accepted in ACCEPTED.items():
        if (value := config.get(name, accepted[0])) not in accepted:
            raise CheckpointError(f"config.json: {name} = {value!r} is not supported", accepted=str(accepted)[1:-1])
    try:
        model = {"gpt2": gpt2, "llama": llama}[config["model_type"]]
        return model(config, read_weights(Path(directory)), np.array(ids, dtype=np.uint32))
    except KeyError as error:
        raise CheckpointError(f"{directory}: {error} is missing or unknown", fix="use the published files") from error


def read_weights(directory: Path) -> dict[str, Any]:
    """Read every tensor, from one file or from shards, by its name without the prefix that only some files have."""
    index, weights = directory / "model.safetensors.index.json", {}
    files = json.loads(index.read_bytes())["weight_map"].values() if index.is_file() else ["model.safetensors"]
    for name, tensor in (found for file in set(files) for found in deserialize((directory / file).read_bytes())):
        numbers = np.frombuffer(tensor["data"], STORED[tensor["dtype"]])
        if tensor["dtype"] == "BF16":  # the upper half of the same number in fp32
            numbers = (numbers.astype("<u4") << 16).view("<f4")
        weights[name.removeprefix("transformer.").removeprefix("model.")] = numbers.reshape(tensor["shape"])
    return weights


def gpt2(config: dict[str, Any], weights: dict[str, Any], ids: np.ndarray) -> np.ndarray:
    """Learned positions, LayerNorm, GELU or ReLU, biases everywhere: (T,) -> (T, V)."""

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ weights[name + ".weight"] + weights[name + ".bias"]  # stored (fan in, fan out)

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        deviation = np.sqrt(x.var(-1, keepdims=True) + config.get("layer_norm_epsilon", 1e-5))
        return (x - x.mean(-1, keepdims=True)) / deviation * weights[name + ".weight"] + weights[name + ".bias"]

    x = weights["wte.weight"][ids].astype(float) + weights["wpe.weight"][: len(ids)]  # (T, D)
    for block in (f"h.{layer}." for layer in range(config["n_layer"])):
        fused = linear(block + "attn.c_attn", norm(block + "ln_1", x))  # (T, 3 D)
        queries, keys, values = fused.reshape(len(ids), 3, config["n_head"], -1).swapaxes(0, 1)  # (T, H, C) each
        x = x + linear(block + "attn.c_proj", attend(queries, keys, values))  # (T, D)
        hidden = linear(block + "mlp.c_fc", norm(block + "ln_2", x))  # (T, F)
        gelu = hidden / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
        active = np.maximum(hidden, 0) if config.get("activation_function") == "relu" else gelu
        x = x + linear(block + "mlp.c_proj", active)  # (T, D)
    return norm("ln_f", x) @ weights["wte.weight" if config.get("tie_word_embeddings", True) else "lm_head.weight"].T


def llama(config: dict[str, Any], weights: dict[str, Any], ids: np.ndarray) -> np.ndarray:
    """Rotary positions, RMSNorm, SwiGLU, kv heads that query heads share: (T,) -> (T, V)."""

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        biased = config.get("mlp_bias" if ".mlp." in name else "attention_bias")
        return x @ weights[name + ".weight"].T + (weights[name + ".bias"] if biased else 0)  # stored (fan out, fan in)

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        root = np.sqrt(np.mean(x**2, -1, keepdims=True) + config.get("rms_norm_eps", 1e-6))
        return x / root * weights[name + ".weight"]

    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    x = weights["embed_tokens.weight"][ids].astype(float)  # (T, D)
    for block in (f"layers.{layer}." for layer in range(config["num_hidden_layers"])):
        normed = norm(block + "input_layernorm", x)
        projected = (linear(f"{block}self_attn.{part}_proj", normed) for part in "qkv")  # (T, H C), (T, K C) twice
        queries, keys, values = (part.reshape(len(ids), -1, head_dim) for part in projected)  # (T, H or K, C)
        x = x + linear(block + "self_attn.o_proj", attend(rotate(queries, config), rotate(keys, config), values))
        normed = norm(block + "post_attention_layernorm", x)
        gate, up = linear(block + "mlp.gate_proj", normed), linear(block + "mlp.up_proj", normed)  # (T, F) each
        x = x + linear(block + "mlp.down_proj", gate / (1 + np.exp(-gate)) * up)  # (T, D)
    return norm("norm", x) @ weights["embed_tokens.weight" if config.get("tie_word_embeddings") else "lm_head.weight"].T


def rotate(x: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Turn the pairs (i, i + C / 2) of heads, as complex numbers, by their token's angles: (T, K, C) -> (T, K, C)."""
    frequencies = config.get("rope_theta", 10_000.0) ** -(np.arange(0, x.shape[-1], 2) / x.shape[-1])  # (C / 2,)
    if config["rope_type"] == "linear":
        frequencies /= config["factor"]
    if config["rope_type"] == "llama3":
        rounds = config["original_max_position_embeddings"] * frequencies / (2 * np.pi)
        kept = np.interp(rounds, [config["low_freq_factor"], config["high_freq_factor"]], [0, 1])
        frequencies *= kept + (1 - kept) / config["factor"]
    first, second = np.split(x, 2, axis=-1)  # (T, K, C / 2) each
    turned = (first + 1j * second) * np.exp(1j * np.outer(np.arange(len(x)), frequencies))[:, None]
    return np.concatenate((turned.real, turned.imag), axis=-1)


def attend(queries: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mix the values of each token and of those before it: (T, H, C) over (T, K, C) -> (T, H C)."""
    keys, values = (np.repeat(x, queries.shape[1] // x.shape[1], axis=1) for x in (keys, values))  # (T, H, C)
    scores = np.einsum("qhc,khc->hqk", queries, keys) / np.sqrt(queries.shape[-1])  # (H, T, T)
    scores += np.triu(np.full(scores.shape[1:], -np.inf), k=1)  # nobody sees what comes after
    weights = np.exp(scores - scores.max(-1, keepdims=True))  # the softmax, once its rows sum to 1
    return np.concatenate(weights / weights.sum(-1, keepdims=True) @ values.swapaxes(0, 1), axis=-1)  # (T, H C)
