"""Measure instruction tuning beside TRL's SFTTrainer: the same tiny Llama from disk, the same conversations, packed.

    python benchmarks/sft.py --data ../shared/data/instruct/raschka-1100.json --trl-python VENV/bin/python
    python benchmarks/sft.py --data CHATS --trl-python PYTHON --dtypes bfloat16 --compiled

Each figure is made in a process of its own, as each library is used; the two take turns, so that a machine whose speed
drifts is unfair to none. Counted are the tokens of conversations, not padding, in steps of the same number of rows of
the same length; a figure is the median over steps behind the first few, then over rounds. Both train with AdamW, clip,
mask all but the assistant's tokens, and recompute nothing (which TRL does unless told otherwise). TRL may live in
another environment (`pip install trl`), whose interpreter is an option.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

WARM_UP = 3  # steps that are not counted
LEARNING_RATE = 3e-4


def prepare(arguments: argparse.Namespace, folder: Path) -> None:
    """Write the checkpoint, random weights and a tokenizer of the data, and the conversations for both."""
    from smelt.data.formats import read_chats
    from smelt.models.build import build
    from smelt.models.families import Shape, spec_for
    from smelt.models.hub import publish, save
    from smelt.tokenizers.base import SPECIAL
    from smelt.tokenizers.bpe_train import train_bpe
    from smelt.tokenizers.chat import ChatTemplate

    rows = list(read_chats(arguments.data))
    texts = [message.content for row in rows for message in row.messages]
    tokenizer = train_bpe(texts, vocab_size=arguments.vocab_size, special=tuple(SPECIAL))
    heads = arguments.dim // 64
    shape = Shape(tokenizer.vocab_size, arguments.dim, arguments.layers, heads, arguments.max_seq_len, tied=True)
    model = build(spec_for("llama", shape), seed=0)
    save(model, tokenizer, folder / "model")
    (folder / "published").mkdir()  # the same as others read it, with the template
    publish(model, tokenizer, folder / "published", template=ChatTemplate(tokenizer))
    chats = [{"messages": [{"role": turn.role, "content": turn.content} for turn in row.messages]} for row in rows]
    (folder / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8")


def ours(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return tokens a second of our stage, without what stands around its steps."""
    from smelt.train.run import RunDirectory
    from smelt.train.stages.sft import SftRecipe, sft

    with tempfile.TemporaryDirectory() as out:
        recipe = SftRecipe.model_validate(
            dict(
                name="run",
                out=out,
                checkpoint=str(folder / "model"),
                data=str(folder / "chats.jsonl"),
                validation_fraction=0.001,
                validate_every=0,
                max_seq_len=arguments.max_seq_len,
                batch_rows=arguments.batch_rows,
                steps=arguments.steps,
                dtype=arguments.dtype,
                compile="yes" if arguments.compiled else "no",
                optimizer={"name": "adamw", "learning_rate": LEARNING_RATE},
            )
        )
        result = sft(recipe)
        lines = RunDirectory(out, "run").read_metrics()
    ends = [line["seconds"] for line in lines]
    seconds = [end - start for start, end in pairwise(ends)][WARM_UP - 1 :]
    fill = conversation_share(arguments, folder)
    tokens = arguments.batch_rows * arguments.max_seq_len * fill
    return {"tokens_per_second": tokens / statistics.median(seconds), "loss": result.train_loss, "fill": fill}


def conversation_share(arguments: argparse.Namespace, folder: Path) -> float:
    """Return the share of the slots of our rows that hold a token of a conversation."""
    from smelt.data.formats import read_chats
    from smelt.data.packing import pack_rows
    from smelt.tokenizers.chat import ChatTemplate
    from smelt.tokenizers.formats import load_tokenizer

    template = ChatTemplate(load_tokenizer(folder / "model"))
    rendered = [template.render(row.messages) for row in read_chats(folder / "chats.jsonl")]
    return pack_rows(rendered, arguments.max_seq_len, on_long="drop")[1].fill


def theirs(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the same of TRL."""
    import datasets
    import torch
    import transformers
    import trl

    ends, tokens, losses = list[float](), list[int](), list[float]()

    class Counting(trl.SFTTrainer):
        def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
            mask = inputs.get("attention_mask")
            tokens.append(int(inputs["input_ids"].numel() if mask is None else mask.sum()))
            loss = super().training_step(model, inputs, *rest, **named)
            losses.append(float(loss))
            return loss

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *rest: Any, **named: Any) -> None:
            ends.append(time.perf_counter())

    rows = [json.loads(line) for line in (folder / "chats.jsonl").read_text(encoding="utf-8").splitlines()]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "published")
    short = [
        row
        for row in rows
        if len(tokenizer.apply_chat_template(row["messages"], return_dict=True)["input_ids"]) <= arguments.max_seq_len
    ]
    with tempfile.TemporaryDirectory() as out:
        trainer = Counting(
            model=transformers.AutoModelForCausalLM.from_pretrained(folder / "published", dtype=torch.float32),
            args=trl.SFTConfig(
                output_dir=out,
                packing=True,
                assistant_only_loss=True,
                max_length=arguments.max_seq_len,
                per_device_train_batch_size=arguments.batch_rows,
                max_steps=arguments.steps,
                learning_rate=LEARNING_RATE,
                bf16=arguments.dtype == "bfloat16",
                gradient_checkpointing=False,
                torch_compile=arguments.compiled,
                use_cpu=not torch.cuda.is_available(),
                logging_strategy="no",
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=datasets.Dataset.from_list(short),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        trainer.train()
    spans = [end - start for start, end in pairwise(ends)]
    rates = [count / span for count, span in zip(tokens[1:], spans, strict=True)][WARM_UP - 1 :]
    return {"tokens_per_second": statistics.median(rates), "loss": statistics.mean(losses[-20:])}


def measure(arguments: argparse.Namespace, who: str, dtype: str, folder: Path) -> dict[str, Any]:
    """Run a child process and return what it measured."""
    python = arguments.trl_python if who == "trl" else sys.executable
    # -P: this script's folder is not on the path, as its neighbours are called like libraries.
    words = [python, "-P", __file__, "--child", who, "--folder", str(folder), "--dtype", dtype]
    for name in ("data", "max_seq_len", "batch_rows", "steps"):
        words += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    words += ["--compiled"] if arguments.compiled else []
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{who} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Let the two take turns and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="conversations, in any format that smelt sft reads")
    parser.add_argument("--trl-python", default=sys.executable, help="the interpreter that has trl")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--batch-rows", type=int, default=8)
    parser.add_argument("--max-seq-len", type=int, default=512)
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--child", choices=["smelt", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps((ours if arguments.child == "smelt" else theirs)(arguments, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(arguments, folder)
        rates: dict[tuple[str, str], list[float]] = {}
        for _ in range(arguments.rounds):
            for dtype in arguments.dtypes:
                for who in ("smelt", "trl"):
                    found = measure(arguments, who, dtype, folder)
                    rates.setdefault((who, dtype), []).append(found["tokens_per_second"])
                    print(f"{who:<6} {dtype:<9} {found['tokens_per_second']:>9,.0f} tokens/s  loss {found['loss']:.3f}")
    figures = {pair: statistics.median(found) for pair, found in rates.items()}
    for dtype in arguments.dtypes:
        print(f"{dtype}: {figures['smelt', dtype] / figures['trl', dtype]:.2f}x TRL")
    best = {who: max(rate for (whose, _), rate in figures.items() if whose == who) for who in ("smelt", "trl")}
    print(f"the faster dtype of each: {best['smelt'] / best['trl']:.2f}x TRL")


if __name__ == "__main__":
    main()
