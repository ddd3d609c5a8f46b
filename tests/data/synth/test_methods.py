"""The four methods, wave by wave, against a teacher that says what the test writes down."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from smelt.core.errors import DataError
from smelt.data.synth import evolve, explain, self_instruct, textbook
from smelt.data.synth.job import Job, Row, Seed, Waves, read_seeds
from smelt.data.synth.prompts import load_prompts
from smelt.data.synth.recipe import SynthRecipe
from smelt.data.synth.self_instruct import tasks_in
from smelt.data.synth.teacher import Reply, Request

WAVES = {"self-instruct": self_instruct, "evol-instruct": evolve, "explain": explain, "textbook": textbook}
Script = Callable[[Request], Reply | str]


def run(script: Script, seeds: list[str], **settings: object) -> tuple[Job, list[Row], list[list[Request]]]:
    """Answer a method's waves by a script; return the job, its rows and its waves."""
    recipe = SynthRecipe.model_validate({"data": "-", **settings})
    rows: list[Row] = []
    job = Job(recipe, load_prompts(), [Seed(text, f"s:{n}") for n, text in enumerate(seeds, 1)], rows.append)
    waves: Waves = WAVES[recipe.method].waves(job)
    asked = [next(waves)]
    while True:
        replies = [script(request) for request in asked[-1]]
        try:
            asked.append(waves.send([Reply(said) if isinstance(said, str) else said for said in replies]))
        except StopIteration:
            return job, rows, asked


SEEDS = [
    f"{task}." for task in ("Sort the fish", "Count the birds", "Draft the letters", "Weigh the stones",
                            "Paint the fences", "Label the jars", "Trace the roads", "Rank the songs")
]  # fmt: skip


def test_tasks_of_a_reply() -> None:
    reply = "Sure!\nTask 9: Add 2 and 3.\n**Task 10:** Sort:\n1. a\n2. b\n- task 11. Say hi.\n任务12：问好"
    assert tasks_in(reply) == ["Add 2 and 3.", "Sort:\n1. a\n2. b", "Say hi.", "问好"]
    assert tasks_in("no task here") == []


def test_self_instruct_asks_filters_and_answers() -> None:
    fresh = iter(["Name two rivers of Spain.", "Explain why tides happen twice daily.", "Invent a word for rain."])

    def script(request: Request) -> Reply | str:
        prompt = request.messages[-1].content
        if "more tasks" not in prompt:
            return f"An answer to {len(prompt)}."
        task = next(fresh, None)
        if task is None:
            return "I would rather not."
        return (
            f"Task 9: {task}\nTask 10: sort the fish\nTask 11: Draw a picture of a hen.\nTask 12: Hi.\nTask 13: {task}"
        )

    job, rows, asked = run(script, SEEDS, method="self-instruct", count=3)
    kept = [row for row in rows if not row.reason]
    assert [row.instruction for row in kept] == [
        "Name two rivers of Spain.", "Explain why tides happen twice daily.", "Invent a word for rain.",
    ]  # fmt: skip
    assert [len(wave) for wave in asked] == [8, 3] and job.num_kept == 3
    assert job.reasons == {"near duplicate": 6, "beyond text": 3, "too short": 3, "no task in the reply": 5}
    assert next(row.like for row in rows if row.reason == "near duplicate") == "Sort the fish."
    prompt = asked[0][0].messages[-1].content
    assert prompt.count("Task ") == 8 and "Task 8: " in prompt
    assert len({request.key for wave in asked for request in wave}) == 11, "each request has its own seed"


def test_self_instruct_shows_what_it_made_and_gives_up_in_the_end() -> None:
    counter = iter(range(10**6))

    def script(request: Request) -> str:
        if "more tasks" in request.messages[-1].content:
            number = next(counter)
            return f"Task 9: Alpha{number} beta{number} gamma{number} delta{number}"
        return "" if request.settings.seed % 2 else "Yes, gladly."

    job, _, asked = run(script, SEEDS, method="self-instruct", count=12)
    assert job.num_kept == 12
    later = [wave[0].messages[-1].content for wave in asked if "more tasks" in wave[0].messages[-1].content][1:]
    assert later and all(prompt.count(": Alpha") == 2 for prompt in later)
    hopeless, _, _ = run(lambda request: "Never.", SEEDS, method="self-instruct", count=16)
    assert hopeless.num_kept == 0 and hopeless.num_requests == 4 * (16 + 2)


def test_a_task_that_was_cut_off_is_refused() -> None:
    reply = Reply("Task 9: Name two rivers of Spain.\nTask 10: Explain why the", finish="length")
    job, rows, _ = run(lambda request: reply, SEEDS, method="self-instruct", count=1)
    assert rows[0] == Row("Explain why the", how="new task", reason="cut off")
    assert job.reasons["cut off"] >= 8


