"""Use a model that `smelt serve` serves in a LangChain chain: a prompt, the model, and a parser.

smelt serve runs/books-chat
pip install langchain-openai
python examples/serve_langchain.py                             # or: ... http://host:port/v1 KEY
"""

import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI


def main(base_url: str = "http://127.0.0.1:8000/v1", api_key: str = "none", model: str = "books-chat") -> None:
    """Ask once, as a stream, and several questions at the same time."""
    chat = ChatOpenAI(model=model, base_url=base_url, api_key=api_key, temperature=0, max_tokens=32)
    prompt = ChatPromptTemplate.from_messages([("system", "Answer in one sentence."), ("user", "Where is {thing}?")])
    chain = prompt | chat | StrOutputParser()

    print("asked:   ", repr(chain.invoke({"thing": "the mill"})))
    print("streamed: ", end="")
    for piece in chain.stream({"thing": "the mill"}):
        print(piece, end="|", flush=True)
    print()
    things = ["the town", "the river", "the inn"]
    for thing, answer in zip(things, chain.batch([{"thing": thing} for thing in things]), strict=True):
        print(f"{thing}: {answer!r}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
