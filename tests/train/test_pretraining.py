"""Objectives of pretraining from recipe to checkpoint: settings, refusals, rows, leaks, resume."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from smelt.core.config import load_recipe
from smelt.core.errors import ConfigError, DataError
from smelt.core.storage import sha256_file
from smelt.data.packing import IGNORED, MemoryStream
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.models.hub import load
from smelt.optim.build import OptimizerRecipe, build_optimizers
from smelt.tokenizers.formats import load_tokenizer, save_tokenizer
from smelt.tokenizers.pipeline import Pipeline
from smelt.tokenizers.surgery import add_tokens
from smelt.tokenizers.training import train_tokenizer
from smelt.train import hooks
from smelt.train.loop import FitSettings, StepResult, fit
from smelt.train.objectives import TokenCrossEntropy
from smelt.train.pretraining.recipe import USES, ObjectiveRecipe, check_network
from smelt.train.pretraining.rows import ROWS, Setup, document_end, frame, row_maker
from smelt.train.run import RunDirectory
from smelt.train.sources import RowSource, TokenBatch, to_batch
from smelt.train.stages.common import StageResult
from smelt.train.stages.pretrain import ModelRecipe, PretrainRecipe, pretrain
from smelt.train.state import TrainState

MARKS = (
    "[gMASK]",
    "[sMASK]",
    "<|startofpiece|>",
    "<|endofpiece|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
)
WORDS = ["the", "mill", "stands", "by", "a", "river", "and", "one", "miller", "sells", "bread", "on", "market", "days"]


def sentences(number: int) -> str:
    words = [WORDS[(number * step + step) % len(WORDS)] for step in range(1, 30)]
    return " ".join(words[:14]) + ". " + " ".join(words[14:]) + "."


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text.jsonl, pairs.jsonl, a WordPiece tokenizer and a byte-level one, both with all marks."""
    folder = tmp_path_factory.mktemp("pretraining")
    texts = [sentences(number) for number in range(120)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    pairs = [{"source": sentences(n)[:40], "target": sentences(n)[40:70]} for n in range(40)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    sentinels = [f"<extra_id_{number}>" for number in range(8)]
    wordpiece = add_tokens(train_tokenizer(texts, algorithm="wordpiece", vocab_size=120), MARKS)
    save_tokenizer(wordpiece, folder / "wordpiece", template=None, max_seq_len=64)
    byte_level = add_tokens(train_tokenizer(texts, vocab_size=300), ["[MASK]", *MARKS, *sentinels])
    save_tokenizer(byte_level, folder / "bpe", template=None, max_seq_len=64)
    return folder


def tokenizer_of(home: Path, kind: str) -> Pipeline:
    return load_tokenizer(home / kind)


def family_of(name: str) -> str:
    """Return a family that the objective can train."""
    usual = {"decoder": "llama", "encoder": "bert", "encoder-decoder": "t5"}[USES[name].network]
    return "albert" if name == "sentence_order" else usual


def setup_for(home: Path, name: str, max_seq_len: int = 48, **settings: object) -> Setup:
    kind = "bpe" if USES[name].network != "encoder" else "wordpiece"
    family = family_of(name)
    tokenizer = tokenizer_of(home, kind)
    spec = spec_for(family, Shape(tokenizer.vocab_size, 16, 2, 2, max_seq_len))
    teacher = {"teacher": "T"} if name == "distillation" else {}
    recipe = ObjectiveRecipe(name=name, **teacher, **settings)  # type: ignore[arg-type]
    return Setup(recipe, spec, tokenizer, max_seq_len, 0, "TOKENIZER")


def stream_for(setup: Setup, num_documents: int = 60) -> MemoryStream:
    texts = [sentences(number) for number in range(num_documents)]
    return MemoryStream(*setup.tokenizer.encode_to_array(texts, end_id=setup.end_id))


# Settings and refusals


def test_a_bare_name_is_an_objective() -> None:
    words = ["name=x", "data=d", "tokenizer=t"]
    assert load_recipe(PretrainRecipe, None, words).objective == ObjectiveRecipe()
    assert load_recipe(PretrainRecipe, None, [*words, "objective=masked"]).objective.name == "masked"
    nested = load_recipe(PretrainRecipe, None, [*words, "objective.name=span", "objective.mean_span_tokens=5"])
    assert (nested.objective.name, nested.objective.mean_span_tokens) == ("span", 5.0)
    assert PretrainRecipe.model_validate(nested.model_dump(mode="json")) == nested


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["objective=maskd"], "objective"),
        (["objective.rate=0.2"], "rate is no setting of causal, which has none"),
        (["objective.name=masked", "objective.num_further=2"], "num_further is no setting of masked, which has rate"),
        (["objective.name=masked", "objective.rat=0.2"], r"unknown key 'objective\.rat'\. Did you mean 'rate'"),
        (["objective=distillation"], "distillation needs teacher=CHECKPOINT"),
        (["objective.name=blank", "objective.sentence_share=0.6"], "more than 1 together"),
    ],
)
def test_bad_settings(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(PretrainRecipe, None, ["name=x", "data=d", "tokenizer=t", *words])


def test_every_objective_has_rows_and_documented_settings() -> None:
    assert set(ROWS) | {"similar_pairs"} == set(USES)
    fields = ObjectiveRecipe.model_fields
    for name, use in USES.items():
        for setting in use.settings:
            description = fields[setting].description or ""
            assert name in description or (setting == "dynamic" and "anything is drawn" in description), (name, setting)


def test_an_encoder_is_not_trained_to_predict_the_next_token(home: Path) -> None:
    spec = setup_for(home, "masked").spec
    expected = r"objective=causal is for decoders, but bert models are encoders: who sees .*\naccepted: masked"
    with pytest.raises(ConfigError, match=expected):
        check_network(ObjectiveRecipe(), spec)
    with pytest.raises(ConfigError, match="no sentence_order head"):
        check_network(ObjectiveRecipe(name="sentence_order"), spec)
    with pytest.raises(ConfigError, match="objective=blank sets positions and order, which chatglm6b models read"):
        check_network(ObjectiveRecipe(name="blank"), spec_for("chatglm6b", Shape(300, 32, 2, 2, 64)))
    with pytest.raises(ConfigError, match="no language head"):
        check_network(ObjectiveRecipe(name="masked"), replace(spec, language_head=False, head_bias=False))


def test_a_decoder_is_not_trained_on_masks(home: Path) -> None:
    expected = r"masked is for encoders, but llama models are decoders: .*both sides.*\naccepted: causal, "
    with pytest.raises(ConfigError, match=expected):
        check_network(ObjectiveRecipe(name="masked"), setup_for(home, "causal").spec)
    with pytest.raises(ConfigError, match="objective=span is for encoder-decoders"):
        check_network(ObjectiveRecipe(name="span"), setup_for(home, "causal").spec)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("masked", [r"\[MASK\]"]),
        ("next_sentence", [r"\[MASK\]", r"\[CLS\]", r"\[SEP\]"]),
        ("unilm", [r"\[MASK\]", r"\[CLS\]", r"\[SEP\]"]),
        ("blank", [r"\[MASK\]", r"<\|startofpiece\|>", r"<\|endofpiece\|>", r"\[gMASK\]"]),
        ("fill_in_the_middle", [r"<\|fim_prefix\|>", r"<\|fim_suffix\|>", r"<\|fim_middle\|>"]),
        ("span", ["<extra_id_0>", "<extra_id_1>", "<extra_id_2>"]),
    ],
)
def test_missing_special_tokens_are_named_at_once(home: Path, name: str, missing: list[str]) -> None:
    setup = replace(setup_for(home, name), tokenizer=train_tokenizer([sentences(1)], vocab_size=270))
    expected = f"has no {', '.join(missing)}, which objective={name} needs\n.*\ntry: smelt tokenizer extend TOKENIZER "
    with pytest.raises(ConfigError, match=expected):
        row_maker(setup)


