"""`smelt bench`: its figures, and what it refuses."""

from pathlib import Path

import pytest

from .conftest import Smelt

SHORT = ("--prompt-tokens", 5, "--new-tokens", 4)


def test_json_has_a_figure_for_each_number_of_streams(smelt: Smelt, checkpoint: Path) -> None:
    found = smelt("bench", checkpoint, *SHORT, "--streams", "1,3", "--json").json
    assert found["streams"] == [1, 3]
    assert set(found) == {"streams", "ttft_ms", "inter_token_ms", "tokens_per_second"}
    for row in range(2):
        ttft, between = found["ttft_ms"][row] / 1e3, found["inter_token_ms"][row] / 1e3
        assert between > 0 and ttft > 0
        assert found["tokens_per_second"][row] == pytest.approx(
            4 * found["streams"][row] / (ttft + 3 * between), rel=0.5
        )


def test_a_table_is_for_people(smelt: Smelt, checkpoint: Path) -> None:
    lines = smelt("bench", checkpoint, *SHORT, "--streams", "2", "--weights", "int8").out.splitlines()
    assert lines[0].split() == ["streams", "first", "token", "ms", "between", "two", "ms", "tokens/s"]
    assert len(lines) == 2 and lines[1].split()[0] == "2"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--streams", "1,x"), "--streams '1,x'"),
        (("--streams", "0"), "--streams '0'"),
        (("--new-tokens", 1), "5 tokens of a prompt and 1 new ones"),
        (("--weights", "int3"), "weights: 'int3'"),
        (("--prompt-tokens", 10_000), "10000 tokens, but the model's context holds"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    words: tuple[object, ...], message: str, smelt: Smelt, checkpoint: Path
) -> None:
    result = smelt("bench", checkpoint, *SHORT, *words)
    assert result.code == 2 and message in result.err
