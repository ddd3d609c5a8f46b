"""Constraints: every answer is what its grammar says, whatever the model would rather write, and in any company."""

import dataclasses
import json
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.core.errors import UsageError
from smelt.infer import Sampling
from smelt.infer.constrain import Grammars, Vocabulary, json_rule, reason_in
from smelt.infer.drafts import PromptLookup
from smelt.infer.engine import Engine
from smelt.infer.limits import EngineSettings
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.decoders import MetaspaceDecoder
from smelt.tokenizers.pipeline import Pipeline
from smelt.tokenizers.splitters import Metaspace
from smelt.tokenizers.training import train_tokenizer
from smelt.tokenizers.unigram import Unigram

from .test_engine import GREEDY, LIVELY, STOP, engine_of, prompts_of, run

pytest.importorskip("llguidance")

TEXT = ['{"name": "mill", "at": [1, 2, 30], "is": true} the river and the mill, the bridge 磨坊'] * 4
UNIGRAM = Pipeline(
    Unigram(
        ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", '▁{"', '{"', "true", "磨坊", '": ', "▁1", "the"],
        [0.0, *[-50.0] * 256, *[-2.0] * 8],
        unk_id=0,
        byte_fallback=True,
        hidden=[0],
    ),
    splitters=[Metaspace()],
    decoder=MetaspaceDecoder(byte_fallback=True),
)
TOKENIZERS = {
    "bytes": train_bpe([], vocab_size=259),
    "bpe": train_bpe(TEXT, vocab_size=330),
    "sentencepiece": UNIGRAM,
    "with a normalizer": train_tokenizer(TEXT, algorithm="unigram", vocab_size=330),
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "n"],
    "additionalProperties": False,
}


def schemas(depth: int = 2) -> st.SearchStrategy:
    """Schemas with a bound on what fits them."""
    leaves = [
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.integers(0, 5).map(lambda most: {"type": "string", "maxLength": most}),
        st.tuples(st.integers(-50, 0), st.integers(0, 99)).map(
            lambda ends: {"type": "integer", "minimum": ends[0], "maximum": ends[1]}
        ),
        st.lists(st.one_of(st.text(max_size=4), st.integers(-9, 9), st.none()), min_size=1, max_size=3).map(
            lambda values: {"enum": values}
        ),
    ]
    if depth == 0:
        return st.one_of(leaves)
    inner = schemas(depth - 1)
    names = st.dictionaries(st.sampled_from(["a", "b", "ç磨", 'q"\\']), inner, max_size=2)
    objects = names.map(
        lambda own: {"type": "object", "properties": own, "required": list(own)[:1], "additionalProperties": False}
    )
    arrays = inner.map(lambda item: {"type": "array", "items": item, "maxItems": 2})
    return st.one_of(
        *leaves, objects, arrays, st.lists(inner, min_size=1, max_size=2).map(lambda any_: {"anyOf": any_})
    )


def fits(schema, value) -> bool:
    """Tell whether a value is what a schema of `schemas` describes."""
    if "anyOf" in schema:
        return any(fits(one, value) for one in schema["anyOf"])
    if "enum" in schema:
        return any(type(one) is type(value) and one == value for one in schema["enum"])
    match schema["type"]:
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "string":
            return isinstance(value, str) and len(value) <= schema["maxLength"]
        case "integer":
            return type(value) is int and schema["minimum"] <= value <= schema["maximum"]
        case "array":
            return isinstance(value, list) and len(value) <= 2 and all(fits(schema["items"], item) for item in value)
    known = schema["properties"]
    return (
        isinstance(value, dict)
        and set(schema["required"]) <= set(value) <= set(known)
        and all(fits(known[name], item) for name, item in value.items())
    )


