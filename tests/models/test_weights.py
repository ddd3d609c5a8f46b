"""Weight rules: each kind by hand, both directions, and a misfit that names what is wrong."""

from dataclasses import replace

import pytest
import torch

from smelt.core.errors import CheckpointError
from smelt.models.weights import (
    Ignore,
    Rule,
    Tie,
    export_weights,
    import_weights,
    merge,
    rename,
    row,
    split,
    transpose,
    with_endings,
    without_prefix,
)

A, B = torch.arange(6.0).reshape(2, 3), torch.arange(6.0, 9.0).reshape(1, 3)


def load(rules, tensors, parameters):
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    import_weights(rules, shapes, tensors.__getitem__, parameters, "dir")


@pytest.mark.parametrize(
    ("rule", "theirs", "ours"),
    [
        (rename("t", "o"), {"t": A}, {"o": A}),
        (transpose("t", "o"), {"t": A.T}, {"o": A}),
        (split("t", ("a", "b"), (2, 1)), {"t": torch.cat((A, B))}, {"a": A, "b": B}),
        (split("t", ("a", "b"), (2, 1), transposed=True), {"t": torch.cat((A, B)).T}, {"a": A, "b": B}),
        (merge(("a", "b"), "o", (2, 1)), {"a": A, "b": B}, {"o": torch.cat((A, B))}),
        (row("t", "o"), {"t": B}, {"o": B[0]}),
        (merge(("a", "b"), "o", (2, 1), transposed=True), {"a": A.T, "b": B.T}, {"o": torch.cat((A, B))}),
    ],
)
def test_each_kind_of_rule_runs_both_ways(rule, theirs, ours):
    parameters = {name: torch.zeros_like(tensor) for name, tensor in ours.items()}
    load((rule,), theirs, parameters)
    assert all(torch.equal(parameters[name], ours[name]) for name in ours)
    written = dict(export_weights((rule,), ours))
    assert list(written) == list(theirs)
    assert all(torch.equal(written[name], theirs[name]) and written[name].is_contiguous() for name in theirs)


def test_missing_and_unexpected_keys_are_listed_with_the_nearest():
    rules = tuple(rename(f"layer.{i}.weight", f"o{i}") for i in range(12))
    tensors = {f"layers.{i}.weight": A for i in range(12)}
    with pytest.raises(CheckpointError) as caught:
        load(rules, tensors, {f"o{i}": torch.zeros(2, 3) for i in range(12)})
    first, accepted, fix = str(caught.value).split("\n")
    start = "dir: its tensors do not fit the model: 12 missing: layer.0.weight (near 'layers.0.weight'), layer.1.weight"
    assert first.startswith(start)
    assert first.count("(near") == 20
    assert "layer.7.weight (near 'layers.7.weight') and 2 more; 12 unexpected: layers.0.weight (near" in first
    assert accepted == "accepted: exactly the 12 tensors of this architecture"
    assert fix == "try: check that config.json belongs to these weights"


def test_shape_mismatch_names_the_tensor_and_both_shapes_and_changes_nothing():
    parameters = {"a": torch.zeros(2, 3), "b": torch.zeros(2, 4)}
    rules = (rename("ta", "a"), transpose("tb", "b"))
    with pytest.raises(CheckpointError, match=r"dir: tb has shape \(2, 4\), config.json asks for \(4, 2\)"):
        load(rules, {"ta": A, "tb": torch.ones(2, 4)}, parameters)
    assert (parameters["a"] == 0).all()


def test_merge_checks_the_rows_of_each_part():
    with pytest.raises(CheckpointError, match=r"a has shape \(1, 3\), config.json asks for \(2, 3\)"):
        load((merge(("a", "b"), "o", (2, 1)),), {"a": B, "b": A}, {"o": torch.zeros(3, 3)})


def test_ignored_tensors_are_skipped_and_others_are_not():
    rules = (rename("t", "o"), Ignore("h.*.mask"))
    load(rules, {"t": A, "h.3.mask": B}, {"o": torch.zeros(2, 3)})
    with pytest.raises(CheckpointError, match=r"1 unexpected: h\.3\.bias"):
        load(rules, {"t": A, "h.3.bias": B}, {"o": torch.zeros(2, 3)})


def test_tied_copy_may_be_there_but_must_be_equal_and_is_not_written():
    rules = (rename("t", "o"), Tie("head", "t"))
    load(rules, {"t": A}, {"o": torch.zeros(2, 3)})
    load(rules, {"t": A, "head": A.clone()}, {"o": torch.zeros(2, 3)})
    with pytest.raises(CheckpointError, match=r"dir: head differs from t, but config\.json ties"):
        load(rules, {"t": A, "head": A + 1}, {"o": torch.zeros(2, 3)})
    assert list(dict(export_weights(rules, {"o": A}))) == ["t"]


@pytest.mark.parametrize(
    "rules",
    [
        (rename("t", "o"),),
        (rename("t", "o"), rename("u", "p"), rename("v", "p")),
        (rename("t", "o"), rename("t", "p")),
        (rename("t", "o"), rename("u", "q")),
    ],
)
def test_rules_that_do_not_make_each_parameter_once_are_a_fault(rules):
    with pytest.raises(CheckpointError, match="the weight rules do not make each parameter once"):
        load(rules, {"t": A, "u": A, "v": A}, {"o": torch.zeros(2, 3), "p": torch.zeros(2, 3)})


def test_prefix_is_stripped_from_every_rule():
    rules = (rename("model.a", "a"), Tie("head", "model.a"), Ignore("model.*.x"))
    assert without_prefix(rules, "model.") == (Rule(("a",), ("a",)), Tie("head", "a"), Ignore("*.x"))


def test_older_endings_are_taken_where_the_file_has_them():
    rules = (rename("a.norm.weight", "a"), rename("b.norm.weight", "b"), rename("norm.weights", "c"), Ignore("x"))
    found = with_endings(rules, {"norm.weight": "norm.gamma"}, ["a.norm.gamma", "b.norm.weight", "b.norm.gamma"])
    assert found == (rename("a.norm.gamma", "a"), *rules[1:])


def test_groups_of_rows_are_parted_and_joined():
    # Two heads of two rows: query, key and value of the first head, then those of the second.
    fused = torch.tensor([[1], [2], [11], [12], [21], [22], [3], [4], [13], [14], [23], [24]]).float()
    rules = (replace(split("qkv", ("q", "k", "v"), (4, 4, 4)), groups=2),)
    parameters = {name: torch.zeros(4, 1) for name in "qkv"}
    import_weights(rules, {"qkv": (12, 1)}, {"qkv": fused}.__getitem__, parameters, "here")
    assert parameters["q"].flatten().tolist() == [1, 2, 3, 4]
    assert parameters["k"].flatten().tolist() == [11, 12, 13, 14]
    assert torch.equal(dict(export_weights(rules, parameters))["qkv"], fused)
