"""Specs are values: equal by content, and refuse networks that could not exist."""

from dataclasses import replace

import pytest

from smelt.core.errors import UsageError
from smelt.models.families import preset
from smelt.nn.spec import AttentionSpec, ContextSpec, RotarySpec, TaskSpec


def test_specs_compare_by_content_and_hash():
    spec = preset("smelt-nano")
    assert replace(spec) == spec
    assert hash(replace(spec)) == hash(spec)
    assert replace(spec, dim=128) != spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 0}, "vocab_size is 0\naccepted: a positive number"),
        ({"max_seq_len": -1}, "max_seq_len is -1\naccepted: a positive number"),
        ({"layers": ()}, "a model without layers\naccepted: at least one layer"),
        (
            {"tied": True, "embedding_dim": 8},
            "a head tied to embeddings of 8 numbers under layers of 64\naccepted: a head transform, which narrows the "
            "hidden states",
        ),
        ({"dim": 63, "positions": "sinusoidal"}, "sinusoidal positions of width 63\naccepted: an even width"),
    ],
)
def test_impossible_models_are_refused(change, message):
    with pytest.raises(UsageError) as caught:
        replace(preset("smelt-nano"), **change)
    assert str(caught.value) == message


def test_heads_must_divide():
    with pytest.raises(UsageError) as caught:
        AttentionSpec(num_heads=6, num_kv_heads=4, head_dim=8)
    assert str(caught.value).startswith("6 query heads over 4 kv heads\naccepted: a number of kv heads that divides")


def test_rotary_size_is_even_and_within_the_head():
    with pytest.raises(UsageError, match="rotary size 7\naccepted: a positive even head size"):
        RotarySpec(7)
    with pytest.raises(UsageError, match="rotary size 10\naccepted: at most the head size, 8"):
        AttentionSpec(num_heads=2, num_kv_heads=2, head_dim=8, rotary=RotarySpec(10))


def test_a_task_has_as_many_names_as_labels():
    assert TaskSpec("token", 2, crf=True, label_names=("A", "B")).label_names == ("A", "B")
    with pytest.raises(UsageError, match="task text: 1 names for 2 labels\naccepted: a name for each label, or none"):
        TaskSpec("text", 2, label_names=("A",))
    with pytest.raises(UsageError, match="task text: a CRF that reads first\naccepted: a CRF over tokens"):
        TaskSpec("text", 2, "first", crf=True)


def test_two_axes_need_a_whole_head_and_a_context():
    with pytest.raises(UsageError, match="rotary size 6 over 2 axes\naccepted: 1 or 2 axes of an even size"):
        RotarySpec(6, axes=2)
    with pytest.raises(UsageError, match="two axes on 4 of 8\naccepted: two axes on a whole head"):
        AttentionSpec(num_heads=2, num_kv_heads=2, head_dim=8, rotary=RotarySpec(4, axes=2))
    with pytest.raises(UsageError, match="two axes of positions without a context, or the reverse"):
        replace(preset("smelt-nano"), context=ContextSpec(1, (2,)))
    with pytest.raises(UsageError, match="two axes of positions without a context, or the reverse"):
        replace(preset("chatglm-6b"), context=None)


def test_a_residual_scale_is_that_of_scaled_norms():
    layer = preset("smelt-nano").layers[0]
    for change in ({"placement": "scaled"}, {"residual_scale": 2.0}):
        with pytest.raises(UsageError, match="a residual scale without scaled norms, or the reverse"):
            replace(layer, **change)