@pytest.fixture(scope="module", params=TOKENIZERS)
def kind(request):
    """An engine with a tokenizer of some kind, and its grammars; it would rather not write spaces."""
    tokenizer = TOKENIZERS[request.param]
    size = tokenizer.vocab_size
    shape = Shape(vocab_size=size, dim=16, num_layers=1, num_heads=2, max_seq_len=1024)
    model = build(spec_for("llama", shape), seed=2)
    ends = tuple(tokenizer.special.values())[:1]
    engine = Engine(model, tokenizer, stop_ids=ends, settings=EngineSettings(max_running=2, cache_tokens=1024))
    spaces = [id_ for id_ in range(size) if tokenizer.decode_bytes([id_], continued=True)[:1] in b" \t\r\n"]
    return engine, Grammars(tokenizer, size, ends), tuple((id_, -20.0) for id_ in spaces)


def answer(engine, constraint, sampling, prompt=(1, 2, 3), **options):
    request = engine.submit(prompt, sampling, constraint=constraint, **options)
    run(engine)
    return request.answer.result()


def lark(schema, lenient=False) -> str:
    return f"start: {json_rule(schema, lenient=lenient)}"


@settings(max_examples=25, deadline=None)
@given(schema=schemas(), seed=st.integers(0, 1000), hot=st.booleans())
def test_whatever_a_model_writes_fits_the_schema(kind, schema, seed, hot):
    engine, grammars, biases = kind
    sampling = Sampling(max_new_tokens=900, temperature=1.5 if hot else 0, seed=seed, logit_bias=biases)
    found = answer(engine, grammars.compile(lark(schema)), sampling)
    assert found.finish_reason == "stop"
    assert fits(schema, json.loads(found.text)), found.text


def test_any_object(kind):
    engine, grammars, biases = kind
    for seed in range(5):
        constraint = grammars.compile(lark({"type": "object"}))
        sampling = Sampling(max_new_tokens=300, temperature=1.3, seed=seed, logit_bias=biases)
        found = answer(engine, constraint, sampling)
        assert found.text.startswith("{")
        if found.finish_reason == "stop":
            assert isinstance(json.loads(found.text), dict)


def test_forced_text_is_spelled_exactly(kind):
    """Also where a normalizer would rewrite it: the ligature would become two letters, the wide letter a narrow one."""
    engine, grammars, _ = kind
    for text in ('<call>\n{"name": "f", "n": ', "a ﬁne Ａ 磨坊  x", "café"):
        found = answer(engine, grammars.compile(f"start: {json.dumps(text)}"), Sampling(max_new_tokens=60))
        assert (found.text, found.finish_reason) == (text, "stop")


class Anything:
    """A constraint that allows every id."""

    failed = False

    def __init__(self, size):
        self.vocab_size, self.allowed = size, torch.ones(size, dtype=torch.bool)
        self.taken = []

    def take(self, token_id):
        self.taken.append(token_id)
        return False


@pytest.mark.parametrize("sampling", [GREEDY, LIVELY], ids=["greedy", "sampled"])
def test_where_all_is_allowed_answers_are_those_without_a_constraint(model, tokenizer, sampling):
    prompts = prompts_of(5, 8)
    expected = engine_of(model, tokenizer).generate(prompts, sampling)
    for drafter in (None, PromptLookup(num_tokens=4)):
        engine = engine_of(model, tokenizer, drafter, cache_tokens=80)
        requests = [
            engine.submit(
                prompt,
                dataclasses.replace(sampling, seed=sampling.seed + row),
                constraint=Anything(engine.vocab_size) if row % 2 else None,
            )
            for row, prompt in enumerate(prompts)
        ]
        run(engine)
        assert [request.answer.result() for request in requests] == expected
        assert all(request.constraint.taken == request.ids for request in requests[1::2])


