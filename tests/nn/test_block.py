"""The block adds its parts to the residual stream, and compiles whole."""

from dataclasses import replace

import pytest
import torch

from smelt.models.families import preset
from smelt.nn.block import Block
from smelt.nn.masks import segment_mask
from smelt.nn.positions import rotary_tables


def make(name: str = "smelt-nano") -> tuple[Block, torch.Tensor, torch.Tensor, torch.Tensor]:
    spec = preset(name)
    torch.manual_seed(0)
    rotary = spec.layers[0].attention.rotary
    cos, sin = rotary_tables(torch.arange(7), rotary, torch.float32) if rotary else (None, None)
    return Block(spec.layers[0], spec.dim), torch.randn(2, 7, spec.dim), cos, sin


def test_block_is_two_residual_steps():
    block, x, cos, sin = make()
    middle = x + block.attention(block.attention_norm(x), cos, sin, None)
    expected = middle + block.feed_forward(block.feed_forward_norm(middle))
    torch.testing.assert_close(block(x, cos, sin, None)[0], expected)


@pytest.mark.parametrize("placement", ["post", "sandwich", "parallel"])
def test_norms_stand_where_the_placement_says(placement):
    spec = preset("smelt-nano")
    torch.manual_seed(0)
    block, x = Block(replace(spec.layers[0], placement=placement), spec.dim), torch.randn(2, 7, spec.dim)
    cos, sin = rotary_tables(torch.arange(7), spec.layers[0].attention.rotary, torch.float32)

    def mix(x):
        return block.attention(x, cos, sin, None)

    if placement == "post":
        middle = block.attention_norm(x + mix(x))
        expected = block.feed_forward_norm(middle + block.feed_forward(middle))
    elif placement == "sandwich":
        middle = x + block.attention_out_norm(mix(block.attention_norm(x)))
        expected = middle + block.feed_forward_out_norm(block.feed_forward(block.feed_forward_norm(middle)))
    else:
        expected = x + mix(block.attention_norm(x)) + block.feed_forward(block.attention_norm(x))
    torch.testing.assert_close(block(x, cos, sin, None)[0], expected)


@pytest.mark.parametrize("name", ["smelt-nano", "mixtral-nano"])
@pytest.mark.parametrize("masked", [False, True])
def test_block_traces_without_graph_breaks(masked, name):
    block, x, cos, sin = make(name)
    segments = torch.tensor([[1, 1, 1, 2, 2, 2, 2], [0, 0, 1, 1, 1, 1, 1]])
    mask = segment_mask(segments, 7, torch.float32) if masked else None
    torch.compiler.reset()
    traced = torch.compile(block, backend="aot_eager", fullgraph=True)
    parameters = tuple(block.parameters())
    plain, whole = block(x, cos, sin, mask)[0], traced(x, cos, sin, mask)[0]
    torch.testing.assert_close(whole, plain)
    ours, theirs = (torch.autograd.grad(out.square().sum(), parameters) for out in (whole, plain))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_generated_code_equals_eager():
    block, x, cos, sin = make()
    expected, _ = block(x, cos, sin, None)
    torch.compiler.reset()
    block.compile(fullgraph=True)
    torch.testing.assert_close(block(x, cos, sin, None)[0], expected, atol=1e-5, rtol=1e-5)
