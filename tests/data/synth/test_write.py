"""A run's files: rows that sft reads, refused ones with their reason, and the same bytes after any interruption."""

import json
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from smelt.core.errors import ConfigError, DataError, UsageError
from smelt.data.formats import read_chats
from smelt.data.records import Message
from smelt.data.synth import asking
from smelt.data.synth.recipe import SynthRecipe
from smelt.data.synth.teacher import Reply, Settings, TeacherBusy, TeacherError
from smelt.data.synth.write import METHODS, beside, estimate_costs, synthesize

from .conftest import Scripted, rows_in, say


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(asking.Asker.__init__.__kwdefaults__, "pauses", (0.0,) * 3)


def recipe_for(method: str, seeds: Path, **more: Any) -> SynthRecipe:
    counts = {"self-instruct": 30, "evol-instruct": 12, "explain": 12, "textbook": 30}
    values = {"method": method, "data": str(seeds), "count": counts[method], "generations": 3, **more}
    return SynthRecipe.model_validate(values)


def files_of(out: Path) -> dict[str, bytes]:
    """Return the content of a run's files; replies in the order of their keys, since threads race for theirs."""
    replies = sorted(beside(out, "replies").read_bytes().split(b"\n"))
    return {"rows": out.read_bytes(), "refused": beside(out, "refused").read_bytes(), "replies": b"\n".join(replies)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("format", ["messages", "alpaca"])
def test_rows_are_chats_with_their_lineage(method: str, format: str, seeds: Path, tmp_path: Path) -> None:
    teacher = Scripted()
    report = synthesize(recipe_for(method, seeds, format=format), teacher, tmp_path / "made" / "a.jsonl")
    out = Path(report.file)
    chats, rows = list(read_chats(out)), rows_in(out)
    assert len(chats) == report.rows > 8 and report.requests == report.asked == len(teacher.heard)
    assert ("instruction" in rows[0]) == (format == "alpaca")
    assert all(row["lineage"]["teacher"] == "scripted" and row["lineage"]["method"] == method for row in rows)
    refused = rows_in(Path(report.refused_file))
    assert len(refused) == sum(report.refused.values()) and all(row["reason"] for row in refused)
    assert chats[0].messages[0].role == ("system" if method == "explain" else "user")
    assert report.reply_tokens == 7 * report.requests and report.prompt_tokens == sum(map(len, teacher.heard))
    assert list(tmp_path.joinpath("made").glob("*.jsonl")) == [out], "a reader of the folder finds the rows alone"


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_fails_goes_on_and_ends_with_the_same_bytes(method: str, seeds: Path, tmp_path: Path) -> None:
    class Mortal(Scripted):
        """A teacher that dies after some replies."""

        left = 10**6

        def ask(self, messages: Sequence[Message], settings: Settings) -> Reply:
            if len(self.heard) >= self.left:
                raise TeacherError("it is gone")
            return super().ask(messages, settings)

    recipe, whole, broken = recipe_for(method, seeds), tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    num_requests = synthesize(recipe, Mortal(), whole).requests
    heard = 0
    for left in (1, 5, 9, 13):
        teacher = Mortal()
        teacher.left = left
        try:
            synthesize(recipe, teacher, broken, parallel=3)
        except TeacherError as error:
            assert "are kept; the same command goes on from there" in str(error)
        heard += len(teacher.heard)
        with beside(broken, "replies").open("ab") as torn:
            torn.write(b'{"key": "half a li')
        with broken.open("ab") as torn:
            torn.write(b'{"mess')
    last = Mortal()
    report = synthesize(recipe, last, broken, parallel=7)
    assert files_of(broken) == files_of(whole)
    assert heard + len(last.heard) == num_requests == report.requests, "nothing was asked twice"
    assert synthesize(recipe, Mortal(), broken).asked == 0
    assert files_of(broken) == files_of(whole)


@pytest.mark.parametrize("method", ["self-instruct", "explain", "textbook"])
def test_more_rows_later_are_as_if_asked_for_at_once(method: str, seeds: Path, tmp_path: Path) -> None:
    def gaps(prompt: str, seed: int) -> str:
        return "" if seed % 3 == 0 and "more tasks" not in prompt else say(prompt, seed)

    few, many = recipe_for(method, seeds, count=5), recipe_for(method, seeds, count=11)
    synthesize(many, Scripted(gaps), tmp_path / "at-once.jsonl")
    synthesize(few, Scripted(gaps), tmp_path / "grown.jsonl")
    synthesize(many, Scripted(gaps), tmp_path / "grown.jsonl")
    assert files_of(tmp_path / "grown.jsonl") == files_of(tmp_path / "at-once.jsonl")
    with pytest.raises(DataError, match=r"more lines than this run makes\ntry: ask for as many rows as before"):
        synthesize(few, Scripted(), tmp_path / "grown.jsonl")


def test_other_settings_seeds_or_teachers_are_refused(seeds: Path, tmp_path: Path) -> None:
    out, recipe = tmp_path / "a.jsonl", recipe_for("evol-instruct", seeds)
    synthesize(recipe, Scripted(), out)
    for other, what in (
        ({"seed": 3}, "seed=3, but"),
        ({"count": 11}, "count=11, but"),
        ({"temperature": 0.5}, "temperature"),
    ):
        with pytest.raises(ConfigError, match=what):
            synthesize(recipe.model_copy(update=other), Scripted(), out)
    with pytest.raises(ConfigError, match=r"teacher='another', but .*a\.jsonl was begun with 'scripted'"):
        synthesize(recipe, Scripted(name="another"), out)
    with pytest.raises(ConfigError, match="teacher=me, but scripted is the one that answers"):
        synthesize(recipe.model_copy(update={"teacher": "me"}), Scripted(), out)
    seeds.write_text(seeds.read_text().replace("Done", "Well").replace(" and ", " or "))
    with pytest.raises(DataError, match=r"a\.jsonl.*:1: not what this run would write there"):
        synthesize(recipe, Scripted(), out)
    with pytest.raises(UsageError, match=r"ends in \.jsonl"):
        synthesize(recipe, Scripted(), tmp_path / "a.txt")
    (tmp_path / "mine.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"mine\.jsonl is there already"):
        synthesize(recipe, Scripted(), tmp_path / "mine.jsonl")
    beside(out, "replies").write_text("{}\n")
    with pytest.raises(DataError, match=r"a\.jsonl\.replies:1: not a reply of a teacher"):
        synthesize(recipe, Scripted(), out)


def test_a_busy_teacher_is_asked_again_but_not_for_ever(seeds: Path, tmp_path: Path) -> None:
    class Busy(Scripted):
        """A teacher that has an answer at the fourth try only."""

        def ask(self, messages: Sequence[Message], settings: Settings) -> Reply:
            tries[settings.seed] += 1
            if tries[settings.seed] < needed:
                raise TeacherBusy("no connection", fix="start the server")
            return super().ask(messages, settings)

    tries: Counter[int] = Counter()
    needed = 4
    assert synthesize(recipe_for("explain", seeds), Busy(), tmp_path / "a.jsonl").rows == 12
    needed = 99
    with pytest.raises(TeacherError) as raised:
        synthesize(recipe_for("explain", seeds), Busy(), tmp_path / "b.jsonl")
    assert str(raised.value) == (
        "no connection (4 tries)\n"
        "try: start the server; 0 replies and 0 rows are kept; the same command goes on from there"
    )


def test_no_more_than_so_many_at_a_time(seeds: Path, tmp_path: Path) -> None:
    lock, under_way, most = threading.Lock(), 0, 0
    gate = threading.Barrier(3, timeout=20)

    class Counting(Scripted):
        def ask(self, messages: Sequence[Message], settings: Settings) -> Reply:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            if 2 <= settings.seed <= 4:
                gate.wait()  # the first was asked alone; three others are under way together
            with lock:
                under_way -= 1
            return super().ask(messages, settings)

    synthesize(recipe_for("explain", seeds), Counting(), tmp_path / "a.jsonl", parallel=3)
    assert most == 3
    with pytest.raises(UsageError, match="1 to 256"):
        synthesize(recipe_for("explain", seeds), Scripted(), tmp_path / "b.jsonl", parallel=0)


def test_requests_that_the_teacher_does_not_take(seeds: Path, tmp_path: Path) -> None:
    class Choosy(Scripted):
        def ask(self, messages: Sequence[Message], settings: Settings) -> Reply:
            taken = settings.seed not in refused
            return super().ask(messages, settings) if taken else Reply("400 too long", finish="refused")

    refused = {3, 4}
    report = synthesize(recipe_for("explain", seeds), Choosy(), tmp_path / "a.jsonl")
    assert report.rows == 10 and report.refused == {"not taken by the teacher": 2}
    assert rows_in(Path(report.refused_file))[0]["answer"] == "400 too long"
    refused = {1}
    with pytest.raises(TeacherError, match="scripted did not take the first request: 400 too long"):
        synthesize(recipe_for("explain", seeds), Choosy(), tmp_path / "b.jsonl")


def test_half_a_character_can_be_written(seeds: Path, tmp_path: Path) -> None:
    report = synthesize(recipe_for("explain", seeds), Scripted(lambda prompt, seed: "a \udc80 b"), tmp_path / "a.jsonl")
    assert report.refused == {"broken characters": 12}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_costs_no_more_than_the_plan_said(method: str, seeds: Path, tmp_path: Path) -> None:
    recipe = recipe_for(method, seeds)
    costs = estimate_costs(recipe)
    teacher = Scripted()
    report = synthesize(recipe, teacher, tmp_path / "a.jsonl")
    assert report.requests <= sum(cost.requests for cost in costs)
    assert sum(cost.tokens_out for cost in costs) == 1024 * sum(cost.requests for cost in costs)
    assert sum(cost.tokens_in for cost in costs) * 4 > 0.5 * sum(map(len, teacher.heard))


def test_the_same_seed_is_the_same_run_and_another_is_another(seeds: Path, tmp_path: Path) -> None:
    texts = []
    for number, seed in enumerate((0, 0, 1)):
        out = tmp_path / f"{number}.jsonl"
        synthesize(recipe_for("evol-instruct", seeds, seed=seed), Scripted(say), out, parallel=1 + number)
        texts.append([(json.loads(line)["messages"]) for line in out.read_text().splitlines()])
    assert texts[0] == texts[1] != texts[2]
