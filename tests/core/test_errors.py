import pickle

import pytest

from smelt.core import errors
from smelt.core.errors import ConfigError, DataError, SmeltError, UsageError, nearest


def test_message_has_one_line_for_each_part() -> None:
    error = DataError("rows.jsonl:17: no content", accepted="a text", fix="remove the row")
    assert str(error) == "rows.jsonl:17: no content\naccepted: a text\ntry: remove the row"
    assert str(DataError("broken")) == "broken"
    assert str(DataError("broken", fix="mend it")) == "broken\ntry: mend it"


def test_exit_codes_tell_usage_from_failure() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SmeltError)]
    assert {kind for kind in kinds if kind.exit_code == 2} == {UsageError, ConfigError}
    assert all(kind.exit_code == 1 for kind in kinds if not issubclass(kind, UsageError))


def test_an_error_crosses_a_process_boundary() -> None:
    """A worker's exception travels pickled; keyword-only arguments once made it impossible to rebuild."""
    sent = DataError("rows.jsonl:17: no content", accepted="a text", fix="remove the row")
    received = pickle.loads(pickle.dumps(sent))  # noqa: S301
    assert type(received) is DataError
    assert str(received) == str(sent)


@pytest.mark.parametrize(
    ("name", "candidates", "expected"),
    [
        ("lerning_rate", ["learning_rate", "steps"], " Did you mean 'learning_rate'?"),
        ("zzz", ["learning_rate", "steps"], ""),
        ("x", [], ""),
    ],
)
def test_nearest(name: str, candidates: list[str], expected: str) -> None:
    assert nearest(name, candidates) == expected
