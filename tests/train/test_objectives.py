"""Loss formulas by hand, objectives of several terms, and training that does not depend on micro-batches."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from smelt.core.errors import CheckpointError, ConfigError
from smelt.data.corruption.masked import Masking
from smelt.data.corruption.rows import Draw, SentencePairRows
from smelt.data.packing import MemoryStream, pack_stream
from smelt.data.windows import cut_windows
from smelt.models.build import build
from smelt.models.encoder_decoder import Network
from smelt.models.families import Shape, preset, spec_for
from smelt.optim.build import OptimizerRecipe, build_optimizers
from smelt.train.loop import FitSettings, fit
from smelt.train.objectives import OBJECTIVES, Objective, mean_loss
from smelt.train.objectives.cross_entropy import TokenCrossEntropy, vocabulary_loss
from smelt.train.objectives.distillation import Distillation, cosine_distance, soft_cross_entropy
from smelt.train.objectives.future_tokens import FutureTokens, labels_ahead
from smelt.train.objectives.sentence_pairs import SentencePairs, pair_loss
from smelt.train.objectives.similar_pairs import SimilarPairs, similarity_loss
from smelt.train.sources import Rows, RowSource, TokenBatch
from smelt.train.state import TrainState

X = -100
STREAM = MemoryStream(np.random.default_rng(0).integers(5, 50, 2000).astype(np.uint16), np.arange(40, 2001, 40))


def encoder(dim: int = 16) -> Network:
    return build(spec_for("bert", Shape(50, dim, 2, 2, 16)), seed=0)


def decoder(**changes: object) -> Network:
    return build(replace(spec_for("llama", Shape(50, 16, 3, 2, 16, tied=True)), **changes), seed=0)


def pair_rows(is_order: bool = False) -> SentencePairRows:
    masking = Masking(4, np.arange(50) < 5)
    windows = cut_windows(STREAM, 16, fixed=3, alone=True)
    return SentencePairRows(windows, masking, Draw(0), 16, 2, 3, 49, np.zeros(50, dtype=bool), is_order)


def test_terms_are_divided_by_their_own_weights() -> None:
    assert mean_loss(torch.tensor([6.0, 8.0]), torch.tensor([3.0, 4.0])).item() == 4.0
    assert mean_loss(torch.tensor(6.0), torch.tensor(4.0)).item() == 1.5
    assert mean_loss(torch.tensor([6.0, 0.0]), torch.tensor([3.0, 0.0])).item() == 2.0


def test_pair_loss_by_hand() -> None:
    # scores (0, ln 3): probabilities 1/4 and 3/4
    scores = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    assert pair_loss(scores, torch.tensor([1, 0])).item() == pytest.approx(math.log(4 / 3) + math.log(4))


def test_soft_cross_entropy_by_hand() -> None:
    # At temperature 2 both become (1/4, 3/4): 4 x (1/4 ln 4 + 3/4 ln 4/3).
    logits = torch.tensor([[0.0, 2 * math.log(3)]])
    expected = 4 * (math.log(4) / 4 + 3 * math.log(4 / 3) / 4)
    assert soft_cross_entropy(logits, logits, 2.0).item() == pytest.approx(expected, rel=1e-6)


def test_soft_cross_entropy_has_the_gradient_of_the_published_divergence() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 7, generator=generator, requires_grad=True) for _ in range(2))
    published = functional.kl_div((student / 2).log_softmax(-1), (teacher / 2).softmax(-1), reduction="sum") * 4
    theirs = torch.autograd.grad(published, student)
    torch.testing.assert_close(torch.autograd.grad(soft_cross_entropy(student, teacher, 2.0), student), theirs)


def test_cosine_distance_by_hand_and_as_published() -> None:
    ours, theirs = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 2.0], [6.0, 8.0]])
    assert cosine_distance(ours, theirs).item() == pytest.approx(1.0)
    published = functional.cosine_embedding_loss(ours, theirs, torch.ones(2), reduction="sum")
    torch.testing.assert_close(cosine_distance(ours, theirs), published)


def test_similarity_by_hand() -> None:
    # Unit vectors a, a, b, b at right angles: of three others the partner scores s, two score 0.
    vectors = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 5.0]])
    scale = math.log(2)
    assert similarity_loss(vectors, scale).item() == pytest.approx(4 * math.log(4 / 2), rel=1e-6)
    assert similarity_loss(vectors).item() == pytest.approx(0.0, abs=1e-6)
    assert similarity_loss(vectors[[0, 2, 1, 3]]).item() == pytest.approx(4 * 30, rel=1e-5)


def test_labels_ahead_stop_at_segments() -> None:
    labels, segments = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[1, 1, 2, 2]])
    assert labels_ahead(labels, segments, 1).tolist() == [[6, X, 8, X]]
    assert labels_ahead(labels, None, 2).tolist() == [[7, 8, X, X]]


def test_vocabulary_loss_takes_labelled_places_alone() -> None:
    model, generator = encoder(), torch.Generator().manual_seed(0)
    ids = torch.randint(5, 50, (2, 12), generator=generator)
    labels = torch.where(torch.rand(2, 12, generator=generator) < 0.3, ids, X)
    output = model(ids)
    expected = functional.cross_entropy(output.logits.flatten(0, 1), labels.flatten(), ignore_index=X, reduction="sum")
    torch.testing.assert_close(vocabulary_loss(model, output.hidden, labels), expected)


def test_sentence_pairs_are_the_sum_of_two_means() -> None:
    model = encoder()
    batch = RowSource(pair_rows(), seed=0).take(6)
    objective = SentencePairs("next_sentence")
    sums, metrics = objective(model, batch)
    output = model(batch.ids, segments=batch.segments, positions=batch.positions, types=batch.types)
    assert batch.types is not None and batch.types.any() and batch.row_labels is not None
    masked = functional.cross_entropy(output.logits.flatten(0, 1), batch.labels.flatten(), ignore_index=X)
    pairs = functional.cross_entropy(output.tasks["next_sentence"], batch.row_labels)
    weight = torch.tensor(objective.weight(batch))
    torch.testing.assert_close(mean_loss(sums, weight), masked + pairs)
    assert metrics["next_sentence"] / weight[0].item() == pytest.approx(pairs.item())
    right = (output.tasks["next_sentence"].argmax(-1) == batch.row_labels).float().mean().item()
    assert metrics["next_sentence_accuracy"] / weight[0].item() == pytest.approx(right)


def test_distillation_of_oneself_leaves_the_entropy_and_the_masked_tokens() -> None:
    model, batch = encoder(), RowSource(pair_rows(), seed=0).take(4)
    objective = Distillation(encoder(), model.spec)
    sums, metrics = objective(model, batch)
    assert sums[2].item() == pytest.approx(0.0, abs=1e-4)
    masked = vocabulary_loss(model, model(batch.ids, **batch.context()).hidden, batch.labels)
    torch.testing.assert_close(sums[1], 2.0 * masked)
    tokens = float(batch.ids.numel())
    assert batch.segments is None  # every row is full
    assert objective.weight(batch)[::2] == (tokens, tokens)
    assert metrics["masked"] / tokens == pytest.approx(masked.item() / objective.weight(batch)[1])
    mean_loss(sums, torch.tensor(objective.weight(batch))).backward()
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())


@pytest.mark.parametrize(("shape", "what"), [((50, 8), "dim=8, its teacher 16"), ((60, 16), "vocab_size=60")])
def test_a_teacher_of_another_shape_is_refused(shape: tuple[int, int], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        Distillation(encoder(), spec_for("bert", Shape(*shape, 2, 2, 16)))


def test_similar_pairs_add_writing_and_finding() -> None:
    model, generator = encoder(), torch.Generator().manual_seed(0)
    ids = torch.randint(5, 50, (4, 8), generator=generator)
    labels = torch.cat([torch.full((4, 4), X), ids[:, 5:], torch.full((4, 1), 3)], dim=1)
    order = torch.tensor([[0, 0, 0, 0, 1, 2, 3, 4]]).expand(4, 8)
    batch = TokenBatch(ids, labels, None, None, order=order)
    sums, _ = SimilarPairs()(model, batch)
    output = model(ids, order=order)
    torch.testing.assert_close(sums[0], vocabulary_loss(model, output.hidden, labels))
    torch.testing.assert_close(sums[1], similarity_loss(output.pooled))
    changed = ids.clone()
    changed[:, 4:] = 7  # the vector knows the first text alone
    torch.testing.assert_close(model(changed, order=order).pooled, output.pooled)


def causal_batch(num_rows: int = 4) -> TokenBatch:
    return RowSource(pack_stream(STREAM, 16), seed=0).take(num_rows)


def test_further_heads_begin_as_the_last_block_and_share_the_unembedding() -> None:
    model, batch = decoder(), causal_batch()
    objective = FutureTokens(model, 2)
    sums, metrics = objective(model, batch)
    output = model(batch.ids, **batch.context())
    for distance in range(3):
        labels = labels_ahead(batch.labels, batch.segments, distance) if distance else batch.labels
        expected = functional.cross_entropy(
            output.logits.flatten(0, 1), labels.flatten(), ignore_index=X, reduction="sum"
        )
        torch.testing.assert_close(sums[distance], expected, rtol=1e-5, atol=1e-4)
        assert objective.weight(batch)[distance] == (labels != X).sum()
    assert set(metrics) == {"loss_2_ahead", "loss_3_ahead"}
    mean_loss(sums, torch.tensor(objective.weight(batch))).backward()
    assert all(parameter.grad is not None for parameter in objective.parameters())
    assert not any(one is other for one in objective.blocks[0].parameters() for other in model.blocks[-1].parameters())


def test_a_measurement_is_the_next_token_alone() -> None:
    model, batch = decoder(), causal_batch()
    with torch.no_grad():
        sums, metrics = FutureTokens(model, 2)(model, batch)
        plain, _ = TokenCrossEntropy()(model, batch)
    assert metrics == {} and sums[1:].tolist() == [0.0, 0.0]
    torch.testing.assert_close(sums[0], plain)


def test_heads_need_a_decoder_with_a_dense_last_block() -> None:
    for model in (encoder(), build(preset("mixtral-nano"), seed=0)):
        with pytest.raises(ConfigError, match="last block cannot be the head"):
            FutureTokens(model)


def new_state(model: Network, rows: Rows, objective: object, recipe: OptimizerRecipe) -> TrainState:
    extra = objective if isinstance(objective, nn.Module) else None
    parts = [model, *([extra] if extra else [])]
    optimizers = [optimizer for part in parts for optimizer in build_optimizers(part, recipe)]
    return TrainState(model, optimizers, RowSource(rows, seed=3), extra)


def flat(state: TrainState) -> Tensor:
    parts = [state.model, *([state.extra] if state.extra is not None else [])]
    return torch.cat([parameter.detach().flatten() for part in parts for parameter in part.parameters()])


Case = Callable[[], tuple[Network, Rows, Objective]]


def pairs_case() -> tuple[Network, Rows, Objective]:
    return encoder().double(), pair_rows(), SentencePairs("next_sentence")


def distillation_case() -> tuple[Network, Rows, Objective]:
    student = encoder().double()
    return student, pair_rows(), Distillation(build(student.spec, seed=5).double(), student.spec)


def future_case() -> tuple[Network, Rows, Objective]:
    model = decoder().double()
    return model, pack_stream(STREAM, 16), FutureTokens(model, 2)


@pytest.mark.parametrize("case", [pairs_case, distillation_case, future_case])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_micro_batches_give_one_step(case: Case, optimizer: str) -> None:
    recipe = OptimizerRecipe(name=optimizer, learning_rate=1e-2)  # type: ignore[arg-type]
    finals = []
    for micro_rows in (8, 3, 1):
        model, rows, objective = case()
        state = new_state(model, rows, objective, recipe)
        batch = RowSource(rows, seed=3).take(8)
        expected = mean_loss(objective(model, batch)[0], torch.tensor(objective.weight(batch))).item()
        losses: list[float] = []
        hooks = [lambda _, result, losses=losses: losses.append(result.loss)]
        finals.append(flat(fit(state, objective, FitSettings(3, 8, micro_rows, recipe), hooks)))
        assert losses[0] == pytest.approx(expected, rel=1e-6)
    for other in finals[1:]:
        assert (other - finals[0]).abs().max() < 1e-9


def test_resume_with_heads_is_exact() -> None:
    recipe = OptimizerRecipe(learning_rate=1e-2)

    def fresh() -> tuple[TrainState, Objective]:
        model, rows, objective = future_case()
        return new_state(model, rows, objective, recipe), objective

    state, objective = fresh()
    fit(state, objective, FitSettings(6, 4, 4, recipe))
    stopped, objective = fresh()
    fit(
        stopped,
        objective,
        FitSettings(6, 4, 4, recipe),
        [lambda state, _: setattr(state, "stop", "x" * (state.step == 3))],
    )
    assert stopped.step == 3
    tensors = {name: value.clone() for name, value in stopped.tensors().items()}
    assert any(name.startswith("extra.blocks.0.") for name in tensors)
    resumed, objective = fresh()
    resumed.model.load_state_dict(stopped.model.state_dict())
    resumed.load_tensors(tensors)
    resumed.load_counters(stopped.counters())
    fit(resumed, objective, FitSettings(6, 4, 4, recipe))
    assert torch.equal(flat(resumed), flat(state))
    model, rows, _ = future_case()
    with pytest.raises(CheckpointError, match="nothing here uses: extra"):
        new_state(model, rows, TokenCrossEntropy(), recipe).load_tensors(tensors)
    other = new_state(model, rows, FutureTokens(model, 3), recipe)
    with pytest.raises(CheckpointError, match=r"no 'extra\.blocks\.2\..*\n.*same objective"):
        other.load_tensors(tensors)


def test_the_table_names_every_objective() -> None:
    assert set(OBJECTIVES) == {
        "token_cross_entropy", "sentence_pairs", "distillation", "similar_pairs", "future_tokens", "token_distillation",
        "hidden_match", "text_labels", "pointing", "token_labels",
    }  # fmt: skip
