"""The routes of runs: what they read, that points are those of the file, overlays, differences, exports, refusals."""

import csv
import io
import json
import math
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from smelt.studio.curves import Asked, Curves, curve
from smelt.studio.lines import decimated, read_numbers, smoothed
from smelt.train.reading import facts, last_line, setting

from .conftest import Live
from .run_files import PIXEL, REPORT, make_run, make_runs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    """Return a folder with runs, and their metrics."""
    root = tmp_path_factory.mktemp("runs")
    return root, make_runs(root)


@pytest.fixture(scope="module")
def studio(made: tuple[Path, Any], start: Callable[..., Live]) -> Live:
    return start(made[0])


def asked(studio: Live, runs: str, **words: Any) -> list[dict[str, Any]]:
    """Return what the route of curves answers."""
    more = "".join(f"&{name.strip('_')}={quote(str(value))}" for name, value in words.items())
    reply = studio.get(f"/studio/runs/curves?runs={quote(runs)}{more}")
    assert reply.status == 200, reply.body
    return list(reply.json["runs"])


def test_numbers_are_what_json_reads_to_the_last_bit() -> None:
    random.seed(1)
    bits = [struct.unpack("d", struct.pack("Q", random.getrandbits(64)))[0] for _ in range(20_000)]
    narrow = [float(np.float32(random.random() * 10 ** random.uniform(-9, 9))) for _ in range(20_000)]
    plain = [round(random.random() * 1e6, random.randrange(7)) for _ in range(10_000)]
    whole = [random.randrange(-(10**17), 10**17) for _ in range(10_000)]
    values = [
        value for value in (*bits, *narrow, *plain, *whole, 0, -0.0, 5e-324, 1e22, 123456789012345678) if value == value
    ]
    data = "".join(json.dumps({"step": step, "value": value}) + "\n" for step, value in enumerate(values)).encode()
    found = read_numbers(data)
    assert found.broken == () and found.num_lines == len(values)
    assert found.columns["value"].tolist() == [float(value) for value in values]


@pytest.mark.parametrize(
    "line",
    ['{"step": 2, "loss": 1.5, "other": 3}', '{"loss":1.5,"step":2}', '{"step": 2, "loss": 1.5, "kind": "a\\"}"}',
     '{"step": 2, "loss": 1.5, "by_source": {"a": 1}}', ' {"step" : 2 , "loss" : 1.5}',
     '{"st\\u0065p": 2, "loss": 15e-1}'],
)  # fmt: skip
def test_any_line_of_json_with_a_step_is_read(line: str) -> None:
    usual = '{"step": 1, "loss": 2.5}\n{"step": 9, "loss": 0.5}\n'
    for data in (f"{usual}{line}\n{usual}", f"{line}\n{usual}{usual}", f"{usual}{usual}{line}\n"):
        found = read_numbers(data.encode())
        assert found.broken == () and len(found.columns["step"]) == 5
        row = found.columns["step"].tolist().index(2)
        assert found.columns["loss"][row] == 1.5


@pytest.mark.parametrize("line", ["", "{", "{}", "[1]", "3", '{"step": 2, "lo{"step": 3, "loss": 1}', '{"step": 1.}',
                                  '{"step": 2,}', '{"step": 2} {"step": 3}', '{"loss": 3}', "\x00\xff",
                                  '{"step": --2}'])  # fmt: skip
def test_a_broken_line_is_named_by_its_row_and_costs_no_other(line: str) -> None:
    found = read_numbers(f'{{"step": 1, "loss": 2}}\n{line}\n{{"step": 3, "loss": 1}}\n'.encode())
    assert found.columns["step"].tolist() == [1, 3] and found.columns["loss"].tolist() == [2, 1]
    assert [one.row for one in found.broken] == [2]


def test_a_bucket_keeps_its_least_and_its_largest_and_a_short_curve_comes_whole() -> None:
    values = np.random.default_rng(0).standard_normal(10_007)
    values[[4321, 777]] = 50, -50
    values[100:150] = np.nan
    for most in (4, 7, 300, 9000):
        chosen = decimated(values, most)
        assert len(chosen) <= most and chosen[0] == 0 and chosen[-1] == 10_006
        assert {4321, 777} <= set(chosen.tolist()) and (np.diff(chosen) > 0).all()
        assert not np.isnan(values[chosen]).any()
    assert decimated(values, 10_000).tolist() == np.flatnonzero(~np.isnan(values)).tolist()
    assert decimated(np.full(3, np.nan), 4).tolist() == [] and decimated(np.zeros(0), 4).tolist() == []


