"""Masked language modelling: counts, fates, whole words, and the reference collator."""

import numpy as np
import pytest

from smelt.data.corruption.masked import Masking, begins_word, choose, mask_tokens
from smelt.data.packing import IGNORED

MASK, SPECIALS = 4, 5  # ids 0 to 4 are special
SPECIAL = np.arange(1000) < SPECIALS
IDS = np.concatenate([[2], np.random.default_rng(0).integers(SPECIALS, 1000, 198), [3]]).astype(np.int32)


def many(masking: Masking, ids: np.ndarray = IDS, times: int = 400) -> tuple[np.ndarray, np.ndarray]:
    pairs = [mask_tokens(ids, masking, np.random.default_rng((0, 0, i))) for i in range(times)]
    return np.stack([inputs for inputs, _ in pairs]), np.stack([labels for _, labels in pairs])


def test_labels_are_the_originals_and_the_rest_is_untouched() -> None:
    inputs, labels = many(Masking(MASK, SPECIAL))
    chosen = labels != IGNORED
    assert (chosen.sum(axis=1) == round(0.15 * 198)).all()
    assert (labels[chosen] == np.broadcast_to(IDS, labels.shape)[chosen]).all()
    assert (inputs[~chosen] == np.broadcast_to(IDS, labels.shape)[~chosen]).all()
    assert not chosen[:, [0, -1]].any()
    assert not SPECIAL[inputs[chosen & (inputs != MASK)]].any()


def test_every_place_is_chosen_alike() -> None:
    _, labels = many(Masking(MASK, SPECIAL), times=2000)
    share = (labels[:, 1:-1] != IGNORED).mean(axis=0)
    assert abs(share - 0.15).max() < 5 * np.sqrt(0.15 * 0.85 / 2000)


def fates(inputs: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    chosen = labels != IGNORED
    masked, kept = (inputs == MASK)[chosen].mean(), (inputs == labels)[chosen].mean()
    return chosen[:, 1:-1].mean(), masked, kept


def test_shares_are_those_of_the_reference_collator() -> None:
    transformers = pytest.importorskip("transformers")
    import torch

    class Names:  # what the collator asks a tokenizer for
        mask_token, mask_token_id, pad_token_id, padding_side = "[MASK]", MASK, 0, "right"

        def convert_tokens_to_ids(self, token: str) -> int:
            return MASK

        def get_special_tokens_mask(self, ids: list[int], already_has_special_tokens: bool) -> list[int]:
            return [int(SPECIAL[token]) for token in ids]

        def __len__(self) -> int:
            return 1000

    collator = transformers.DataCollatorForLanguageModeling(Names(), mlm_probability=0.15, seed=1)
    inputs, labels = collator.torch_mask_tokens(torch.tensor(IDS).long().repeat(400, 1))
    theirs, ours = fates(inputs.numpy(), labels.numpy()), fates(*many(Masking(MASK, SPECIAL)))
    # 400 x 30 chosen tokens: four standard deviations of a share of 0.8 are 0.015
    assert ours == pytest.approx(theirs, abs=0.015)
    assert ours == pytest.approx((0.15, 0.8, 0.1), abs=0.015)


def test_the_draw_is_a_function_of_the_generator() -> None:
    masking = Masking(MASK, SPECIAL)
    first, again, other = (mask_tokens(IDS, masking, np.random.default_rng(key)) for key in ((7, 0), (7, 0), (7, 1)))
    assert (first[0] == again[0]).all() and (first[1] == again[1]).all()
    assert (first[1] != other[1]).any()


WORDS = np.array([2, 10, 11, 12, 13, 3, 12, 14, 3], dtype=np.int32)  # [CLS] the mill ##er sells [SEP] ##er bread [SEP]
CONTINUES = np.arange(1000) == 12


def test_words_begin_at_what_continues_none() -> None:
    candidates = np.flatnonzero(~SPECIAL[WORDS])
    assert candidates.tolist() == [1, 2, 3, 4, 6, 7]
    assert begins_word(WORDS, candidates, CONTINUES).tolist() == [True, True, False, True, True, True]


def test_whole_words_are_hidden_whole_and_within_the_budget() -> None:
    masking = Masking(MASK, SPECIAL, rate=0.4, continues=CONTINUES)
    seen = {tuple(sorted(choose(WORDS, masking, np.random.default_rng(i)).tolist())) for i in range(200)}
    assert all((2 in places) == (3 in places) for places in seen)
    assert {len(places) for places in seen} == {2}  # round(0.4 x 6); a word of two fills it, or two of one
    assert (2, 3) in seen and (4, 7) in seen


def test_a_word_longer_than_the_budget_is_taken_when_there_is_no_other() -> None:
    ids = np.array([2, 10, 12, 12, 12, 3], dtype=np.int32)
    masking = Masking(MASK, SPECIAL, rate=0.15, continues=CONTINUES)
    assert sorted(choose(ids, masking, np.random.default_rng(0)).tolist()) == [1, 2, 3, 4]


def test_word_groups_are_those_of_the_reference_collator() -> None:
    transformers = pytest.importorskip("transformers")
    generator = np.random.default_rng(3)
    for _ in range(50):
        ids = generator.integers(0, 20, 30)  # 0 to 4 special, 12 continues
        lengths, special = generator.integers(1, 5, 30), SPECIAL[ids]
        gap = ~CONTINUES[ids]  # a word that begins follows a space
        starts = np.cumsum(lengths + gap) - lengths
        offsets = np.where(special[:, None], 0, np.stack([starts, starts + lengths], axis=1))
        groups, _ = transformers.DataCollatorForLanguageModeling._calc_word_ids_and_prob_mask(
            offsets[None], special[None].astype(int)
        )
        candidates = np.flatnonzero(~special)
        if len(candidates):
            ours = np.cumsum(begins_word(ids, candidates, CONTINUES))
            assert (ours == groups[0][candidates]).all()


def test_a_text_of_special_tokens_alone_has_nothing_to_predict() -> None:
    inputs, labels = mask_tokens(np.array([2, 3], dtype=np.int32), Masking(MASK, SPECIAL), np.random.default_rng(0))
    assert inputs.tolist() == [2, 3] and (labels == IGNORED).all()
