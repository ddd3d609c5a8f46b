"""How long the studio's page of data takes to show rows of large files, and how that grows with the file.

    PYTHONPATH=. python benchmarks/data_pages.py --megabytes 50 400

For each size and format: the first page of a file that nobody has looked at, one in its middle and the last, each by a
new reader; "requests" is how often the page asks until a row far into the file is found. The files are made here and
removed. Their bytes are in the page cache, as this script has just written them; a cold disk adds the time to read
what the column "read" says, which is counted by the system.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow as arrow
import pyarrow.parquet as parquet

from smelt.data.paging import open_paged

PAGE = 25
GROUP_ROWS = 50_000


def row(chooser: random.Random) -> dict[str, str]:
    """Return a text of 200 to 2,000 letters that hardly compresses."""
    return {"text": chooser.randbytes(chooser.randint(100, 1000)).hex()}


def make(path: Path, num_bytes: int) -> int:
    """Write a file of about so many bytes and return its rows."""
    chooser, rows = random.Random(1), 0
    if path.suffix == ".parquet":
        with parquet.ParquetWriter(path, arrow.schema([("text", arrow.string())])) as writer:
            while not rows or path.stat().st_size < num_bytes:
                writer.write_table(arrow.Table.from_pylist([row(chooser) for _ in range(GROUP_ROWS)]))
                rows += GROUP_ROWS
        return rows
    with path.open("w") as handle:
        if path.suffix == ".csv":
            handle.write("text,label\n")
        while handle.tell() < num_bytes:
            for _ in range(1000):
                text = row(chooser)["text"]
                handle.write(f'"{text}",a\n' if path.suffix == ".csv" else json.dumps({"text": text}) + "\n")
            rows += 1000
    return rows


def measure(path: Path, start: int) -> tuple[float, int, int]:
    """Return seconds, requests and megabytes read until a page is there."""
    before, begin, requests = psutil.Process().io_counters().read_chars, time.perf_counter(), 0
    file = open_paged(path)
    while True:
        requests += 1
        page = file.page(start, PAGE)
        if page.ready:
            break
    assert page.rows[0].number == start
    read = psutil.Process().io_counters().read_chars - before
    return time.perf_counter() - begin, requests, read >> 20


def main() -> None:
    """Make the files, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[50, 400])
    arguments = parser.parse_args()
    print("format    MB      rows       page     seconds  requests  MB read")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".parquet", ".jsonl", ".csv"):
            for megabytes in arguments.megabytes:
                path = Path(folder) / f"rows{suffix}"
                rows = make(path, megabytes << 20)
                for name, start in (("first", 1), ("middle", rows // 2), ("last", rows - PAGE)):
                    seconds, requests, read = measure(path, start)
                    size = path.stat().st_size >> 20
                    print(
                        f"{suffix:<9} {size:<7} {rows:<10,} {name:<8} {seconds:<8.3f} {requests:<9} {read}", flush=True
                    )
                path.unlink()


if __name__ == "__main__":
    main()