def test_constraints_survive_company_cancellation_and_a_shortage_of_pages(model, tokenizer):
    grammars = Grammars(tokenizer, 259, STOP)
    first = grammars.compile(lark(SCHEMA))
    draw = random.Random(4)
    samplings = [
        dataclasses.replace(draw.choice([GREEDY, LIVELY]), max_new_tokens=draw.randint(10, 40), seed=seed)
        for seed in range(16)
    ]
    prompts = prompts_of(9, 16)
    roomy = engine_of(model, tokenizer)
    alone = [
        answer(roomy, first.copy() if row % 3 else None, sampling, prompts[row])
        for row, sampling in enumerate(samplings)
    ]
    assert len({found.finish_reason for found in alone}) == 2
    engine = engine_of(model, tokenizer, cache_tokens=72)
    requests = [
        engine.submit(prompts[row], sampling, constraint=first.copy() if row % 3 else None)
        for row, sampling in enumerate(samplings)
    ]
    for _ in range(7):
        engine.step()
    engine.cancel(requests[3])
    run(engine)
    assert engine.scheduler.num_preempted > 0
    others = [row for row in range(16) if row != 3]
    assert [requests[row].answer.result() for row in others] == [alone[row] for row in others]


def test_logprobs_are_the_models_own(model, tokenizer):
    constraint = Grammars(tokenizer, 259, STOP).compile(lark(SCHEMA))
    engine = engine_of(model, tokenizer)
    request = engine.submit([5, 6, 7], dataclasses.replace(GREEDY, logprobs=2), constraint=constraint)
    entries = [entry for update in run(engine)[request.id] for entry in update.logprobs]
    with torch.inference_mode():
        ids = torch.tensor([request.tokens[:-1]])
        full = model(ids).logits[0, 2:].float().log_softmax(-1)
    chosen = full.gather(1, torch.tensor(request.ids)[:, None])[:, 0]
    assert torch.allclose(torch.tensor([entry.logprob for entry in entries]), chosen, atol=1e-4)
    assert any(entry.logprob < entry.top[0][1] - 0.1 for entry in entries), "the constraint changed nothing"


def allowed_after(grammars, grammar, text):
    constraint = grammars.compile(grammar)
    for id_ in grammars.tokenizer.encode(text):
        assert constraint.allowed[id_], f"{id_} in {text!r}"
        constraint.take(id_)
    return constraint.allowed


def test_special_tokens_are_no_text_and_ends_come_where_the_grammar_may_end():
    tokenizer = TOKENIZERS["bpe"]
    end, start, turn = tokenizer.special.values()
    grammars = Grammars(tokenizer, tokenizer.vocab_size, [end, turn])
    inside = allowed_after(grammars, lark({"type": "string"}), '"ab')
    assert inside.sum() > 150 and not inside[[end, start, turn]].any()
    number = allowed_after(grammars, lark({"type": "integer"}), "12")
    assert number[end] and number[turn] and not number[start]
    named = allowed_after(grammars, f'start: "a" <[{start}]> "b"', "a")
    assert named.nonzero().flatten().tolist() == [start]


def test_without_an_end_of_text_an_answer_ends_with_its_grammar():
    tokenizer = TOKENIZERS["bytes"]
    constraint = Grammars(tokenizer, 259, []).compile(lark({"enum": [12, 123]}))
    assert [constraint.take(id_) for id_ in tokenizer.encode("12")] == [False, False]
    assert constraint.allowed.sum() == 1, "the end is behind the vocabulary"
    assert constraint.take(*tokenizer.encode("3")) and not constraint.failed


def test_spaces_come_to_an_end():
    tokenizer = TOKENIZERS["bytes"]
    grammars = Grammars(tokenizer, 259, [258])
    (space,) = tokenizer.encode(" ")
    assert allowed_after(grammars, lark({"type": "array"}), "[" + " " * 39)[space]
    assert not allowed_after(grammars, lark({"type": "array"}), "[" + " " * 40)[space]