def test_many_missing_tokens_are_a_range(home: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        row_maker(setup_for(home, "span", max_seq_len=260))
    assert "has no <extra_id_8>, <extra_id_9>, .., <extra_id_13>, which" in caught.value.what
    words = " ".join(f'--add-special "<extra_id_{number}>"' for number in range(8, 14))
    assert caught.value.fix == f"smelt tokenizer extend TOKENIZER {words} --out extended"


def test_document_ends(home: Path) -> None:
    wordpiece = tokenizer_of(home, "wordpiece")
    assert document_end(wordpiece) == wordpiece.special["<|endoftext|>"]
    assert frame(wordpiece) == ([wordpiece.special["[CLS]"]], [wordpiece.special["[SEP]"]])
    assert frame(tokenizer_of(home, "bpe")) == ([], [])
    published = train_tokenizer([sentences(1)], algorithm="wordpiece", vocab_size=60, special=())
    assert document_end(published) == published.special["[SEP]"]
    with pytest.raises(ConfigError, match="no token for the end of a document"):
        document_end(train_tokenizer([sentences(1)], vocab_size=270, special=("[X]",)))


# Rows


@pytest.mark.parametrize("name", list(ROWS))
def test_rows_are_a_pure_function_of_seed_epoch_and_index(home: Path, name: str) -> None:
    setup = setup_for(home, name)
    rows = row_maker(setup)(stream_for(setup))
    source = RowSource(rows, seed=1)
    first = [source.take(3) for _ in range(2 * rows.num_rows // 3 + 1)]
    again = RowSource(row_maker(setup)(stream_for(setup)), seed=1)
    again.load_state_dict({**source.state_dict(), "cursor": 6})
    assert torch.equal(again.take(3).ids, first[2].ids)
    assert (first[0].labels != IGNORED).any()
    assert int(first[0].ids.max()) < setup.tokenizer.vocab_size
    one, other = (to_batch(rows.take(range(8), [epoch] * 8)) for epoch in (0, 1))
    redrawn = "dynamic" in USES[name].settings
    assert (torch.equal(one.ids, other.ids) and torch.equal(one.labels, other.labels)) != redrawn
    assert torch.equal(to_batch(rows.take(range(8))).ids, one.ids)


@pytest.mark.parametrize("name", [name for name, use in USES.items() if "dynamic" in use.settings])
def test_static_rows_are_the_same_in_all_epochs(home: Path, name: str) -> None:
    setup = setup_for(home, name, dynamic=False)
    rows = row_maker(setup)(stream_for(setup))
    one, other = (to_batch(rows.take([2, 3], [epoch, epoch])) for epoch in (0, 5))
    assert torch.equal(one.ids, other.ids) and torch.equal(one.labels, other.labels)


def rows_batch(setup: Setup, num_rows: int = 6) -> TokenBatch:
    return to_batch(row_maker(setup)(stream_for(setup)).take(range(num_rows)))


def test_masked_rows_hold_the_text_in_its_frame(home: Path) -> None:
    setup = setup_for(home, "masked", whole_words=True)
    stream, batch = stream_for(setup), rows_batch(setup)
    whole = torch.where(batch.labels == IGNORED, batch.ids, batch.labels)
    class_id, separator_id = setup.ids("class", "separator")
    assert (whole[:, 0] == class_id).all()
    pad = setup.end_id
    text = [token for token in whole.flatten().tolist() if token not in (class_id, separator_id, pad)]
    plain = [token for token in stream.ids.tolist() if token != setup.end_id]
    assert text == plain[: len(text)]
    assert batch.segments is not None
    assert (batch.labels[batch.segments == 0] == IGNORED).all()


def test_pairs_hold_one_pair_a_row(home: Path) -> None:
    setup = setup_for(home, "next_sentence", max_seq_len=40)
    batch = rows_batch(setup, 20)
    class_id, separator_id = setup.ids("class", "separator")
    assert batch.types is not None and batch.row_labels is not None and batch.segments is not None
    assert set(batch.row_labels.tolist()) == {0, 1}
    for ids, types, segments in zip(batch.ids, batch.types, batch.segments, strict=True):
        length = int(segments.sum())
        assert ids[0] == class_id and ids[length - 1] == separator_id
        assert int((ids[:length] == separator_id).sum()) == 2
        border = int((ids == separator_id).nonzero()[0])
        assert types.tolist() == [0] * (border + 1) + [1] * (length - border - 1) + [0] * (40 - length)


def test_the_other_text_comes_from_another_document(home: Path) -> None:
    setup = setup_for(home, "next_sentence", max_seq_len=40)
    rows = row_maker(setup)(stream_for(setup, 3))
    stream = rows.windows.stream  # type: ignore[attr-defined]
    ids = stream.ids.copy()
    for row in range(rows.num_rows):
        stream.ids[:] = ids
        own = int(np.searchsorted(stream.ends, rows.windows.starts[row], side="right"))  # type: ignore[attr-defined]
        stream.ids[int(stream.ends[own - 1]) if own else 0 : int(stream.ends[own])] = 7  # now it can be told
        for seed in range(10):
            assert 7 not in rows.elsewhere(row, 20, np.random.default_rng(seed)).tolist()[:1]  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="need another document"):
        row_maker(setup)(MemoryStream(stream.ids[:30], np.array([30])))


def test_span_rows_are_full(home: Path) -> None:
    setup = setup_for(home, "span", max_seq_len=32)
    batch = rows_batch(setup)
    assert batch.source is not None and batch.source.shape == (6, 32)
    assert batch.segments is None and (batch.labels != IGNORED).all()
    assert batch.positions is not None and batch.positions.tolist() == [list(range(batch.ids.shape[1]))] * 6
    assert (batch.ids[:, 0] == setup.end_id).all() and torch.equal(batch.ids[:, 1:], batch.labels[:, :-1])


def test_an_encoder_decoder_learns_spans(home: Path) -> None:
    setup = setup_for(home, "span", max_seq_len=32)
    model = build(setup.spec, seed=0)
    check_network(setup.settings, model.spec)
    recipe = OptimizerRecipe(learning_rate=1e-2)
    state = TrainState(model, build_optimizers(model, recipe), RowSource(row_maker(setup)(stream_for(setup)), seed=0))
    losses: list[float] = []
    fit(state, TokenCrossEntropy(), FitSettings(12, 4, 2, recipe), [lambda _, result: losses.append(result.loss)])
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


@pytest.mark.parametrize("name", ["prefix", "blank", "fill_in_the_middle", "causal"])
def test_what_is_predicted_is_not_seen(home: Path, name: str) -> None:
    """Changing the token that a slot predicts changes nothing at that slot."""
    setup = setup_for(home, name)
    model, batch = build(setup.spec, seed=0).eval(), rows_batch(setup, 3)
    before = model(batch.ids, **batch.context()).logits
    places = (batch.labels != IGNORED).nonzero().tolist()
    for row, slot in places[:: max(1, len(places) // 25)]:
        if slot + 1 == batch.ids.shape[1] or batch.ids[row, slot + 1] != batch.labels[row, slot]:
            continue  # the last of a span: its label is a closing mark, which is no input
        ids = batch.ids.clone()
        ids[row, slot + 1] = 9
        after = model(ids, **batch.context()).logits
        torch.testing.assert_close(after[row, slot], before[row, slot])
        assert not torch.equal(after[row, slot + 1], before[row, slot + 1])


def test_readings_of_one_side_do_not_see_the_other(home: Path) -> None:
    setup = setup_for(home, "unilm")
    model, batch = build(setup.spec, seed=0).eval(), rows_batch(setup, 12)
    assert batch.order is not None and batch.segments is not None and batch.types is not None
    before = model(batch.ids, **batch.context()).hidden
    for row in range(12):
        here = batch.segments[row] == 1
        highest = int(torch.where(here, batch.order[row], -1).argmax())
        if int(batch.order[row][here].max()) == 0:
            continue  # both ways
        ids = batch.ids.clone()
        ids[row, highest] = 9
        changed = (model(ids, **batch.context()).hidden[row] != before[row]).any(dim=-1).nonzero().flatten().tolist()
        assert changed == [highest]


# From text to checkpoint


def recipe_for(home: Path, out: Path, name: str, **changes: object) -> PretrainRecipe:
    kind = "wordpiece" if USES[name].network == "encoder" else "bpe"
    family = family_of(name)
    values = dict(
        name="run", out=str(out), data=str(home / ("pairs.jsonl" if name == "similar_pairs" else "text.jsonl")),
        validation_fraction=0.1, tokenizer=str(home / kind), objective=name,
        model=ModelRecipe(family=family, dim=16, num_layers=2, num_heads=2), max_seq_len=48, batch_rows=4,
        micro_rows=2, steps=4, save_every=2, validate_every=2, compile="no", dtype="float32",
    )  # fmt: skip
    return PretrainRecipe.model_validate({**values, **changes})


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the measurement of speed, which takes longer than the few steps here."""
    monkeypatch.setattr("smelt.train.stages.common.measure_step", lambda *arguments: 0.01)


def weights(result: StageResult) -> str:
    return sha256_file(Path(result.checkpoint) / "model.safetensors")


SLOW = ["span", "next_sentence", "sentence_order", "unilm", "similar_pairs", "blank", "prefix", "fill_in_the_middle"]


@pytest.mark.parametrize("name", ["masked", "future_tokens", *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
@pytest.mark.usefixtures("unmeasured")
def test_resume_equals_uninterrupted(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    whole = pretrain(recipe_for(home, tmp_path / "whole", name))
    assert whole.validation_loss is not None and np.isfinite(whole.train_loss)
    model, tokenizer = load(whole.checkpoint)
    if name == "span":
        assert model.spec.token_ids.decoder_start == document_end(tokenizer)

    class Killed(BaseException):
        pass

    def killed(self: hooks.LogMetrics, state: TrainState, result: StepResult) -> None:
        original(self, state, result)
        if state.step == 3:
            raise Killed

    original = hooks.LogMetrics.__call__
    monkeypatch.setattr(hooks.LogMetrics, "__call__", killed)
    recipe = recipe_for(home, tmp_path / "cut", name)
    with pytest.raises(Killed):
        pretrain(recipe)
    monkeypatch.setattr(hooks.LogMetrics, "__call__", original)
    torch.rand(3)
    result = pretrain(recipe, resume=True)
    assert weights(result) == weights(whole)
    assert result.validation_loss == whole.validation_loss


@pytest.mark.slow
def test_measuring_the_speed_changes_nothing(home: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    measured = pretrain(recipe_for(home, tmp_path / "measured", "future_tokens"))
    request.getfixturevalue("unmeasured")
    plain = pretrain(recipe_for(home, tmp_path / "plain", "future_tokens"))
    assert weights(measured) == weights(plain)


@pytest.mark.usefixtures("unmeasured")
def test_further_heads_are_not_published(home: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    result = pretrain(
        recipe_for(home, tmp_path, "future_tokens", objective={"name": "future_tokens", "num_further": 2})
    )
    with safe_open(Path(result.checkpoint) / "model.safetensors", "pt") as file:
        assert not [key for key in file.keys() if "extra" in key]  # noqa: SIM118
    with safe_open(Path(result.checkpoint) / "train" / "state.safetensors", "pt") as file:
        names = [key for key in file.keys() if key.startswith("extra.blocks.")]  # noqa: SIM118
    assert {name.split(".")[2] for name in names} == {"0", "1"}
    lines = RunDirectory(tmp_path, "run").read_metrics()
    assert {"loss_2_ahead", "loss_3_ahead"} <= set(lines[0])


@pytest.mark.usefixtures("unmeasured")
def test_distillation_from_a_trained_teacher(home: Path, tmp_path: Path) -> None:
    teacher = pretrain(recipe_for(home, tmp_path / "teacher", "masked"))
    objective = {"name": "distillation", "teacher": teacher.checkpoint}
    changes = {"model": ModelRecipe(family="bert", dim=16, num_layers=1, num_heads=2), "objective": objective}
    result = pretrain(recipe_for(home, tmp_path / "student", "distillation", **changes))
    assert {"soft", "masked", "cosine"} <= set(RunDirectory(tmp_path / "student", "run").read_metrics()[0])
    assert result.validation_loss is not None
    with pytest.raises(ConfigError, match="longer than the teacher's context, 48"):
        pretrain(recipe_for(home, tmp_path / "long", "distillation", **changes, max_seq_len=50))


def test_an_encoder_has_no_samples(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sample_prompts with an encoder"):
        pretrain(recipe_for(home, tmp_path, "masked", sample_prompts=("the mill",)))


def test_the_missing_mark_is_named_before_anything_is_tokenized(home: Path, tmp_path: Path) -> None:
    bare = train_tokenizer([sentences(1)], vocab_size=270)
    save_tokenizer(bare, tmp_path / "bare", template=None, max_seq_len=64)
    with pytest.raises(ConfigError, match=r"has no <\|fim_prefix\|>"):
        pretrain(recipe_for(home, tmp_path, "fill_in_the_middle", tokenizer=str(tmp_path / "bare")))
    assert not (tmp_path / "run" / "data").exists()


def test_rows_of_pairs_need_two_texts(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"text\.jsonl:1: plain text, not a pair"):
        pretrain(recipe_for(home, tmp_path, "similar_pairs", data=str(home / "text.jsonl")))


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("name", ["masked", "unilm", "blank", "prefix"])
def test_it_learns(home: Path, tmp_path: Path, name: str) -> None:
    changes = {"steps": 150, "batch_rows": 8, "micro_rows": 8, "save_every": 0, "validate_every": 0}
    model = ModelRecipe(family="bert" if name in ("masked", "unilm") else "llama", dim=64, num_layers=2, num_heads=4)
    pretrain(recipe_for(home, tmp_path, name, **changes, model=model))
    lines = RunDirectory(tmp_path, "run").read_metrics()
    first, last = (np.mean([line["loss"] for line in part]) for part in (lines[:5], lines[-5:]))
    assert last < 0.75 * first