def test_smoothing_is_an_average_whose_weights_are_one_together() -> None:
    values = np.array([2.0, 4.0, np.nan, 8.0])
    expected = [2.0, (0.25 * 4 + 0.75 * 0.25 * 2) / (1 - 0.75**2), math.nan]
    expected.append((0.25 * 8 + 0.75 * 0.25 * 4 + 0.75**2 * 0.25 * 2) / (1 - 0.75**3))
    assert smoothed(values, 0.75) == pytest.approx(expected, nan_ok=True)
    assert smoothed(np.full(50, 3.0), 0.99) == pytest.approx(np.full(50, 3.0))


def test_a_growing_file_is_read_on_and_one_written_anew_is_read_whole(tmp_path: Path) -> None:
    run, curves = tmp_path / "run", Curves()
    assert curves.of(run).columns["step"].tolist() == []
    run.mkdir()
    file = run / "metrics.jsonl"
    file.write_text('{"step": 1, "loss": 3}\n{"step": 2, "lo')
    assert curves.of(run).columns["step"].tolist() == [1] and curves.of(run).broken == ()
    with open(file, "a") as handle:
        handle.write('ss": 2}\noops\n{"step": 3, "loss": 1, "more": 7}\n')
    found = curves.of(run)
    assert found.columns["loss"].tolist() == [3, 2, 1] and [one.row for one in found.broken] == [3]
    assert found.columns["more"].tolist()[2] == 7 and np.isnan(found.columns["more"][:2]).all()
    assert curves.of(run) is found
    new = run / "new"
    new.write_text('{"step": 1, "loss": 9}\n' * 20)
    os.replace(new, file)
    assert curves.of(run).columns["loss"].tolist() == [9] * 20
    file.write_text('{"step": 1, "loss": 8}\n' * 40)  # in place: the same file by its number, and longer
    assert curves.of(run).columns["loss"].tolist() == [8] * 40


def test_facts_are_read_from_the_ends_of_files(tmp_path: Path) -> None:
    rows = make_run(tmp_path / "run", 30)
    found = facts(tmp_path / "run")
    assert found["steps"] == found["step"] == 30 and found["train_loss"] == rows[-1]["loss"]
    assert found["validation_loss"] == found["best_validation_loss"] == 3.25 and found["tokens"] == 30 * 4096
    with open(tmp_path / "run" / "metrics.jsonl", "a") as handle:
        handle.write('broken\n{"step": 31, "lo')
    assert last_line(tmp_path / "run" / "metrics.jsonl")["step"] == 30 and last_line(tmp_path / "none") == {}
    assert setting("a: 1\nsteps: null\nb:\n  c: 2\n", "steps") is None
    assert (
        setting("a: 'x: y'\n", "a") == "x: y"
        and setting("a:\n  c: 2\n", "a") is None
        and setting("a: [\n", "a") is None
    )


def test_the_list_has_every_run_with_its_stage(studio: Live) -> None:
    found = {run["name"]: run for run in studio.get("/studio/runs").json["runs"]}
    assert set(found) == {"runs/one", "runs/long", "runs/a, b"}
    assert found["runs/one"]["stage"] == "pretrain" and found["runs/one"]["validation_loss"] == 3.25
    assert found["runs/one"]["parameters"] is None and found["runs/one"]["checkpoint"] is None


def test_points_are_those_of_the_file(studio: Live, made: tuple[Path, dict[str, list[dict[str, Any]]]]) -> None:
    one, long = asked(studio, "runs/one,runs/long", metrics="*", points=400)
    rows = made[1]["runs/one"]
    assert [curve["metric"] for curve in one["curves"]] == [
        "loss", "gradient_norm", "learning_rate", "tokens_per_second", "memory_bytes",
    ]  # fmt: skip
    for found in one["curves"]:
        assert found["x"] == [row["step"] for row in rows] and found["y"] == [row[found["metric"]] for row in rows]
    assert one["validations"] == {"x": [50, 100], "y": [3.5, 3.25]}
    losses = {row["step"]: row["loss"] for row in made[1]["runs/long"]}
    loss = long["curves"][0]
    assert (
        len(loss["x"]) <= 400
        and loss["rows"] == 5000
        and all(losses[x] == y for x, y in zip(loss["x"], loss["y"], strict=True))
    )
    assert {min(losses.values()), max(losses.values())} <= set(loss["y"]) and {1, 5000} <= set(loss["x"])


def test_x_can_be_tokens_or_seconds_and_a_part_of_it(studio: Live) -> None:
    (found,) = asked(studio, "runs/one", x="tokens", smooth=0.9, from_=40_960, to=81_920)
    loss = found["curves"][0]
    assert loss["x"] == [4096 * step for step in range(9, 22)]  # and one on each side, so that the line does not end
    assert loss["smooth"]["x"] == loss["x"] and loss["smooth"]["y"] != loss["y"]
    assert asked(studio, "runs/one", x="seconds")[0]["curves"][0]["x"][0] == 0.9137
    assert asked(studio, "runs/one", x="flops")[0]["curves"][0]["x"] == []  # no checkpoint says what it is
    assert asked(studio, "runs/one", from_=1000)[0]["curves"][0]["x"] == []