def test_an_id_that_nothing_fits_is_a_failure_of_that_request_alone(model, tokenizer):
    class Lost(Anything):
        def take(self, token_id):
            super().take(token_id)
            self.failed = len(self.taken) == 3
            return self.failed

    engine = engine_of(model, tokenizer)
    lost = engine.submit([1, 2], GREEDY, constraint=Lost(259))
    other = engine.submit([1, 2], GREEDY)
    run(engine)
    assert lost.finish_reason == "error" and len(lost.ids) == 3
    assert other.answer.result() == engine_of(model, tokenizer).generate([[1, 2]], GREEDY)[0]
    assert engine.num_free_pages == engine.num_pages


def test_a_vocabulary_without_a_letter_fails_where_only_that_letter_fits():
    tokenizer = TOKENIZERS["bytes"]
    (letter,) = tokenizer.encode("~")
    few = Grammars(tokenizer, letter, [])  # a model that lacks this id and those behind it
    constraint = few.compile('start: "a~"')
    assert constraint.take(*tokenizer.encode("a")) and constraint.failed and constraint.reason == "no text fits"


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("start: nothing", 'unknown name: "nothing"'),
        ('start: ""', None),
        (lark({"type": "tree"}), "Invalid type: tree"),
        (lark({"$ref": "#"}), "no text fits"),
        (lark({"not": {"type": "string"}}), 'Unimplemented keys: ["not"]'),
        (lark({"type": "string", "pattern": "("}), "regex parse error: error: unclosed group"),
    ],
)
def test_a_grammar_that_is_none(grammar, message):
    grammars = Grammars(TOKENIZERS["bytes"], 259, [])
    with pytest.raises(UsageError, match="no answer can be held to this") as caught:
        grammars.compile(grammar)
    assert message is None or str(caught.value).endswith(message)


def test_a_grammar_that_would_take_long():
    grammars = Grammars(TOKENIZERS["bytes"], 259, [])
    with pytest.raises(UsageError, match="the grammar has 300,009 characters"):
        grammars.compile(f'start: "{"x" * 300_000}"')


def test_a_lenient_schema_passes_over_what_is_not_known():
    grammars = Grammars(TOKENIZERS["bytes"], 259, [])
    assert grammars.compile(lark({"type": "string", "not": {"const": "x"}, "x-guidance": {"lenient": 0}}, lenient=True))


def test_a_constraint_of_another_vocabulary_is_refused(model, tokenizer):
    with pytest.raises(UsageError, match="a constraint over 300 tokens") as caught:
        engine_of(model, tokenizer).submit([1], GREEDY, constraint=Anything(300))
    assert caught.value.accepted == "one over the 259 here"


def test_shown_special_tokens_are_text(model, tokenizer):
    start = tokenizer.special["<|im_start|>"]
    grammars = Grammars(tokenizer, 259, [])
    for shown, text in (((), "ab"), ((start,), "a<|im_start|>b")):
        constraint = grammars.compile(f'start: "a" <[{start}]> "b"')
        assert answer(engine_of(model, tokenizer), constraint, GREEDY, shown=shown).text == text


def test_the_longest_tokens_spell_what_the_tokenizer_would_rewrite():
    vocabulary = Vocabulary(TOKENIZERS["with a normalizer"], TOKENIZERS["with a normalizer"].vocab_size, [])
    for text in ("ﬁne the mill", "Ａ"):
        ids = vocabulary(text.encode())
        assert b"".join(vocabulary.tokens[id_] for id_ in ids) == text.encode()


def test_a_reason_without_quotations():
    error = 'at 2(5): failed to compile JSON schema: Invalid type: x\n   1 | start: "secret"\n      ^\n<state>\n'
    assert reason_in(error) == "Invalid type: x"
    assert reason_in("NoExtensionBias\n<non-verbose/>") == reason_in("") == "no text fits"
    assert len(reason_in("x" * 1000)) == 200
    assert reason_in("panic: assertion failed: symbols.len() < u16::MAX as usize - 10") == "it is too large"
