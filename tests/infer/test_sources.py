"""Generation from a source: against the loop without a cache, alone against in company, beams, budgets, refusals."""

from dataclasses import replace

import pytest
import torch

from smelt.core.errors import UsageError
from smelt.infer import Sampling, generate
from smelt.models.build import build
from smelt.models.encoder_decoder import EncoderDecoder
from smelt.models.families import Shape, spec_for
from smelt.nn.spec import TokenIds

CONTEXT, START = 32, 258
SOURCES = [[1, 2, 3], [44], [5, 6, 7, 8, 9, 10, 11, 12], [100, 101], [7, 7, 7]]


@pytest.fixture(scope="module", params=["t5", "transformer2017"])
def reader(request: pytest.FixtureRequest) -> EncoderDecoder:
    """A model whose answers depend on the source."""
    spec = replace(spec_for(request.param, Shape(259, 24, 2, 4, CONTEXT)), token_ids=TokenIds(None, (), 0, START))
    found = build(spec, seed=1)
    assert isinstance(found, EncoderDecoder)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in found.parameters():  # else every source has the same dull answer
            parameter += 0.5 * torch.randn(parameter.shape, generator=generator)
    return found.eval()


@torch.inference_mode()
def uncached(model: EncoderDecoder, source: list[int], num_tokens: int) -> tuple[int, ...]:
    """The obvious loop: source and target through the model for every token."""
    ids = [START]
    for _ in range(num_tokens):
        ids.append(int(model(torch.tensor([ids]), source=torch.tensor([source])).logits[0, -1].argmax()))
    return tuple(ids[1:])


def test_cached_rows_of_all_lengths_are_the_obvious_loop(reader, tokenizer):
    found = generate(reader, tokenizer, SOURCES, Sampling(max_new_tokens=20, temperature=0))
    assert [answer.ids for answer in found] == [uncached(reader, source, 20) for source in SOURCES]
    assert len({answer.ids for answer in found}) > 2, "the model is too dull for this test"


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new_tokens=20, temperature=0, repetition_penalty=1.5),
        Sampling(max_new_tokens=20, temperature=1.2, top_p=0.9, seed=3),
        Sampling(max_new_tokens=12, num_beams=3),
        Sampling(max_new_tokens=20, temperature=0.7, seed=5, stop=("a", "e")),
    ],
)
def test_alone_or_in_company(reader, tokenizer, sampling):
    stops = tuple(range(0, 259, 9))  # rows end at different times, and are dropped
    together = generate(reader, tokenizer, SOURCES, sampling, stop_ids=stops)
    assert len({answer.ids for answer in together}) > 2
    assert sampling.num_beams > 1 or len({len(answer.ids) for answer in together}) > 1
    if sampling.temperature == 0 or sampling.num_beams > 1:
        alone = [generate(reader, tokenizer, [source], sampling, stop_ids=stops)[0] for source in SOURCES]
        assert together == alone


def test_source_and_answer_have_a_context_each(reader, tokenizer):
    full = [5] * CONTEXT
    (answer,) = generate(reader, tokenizer, [full], Sampling(max_new_tokens=99, temperature=0))
    assert (len(answer.ids), answer.finish_reason) == (CONTEXT - 1, "length")
    with pytest.raises(UsageError, match="prompt 1 has 33 tokens, but the model's context holds 32"):
        generate(reader, tokenizer, [[1], [*full, 5]], Sampling())
    with pytest.raises(UsageError, match="prompt 0 has no token"):
        generate(reader, tokenizer, [[]], Sampling())


def test_a_model_that_names_no_first_token_says_so(tokenizer):
    model = build(spec_for("t5", Shape(259, 24, 1, 2, CONTEXT)), seed=1)
    with pytest.raises(UsageError) as caught:
        generate(model, tokenizer, [[1]], Sampling())
    assert str(caught.value) == (
        "this t5 model does not say with which token an answer begins\n"
        "accepted: a checkpoint whose config.json has decoder_start_token_id\n"
        "try: add it; most models of this kind begin with their padding token"
    )