def test_a_broken_line_is_shown_and_a_torn_last_one_is_none(studio: Live) -> None:
    (found,) = asked(studio, "runs/a%2C b")
    assert found["broken"] == [{"row": 2, "text": '{"step": 2, "lo{"step": 3, "loss": 4.0}'}]
    assert found["curves"][0] == {"metric": "loss", "x": [1], "y": [5], "rows": 1, "smooth": None}


def test_a_run_is_shown_whole(studio: Live) -> None:
    found = studio.get("/studio/runs/run?name=runs/one").json
    assert found["report"] == REPORT and found["recipe"].startswith("name: one\n")
    assert found["samples"][0]["text"] == " <b>upon</b> a time" and len(found["events"]) == 2
    picture = studio.get("/studio/runs/picture?name=runs/one&file=loss.png")
    assert picture.headers["content-type"] == "image/png" and picture.body == PIXEL


@pytest.mark.parametrize(
    ("path", "said"),
    [("run?name=runs/on", "Did you mean 'one'"), ("run?name=runs", "is not a run"), ("run?name=../..", "outside"),
     ("picture?name=runs/one&file=recipe.yaml", "no picture"),
     ("picture?name=runs/one&file=../one/loss.png", "no picture"),
     ("curves?runs=", "1 to 500"), ("curves?runs=runs/one&x=fame", "step, tokens, seconds, flops"),
     ("curves?runs=runs/one&smooth=1", "0 to below 1"), ("curves?runs=runs/one&points=nan", "4 to 20000"),
     ("curves?runs=../../etc", "outside of the studio"), ("export?runs=runs/one&form=exe", "none of csv, json and md")],
)  # fmt: skip
def test_refusals_say_what_is_accepted(studio: Live, path: str, said: str) -> None:
    reply = studio.get(f"/studio/runs/{path}")
    assert reply.status == 400 and said in reply.json["error"]["message"]


def test_no_picture_is_read_through_a_link(studio: Live, made: tuple[Path, Any], tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PIXEL)
    (made[0] / "runs" / "one" / "link.png").symlink_to(tmp_path / "secret.png")
    assert studio.get("/studio/runs/picture?name=runs/one&file=link.png").status == 400


def test_differences_of_recipes(studio: Live) -> None:
    found = studio.get("/studio/runs/differences?runs=runs/one,runs/long").json["differences"]
    assert found == [
        {"key": "name", "values": ["one", "long"]},
        {"key": "steps", "values": [100, 5000]},
        {"key": "optimizer.learning_rate", "values": [0.003, 0.001]},
    ]


def test_exports_hold_every_step(studio: Live, made: tuple[Path, dict[str, list[dict[str, Any]]]]) -> None:
    table = studio.get("/studio/runs/export?runs=runs/one,runs/long&form=csv")
    rows = list(csv.DictReader(io.StringIO(table.body.decode())))
    expected = [(name, row) for name, values in made[1].items() for row in values]
    assert "attachment" in table.headers["content-disposition"] and len(rows) == 5100
    assert all(
        row["run"] == name and float(row["loss"]) == one["loss"]
        for row, (name, one) in zip(rows, expected, strict=True)
    )
    whole = studio.get("/studio/runs/export?runs=runs/long,runs/a%252C b&form=json".replace(" ", "%20")).json["runs"]
    assert whole[0]["metrics"]["loss"] == [row["loss"] for row in made[1]["runs/long"]]
    assert whole[1]["metrics"]["loss"] == [5, None] and whole[0]["validations"] == [[2500, 3.5], [5000, 3.25]]
    assert studio.get("/studio/runs/export?runs=runs/one&form=md").body.decode() == REPORT
    page = studio.get("/studio/runs/export?runs=runs/one,runs/long&form=md").body.decode()
    assert "| optimizer.learning_rate | 0.003 | 0.001 |" in page and "| runs/long | pretrain | 5000 |" in page


def test_a_law_needs_runs_that_compare(studio: Live) -> None:
    found = studio.get("/studio/runs/law?runs=runs/one,runs/long").json
    assert found["law"] is None and "finished runs that can be compared" in found["why"]
    assert len(found["skipped"]) == 2


def test_flops_follow_tokens() -> None:
    lines = read_numbers(b'{"step": 1, "tokens": 10, "loss": 2}\n')
    assert curve(lines, "loss", Asked(x="flops"), 6.0)["x"] == [60] and curve(lines, "none", Asked(), None)["x"] == []
