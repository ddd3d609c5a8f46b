"""Train and score the tasks whose data is text in and text out, or text and text: one line a task.

    python benchmarks/tasks.py --data           # writes runs/tasks/data and runs/tasks/base, trains nothing
    python benchmarks/tasks.py --minutes 3      # every line, then the table
    python benchmarks/tasks.py --only "titles*" --base runs/poems

The recipes in recipes/ run by themselves once the data is there; here each has --minutes on the clock instead of its
own length. A finished line is kept in --out and not made again. Lines begin with random weights (a decoder of 64 and
two blocks for instruction tuning) unless --base names a better beginning, so figures compare lines and changes, not
published models. The data is cut by rows that do not share a text: a paragraph's questions are all on one side.

titles       a Tang poem's title from the poem, as a summary: by a decoder told "TL;DR:", by a T5, and by an encoder
keywords     subjects and objects of the triples of vehicle faults, since labelled keywords are not in the data
dialogue     the last reply of conversations of several turns, by a decoder and by an encoder (UniLM's way)
retrieval    the sentences around the answer of a CMRC question, among those of all other questions
reversed     English sentences with their words in reverse, in the place of a translation

Ref: GPT-2 (2019), 3.6 (TL;DR:). Ref: T5, arXiv:1910.10683 (a task's name before its source). Ref: SimBERT.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import smelt
from smelt.core.storage import checkpoint_at
from smelt.models.build import build
from smelt.models.families import Shape, spec_for
from smelt.nn.spec import TokenIds
from smelt.tokenizers.base import END_OF_TEXT
from smelt.tokenizers.formats import save_tokenizer
from smelt.tokenizers.training import train_tokenizer

Rows = list[dict[str, Any]]
FOLDER = Path("runs/tasks")
TEST_SHARE = 0.1
MOST_TEST_ROWS = 200


@dataclass(frozen=True)
class Line:
    """A recipe, the data that it reads, and how its checkpoint is scored."""

    recipe: str
    data: str
    score: str


LINES: dict[str, Line] = {
    "titles": Line("sft/poem-titles.yaml", "titles", "--answers {} --metric rouge,chrf"),
    "titles-t5": Line("seq2seq/poem-titles.yaml", "titles-pairs", "--answers {} --metric rouge,chrf"),
    "titles-unilm": Line("seq2seq/poem-titles-unilm.yaml", "titles-pairs", "--answers {} --metric rouge,chrf"),
    "keywords": Line("sft/fault-keywords.yaml", "keywords", "--answers {} --metric keywords"),
    "dialogue": Line("sft/dialogue.yaml", "dialogue", "--answers {} --metric distinct,token_f1 --max-new-tokens 48"),
    "dialogue-unilm": Line(
        "seq2seq/dialogue-unilm.yaml",
        "dialogue-pairs",
        "--answers {} --metric distinct,token_f1 --max-new-tokens 48",
    ),
    "retrieval": Line("pretrain/questions.yaml", "retrieval", "--retrieval {} --similarity {graded} --pooling cls"),
    "reversed": Line("seq2seq/reversed.yaml", "reversed", "--answers {} --metric bleu,chrf,match"),
}


def titles(shared: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield Tang poems of at most 64 characters with their titles, as prompts and completions."""
    for poem, title in poems(shared):
        yield poem, {"prompt": f"{poem}\nTL;DR:", "completion": title}


