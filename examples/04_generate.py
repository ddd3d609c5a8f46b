"""Continue text with a model: greedy, sampled, streamed, batched, and once by hand.

A tiny model is trained first, for a few seconds, so that there is something to continue with. It has learned the shape
of the town's sentences and little else. `generate` keeps past keys and values in a cache; the loop by hand reads the
whole text again for every token. Both must choose the same tokens.

    python examples/04_generate.py
"""

import json
import tempfile
from pathlib import Path

import torch

import smelt
from smelt.data import town
from smelt.infer import Sampling, generate
from smelt.models.encoder_decoder import Network
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.formats import save_tokenizer
from smelt.tokenizers.pipeline import Pipeline
from smelt.train.stages.pretrain import ModelRecipe, PretrainRecipe, pretrain


def train(folder: Path) -> str:
    """Train a tiny model on the town and return the path of its checkpoint."""
    town.write(folder, seed=0, num_documents=3000, languages=("en",))
    text = folder / "pretrain.jsonl"
    rows = (json.loads(line) for line in text.read_text(encoding="utf-8").splitlines())
    tokenizer = train_bpe((row["text"] for row in rows), vocab_size=512)
    save_tokenizer(tokenizer, folder / "tokenizer", template=None, max_seq_len=96)
    recipe = PretrainRecipe(
        name="tiny",
        out=str(folder / "runs"),
        data=str(text),
        tokenizer=str(folder / "tokenizer"),
        model=ModelRecipe(dim=64, num_layers=2, num_heads=4),
        max_seq_len=96,
        batch_rows=16,
        steps=200,
        compile="no",
    )
    return pretrain(recipe).checkpoint


def greedy_by_hand(model: Network, ids: list[int], num_tokens: int) -> list[int]:
    """Return the likeliest continuation, reading everything anew for each token."""
    found: list[int] = []
    with torch.inference_mode():
        for _ in range(num_tokens):
            logits = model(torch.tensor([ids + found])).logits  # (1, T, V)
            found.append(int(logits[0, -1].argmax()))
    return found


def show_next(model: Network, tokenizer: Pipeline, prompt: str) -> None:
    """Print the five likeliest next tokens with their probabilities."""
    with torch.inference_mode():
        last = model(torch.tensor([tokenizer.encode(prompt)])).logits[0, -1].softmax(-1)  # (V,)
    best = last.topk(5)
    found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    print(f"after {prompt!r}:", ", ".join(f"{tokenizer.decode([number])!r} {share:.0%}" for number, share in found))


def main() -> None:
    """Train, load, and continue prompts in every way."""
    with tempfile.TemporaryDirectory() as temporary:
        model, tokenizer = smelt.load(train(Path(temporary)))

        # A checkpoint is an ordinary artefact: save it anywhere, and it loads to the same weights.
        smelt.save(model, tokenizer, Path(temporary) / "copy")
        again, _ = smelt.load(Path(temporary) / "copy")
        same = all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
        print("\nsaved and loaded, same weights:", same)

    show_next(model, tokenizer, "Tato has 6 yellow")
    show_next(model, tokenizer, "On Monday, Tato will")

    # Documents began without a mark in training, so a prompt here is nothing but its own tokens.
    prompt = tokenizer.encode("Tato has")
    greedy = generate(model, tokenizer, [prompt], Sampling(max_new_tokens=24, temperature=0))[0]
    print("\ngreedy      ", repr(greedy.text))
    print("by hand, the same ids:", list(greedy.ids) == greedy_by_hand(model, prompt, len(greedy.ids)))

    # Temperature flattens or sharpens, top_p cuts off the unlikely tail; a seed makes a draw repeatable.
    for temperature in (0.5, 1.0, 2.0):
        sampling = Sampling(max_new_tokens=24, temperature=temperature, top_p=0.95, seed=1)
        print(f"heat {temperature:<7}", repr(generate(model, tokenizer, [prompt], sampling)[0].text))

    # Prompts of different lengths share one batch: the shorter ones are padded on the left and see none of it.
    prompts = [tokenizer.encode(text) for text in ("On", "Ta-to lives in", "Question: What colour is the")]
    sampling = Sampling(max_new_tokens=16, temperature=0, stop=("\n",))
    together = generate(model, tokenizer, prompts, sampling)
    alone = [generate(model, tokenizer, [one], sampling)[0] for one in prompts]
    print("\none batch gives what each gives alone:", [g.ids for g in together] == [g.ids for g in alone])
    for ids, answer in zip(prompts, together, strict=True):
        print(f"  {tokenizer.decode(ids)!r} -> {answer.text!r} ({answer.finish_reason})")

    # Text is handed over as soon as it is certain: whole characters, and no half of a stop string.
    print("\nstreamed: ", end="")
    sampling = Sampling(max_new_tokens=24, temperature=0.8, seed=3)
    generate(model, tokenizer, [prompt], sampling, on_text=lambda row, text: print(text, end="|", flush=True))
    print()


if __name__ == "__main__":
    main()
