"""Where our layers stand in published layouts: the rows that the weight rules give them, there and back."""

import pytest
import torch

from smelt.models.families import PRESETS, Shape, spec_for
from smelt.peft.published import by_module, laid_together, published_layers, task_type

SHAPES = {"gpt2": Shape(64, 8, 2, 2, 16), "glm": Shape(64, 8, 2, 2, 16, 1, 12), "llama": Shape(64, 8, 2, 2, 16)}


def test_the_parts_of_a_fused_and_transposed_matrix_are_its_rows_in_turn():
    places = published_layers(spec_for("gpt2", SHAPES["gpt2"]))
    query, key = places["blocks.1.attention.query"], places["blocks.1.attention.key"]
    assert query.module == key.module == "transformer.h.1.attn.c_attn"
    assert query.rows.tolist() == list(range(8))
    assert key.rows.tolist() == list(range(8, 16))
    assert (key.num_rows, key.num_columns, key.transposed) == (24, 8, True)
    ours = [f"blocks.1.attention.{part}" for part in ("query", "key", "value")]
    assert by_module(places)["transformer.h.1.attn.c_attn"] == ours


def test_rows_that_take_turns_by_head_are_told_by_their_numbers():
    places = published_layers(PRESETS["chatglm-6b"])
    key = places["blocks.0.attention.key"]
    assert key.rows[:129].tolist() == [*range(128, 256), 512]  # 128 of each head, behind its queries, before its values


def test_a_plain_layer_is_the_whole_of_its_module():
    place = published_layers(spec_for("llama", SHAPES["llama"]))["blocks.0.feed_forward.down"]
    assert (place.module, place.rows.tolist()) == ("model.layers.0.mlp.down_proj", list(range(8)))
    assert place.smaller_side == 8
    assert not place.transposed


def test_parts_are_laid_where_they_belong_and_the_rest_is_zero():
    places = published_layers(spec_for("glm", SHAPES["glm"]))
    up = torch.arange(24.0).view(12, 2)
    whole = laid_together({"blocks.0.feed_forward.up": up}, places)  # behind the gate's 12 rows
    assert whole.shape == (24, 2)
    assert torch.equal(whole[12:], up)
    assert not whole[:12].any()


@pytest.mark.parametrize(
    ("preset", "count", "task"),
    [("mixtral-nano", 8, "CAUSAL_LM"), ("t5-small", 96, "SEQ_2_SEQ_LM"), ("bert-base-uncased", 72, None),
     ("albert-base-v2", 6, None), ("lstm-5m", 0, "CAUSAL_LM")],
)  # fmt: skip
def test_what_can_be_named_and_for_what_task(preset, count, task):
    places = published_layers(PRESETS[preset])
    assert len(places) == count  # a mixture's experts and router are no linear layers
    assert task_type(PRESETS[preset]) == task
