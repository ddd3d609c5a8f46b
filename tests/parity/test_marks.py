"""BLEU, chrF and ROUGE against the packages that publish them, and rank correlation against SciPy's."""

import random

import numpy as np
import pytest

from smelt.evals.bleu import bleu, bleu_words
from smelt.evals.chrf import chrf
from smelt.evals.rank_correlation import spearman
from smelt.evals.rouge import rouge

pytestmark = pytest.mark.interop
ENGLISH = "the mill stands by a river, 3.5 of it; 4-5 'sails' &amp; bread. - $20 mill"
WORDS = {"13a": ENGLISH.split(), "zh": list("水车在“河”边转了3圈。a他磨面")}


def corpus(kind: str, seed: int) -> tuple[list[str], list[str]]:
    """Return texts, some of them empty or short, and references that share most of their words."""
    generator, between = random.Random(seed), " " if kind == "13a" else ""
    wanted = [generator.choices(WORDS[kind], k=generator.randrange(1, 20)) for _ in range(12)]
    written = [[word for word in row if generator.random() < 0.8] for row in wanted]
    return [between.join(row) for row in written], [between.join(row) for row in wanted]


@pytest.mark.parametrize("kind", ["13a", "zh"])
def test_bleu_and_chrf_are_sacrebleus(kind: str) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    for seed in range(20):
        written, wanted = corpus(kind, seed)
        for rows in (slice(None), slice(0, 1), slice(1, 2)):
            one, other = written[rows], wanted[rows]
            theirs = sacrebleu.corpus_chrf(one, [other]).score
            assert 100 * chrf(one, other)["chrf"].value == pytest.approx(theirs, abs=1e-9)
            if kind == "13a" or rows == slice(None):  # a single row may be too short to tell that it is Chinese
                theirs = sacrebleu.corpus_bleu(one, [other], tokenize=kind).score
                assert 100 * bleu(one, other)["bleu"].value == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("kind", ["13a", "zh"])
def test_every_character_is_cut_as_sacrebleu_cuts_it(kind: str) -> None:
    pytest.importorskip("sacrebleu")
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

    cut = TokenizerZh() if kind == "zh" else Tokenizer13a()
    for code in [*range(1, 0x700), *range(0x1F00, 0x3500), 0x4E00, 0x9FBB, 0x9FBC, *range(0xF900, 0x10000), 0x20001]:
        text = f"a{chr(code)}b 1{chr(code)}2{chr(code)}"
        assert bleu_words(text, chinese=kind == "zh") == cut(text.rstrip()).split(), hex(code)


def test_rouge_is_rouge_scores() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL"])
    written, wanted = corpus("13a", 0)
    found = rouge(written, wanted)
    for ours, theirs in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        expected = np.mean(
            [scorer.score(ref, text)[theirs].fmeasure for text, ref in zip(written, wanted, strict=True)]
        )
        assert found[ours].value == pytest.approx(expected, abs=1e-12)


def test_rank_correlation_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    one = generator.integers(0, 6, 100)
    other = one + generator.integers(0, 9, 100)
    assert spearman(one, other).value == pytest.approx(stats.spearmanr(one, other).statistic, abs=1e-12)
