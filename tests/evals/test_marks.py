"""Metrics of written texts: cases counted by hand, figures that sacreBLEU gave, intervals that cover."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from smelt.core.errors import UsageError
from smelt.evals.bleu import bleu
from smelt.evals.chrf import chrf
from smelt.evals.distinct import distinct
from smelt.evals.keywords import keyword_scores, keywords
from smelt.evals.marks import FIGURES, WRITTEN, metrics_named, score_texts
from smelt.evals.rank_correlation import spearman
from smelt.evals.ranking import ndcg_at, places, ranking_scores, recall_at, reciprocal_rank
from smelt.evals.resampling import Score, mean_score, ratio_score
from smelt.evals.rouge import common_subsequence, rouge
from smelt.evals.short_answers import same_answer, shared_words
from smelt.evals.wording import answer_words, bleu_words, is_chinese, words


def values(scores: dict[str, Score]) -> dict[str, float]:
    return {name: score.value for name, score in scores.items()}


@pytest.mark.parametrize(
    ("cut", "text", "expected"),
    [
        (words, "The mill-wheel, 3°: Ö_x", "the mill wheel 3 ö x"),
        (words, "水车 turns 3圈。", "水 车 turns 3 圈"),
        (answer_words, "The mill-wheel, a Wheel. theme", "millwheel wheel theme"),
        (answer_words, "光荣 和“ω-force”。", "光 荣 和 ωforce"),
        (bleu_words, "Wait, it's 3.5%, 4-5 &amp; more.", "Wait , it's 3.5 % , 4 - 5 & more ."),
        (bleu_words, "well-\nknown", "wellknown"),
        (lambda text: bleu_words(text, chinese=True), "水车“A1”,转了3圈。", "水 车 “ A1 ” , 转 了 3 圈 。"),
    ],
)
def test_texts_are_cut(cut: Callable[[str], list[str]], text: str, expected: str) -> None:
    assert cut(text) == expected.split()


def test_texts_are_chinese_by_their_characters() -> None:
    assert is_chinese(["水车 turns"]) and not is_chinese(["the 水 of a mill by the river"]) and not is_chinese([""])


def test_rouge_by_hand() -> None:
    # the cat sat | the cat ran: two of three words, one of two pairs, "the cat" in order
    found = values(rouge(["the cat sat", "", "水车转"], ["The cat ran.", "a", "水转车"]))
    assert found["rouge_1"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert found["rouge_2"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert found["rouge_l"] == pytest.approx((2 / 3 + 0 + 2 / 3) / 3)
    # Of one word written twice, one is wanted: precision 1/2, recall 1.
    assert values(rouge(["mill mill"], ["mill"]))["rouge_1"] == pytest.approx(2 / 3)


def test_the_longest_common_subsequence() -> None:
    assert common_subsequence("abcd", "axcd") == 3
    assert common_subsequence("ab" * 50, "ba" * 50) == 99
    assert common_subsequence("", "a") == common_subsequence("a", "") == 0
    generator = np.random.default_rng(0)
    for _ in range(20):
        one, other = (generator.integers(0, 3, size) for size in (13, 9))
        table = np.zeros((14, 10), int)
        for i in range(13):
            for j in range(9):
                table[i + 1, j + 1] = table[i, j] + 1 if one[i] == other[j] else max(table[i, j + 1], table[i + 1, j])
        assert common_subsequence(one.astype(str).tolist(), other.astype(str).tolist()) == table[-1, -1]


def test_bleu_by_hand() -> None:
    # 5 of 6, 3 of 5, 2 of 4 and 1 of 3 runs are common, and as much is written as wanted.
    (found,) = values(bleu(["the cat sat on the mat"], ["the cat sat on a mat"])).values()
    assert found == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    short = values(bleu(["the cat sat on"], ["the cat sat on the mat"]))["bleu"]
    assert short == pytest.approx(math.exp(1 - 6 / 4))
    longer = values(bleu(["the cat sat on the mat now"], ["the cat sat on the mat"]))["bleu"]
    assert longer == pytest.approx((6 / 7 * 5 / 6 * 4 / 5 * 3 / 4) ** 0.25)  # too much is punished by precision alone
    # Runs of three and four are missed: they count as 1/2 and 1/4 of one.
    (found,) = values(bleu(["a b x c d"], ["a b y c d"])).values()
    assert found == pytest.approx((4 / 5 * 2 / 4 * 0.5 / 3 * 0.25 / 2) ** 0.25)
    assert values(bleu(["a b c"], ["a b c"]))["bleu"] == values(bleu(["x y z u"], ["a b c d"]))["bleu"] == 0
    assert values(bleu([""], ["a b c d"]))["bleu"] == 0


GERMAN = (
    ["Die Mühle steht am Fluss, seit 1,200 Jahren.", "Er mahlt."],
    ["Die Mühle steht am Bach, seit 1,200 Jahren.", "Er mahlt Korn."],
)
CHINESE = (["水车在河边转了3.5圈。", "他磨面"], ["水车在“河”边转了3.5圈。", "他磨面粉"])

SACRED = {"german": (58.54828907695338, 74.1475760869852), "chinese": (55.20439331906393, 56.30019878227455)}
"""BLEU and chrF of sacrebleu 2.6.0."""


def test_figures_that_sacrebleu_gave() -> None:
    assert 100 * values(bleu(*GERMAN))["bleu"] == pytest.approx(SACRED["german"][0], abs=1e-9)
    assert 100 * values(bleu(*CHINESE))["bleu"] == pytest.approx(SACRED["chinese"][0], abs=1e-9)
    assert 100 * values(chrf(*GERMAN))["chrf"] == pytest.approx(SACRED["german"][1], abs=1e-9)
    assert 100 * values(chrf(*CHINESE))["chrf"] == pytest.approx(SACRED["chinese"][1], abs=1e-9)


def test_chrf_by_hand() -> None:
    # One length has runs on both sides: one of two characters is common.
    assert values(chrf(["a b"], ["b"]))["chrf"] == pytest.approx(5 * 0.5 * 1 / (4 * 0.5 + 1))
    assert values(chrf([""], ["b"]))["chrf"] == 0
    # Runs of three count in the second row alone: the first reference has none.
    precision = (5 / 6 + 3 / 4 + 1) / 3
    assert values(chrf(["abc", "abc"], ["ab", "abc"]))["chrf"] == pytest.approx(5 * precision / (4 * precision + 1))


def test_short_answers() -> None:
    assert same_answer("The mill.", "mill") and not same_answer("mill", "mills") and same_answer("光荣 和", "光荣和。")
    assert shared_words("the red mill", "a mill") == pytest.approx(2 / 3)
    assert shared_words("...", "the") == 1 and shared_words("mill", "the") == 0
    assert shared_words("光荣", "光荣和特库摩") == pytest.approx(2 * 2 / 8)


def test_keywords_are_sets() -> None:
    assert keywords("Mill, river;  mill｜发动机、熄火。\n- big  Sail") == {
        "mill",
        "river",
        "发动机",
        "熄火",
        "big sail",
    }
    found = values(keyword_scores(["mill, river", "sail"], ["River, town, mill", "bread"]))
    assert found["keyword_precision"] == pytest.approx(2 / 3) and found["keyword_recall"] == pytest.approx(2 / 4)
    assert found["keyword_f1"] == pytest.approx(2 * 2 / 7)
    assert set(values(keyword_scores([""], ["mill"])).values()) == {0.0}


def test_distinct_words_of_all_replies() -> None:
    found = distinct(["a b", "a c", "a b"], ["", "", ""])
    assert values(found) == {"distinct_1": pytest.approx(3 / 6), "distinct_2": pytest.approx(2 / 3)}
    # Without the first row 1/2 is left, without the second 2/2, of 2/4 in all: pseudo-values 0.5 and 0, moved to 0.5.
    assert distinct(["a b", "a a"], ["", ""])["distinct_1"].rows[:, 0].tolist() == pytest.approx([0.75, 0.25])
    low, high = distinct([f"word{number} and" for number in range(50)], [""] * 50)["distinct_1"].interval()
    assert low <= 51 / 100 <= high < 0.6
    assert values(distinct([""], [""])) == {"distinct_1": 0, "distinct_2": 0}


def test_rankings() -> None:
    nearness = np.array([0.9, 0.5, 0.9, 0.1])
    assert places(nearness, [0]).tolist() == [2]  # a tie counts against it
    found = places(nearness, [1, 2])
    assert found.tolist() == [2, 3]
    assert (recall_at(found, 1), recall_at(found, 2), recall_at(found, 5)) == (0, 0.5, 1)
    assert reciprocal_rank(found) == 0.5
    best = 1 + 1 / math.log2(3)
    assert ndcg_at(found, 10) == pytest.approx((1 / math.log2(3) + 1 / math.log2(4)) / best)
    assert ndcg_at(found, 2) == pytest.approx(1 / math.log2(3) / best) and ndcg_at(found, 1) == 0
    scores = ranking_scores([np.array([1]), np.array([4])])
    assert values(scores) == {
        "recall_at_1": 0.5,
        "recall_at_5": 1,
        "recall_at_10": 1,
        "mrr": 0.625,
        "ndcg_at_10": pytest.approx((1 + 1 / math.log2(5)) / 2),
    }


def test_rank_correlation() -> None:
    assert spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]).value == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]).value == pytest.approx(0.9486832980505138)  # scipy.stats.spearmanr
    assert spearman([3, 2, 1], [1, 5, 9]).value == pytest.approx(-1) and spearman([1, 1], [1, 2]).value == 0
    low, high = spearman(range(40), [x + 9 * (x % 5) for x in range(40)]).interval()
    assert -1 <= low < high <= 1


def test_an_interval_is_that_of_the_binomial() -> None:
    score = mean_score([1.0] * 30 + [0.0] * 70)
    low, high = score.interval()
    half = 1.96 * math.sqrt(0.3 * 0.7 / 100)
    assert (low, high) == (pytest.approx(0.3 - half, abs=0.02), pytest.approx(0.3 + half, abs=0.02))
    assert score.interval() == (low, high)


def test_rows_are_drawn_alike_for_two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    hard = np.random.default_rng(0).random(100)
    before, after = mean_score(hard), mean_score(hard + 0.05)
    assert after.gain(before) == pytest.approx((0.05, 0.05))
    assert before.interval()[1] > after.interval()[0]
    whole = before.interval()
    assert whole == before.interval() != before.interval(seed=1)
    monkeypatch.setattr("smelt.evals.resampling.DRAWN_AT_ONCE", 700)  # in pieces of seven draws
    assert before.interval() == pytest.approx(whole, abs=0.02)
    with pytest.raises(UsageError, match="100 rows against 2"):
        before.gain(mean_score([1, 2]))
    with pytest.raises(UsageError, match="a figure of no row"):
        mean_score([])
    assert ratio_score([0], [0]).value == 0


def test_every_metric_has_the_figures_that_it_names() -> None:
    for name in WRITTEN:
        assert tuple(score_texts(["the mill"], ["a mill"], [name])) == FIGURES[name]
    assert metrics_named("rouge, bleu,rouge") == ("rouge", "bleu")
    with pytest.raises(UsageError, match=r"no metric 'rogue'\. Did you mean 'rouge'"):
        metrics_named("rogue")
