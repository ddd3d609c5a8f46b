"""The arena: nobody is told a name before the vote, a vote is one and stays, and what votes teach can be exported."""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from smelt.serve.store.chats import Chat, Message, add_message, create_chat
from smelt.serve.store.database import Store, new_id
from smelt.serve.store.rounds import Round, Side, Vote, add_round, vote_on, votes_on
from smelt.serve.store.votes import Thumb, rate_message
from smelt.studio.arena_votes import leaderboard, preference_pairs

from .conftest import Live, Watched, eventually, serious_faults

MODELS = ["runs/tiny", "runs/other", "runs/tiny@int8"]
NAMES = ("tiny", "other", "int8")
PAYLOADS = (
    "<script>window.ran=1</script>",
    "<img src=x onerror='window.ran=1'>",
    "<svg onload='window.ran=1'><animate onbegin='window.ran=1'/></svg>",
    "<iframe srcdoc='<script>parent.ran=1</script>'></iframe>",
    "[click](javascript:window.ran=1)",
    "<a href='jav&#x0A;ascript:window.ran=1'>x</a>",
    "![x](https://evil.example/pixel.png)",
    "<img src='https://evil.example/pixel.png'>",
    "<style>@import 'https://evil.example/a.css'; body{display:none}</style>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror=window.ran=1&gt;'>",
    "<details open ontoggle='window.ran=1'>x</details>",
    "<form action='https://evil.example'><input autofocus onfocus='window.ran=1'></form>",
    "`<img src=x onerror=window.ran=1>` {{constructor.constructor('window.ran=1')()}}",
    "<noscript><p title='</noscript><img src=x onerror=window.ran=1>'>",
)


def begin(live: Live, *, models: list[str] = MODELS, prompt: str = "Hi", **more: Any) -> str:
    """Begin a round of short answers and return its id."""
    name = new_id()
    asked = {"id": name, "prompt": prompt, "models": models, "max_tokens": 6, **more}
    begun = live.post("/studio/arena/rounds", **asked)
    assert begun.status == 200, begun.body
    return name


def answers_of(live: Live, name: str) -> tuple[dict[str, str], bytes]:
    """Stream a round's answers; return each side's text, and all that was sent."""
    streamed = live.post(f"/studio/arena/rounds/{name}/answers")
    assert streamed.status == 200 and streamed.body.endswith(b"data: [DONE]\n\n"), streamed.body
    texts: dict[str, str] = {}
    for said in streamed.events:
        texts[said["side"]] = texts.get(said["side"], "") + said["text"]
    assert sorted(said["side"] for said in streamed.events if "finish" in said) == sorted(texts)
    return texts, streamed.body


def written(
    store: Store, *answers: str, winner: str | None = None, models: Sequence[str] = "xyzw", prompt: str = "Q?"
) -> str:
    """Write a round with its answers, and a vote, straight into the store."""
    name = new_id()
    sides = tuple(Side(model, answer, "stop") for model, answer in zip(models, answers, strict=False))
    add_round(store, Round(name, "local", prompt, sides))
    if winner is not None:
        vote_on(store, Vote(name, "local", winner))  # type: ignore[arg-type]
    return name


def test_no_answer_before_the_vote_has_a_name_and_the_vote_reveals_all(live: Live) -> None:
    name = begin(live)
    texts, sent = answers_of(live, name)
    seen = live.get(f"/studio/arena/rounds/{name}")
    assert sorted(texts) == ["a", "b", "c"]
    assert {side["side"]: side["answer"] for side in seen.json["sides"]} == texts
    assert all(part.encode() not in sent + seen.body for part in (*NAMES, "shuffle"))
    voted = live.post(f"/studio/arena/rounds/{name}/vote", winner="b", reason=" clearer ").json
    assert sorted(side["model"] for side in voted["sides"]) == sorted(MODELS)
    assert voted["vote"] == {"winner": "b", "reason": "clearer", "created": voted["vote"]["created"]}
    assert live.get(f"/studio/arena/rounds/{name}").json == voted and voted["shuffle_seed"] is not None


def test_all_sides_are_asked_alike_and_the_order_is_not_the_callers(live: Live) -> None:
    texts, _ = answers_of(live, begin(live, models=["runs/tiny", "runs/tiny@fp32"], seed=3))
    assert texts["a"] == texts["b"] != ""
    firsts = set()
    for _ in range(12):
        name = begin(live, models=MODELS[:2])
        found = live.studio.store
        with found.read() as connection:
            asked = "SELECT model FROM round_sides WHERE round = ? AND side = 'a'"
            firsts.add(connection.exec_driver_sql(asked, (name,)).scalar())
    assert firsts == set(MODELS[:2])


