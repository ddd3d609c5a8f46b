"""Generation against transformers: the same logits rules, the same greedy text, the same beams, the same perplexity."""

import math

import pytest
import torch

from smelt.evals import bits_per_byte
from smelt.infer import Sampling, generate
from smelt.infer.sampling import (
    apply_temperature,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
    shape_logits,
)
from smelt.models.hub import load_model
from smelt.models.transformer import Transformer

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.interop

VOCAB = 47
CONTEXT = 160
PROMPTS = [[1, 2, 3], [44], [5, 6, 7, 8, 9, 10, 11, 12, 13], [30, 31], [7, 7, 7, 7], [20, 3, 40, 8, 1]]


class Numbers:
    """A tokenizer of which only the sizes matter: every id is written as its number."""

    vocab_size, special = VOCAB, {}

    def decode_bytes(self, ids, *, continued=False):
        return "".join(f"{number} " for number in ids).encode()


def tiny_llama():
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
    )
    return transformers.LlamaForCausalLM(config)


def tiny_gpt2():
    config = transformers.GPT2Config(
        vocab_size=VOCAB, n_embd=24, n_layer=2, n_head=4, n_positions=CONTEXT, initializer_range=0.3
    )
    return transformers.GPT2LMHeadModel(config)


@pytest.fixture(scope="module", params=[tiny_llama, tiny_gpt2], ids=["llama", "gpt2"])
def pair(request, tmp_path_factory) -> tuple[object, Transformer]:
    torch.manual_seed(5)
    reference = request.param().eval()
    reference.generation_config = transformers.GenerationConfig(pad_token_id=0)
    directory = tmp_path_factory.mktemp("reference")
    reference.save_pretrained(directory)
    return reference, load_model(directory)


def reference_ids(reference, prompt, stop_ids=(), **settings) -> tuple[int, ...]:
    """What transformers answers to one prompt; its padding after the end is cut."""
    ids = torch.tensor([prompt])
    found = reference.generate(
        ids, attention_mask=torch.ones_like(ids), pad_token_id=0, eos_token_id=list(stop_ids) or None, **settings
    )
    answer = found[0, len(prompt) :].tolist()
    ends = [place for place, token in enumerate(answer) if token in stop_ids]
    return tuple(answer[: ends[0] + 1] if ends else answer)


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    return torch.randn(64, VOCAB, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("k", [1, 7, 200])
def test_top_k(logits, k):
    assert torch.equal(keep_top_k(logits, k), transformers.TopKLogitsWarper(k)(None, logits))


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9, 0.99])
def test_top_p(logits, p):
    assert torch.equal(keep_top_p(logits, p), transformers.TopPLogitsWarper(p)(None, logits))


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 1.0])
def test_min_p(logits, p):
    assert torch.equal(keep_min_p(logits, p), transformers.MinPLogitsWarper(p)(None, logits))


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 3.0])
def test_temperature(logits, temperature):
    expected = transformers.TemperatureLogitsWarper(temperature)(None, logits)
    torch.testing.assert_close(apply_temperature(logits, temperature).softmax(-1), expected.softmax(-1))


@pytest.mark.parametrize("penalty", [0.5, 1.3])
def test_repetition_penalty(logits, penalty):
    ids = torch.randint(0, VOCAB, (64, 12), generator=torch.Generator().manual_seed(1))
    seen = torch.zeros(64, VOCAB, dtype=torch.bool).scatter_(1, ids, True)
    expected = transformers.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
    assert torch.equal(penalize_repetition(logits, seen, penalty), expected)


def test_the_order_of_the_rules_is_the_same(pair, logits):
    reference, _ = pair
    config = transformers.GenerationConfig(do_sample=True, temperature=0.6, top_k=9, top_p=0.8, min_p=0.08)
    reference._prepare_special_tokens(config)
    expected = reference._get_logits_processor(config)(torch.zeros(64, 1, dtype=torch.long), logits)
    ours = shape_logits(logits, Sampling(temperature=0.6, top_k=9, top_p=0.8, min_p=0.08))
    torch.testing.assert_close(ours.softmax(-1), expected.softmax(-1))
    assert 1 < int((ours > -math.inf).sum(-1).max()) < 9


