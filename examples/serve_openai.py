"""Talk to `smelt serve` with OpenAI's own client: a streamed answer, several at once, and how sure the model is.

smelt serve runs/books-chat
pip install openai
python examples/serve_openai.py                                # or: ... http://host:port/v1 KEY
"""

import math
import sys

from openai import OpenAI


def main(base_url: str = "http://127.0.0.1:8000/v1", api_key: str = "none") -> None:
    """Ask in three ways."""
    client = OpenAI(base_url=base_url, api_key=api_key)
    model = client.models.list().data[0].id
    question = [{"role": "user", "content": "Where is the mill?"}]

    print(f"{model} says: ", end="")
    options = {"include_usage": True}
    with client.chat.completions.create(
        model=model, messages=question, max_tokens=48, stream=True, stream_options=options
    ) as stream:
        for chunk in stream:
            if chunk.choices:
                print(chunk.choices[0].delta.content or "", end="", flush=True)
            else:  # the last chunk has the usage and no choice
                print(f"\n({chunk.usage.prompt_tokens} tokens read, {chunk.usage.completion_tokens} written)")

    # A seed makes answers repeatable; answer i of n has the seed + i.
    several = client.chat.completions.create(model=model, messages=question, max_tokens=16, n=3, seed=7)
    for choice in several.choices:
        print(f"answer {choice.index}: {choice.message.content!r}, {choice.finish_reason}")

    sure = client.completions.create(model=model, prompt="The mill is", max_tokens=4, temperature=0, logprobs=1)
    found = sure.choices[0].logprobs
    for token, logprob in zip(found.tokens, found.token_logprobs, strict=True):
        print(f"{token!r:12} {math.exp(logprob):.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