def test_a_round_that_is_begun_again_is_the_same_one(live: Live) -> None:
    name = begin(live, models=MODELS[:2])
    body = {"id": name, "prompt": "Hi", "models": MODELS[:2], "max_tokens": 6}
    first = live.get(f"/studio/arena/rounds/{name}").json
    assert live.post("/studio/arena/rounds", **body).json == first
    assert live.post("/studio/arena/rounds", **{**body, "prompt": "Ho"}).status == 409
    texts, _ = answers_of(live, name)
    assert answers_of(live, name)[0] == texts


def test_a_double_click_is_one_vote_and_another_is_refused(live: Live) -> None:
    name = begin(live, models=MODELS[:2])
    assert live.post(f"/studio/arena/rounds/{name}/vote", winner="a").status == 409  # nothing is written yet
    answers_of(live, name)
    replies: list[int] = []
    clicks = [
        threading.Thread(
            target=lambda: replies.append(live.post(f"/studio/arena/rounds/{name}/vote", winner="a").status)
        )
        for _ in range(4)
    ]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join()
    assert replies == [200] * 4 and len(votes_on(live.studio.store, name)) == 1
    refused = live.post(f"/studio/arena/rounds/{name}/vote", winner="b")
    assert refused.status == 409 and "another winner" in refused.json["error"]["message"]
    assert live.post(f"/studio/arena/rounds/{name}/vote", winner="c").status == 400


@pytest.mark.parametrize(
    ("change", "status", "what"),
    [
        ({"models": ["runs/tiny"]}, 400, "models"),
        ({"models": ["runs/tiny"] * 2}, 400, "one of them is there twice; accepted: different models or weights"),
        ({"models": ["runs/tiny", "runs/none"]}, 400, "no such file or directory"),
        ({"models": ["runs/tiny", "runs/tiny@int3"]}, 400, "accepted: fp32, bf16, int8, int4"),
        ({"models": ["runs/tiny", "../x"]}, 400, "outside of the studio's folders"),
        ({"prompt": ""}, 400, "prompt"),
        ({"prompt": "x" * 400}, 400, "runs/tiny: the prompt has "),
        ({"id": "../x"}, 400, "id"),
        ({"temperature": 3}, 400, "temperature"),
    ],
)
def test_rounds_that_cannot_be(live: Live, change: dict[str, Any], status: int, what: str) -> None:
    asked = {"id": new_id(), "prompt": "Hi", "models": MODELS[:2], **change}
    refused = live.post("/studio/arena/rounds", **asked)
    assert refused.status == status and what in refused.json["error"]["message"]


def test_more_models_than_may_be_loaded_are_refused(start: Callable[..., Live], workspace: Path) -> None:
    small = start(workspace, store=workspace / "small.db", models=2)
    refused = small.post("/studio/arena/rounds", id=new_id(), prompt="Hi", models=MODELS)
    assert refused.status == 400 and "smelt studio --models 3" in refused.json["error"]["message"]


def test_a_round_outlives_its_server_and_a_failing_side_is_not_named(
    start: Callable[..., Live], workspace: Path, tmp_path: Path
) -> None:
    place = tmp_path / "arena.db"
    before = start(workspace, store=place)
    name = begin(before, models=MODELS[:2])
    kept = written(before.studio.store, "one", "two", models=("x", "y"))
    lost = new_id()
    add_round(before.studio.store, Round(lost, "local", "Q?", (Side("runs/tiny"), Side("runs/gone"))))
    before.studio.store.close()
    after = start(workspace, store=place)
    texts, _ = answers_of(after, name)
    assert sorted(texts) == ["a", "b"]
    assert after.post(f"/studio/arena/rounds/{kept}/vote", winner="both_bad").json["sides"][0]["model"] == "x"
    failed = after.post(f"/studio/arena/rounds/{lost}/answers")
    assert failed.status == 400 and "one of the models cannot answer now" in failed.json["error"]["message"]
    assert b"gone" not in failed.body and eventually(lambda: not after.studio.pool.jobs)


def test_nobody_sees_or_votes_on_anothers_round(start: Callable[..., Live], workspace: Path, tmp_path: Path) -> None:
    locked = start(workspace, key="open", store=tmp_path / "locked.db")
    name = written(locked.studio.store, "one", "two")
    bearer = {"Authorization": "Bearer open"}
    assert locked.get("/studio/arena").status == 401
    assert locked.get(f"/studio/arena/rounds/{name}", **bearer).status == 404
    for path, body in (("vote", {"winner": "a"}), ("answers", {})):
        assert locked.call("POST", f"/studio/arena/rounds/{name}/{path}", body, **bearer).status == 404
    assert locked.get("/studio/arena", **bearer).json["rounds"] == []


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store.open(tmp_path / "votes.db")
    yield opened
    opened.close()