def test_greedy_text_is_the_same_for_64_tokens(pair):
    reference, model = pair
    found = generate(model, Numbers(), PROMPTS, Sampling(max_new_tokens=64, temperature=0))
    expected = [reference_ids(reference, prompt, max_new_tokens=64, do_sample=False) for prompt in PROMPTS]
    assert [answer.ids for answer in found] == expected
    assert len({ids[-16:] for ids in expected}) > 2, "the reference is too dull for this test"


def test_greedy_with_stop_ids_and_repetition_penalty(pair):
    reference, model = pair
    sampling = Sampling(max_new_tokens=40, temperature=0, repetition_penalty=1.4)
    settings = {"max_new_tokens": 40, "do_sample": False, "repetition_penalty": 1.4}
    stop = (3, 17, 29)
    found = generate(model, Numbers(), PROMPTS, sampling, stop_ids=stop)
    expected = [reference_ids(reference, prompt, stop, **settings) for prompt in PROMPTS]
    assert [answer.ids for answer in found] == expected
    assert len({len(ids) for ids in expected}) > 2


@pytest.mark.parametrize("stop", [(), (3,), (3, 17, 29)], ids=["no_stop", "one_stop", "three_stops"])
@pytest.mark.parametrize("num_beams", [2, 5])
def test_beam_search(pair, num_beams, stop):
    reference, model = pair
    found = generate(model, Numbers(), PROMPTS, Sampling(max_new_tokens=16, num_beams=num_beams), stop_ids=stop)
    settings = {"max_new_tokens": 16, "do_sample": False, "num_beams": num_beams, "length_penalty": 1.0}
    assert [answer.ids for answer in found] == [reference_ids(reference, p, stop, **settings) for p in PROMPTS]


def test_beam_search_of_transformers_in_a_batch(pair):
    reference, model = pair
    width = max(map(len, PROMPTS))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in PROMPTS])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS])
    stop = [3, 17]
    settings = {"max_new_tokens": 24, "num_beams": 4, "do_sample": False, "repetition_penalty": 1.2}
    expected = reference.generate(ids, attention_mask=mask, pad_token_id=0, eos_token_id=stop, **settings)
    sampling = Sampling(max_new_tokens=24, num_beams=4, repetition_penalty=1.2)
    for answer, row in zip(generate(model, Numbers(), PROMPTS, sampling, stop_ids=stop), expected, strict=True):
        assert list(answer.ids) == row[width : width + len(answer.ids)].tolist()
        assert answer.finish_reason == "length" or answer.ids[-1] in stop


def test_perplexity_follows_the_strided_recipe(pair):
    """The recipe of the transformers documentation counts `max_length` ids a window, of which one less is read."""
    reference, model = pair

    class Letters(Numbers):
        def encode(self, text):
            return [ord(letter) % VOCAB for letter in text]

    text = "the quick brown fox jumps over the lazy dog and comes back again " * 3
    ids = torch.tensor([[0, *Letters().encode(text)]])
    max_length, stride = 33, 12
    nats, previous_end = 0.0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + max_length, ids.shape[1])
        window = ids[:, begin:end]
        labels = window.clone()
        labels[:, : -(end - previous_end)] = -100
        with torch.no_grad():
            loss = reference(window, labels=labels).loss
        nats += float(loss) * int((labels[:, 1:] != -100).sum())
        previous_end = end
        if end == ids.shape[1]:
            break
    score = bits_per_byte(model, Letters(), [text], max_seq_len=max_length - 1, stride=stride, start_id=0)
    assert score.num_tokens == ids.shape[1] - 1
    assert score.perplexity == pytest.approx(math.exp(nats / score.num_tokens), rel=1e-4)
