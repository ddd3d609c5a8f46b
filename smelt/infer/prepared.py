"""A model made ready for the fused step: packed matrices, buffers, and the records that tell the kernels where all is.

Everything a record points to is kept here, and lives as long as this object. Weights are copied: what is trained
afterwards is not seen. Token and position embeddings are read where the model has them, a row a token.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from smelt.infer.kernels.layout import LAYER, MODEL, REQUEST, ROTARY
from smelt.infer.kernels.products import BLOCKS_AT_ONCE
from smelt.infer.kernels.rows import GEGLU, GELU_TANH, RELU, RELU_SQUARED, RMS, SILU, SWIGLU
from smelt.infer.kernels.rows import LAYER as LAYER_NORM
from smelt.infer.kernels.step import DOWN, OUTPUT, QUERY_KEY_VALUE, UP
from smelt.infer.kernels.tiles import activation_bytes
from smelt.infer.kernels.vectors import BF16, FP32, INT8, LANES
from smelt.infer.packing import Packed, Weights, aligned_bytes, pack, round_up
from smelt.models.transformer import Transformer
from smelt.nn.norms import RMSNorm
from smelt.nn.scaling import attention_factor, scaled_frequencies
from smelt.nn.spec import AttentionSpec, LayerSpec, RotarySpec
from smelt.peft.lora import MAX_RANK

ACTIVATIONS = {
    "swiglu": SWIGLU, "geglu": GEGLU, "silu": SILU, "gelu_tanh": GELU_TANH, "relu": RELU, "relu_squared": RELU_SQUARED
}  # fmt: skip
_PARTS_A_THREAD = 4  # of a matrix: a thread that is held up leaves the rest to the others
_FLOAT_BYTES = 4
CACHE_KINDS = {torch.float32: FP32, torch.bfloat16: BF16, torch.int8: INT8}
Linear = tuple[Tensor, Tensor | None]
MATRICES = {
    QUERY_KEY_VALUE: ("query_key_value", ("attention.query", "attention.key", "attention.value")),
    OUTPUT: ("output", ("attention.output",)),
    UP: ("up", ("feed_forward.gate", "feed_forward.up")),
    DOWN: ("down", ("feed_forward.down",)),
}
"""The matrices of a layer by the phase that multiplies with them, and which linear layers each is made of."""
MAX_PARTS = max(len(names) for _, names in MATRICES.values())


def linears(block: nn.Module, phase: int) -> dict[str, nn.Linear]:
    """Return the linear layers of a matrix by their names in the block; not every feed-forward part has a gate."""
    found = dict(block.named_modules())
    return {name: found[name] for name in MATRICES[phase][1] if name in found}


class Prepared:
    """Records `model`, `layers`, `rotaries` and `request` for steps of up to `max_rows` rows, and `logits` (rows, V).

    V is filled up to a multiple of 16.
    """

    def __init__(self, model: Transformer, weights: Weights, num_threads: int, max_rows: int) -> None:
        self._weights, self._num_threads, self._max_rows = weights, num_threads, max_rows
        self._kept: list[Any] = []
        self.weight_bytes = 0
        spec = model.spec
        kinds = [layer.attention.rotary for layer in spec.layers if layer.attention.rotary is not None]
        self._rotary_kinds: list[RotarySpec] = list(dict.fromkeys(kinds))
        self.model, self.layers = np.zeros(1, MODEL), np.zeros(len(spec.layers), LAYER)
        self.rotaries = np.zeros(len(self._rotary_kinds), ROTARY)
        self.request = np.zeros(1, REQUEST)
        for cells, kind in zip(self.rotaries, self._rotary_kinds, strict=True):
            self._write_rotary(cells, kind)
        for cells, block, layer in zip(self.layers, model.blocks, spec.layers, strict=True):
            self._write_layer(cells, block, layer, spec.dim)
        self._write_model(model)
        self.logits = self._write_buffers(spec.layers[0])

    def write_pool(self, keys: list[Tensor], values: list[Tensor], page_tokens: int) -> None:
        """Say where the layers' keys and values, as `attach` takes them, are, from now on."""
        self._pool = (keys, values)
        self.model[0]["page_tokens"], self.model[0]["num_slots"] = page_tokens, len(keys[0])
        self.model[0]["cache_kind"] = CACHE_KINDS[keys[0].dtype]
        for cells, own_keys, own_values in zip(self.layers, keys, values, strict=True):
            cells["keys"], cells["values"] = own_keys.data_ptr(), own_values.data_ptr()

    def _floats(self, tensor: Tensor) -> int:
        """Keep an fp32 copy and return its address."""
        copy = tensor.detach().float().clone().contiguous().numpy()
        self._kept.append(copy)
        return int(copy.ctypes.data)

    def _write_matrix(self, cells: Any, parts: list[Linear], *, interleaved: bool = False) -> Packed:
        packed = pack(parts, self._weights, interleaved=interleaved)
        self._kept.append(packed)
        self.weight_bytes += packed.blocks.nbytes
        share = -(-packed.num_blocks // (self._num_threads * _PARTS_A_THREAD if self._num_threads > 1 else 1))
        for name, value in packed.matrix._asdict().items():
            cells[name] = value
        cells["num_blocks"], cells["blocks_a_part"] = packed.num_blocks, round_up(share, BLOCKS_AT_ONCE)
        cells["input_bytes"] = activation_bytes(packed.kind, packed.num_groups)
        return packed

    def _write_norm(self, cells: Any, module: Any) -> None:
        weight, bias = module.weight, getattr(module, "bias", None)
        is_rms = isinstance(module, RMSNorm)
        cells["kind"], cells["eps"] = RMS if is_rms else LAYER_NORM, module.eps
        cells["weight"] = self._floats(weight + module.offset if isinstance(module, RMSNorm) else weight)
        cells["bias"] = 0 if bias is None else self._floats(bias)

    def _write_rotary(self, cells: Any, kind: RotarySpec) -> None:
        table = np.zeros((2, self._max_rows, kind.dim // 2), np.float32)
        self._kept.append(table)
        cells["half"], cells["factor"] = kind.dim // 2, attention_factor(kind.scaling)
        cells["frequencies"] = self._floats(scaled_frequencies(kind.dim, kind.theta, kind.scaling, torch.device("cpu")))
        cells["cosines"], cells["sines"] = table[0].ctypes.data, table[1].ctypes.data
        cells["table_stride"] = table.strides[1]

    def _write_layer(self, cells: Any, block: Any, spec: LayerSpec, dim: int) -> None:
        self._write_norm(cells["attention_norm"], block.attention_norm)
        self._write_norm(cells["feed_forward_norm"], block.feed_forward_norm)
        self._write_attention(cells, block.attention, spec.attention)
        cells["activation"], cells["gated"] = ACTIVATIONS[spec.dense.activation], len(linears(block, UP)) == 2
        for phase, (name, _) in MATRICES.items():
            parts: list[Linear] = [(layer.weight, layer.bias) for layer in linears(block, phase).values()]
            self._write_matrix(cells[name], parts, interleaved=phase == UP)

    def _write_attention(self, cells: Any, attention: Any, spec: AttentionSpec) -> None:
        cells["num_heads"], cells["num_kv_heads"] = spec.num_heads, spec.num_kv_heads
        cells["kv_heads_a_part"] = -(-spec.num_kv_heads // (2 * self._num_threads))
        cells["head_dim"], cells["window"] = spec.head_dim, spec.window or 0
        cells["rotary"] = -1 if spec.rotary is None else self._rotary_kinds.index(spec.rotary)
        cells["scale"] = 1 / math.sqrt(spec.head_dim) if spec.scale is None else spec.scale
        cells["softcap"] = spec.softcap or 0.0
        cells["has_head_norms"] = spec.qk_norm is not None
        if spec.qk_norm is not None:
            self._write_norm(cells["query_norm"], attention.query_norm)
            self._write_norm(cells["key_norm"], attention.key_norm)
        cells["key_offset"] = _FLOAT_BYTES * round_up(spec.num_heads * spec.head_dim, LANES)
        width = _FLOAT_BYTES * round_up(spec.num_kv_heads * spec.head_dim, LANES)
        cells["value_offset"] = cells["key_offset"] + width

    def _write_model(self, model: Transformer) -> None:
        cells, spec = self.model[0], model.spec
        cells["dim"], cells["vocab_size"], cells["max_seq_len"] = spec.dim, spec.vocab_size, spec.max_seq_len
        cells["embedding"], cells["narrow_embedding"] = self._table(model.token_embedding.weight)
        if model.position_embedding is not None:
            rows = model.position_embedding.weight[spec.position_offset :]
            cells["positions"], cells["narrow_positions"] = self._table(rows)
        self._write_norm(cells["norm"], model.norm)
        self._write_matrix(cells["head"], [(model.head_weight, model.head_bias)])

    def _table(self, table: Tensor) -> tuple[int, bool]:
        """Return where the rows of an embedding are, and whether they are bf16; any other type is copied as fp32."""
        table = table.detach()
        if table.dtype not in (torch.float32, torch.bfloat16):
            table = table.float()
        table = table.contiguous()
        self._kept.append(table)
        return table.data_ptr(), table.dtype is torch.bfloat16

    def _buffer(self, num_rows: int, row_bytes: int) -> int:
        buffer = aligned_bytes(num_rows * row_bytes)
        self._kept.append(buffer)
        return int(buffer.ctypes.data)

    def _write_buffers(self, spec: LayerSpec) -> npt.NDArray[np.float32]:
        """Make the buffers of a step, zeros, since what fills rows up must stay zero; return that of the logits."""
        model, layer, rows = self.model[0], self.layers[0], self._max_rows
        matrices = [layer["query_key_value"], layer["output"], layer["up"], layer["down"], model["head"]]
        block_bytes = _FLOAT_BYTES * LANES
        for name, matrix in (("normed", matrices[0]), ("mixed", matrices[1]), ("hidden", matrices[3])):
            model[name] = self._buffer(rows, activation_bytes(0, int(matrix["num_groups"])))
        for name, matrix in (("stream", matrices[1]), ("projected", matrices[0]), ("pairs", matrices[2])):
            model[f"{name}_stride"] = block_bytes * matrix["num_blocks"]
            model[name] = self._buffer(rows, int(model[f"{name}_stride"]))
        model["rounded"] = self._buffer(rows, max(int(matrix["input_bytes"]) for matrix in matrices))
        heads = spec.attention.num_heads // spec.attention.num_kv_heads * int(layer["kv_heads_a_part"])
        model["scratch_stride"] = block_bytes * heads * -(-int(model["max_seq_len"]) // LANES)
        model["reduced_stride"] = _FLOAT_BYTES * MAX_PARTS * MAX_RANK
        model["reduced"] = self._buffer(rows, int(model["reduced_stride"]))
        model["scratch"] = self._buffer(self._num_threads, int(model["scratch_stride"]))
        logits = aligned_bytes(rows * block_bytes * int(model["head"]["num_blocks"])).view(np.float32).reshape(rows, -1)
        model["logits"], model["logits_stride"] = logits.ctypes.data, logits.strides[0]
        return logits