def test_a_leaderboard_is_of_the_votes_and_says_what_was_left_out(store: Store) -> None:
    for _ in range(3):
        written(store, "good", "bad", winner="a", models="xy")
    written(store, "bad", "good", winner="b", models="yx")
    written(store, "good", "bad", winner="tie", models="xy")
    written(store, "good", "bad", winner="both_bad", models="xy")
    written(store, "p", "q", "r", winner="c", models="xyz")
    written(store, "not", "voted", models="xy")
    found = leaderboard(store, "local")
    assert [(one["name"], one["wins"]) for one in found["standings"]][:2] == [("z", 1), ("x", 4)]
    assert found["counts"] == {"votes": 7, "decided": 5, "ties": 1, "both_bad": 1}
    assert found["side"]["correct"] == 3 and found["side"]["total"] == 5 and found["side"]["leans"] == ""
    assert found["pairs"] == {"rounds": 6, "chats": 0, "tie": 1, "both_bad": 1, "same_or_empty": 0}
    assert leaderboard(store, "another")["standings"] == []


def test_pairs_come_from_rounds_and_from_rated_siblings(store: Store) -> None:
    written(store, "worse", "better", "worse", winner="b")  # one pair, though two of them said it
    written(store, "same", "same", winner="a")
    written(store, "said", " ", winner="a")
    create_chat(store, Chat("c", "local", ""))
    for message in (
        Message("s0", "c", None, "system", "Be rude.", created=0.5),
        Message("s", "c", None, "system", "Be kind.", created=1),
        Message("u", "c", None, "user", "Hi", created=2),
        Message("s2", "c", None, "system", "Too late.", created=9),
        *(Message(f"m{turn}", "c", "u", "assistant", f"answer {turn}", created=3 + turn) for turn in range(3)),
    ):
        add_message(store, "local", message)
    for turn, value in enumerate((1, -1)):
        rate_message(store, Thumb(f"m{turn}", "local", value))
    pairs, counts = preference_pairs(store, "local")
    assert counts == {"rounds": 1, "chats": 1, "tie": 0, "both_bad": 0, "same_or_empty": 2}
    assert pairs[0] == {
        "prompt": [{"role": "user", "content": "Q?"}],
        "chosen": [{"role": "assistant", "content": "better"}],
        "rejected": [{"role": "assistant", "content": "worse"}],
    }
    assert [turn["content"] for turn in pairs[1]["prompt"]] == ["Be kind.", "Hi"]
    assert pairs[1]["chosen"][0]["content"] == "answer 0" and pairs[1]["rejected"][0]["content"] == "answer 1"