def title_pairs(shared: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the same as sources and targets."""
    for poem, title in poems(shared):
        yield poem, {"source": f"summarize: {poem}", "target": title}


def poems(shared: Path) -> Iterator[tuple[str, str]]:
    """Yield poems with their titles."""
    for file in sorted((shared / "text/poetry-zh").glob("poet.tang.*.json")):
        for row in json.loads(file.read_text(encoding="utf-8")):
            poem = "".join(row.get("paragraphs", []))
            if row.get("title") and 0 < len(poem) <= 64:
                yield poem, row["title"]


def keywords(shared: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield fault reports of at most 160 characters with what their triples name."""
    for text in (shared / "extract/vehicle-faults-zh.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(text)
        names = [triple[side]["name"] for triple in row["spo_list"] for side in ("h", "t")]
        if names and len(row["text"]) <= 160:
            wanted = "、".join(dict.fromkeys(names))
            yield row["text"], {"prompt": f"{row['text']}\n关键词:", "completion": wanted}


def dialogue(shared: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield two questions in a row with their answers, of short conversations, up to the first call of a tool."""
    for name in ("preference/dpo_en_demo.json", "tools/glaive_toolcall_en_demo.json"):
        for row in json.loads((shared / name).read_text(encoding="utf-8")):
            turns = [*row["conversations"], *([row["chosen"]] if "chosen" in row else [])]
            for place in range(0, len(turns) - 3, 2):
                four = turns[place : place + 4]
                if [turn["from"] for turn in four] != ["human", "gpt"] * 2:
                    break
                if sum(len(turn["value"]) for turn in four[:3]) <= 900:
                    yield turns[0]["value"], {"conversations": four}


def dialogue_pairs(shared: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the same as sources, the turns so far, and targets, the last reply; only what 512 tokens may hold."""
    for owner, row in dialogue(shared):
        *turns, last = [turn["value"] for turn in row["conversations"]]
        if sum(map(len, turns)) + len(last) <= 1600:
            yield owner, {"source": "\n".join(turns), "target": last}


def retrieval(shared: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield CMRC questions with the sentence that their answer begins in, and the next."""
    whole = json.loads((shared / "eval/cmrc-dev-zh.json").read_text(encoding="utf-8"))
    for paragraph in (part for item in whole["data"] for part in item["paragraphs"]):
        sentences = re.findall(r"[^。]*。?", paragraph["context"])
        for question in paragraph["qas"]:
            place, start = 0, question["answers"][0]["answer_start"]
            for number, sentence in enumerate(sentences):
                place += len(sentence)
                if place > start:
                    passage = "".join(sentences[number : number + 2])[:80]
                    yield paragraph["context"], {"source": question["question"], "target": passage}
                    break


def reversed_words(shared: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield sentences of three to eight words, and the same from the end."""
    text = (shared / "text/wiki_demo.txt").read_text(encoding="utf-8")
    for sentence in re.findall(r"[A-Z][a-z]+(?: [a-z]+){2,7}(?=[.,;])", text):
        yield sentence, {"source": f"reverse: {sentence}", "target": " ".join(sentence.split()[::-1])}


DATA: dict[str, Callable[[Path], Iterator[tuple[str, dict[str, Any]]]]] = {
    "titles": titles,
    "titles-pairs": title_pairs,
    "keywords": keywords,
    "dialogue": dialogue,
    "dialogue-pairs": dialogue_pairs,
    "retrieval": retrieval,
    "reversed": reversed_words,
}
"""What makes the rows of each data set, each with the text that decides on which side of the cut it is."""


def write_data(name: str, shared: Path) -> None:
    """Write a data set's rows to train with and to test with, where they are not there yet."""
    folder = FOLDER / "data"
    if (folder / f"{name}-test.jsonl").is_file():
        return
    rows: dict[str, Rows] = {}
    for owner, row in DATA[name](shared):
        rows.setdefault(owner, []).append(row)
    owners = sorted(rows)
    random.Random(0).shuffle(owners)
    num_test = int(TEST_SHARE * len(owners))
    test = [row for owner in owners[:num_test] for row in rows[owner]][:MOST_TEST_ROWS]
    train = [row for owner in owners[num_test:] for row in rows[owner]]
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / f"{name}-train.jsonl", train)
    if name == "retrieval":  # each question with its own passage, and with that of a question of another place
        other = [{**row, "target": test[number - len(test) // 2]["target"]} for number, row in enumerate(test)]
        write_rows(
            folder / f"{name}-graded.jsonl",
            [{**row, "score": score} for score, rows in ((1, test), (0, other)) for row in rows],
        )
    write_rows(folder / f"{name}-test.jsonl", test)
    print(f"{name}: {len(train):,} rows to train with, {len(test):,} to test with", file=sys.stderr)


def write_rows(path: Path, rows: Rows) -> None:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_base(shared: Path) -> None:
    """Write a decoder of random weights, for the lines that begin with a checkpoint."""
    if not (FOLDER / "base").is_dir():
        tokenizer = smelt.load_tokenizer(shared / "tokenizers/minimind")
        end = tokenizer.special[END_OF_TEXT]
        shape = Shape(tokenizer.vocab_size, dim=64, num_layers=2, num_heads=2, num_kv_heads=2, max_seq_len=512)
        spec = replace(spec_for("gpt2", shape), token_ids=TokenIds(None, (end,), end))
        smelt.save(build(spec, seed=0), tokenizer, FOLDER / "base")


def write_tokenizer() -> None:
    """Write a WordPiece tokenizer of the dialogues' training rows, for the encoder that writes English."""
    if not (FOLDER / "wordpiece").is_dir():
        rows = (FOLDER / "data/dialogue-pairs-train.jsonl").read_text(encoding="utf-8").splitlines()
        texts = [text for row in rows for text in json.loads(row).values()]
        tokenizer = train_tokenizer(texts, algorithm="wordpiece", vocab_size=4000)
        save_tokenizer(tokenizer, FOLDER / "wordpiece", template=None, max_seq_len=512)


def command(words: list[str]) -> dict[str, Any]:
    """Run a command of smelt and return what it prints as JSON."""
    print(shlex.join(["smelt", *words]), file=sys.stderr)
    program = [sys.executable, "-c", "from smelt.cli.main import run; run()"]
    done = subprocess.run([*program, *words], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(name: str, words: argparse.Namespace) -> None:
    """Train and score one line, and keep the figures."""
    line, stage = LINES[name], Path(LINES[name].recipe).parent.name
    settings = [f"name={name}", f"out={FOLDER}/runs", "epochs=null", "steps=null", f"minutes={words.minutes}"]
    if stage == "sft":
        settings.append(f"checkpoint={words.base or FOLDER / 'base'}")
    trained = command([stage, f"recipes/{line.recipe}", *settings, "--json"])
    test = FOLDER / "data" / f"{line.data}-test.jsonl"
    score = line.score.format(test, graded=FOLDER / "data" / f"{line.data}-graded.jsonl")
    found = command(["eval", str(checkpoint_at(trained["checkpoint"])), *score.split(), "--json"])
    kept = {"seconds": trained["seconds"], "steps": trained["steps"], **found}
    (FOLDER / f"{name}.json").write_text(json.dumps(kept) + "\n", encoding="utf-8")


def table() -> str:
    """Return what is there as a Markdown table."""
    rows = ["| line | stage | figures, with 95 % intervals | steps | seconds |", "|---|---|---|---|---|"]
    for name, line in LINES.items():
        if (FOLDER / f"{name}.json").is_file():
            found = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
            figures = (
                f"{metric} {found[metric]:.1%} ({low:.1%} to {high:.1%})"
                for metric, (low, high) in found["intervals"].items()
            )
            stage = Path(line.recipe).parent.name
            rows.append(f"| {name} | {stage} | {'<br>'.join(figures)} | {found['steps']:,} | {found['seconds']:.0f} |")
    return "\n".join(rows)


def main() -> None:
    """Make the data, train what is asked for and not there yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", default="*", help="a shell pattern of lines")
    parser.add_argument("--minutes", type=float, default=3.0, help="training time of a line")
    parser.add_argument("--base", default="", help="a checkpoint or run of a decoder, for the lines of sft")
    parser.add_argument("--data", action="store_true", help="make the data and the base, train nothing")
    parser.add_argument("--show", action="store_true", help="print the table of what is there, train nothing")
    words = parser.parse_args()
    names = [name for name in LINES if fnmatch(name, words.only)]
    if not names:
        sys.exit(f"--only {words.only}: no such line; there are {', '.join(LINES)}")
    if not words.show:
        write_base(words.shared)
        for name in names:
            write_data(LINES[name].data, words.shared)
        if "dialogue-unilm" in names:
            write_tokenizer()
    for name in [] if words.show or words.data else names:
        if not (FOLDER / f"{name}.json").is_file():
            run(name, words)
    print(table())


if __name__ == "__main__":
    main()