def test_evolution_goes_on_from_what_was_kept() -> None:
    said = {
        1: ("Sort the fish by their weight in grams.", "B: it asks for more", "Herring first."),
        2: ("Sort the fish by weight, then say which swims fastest and why that is.", "A", ""),
        3: ("Count all the birds over a frozen lake at dawn, hour by hour.", "B", "I'm sorry, no."),
        4: ("Make the following instruction harder: sort", "", ""),
        5: ("Sort the fish by their weight in grams.", "", ""),
        6: ("Instruction: Weigh nine herrings and give the mean with its error.", "B", "It is 200 g."),
        7: ("Catalogue whales from the heaviest to the lightest species alive.", "Perhaps", ""),
    }
    asked_of = {"generation": 0}

    def script(request: Request) -> str:
        prompt = request.messages[-1].content
        if "nothing else." in prompt:
            asked_of["generation"] += 1
            return said[asked_of["generation"]][0]
        return said[asked_of["generation"]][1 if "one letter" in prompt else 2]

    _, rows, asked = run(script, ["Sort the fish."], method="evol-instruct", generations=7)
    assert [row.reason for row in rows] == [
        "", "nothing new", "declines", "copies the prompt", "unchanged", "", "no verdict",
    ]  # fmt: skip
    assert rows[5].instruction == "Weigh nine herrings and give the mean with its error."
    assert rows[5].answer == "It is 200 g." and rows[5].origin == "s:1" and rows[5].how in load_prompts().evolve
    parents = [wave[0].messages[0].content for wave in asked if wave and "nothing else." in wave[0].messages[0].content]
    assert "Sort the fish.\n" in parents[0] and all("weight in grams" in parent for parent in parents[1:6])
    assert "mean with its error" in parents[6]
    assert all(request.settings.temperature == 0 for wave in asked for request in wave if "one letter" in str(request))


def test_evolution_draws_every_way_and_refuses_a_neighbour() -> None:
    def script(request: Request) -> str:
        prompt = request.messages[-1].content
        if "nothing else." in prompt:
            return "List the exports of Peru in order of value."
        return "B" if "one letter" in prompt else "Copper, gold, fruit."

    job, rows, _ = run(script, [f"Tell about {number}." for number in range(40)], method="evol-instruct", generations=1)
    assert job.num_kept == 1 and job.reasons == {"near duplicate": 39}
    assert {row.how for row in rows} == set(load_prompts().evolve)


def test_explanations_keep_the_message_that_asked_for_them() -> None:
    job, rows, asked = run(lambda request: "Because.", SEEDS * 3, method="explain", count=20)
    assert job.num_kept == 20 and [len(wave) for wave in asked] == [20]
    assert {row.system for row in rows} <= set(load_prompts().systems) and len({row.system for row in rows}) > 3
    system, user = asked[0][3].messages
    assert (system.role, system.content, user.content) == ("system", rows[3].system, SEEDS[3])


def test_a_textbook_has_a_section_for_each_reader() -> None:
    def script(request: Request) -> str:
        return (
            f"{request.messages[-1].content} Here it is, at some length." if "tides" in str(request) else "Same text."
        )

    settings = {"method": "textbook", "audiences": ["beginners", "sailors"], "near_duplicate": 1.0}
    job, rows, asked = run(script, ["the tides", "stones"], **settings)
    assert rows[1].instruction == "Write a section of a textbook about the tides for sailors."
    assert rows[1].how == "sailors" and rows[1].origin == "s:1" and not rows[1].system
    assert asked[0][0].messages[0].content == load_prompts().manner
    assert [row.reason for row in rows] == ["", "", "", "near duplicate"] and rows[3].like == "Same text."
    assert job.num_kept == 3


def test_seeds_of_chats_texts_and_topics(tmp_path: Path) -> None:
    chats = tmp_path / "c.jsonl"
    turns = [("system", "S"), ("user", " One? "), ("assistant", "1"), ("user", "Two?"), ("assistant", "2")]
    messages = [{"role": role, "content": text} for role, text in turns]
    chats.write_text("".join(json.dumps({"messages": some}) + "\n" for some in (messages, messages[:3])))
    recipe = SynthRecipe(method="explain", data=str(chats))
    assert read_seeds(recipe) == [Seed("One?", f"{chats}:1")], "the first turn, and the same one once"
    topics = tmp_path / "topics.txt"
    topics.write_text("tides\n\n  moons \ntides\n")
    recipe = SynthRecipe(method="textbook", data=str(topics))
    assert [seed.text for seed in read_seeds(recipe)] == ["tides", "moons"]
    topics.write_text("\n")
    with pytest.raises(DataError, match="nothing to begin with"):
        read_seeds(recipe)
    with pytest.raises(DataError, match="no such file"):
        read_seeds(SynthRecipe(method="textbook", data=str(tmp_path / "no.txt")))