def test_data_inspect_accepts_the_export(live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from smelt.cli.main import main

    written(live.studio.store, "better \u4f60\n\nyes", "worse", "other", winner="a", models="xyz")
    sent = live.get("/studio/arena/preferences.jsonl")
    assert sent.headers["content-disposition"] == 'attachment; filename="preferences.jsonl"'
    path = tmp_path / "preferences.jsonl"
    path.write_bytes(sent.body)
    assert main(["data", "inspect", str(path), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["num_bad"] == 0 and summary["formats"]["preferences"] == summary["num_ok"] >= 2


def no_sideways_scroll(page: Any, width: int) -> bool:
    """Tell whether a page is as wide as its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth") <= width)


@pytest.mark.browser
def test_a_round_in_the_browser_from_prompt_to_names(live: Live, open_page: Callable[..., Watched]) -> None:
    watched = open_page(live, "/arena")
    page = watched.page
    page.wait_for_selector("text=Who answers")
    page.fill("textarea", "Who goes there?")
    page.click("text=Add a model")
    page.click("summary")
    page.locator("input[type=range]").nth(1).fill("16")
    page.click("[data-testid=start-round]")
    page.wait_for_url("**/arena/*", timeout=60_000)
    address, heard = page.url, list[str]()
    page.on("response", lambda response: "/studio/" in response.url and heard.append(response.text()))
    page.reload()  # from here on all that the network brings is read
    page.wait_for_selector("button:has-text('A is best'):enabled", timeout=60_000)
    assert heard and not any(name in said for said in [*heard, page.content()] for name in NAMES)
    page.fill("[data-testid=ballot] textarea", "It is <b>short</b>.")
    page.dblclick("button:has-text('B is best')")
    page.wait_for_selector("[data-testid=result]")
    name = address.rsplit("/", 1)[1]
    (vote,) = votes_on(live.studio.store, name)
    assert vote.winner == "b" and vote.reason == "It is <b>short</b>."
    page.reload()
    page.wait_for_selector("[data-testid=answer-B][data-chosen=true] >> text=runs/")
    assert page.locator(".arena-model").count() == 3 and page.locator("text=It is <b>short</b>.").count() == 1
    page.click("text=See the leaderboard")
    page.wait_for_selector("[data-testid=side-bias]")
    with page.expect_download() as download:
        page.click("text=Download preferences.jsonl")
    rows = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert any(json.loads(row)["prompt"][0]["content"] == "Who goes there?" for row in rows)


@pytest.mark.browser
def test_a_round_can_be_played_by_keys_alone(live: Live, open_page: Callable[..., Watched]) -> None:
    name = written(live.studio.store, "one", "two", models="xy")
    page = open_page(live, f"/arena/{name}").page
    page.wait_for_selector("button:has-text('A is best'):enabled")
    page.focus("[data-testid=ballot] textarea")
    for _ in range(4):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Both bad"
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Your vote is kept: Both bad.")
    assert votes_on(live.studio.store, name)[0].winner == "both_bad"


@pytest.mark.browser
def test_nothing_of_a_prompt_an_answer_or_a_reason_runs(live: Live, open_page: Callable[..., Watched]) -> None:
    for payload in PAYLOADS:
        name = new_id()
        sides = (Side("x", payload, "stop"), Side("y", f"text\n\n{payload}", "stop"))
        add_round(live.studio.store, Round(name, "local", payload, sides))
        vote_on(live.studio.store, Vote(name, "local", "a", payload))
    page = None
    for number, one in enumerate(live.get("/studio/arena").json["rounds"]):
        if page is None:
            page = open_page(live, f"/arena/{one['id']}").page
            page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        elif number < len(PAYLOADS):
            page.goto(f"{live.url}/arena/{one['id']}")
        page.wait_for_selector("[data-testid=round]")
        assert page.locator("main :is(script, img, iframe, svg, style, form, input, [onerror])").count() == 0
    page.goto(f"{live.url}/arena")
    page.wait_for_selector(".arena-recent li")
    assert page.evaluate("window.ran") is None


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme", "language"), [(375, "dark", "zh"), (1440, "light", "en")])
def test_every_view_fits_and_is_accessible(
    start: Callable[..., Live],
    workspace: Path,
    tmp_path: Path,
    open_page: Callable[..., Watched],
    axe: str,
    width: int,
    theme: str,
    language: str,
) -> None:
    own = start(workspace, store=tmp_path / "own.db")
    store = own.studio.store
    page = open_page(own, "/arena/leaderboard", width=width, theme=theme, language=language).page
    page.wait_for_selector("[data-testid=leaderboard]")
    assert serious_faults(page, axe) == []
    written(store, "good", "bad", "worse", winner="a", models=["runs/a/very/long/name/of/a/checkpoint@int4", "y", "z"])
    voted = written(store, "good", "bad", winner="tie", models="yz")
    waiting = written(store, "```\n" + "long " * 60 + "\n```", "x" * 300, "c", "d")
    views = {
        "/arena": ".arena-start",
        "/arena/leaderboard": ".arena-matrix",
        f"/arena/{voted}": "[data-testid=result]",
        f"/arena/{waiting}": "[data-testid=ballot]",
        "/arena/none": "[role=alert]",
    }
    for path, ready in views.items():
        page.goto(own.url + path)
        page.wait_for_selector(ready)
        assert no_sideways_scroll(page, width), path
        assert serious_faults(page, axe) == [], path


@pytest.mark.browser
def test_a_vote_outlives_a_reload_of_page_and_server(
    start: Callable[..., Live], workspace: Path, tmp_path: Path, open_page: Callable[..., Watched]
) -> None:
    first = start(workspace, store=tmp_path / "a.db")
    name = begin(first, models=MODELS[:2])
    first.studio.store.close()  # it dies before anything was answered
    second = start(workspace, store=tmp_path / "a.db")
    page = open_page(second, f"/arena/{name}").page
    page.click("button:has-text('Tie'):enabled", timeout=60_000)
    page.wait_for_selector("[data-testid=result]")
    assert votes_on(second.studio.store, name)[0].winner == "tie"
