"""Load `smelt serve` and hurt it; print each figure beside its bar, and fail where one is missed.

    python benchmarks/serve_load.py streams --minutes 10       64 streams: none lost, each as if it were alone
    python benchmarks/serve_load.py overload --seconds 60      ten times more than it can do
    python benchmarks/serve_load.py disconnects --requests 10000
    python benchmarks/serve_load.py terms --times 50           SIGTERM under load
    python benchmarks/serve_load.py slowloris --seconds 30     500 sockets that never finish a request

The model is `--checkpoint`, or a random one of 3 million parameters. Server and client share the machine. On one that
does other things meanwhile, `--slack 10` makes the bars of time and memory ten times wider; the others stay.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from serve_client import Answer, Served, ask, gauges, get, make_checkpoint, served, until_idle

WORDS = ("the", "mill", "by", "a", "river", "has", "sails", "and", "its", "miller", "likes", "each", "of", "them")
NUM_STREAMS = 64
NEVER_ENDS = {"256": -100, "257": -100, "258": -100}  # the marks of the byte tokenizer of `make_checkpoint`
HEALTH_SECONDS, HEALTH_EVERY = 0.1, 0.05
HEADER_SECONDS = 20  # what the server gives a connection for its first request


@dataclass(frozen=True)
class Figure:
    """A figure beside its bar."""

    name: str
    value: float
    bar: str
    kept: bool

    def __str__(self) -> str:
        return f"{'ok' if self.kept else 'MISSED':7} {self.name:48} {self.value:>10.4g}   {self.bar}"


def at_most(name: str, value: float, bar: float) -> Figure:
    """Return a figure that must not be larger than its bar."""
    return Figure(name, value, f"at most {bar:g}", value <= bar)


def at_least(name: str, value: float, bar: float) -> Figure:
    """Return a figure that must not be smaller than its bar."""
    return Figure(name, value, f"at least {bar:g}", value >= bar)


def exactly(name: str, value: float, bar: float) -> Figure:
    """Return a figure that must be its bar."""
    return Figure(name, value, f"exactly {bar:g}", value == bar)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of all do not exceed; infinity where nothing was measured."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("inf")


def prompts(number: int) -> list[str]:
    """Return different prompts, some of which begin alike."""
    chance = random.Random(0)
    beginning = " ".join(WORDS)
    return [
        (beginning if row % 4 == 0 else "") + " ".join(chance.choices(WORDS, k=chance.randint(2, 20))) + f" {row}"
        for row in range(number)
    ]


async def while_healthy(port: int, work: Awaitable[Any]) -> list[float]:
    """Do work and return the seconds that /health took meanwhile; infinity where it did not answer."""
    seconds: list[float] = []

    async def look() -> None:
        while True:
            answer, _ = await get(port, "/health")
            seconds.append(answer.seconds if answer.status == 200 else float("inf"))
            await asyncio.sleep(HEALTH_EVERY)

    looking = asyncio.ensure_future(look())
    try:
        await work
    finally:
        looking.cancel()
    return seconds


async def keep_asking(num_workers: int, seconds: float, ask_one: Callable[[int], Awaitable[Answer]]) -> list[Answer]:
    """Let so many workers ask one after the other for some time; all are answered before this returns."""
    until, found = time.monotonic() + seconds, []

    async def work(row: int) -> None:
        while time.monotonic() < until:
            found.append(await ask_one(row))
            row += num_workers

    await asyncio.gather(*(work(row) for row in range(num_workers)))
    return found


async def streams(server: Served, minutes: float, slack: float) -> list[Figure]:
    """64 streams: each equals its solo answer, and the server stays responsive."""
    texts = prompts(NUM_STREAMS)
    asked: dict[str, Any] = {"max_tokens": 64, "temperature": 0, "stream": True}
    alone = [await ask(server.port, prompt=text, **asked) for text in texts]
    different = 0

    async def one(row: int) -> Answer:
        nonlocal different
        answer = await ask(server.port, prompt=texts[row % NUM_STREAMS], **asked)
        different += answer.whole and answer.text != alone[row % NUM_STREAMS].text
        return answer

    many: list[Answer] = []

    async def all_of_them() -> None:
        many.extend(await keep_asking(NUM_STREAMS, minutes * 60, one))

    health = await while_healthy(server.port, all_of_them())
    few = await keep_asking(16, min(60.0, minutes * 60), one)
    answers = [*alone, *many, *few]
    print(f"{len(answers)} answers, {len({answer.text for answer in alone})} different ones")
    return [
        exactly("answers that failed", sum(not answer.whole for answer in answers), 0),
        exactly("answers other than alone", different, 0),
        at_most("/health, 99th percentile, seconds", percentile(health, 0.99), HEALTH_SECONDS * slack),
        at_most("first token at 16 streams, 95th percentile, s", percentile([a.first_seconds for a in few], 0.95),
                1.5 * slack),
    ]  # fmt: skip


async def overload(server: Served, seconds: float, slack: float) -> list[Figure]:
    """Ten times what it can do: as much is done as at the peak, the rest is told at once."""
    texts = prompts(256)
    asked: dict[str, Any] = {"max_tokens": 64, "temperature": 0, "logit_bias": NEVER_ENDS}

    async def one(row: int) -> Answer:
        return await ask(server.port, prompt=texts[row % len(texts)], **asked)

    alone = [await one(row) for row in range(5)]
    started = time.monotonic()
    calm = await keep_asking(16, max(2.0, seconds / 6), one)
    peak = len(calm) / (time.monotonic() - started)
    before, asking = server.resident_bytes, []
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        asking += [asyncio.ensure_future(one(row)) for row in range(len(asking), int(passed * 10 * peak))]
        await asyncio.sleep(0.005)
    grown = server.resident_bytes / before - 1
    answers = [task.result() for task in asking if task.done()]
    for task in asking:
        task.cancel()  # whoever waits still gives up
    await asyncio.sleep(2)
    after = await one(0)
    late = after.seconds / statistics.median(answer.seconds for answer in alone) if after.whole else float("inf")
    served_rate = sum(answer.whole for answer in answers) / seconds
    refused = [answer for answer in answers if answer.status != 200]
    told = [answer for answer in refused if answer.status in (429, 503) and answer.retry_after]
    print(f"peak {peak:.1f} answers a second; {len(answers)} asked, {len(refused)} refused")
    return [
        at_least("answers a second, share of the peak", served_rate / peak, 0.9 / slack),
        exactly("refusals without a reason to try again", len(refused) - len(told), 0),
        at_least("refusals", len(refused), 1),
        at_most("a refusal, 99th percentile, seconds", percentile([a.seconds for a in told], 0.99), 0.05 * slack),
        at_most("growth of memory, share", grown, 0.05 * slack),
        at_most("an answer 2 s after, to one before", late, 2 * slack),
    ]


async def disconnects(server: Served, requests: int, slack: float) -> list[Figure]:
    """Three of ten clients leave: while a stream runs, while they wait for the whole, while the prompt is read."""
    chance, texts = random.Random(1), prompts(256)
    kinds: list[dict[str, Any]] = [
        {"max_tokens": 24, "stream": True},
        {"max_tokens": 24, "n": 1},
        {"max_tokens": 1, "prompt": " ".join(WORDS * 10)},
    ]
    resident: dict[int, int] = {}
    lost = left = num_done = 0

    async def one(row: int) -> None:
        nonlocal lost, left, num_done
        asking = asyncio.ensure_future(ask(server.port, **{"prompt": texts[row % len(texts)], **kinds[row % 3]}))
        if chance.random() < 0.3:
            await asyncio.wait([asking], timeout=chance.uniform(0, 0.3))
            left += not asking.done()
            asking.cancel()
            await asyncio.wait([asking])
        else:
            lost += not (await asking).whole
        num_done += 1
        resident[num_done] = server.resident_bytes

    async def work(first: int) -> None:
        for row in range(first, requests, 24):
            await one(row)

    await asyncio.gather(*(work(first) for first in range(24)))
    found = await until_idle(server.port, 30)
    freed = [await seconds_to_free(server.port) for _ in range(10)]
    print(f"{requests} requests, {left} left on their way, {lost} others failed")
    return [
        at_least("clients that left", left, 1),
        exactly("answers that failed to those who stayed", lost, 0),
        exactly("pages that are not free", found["smelt_pages"] - found["smelt_free_pages"], 0),
        at_most("a slot is free after, seconds", max(freed), 0.25 * slack),
        at_most("growth of memory, share, from a fifth on", resident[requests] / resident[requests // 5] - 1,
                0.03 * slack),
    ]  # fmt: skip


async def seconds_to_free(port: int) -> float:
    """Leave a stream while it runs and return how long the engine still worked for it."""
    asking = asyncio.ensure_future(ask(port, prompt="x", max_tokens=900, stream=True, logit_bias=NEVER_ENDS))
    while not (await gauges(port))["smelt_running"]:
        await asyncio.sleep(0.005)
    asking.cancel()
    started = time.perf_counter()
    found = await until_idle(port, 30)
    return time.perf_counter() - started if not found["smelt_running"] else float("inf")


async def slowloris(server: Served, seconds: float, slack: float) -> list[Figure]:
    """500 sockets that send a byte now and then; others do not notice, and in the end they are closed."""
    open_sockets = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(500)]

    async def drip() -> None:
        for byte in b"POST /v1/completions HTTP/1.1\r\nX-Slow: " + b"x" * 1000:
            for fifth in range(5):  # each socket sends a byte a second
                for _, writer in open_sockets[fifth::5]:
                    if not writer.is_closing():
                        writer.write(bytes([byte]))
                await asyncio.sleep(0.2)

    dripping = asyncio.ensure_future(drip())
    answers: list[Answer] = []

    async def others() -> None:
        answers.extend(await keep_asking(4, seconds, lambda _: ask(server.port, prompt="x", max_tokens=8)))

    health = await while_healthy(server.port, others())
    dripping.cancel()
    closed = sum(reader.at_eof() or reader.exception() is not None for reader, _ in open_sockets)
    figures = [
        exactly("answers to others that failed", sum(not answer.whole for answer in answers), 0),
        at_least("answers to others", len(answers), 1),
        at_most("/health, 99th percentile, seconds", percentile(health, 0.99), HEALTH_SECONDS * slack),
    ]
    for _, writer in open_sockets:
        writer.close()
    return [*figures, exactly("slow sockets closed", closed, 500 if seconds > HEADER_SECONDS * 1.2 else 0)]


async def term(server: Served, chance: random.Random) -> dict[str, float]:
    """Send SIGTERM while eight streams run and return what became of everybody."""
    family = server.family()
    asked = {"max_tokens": 200, "stream": True, "logit_bias": NEVER_ENDS}
    asking = [asyncio.ensure_future(ask(server.port, prompt=text, **asked)) for text in prompts(8)]
    while (await gauges(server.port))["smelt_running"] < 8:
        await asyncio.sleep(0.005)
    await asyncio.sleep(chance.uniform(0, 0.2))
    under_way = sum(not one.done() for one in asking)
    server.process.send_signal(signal.SIGTERM)
    started = time.perf_counter()
    while (await get(server.port, "/ready"))[0].status == 200:
        await asyncio.sleep(0.002)
    unready = time.perf_counter() - started
    answers = await asyncio.gather(*asking)
    code = await asyncio.to_thread(server.process.wait, 60)
    return {
        "under_way": under_way,
        "unready": unready,
        "cut": sum(not answer.whole for answer in answers),
        "code": abs(code),
        "orphans": len(psutil.wait_procs(family, timeout=5)[1]),
    }


async def terms(checkpoint: str, folder: Path, times: int, slack: float) -> list[Figure]:
    """SIGTERM under load, again and again: all that runs is finished, nothing is left behind."""
    chance, found = random.Random(2), []
    for _ in range(times):
        with served(checkpoint, folder) as server:
            found.append(await term(server, chance))
    return [
        at_least("answers under way, of 8", min(one["under_way"] for one in found), 1),
        at_most("/ready fails after, seconds", max(one["unready"] for one in found), 0.1 * slack),
        exactly("answers cut", sum(one["cut"] for one in found), 0),
        exactly("exit codes other than 0", sum(one["code"] != 0 for one in found), 0),
        exactly("processes left", sum(one["orphans"] for one in found), 0),
    ]


async def run(arguments: argparse.Namespace, folder: Path) -> list[Figure]:
    """Run one part."""
    checkpoint, slack = arguments.checkpoint, arguments.slack
    if not checkpoint:
        checkpoint = str(folder / "model")
        make_checkpoint(folder / "model")
    if arguments.part == "terms":
        return await terms(checkpoint, folder, arguments.times, slack)
    bounds = ["--max-running", "16", "--max-waiting", "32"] if arguments.part == "overload" else []
    with served(checkpoint, folder, *bounds, "--cache-tokens", "65536") as server:
        if arguments.part == "streams":
            return await streams(server, arguments.minutes, slack)
        if arguments.part == "overload":
            return await overload(server, arguments.seconds, slack)
        if arguments.part == "disconnects":
            return await disconnects(server, arguments.requests, slack)
        return await slowloris(server, arguments.seconds, slack)


def main() -> int:
    """Run a part, print its figures, and return how many bars were missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["streams", "overload", "disconnects", "terms", "slowloris"])
    parser.add_argument("--checkpoint", default="", help="a model; by default a random one")
    parser.add_argument("--minutes", type=float, default=10, help="of streams")
    parser.add_argument("--seconds", type=float, default=60, help="of overload and slowloris")
    parser.add_argument("--requests", type=int, default=10_000, help="of disconnects")
    parser.add_argument("--times", type=int, default=50, help="of terms")
    parser.add_argument("--slack", type=float, default=1, help="widens the bars of time and memory")
    with tempfile.TemporaryDirectory() as temporary:
        figures = asyncio.run(run(parser.parse_args(), Path(temporary)))
    print(*figures, sep="\n")
    return sum(not figure.kept for figure in figures)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
