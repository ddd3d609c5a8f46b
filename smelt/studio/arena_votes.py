"""What votes come to: a leaderboard, and pairs of a better and a worse answer to learn from.

A pair comes from a round, the best answer against each other one, and from a chat, where of two answers to the same
message one has a thumb up and the other a thumb down. Ties and rounds where all were bad make no pair, nor do two
answers of which one is empty or both are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from smelt.evals.arena import BOTH_BAD, TIE, Ballot, side_bias, table_of
from smelt.serve.store.chats import Message, conversation, list_chats, messages_of
from smelt.serve.store.database import Store
from smelt.serve.store.rounds import Round, Vote, voted_rounds
from smelt.serve.store.tables import SIDES
from smelt.serve.store.votes import thumbs_in

Pair = dict[str, list[dict[str, str]]]


def leaderboard(store: Store, who: str) -> dict[str, Any]:
    """Return the scores, the matrix of wins, whether the first side is favoured, and how many pairs there are."""
    ballots = [ballot_of(one, vote) for one, vote in voted_rounds(store, who)]
    table, bias = table_of(ballots), side_bias(ballots)
    _, counts = preference_pairs(store, who)
    return {
        **asdict(table),
        "side": {**asdict(bias.first), "share": bias.first.value, "chance": bias.chance, "leans": bias.leans},
        "pairs": counts,
    }


def ballot_of(one: Round, vote: Vote) -> Ballot:
    """Return a vote by the names of models."""
    winner = vote.winner if vote.winner in (TIE, BOTH_BAD) else SIDES.index(vote.winner)
    return Ballot(tuple(side.model for side in one.sides), winner)


def preference_pairs(store: Store, who: str) -> tuple[list[Pair], dict[str, int]]:
    """Return somebody's pairs, and how many come from rounds and chats, and were left out for what."""
    pairs, counts = list[Pair](), Counter[str]({"rounds": 0, "chats": 0, TIE: 0, BOTH_BAD: 0, "same_or_empty": 0})
    for one, vote in voted_rounds(store, who):
        if vote.winner in (TIE, BOTH_BAD):
            counts[vote.winner] += 1
            continue
        best = one.by_letter[vote.winner].answer or ""
        prompt = [{"role": "user", "content": one.prompt}]
        others = [side.answer or "" for letter, side in one.by_letter.items() if letter != vote.winner]
        for worse in dict.fromkeys(others):  # two that said the same are one pair
            add_pair(pairs, counts, "rounds", prompt, best, worse)
    for prompt, better, worse in rated_siblings(store, who):
        add_pair(pairs, counts, "chats", prompt, better, worse)
    return pairs, dict(counts)


def add_pair(
    pairs: list[Pair], counts: Counter[str], source: str, prompt: list[dict[str, str]], better: str, worse: str
) -> None:
    """Add a pair, or count why there is none."""
    if not better.strip() or not worse.strip() or better == worse:
        counts["same_or_empty"] += 1
        return
    counts[source] += 1
    replies = {
        name: [{"role": "assistant", "content": text}] for name, text in (("chosen", better), ("rejected", worse))
    }
    pairs.append({"prompt": prompt, **replies})


def rated_siblings(store: Store, who: str) -> Iterator[tuple[list[dict[str, str]], str, str]]:
    """Yield the conversation, the better and the worse answer where somebody's thumbs tell two siblings apart."""
    for chat in list_chats(store, who):
        thumbs = {thumb.message: thumb.value for thumb in thumbs_in(store, chat.id) if thumb.voter == who}
        if len(set(thumbs.values())) < 2:
            continue
        messages = messages_of(store, who, chat.id)
        rated = [one for one in messages if one.id in thumbs and one.role == "assistant" and one.parent is not None]
        for better in (one for one in rated if thumbs[one.id] > 0):
            for worse in (one for one in rated if thumbs[one.id] < 0 and one.parent == better.parent):
                path = [one for one in conversation(messages, str(better.parent)) if one.role != "system"]
                yield told([*system_before(messages, better), *path]), better.content, worse.content


def system_before(messages: list[Message], answer: Message) -> list[Message]:
    """Return the system prompt that an answer was written under, if any: the newest without a parent before it."""
    found = [one for one in messages if one.role == "system" and one.parent is None and one.created <= answer.created]
    return [one for one in found[-1:] if one.content]


def told(messages: list[Message]) -> list[dict[str, str]]:
    """Return messages as a dataset has them."""
    return [{"role": one.role, "content": one.content} for one in messages]
