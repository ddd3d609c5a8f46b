"""What a step is told: records of addresses and sizes, made once a model, and one made anew for each step.

Strides and offsets are in bytes. An address of 0 says that there is none.
"""

import numpy as np

_NUMBER, _FLOAT = np.int64, np.float32


def _record(numbers: str, floats: str = "", **others: np.dtype[np.void]) -> np.dtype[np.void]:
    fields = [(name, _NUMBER) for name in numbers.split()] + [(name, _FLOAT) for name in floats.split()]
    return np.dtype([*fields, *others.items()], align=True)


MATRIX = _record("kind weights bias num_groups block_bytes num_blocks blocks_a_part input_bytes")
NORM = _record("kind weight bias", "eps")
ROTARY = _record("half frequencies cosines sines table_stride", "factor")
LAYER = _record(
    "num_heads num_kv_heads kv_heads_a_part head_dim key_offset value_offset has_head_norms window "
    "rotary keys values activation gated",
    "scale softcap",
    attention_norm=NORM, query_norm=NORM, key_norm=NORM, feed_forward_norm=NORM,
    query_key_value=MATRIX, output=MATRIX, up=MATRIX, down=MATRIX,
)  # fmt: skip
MODEL = _record(
    "dim vocab_size max_seq_len page_tokens num_slots cache_kind "
    "embedding narrow_embedding positions narrow_positions "
    "stream stream_stride normed rounded projected projected_stride mixed pairs pairs_stride hidden "
    "logits logits_stride scratch scratch_stride reduced reduced_stride",
    norm=NORM, head=MATRIX,
)  # fmt: skip
REQUEST = _record("num_rows ids positions pages pages_a_row num_texts texts adapters")
