"""`smelt tokenizer compare`: how several tokenizers cut the same texts, as a table and as a plot."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from smelt.cli.common import Json, open_tokenizer, print_json, print_table
from smelt.cli.tokenizer_texts import texts_of
from smelt.core.errors import UsageError
from smelt.core.log import LiveLine, say

if TYPE_CHECKING:
    from smelt.tokenizers.compare import Measurement

MEASURED_CHARACTERS = 1 << 23
TOTAL = "all texts"
PLOT_COLUMNS = 2
PLOT_WIDTH_INCHES = 11
BAR_INCHES, PANEL_INCHES = 0.2, 1.1
LONGEST_LABEL = 34


class Row(NamedTuple):
    """One tokenizer on one text."""

    tokenizer: str
    text: str
    measured: Measurement


class Column(NamedTuple):
    """A measure: the attribute it is, its head in the table, its title in the plot, how a value is written."""

    name: str
    head: str
    title: str
    form: str


COLUMNS = (
    Column("bytes_per_token", "bytes/token", "bytes a token (more is better)", "{:.2f}"),
    Column("tokens_per_word", "tokens/word", "tokens an English word (fewer is better)", "{:.2f}"),
    Column("tokens_per_chinese_character", "tokens/汉字", "tokens a Chinese character (fewer is better)", "{:.2f}"),
    Column("unknown_share", "unknown", "share of unknown tokens", "{:.2%}"),
    Column("byte_token_share", "bytes", "share of tokens that are parts of characters", "{:.2%}"),
    Column("megabytes_per_second", "MB/s", "encoding speed in MB/s, one thread (more is better)", "{:.1f}"),
)


def compare(
    tokenizers: Annotated[list[str], typer.Argument(metavar="TOKENIZER ...", help="Tokenizers, checkpoints or runs.")],
    text: Annotated[list[str], typer.Option(help="A file, folder or glob of text to cut; may be repeated.")],
    out: Annotated[Path | None, typer.Option(help="Write a plot to this .png, .svg or .pdf file.")] = None,
    json: Json = False,
) -> None:
    """Compare tokenizers on texts: how few tokens, how much is lost, how fast.

    Example: smelt tokenizer compare tokenizer gpt2/vocab.json --text book.txt --text poems.json --out compare.png
    """
    check_plot(out)
    rows = measured_rows(tokenizers, text)
    if out is not None:
        draw(rows, out)
    if json:
        print_json({"rows": [as_values(row) for row in rows], "out": str(out) if out is not None else None})
        return
    show_table(rows)
    if out is not None:
        print(f"plot  {out}")


def check_plot(out: Path | None, option: str = "--out") -> None:
    """Refuse a plot that could not be written, before the work."""
    if out is None:
        return
    from smelt.core.extras import need

    need("matplotlib", extra="report")
    if out.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"{option} {out}: unknown kind of picture", accepted=".png, .svg or .pdf")
    if not out.parent.is_dir():
        raise UsageError(f"{option} {out}: there is no directory {out.parent}", fix="make it, or choose another")


def measured_rows(tokenizers: Sequence[str], specs: Sequence[str]) -> list[Row]:
    """Return a row for each tokenizer and text, and where there are several texts one for all of them."""
    from smelt.tokenizers.compare import Sample, measure

    for given, name in ((tokenizers, "tokenizer"), (specs, "text")):
        if twice := [word for word in given if list(given).count(word) > 1]:
            raise UsageError(f"the {name} {twice[0]} is there twice", accepted="each once")
    samples = {spec: Sample.of(beginning(spec)) for spec in specs}
    line, rows = LiveLine(), []
    for source in tokenizers:
        found = open_tokenizer(source)
        of_texts = []
        for spec, sample in samples.items():
            line.update(f"measuring {source} on {spec}")
            of_texts.append(Row(source, spec, measure(found, sample)))
        rows += of_texts
        if len(of_texts) > 1:
            rows.append(Row(source, TOTAL, functools.reduce(add, (row.measured for row in of_texts))))
    line.close()
    return rows


def beginning(spec: str) -> list[str]:
    """Return the texts of some files, about eight million characters of them, and say so if there are more."""
    texts, size = [], 0
    for text in texts_of([spec]):
        if size >= MEASURED_CHARACTERS:
            say(f"note: of {spec} the first {size:,} characters are measured")
            break
        texts.append(text)
        size += len(text)
    if not any(text.strip() for text in texts):
        raise UsageError(f"{spec} holds no text", fix="check that the file was written completely")
    return texts


def as_values(row: Row) -> dict[str, Any]:
    """Return a row as JSON has it: the measures, then the counts that they are made of."""
    measures = {column.name: getattr(row.measured, column.name) for column in COLUMNS}
    return {"tokenizer": row.tokenizer, "text": row.text, **measures, **asdict(row.measured)}


def cell(column: Column, row: Row) -> str:
    """Return one value in words; empty where the text has nothing to measure."""
    value = getattr(row.measured, column.name)
    return "" if value is None else column.form.format(value)


def show_table(rows: Sequence[Row]) -> None:
    """Print the rows."""
    heads = [column.head for column in COLUMNS]
    print_table(
        ["tokenizer", "text", "vocabulary", *heads],
        [
            [row.tokenizer, row.text, f"{row.measured.vocab_size:,}", *(cell(column, row) for column in COLUMNS)]
            for row in rows
        ],
        numeric=["vocabulary", *heads],
    )


def draw(rows: Sequence[Row], out: Path) -> None:
    """Draw a panel for each measure that any text has: a group of bars for each text, a bar for each tokenizer."""
    from smelt.core.extras import need

    matplotlib, figures = need("matplotlib", extra="report"), need("matplotlib.figure", extra="report")
    tokenizers, texts = (list(dict.fromkeys(names)) for names in zip(*((row[0], row[1]) for row in rows), strict=True))
    columns = [column for column in COLUMNS if any(getattr(row.measured, column.name) for row in rows)]
    lines = -(-len(columns) // PLOT_COLUMNS)
    height = lines * (PANEL_INCHES + BAR_INCHES * len(texts) * (len(tokenizers) + 1)) + BAR_INCHES * len(tokenizers)
    with matplotlib.rc_context({"font.family": fonts()}):
        labels = labels_of(tokenizers) | labels_of(texts)
        figure = figures.Figure(figsize=(PLOT_WIDTH_INCHES, height), layout="constrained")
        for number, column in enumerate(columns, start=1):
            axes = figure.add_subplot(lines, PLOT_COLUMNS, number)
            draw_panel(axes, column, rows, labels)
            if number % PLOT_COLUMNS != 1:
                axes.set_yticklabels([])
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", frameon=False)
        figure.savefig(out, dpi=120)


def draw_panel(axes: Any, column: Column, rows: Sequence[Row], labels: dict[str, str]) -> None:
    """Draw the bars of one measure, the first text on top."""
    tokenizers, texts = (list(dict.fromkeys(names)) for names in zip(*((row[0], row[1]) for row in rows), strict=True))
    group = len(tokenizers) + 1
    for number, name in enumerate(tokenizers):
        mine = [row for row in rows if row.tokenizer == name]
        values = [getattr(row.measured, column.name) or 0 for row in mine]
        places = [place * group + number for place in range(len(texts))]
        bars = axes.barh(places, values, height=0.85, color=f"C{number}", label=labels[name])
        axes.bar_label(bars, [cell(column, row) for row in mine], padding=3, fontsize=8)
    middles = [place * group + (len(tokenizers) - 1) / 2 for place in range(len(texts))]
    axes.set_yticks(middles, [labels[text] for text in texts])
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.set_xlim(left=0)
    if column.form.endswith("%}"):
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")
    axes.set_title(column.title, fontsize=10, loc="left")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def labels_of(names: Sequence[str]) -> dict[str, str]:
    """Return what stands in the plot for each path: its last part where that tells them apart, else its end."""
    last = {name: Path(name).name or name for name in names}
    labels = last if len(set(last.values())) == len(names) else dict.fromkeys(names, "")
    return {name: writable(label or name) for name, label in labels.items()}


def writable(name: str) -> str:
    """Return a name as the plot's fonts can write it, its end if it is long; other characters as \\uXXXX."""
    from smelt.core.extras import need

    matplotlib, manager = need("matplotlib", extra="report"), need("matplotlib.font_manager", extra="report")
    properties = [manager.FontProperties(family=[family]) for family in matplotlib.rcParams["font.family"]]
    known = frozenset().union(*(characters_of(manager.findfont(each)) for each in properties))
    name = name if len(name) <= LONGEST_LABEL else "…" + name[1 - LONGEST_LABEL :]
    written = (letter if ord(letter) in known else letter.encode("unicode_escape").decode() for letter in name)
    return "".join(written).replace("$", r"\$")


def fonts() -> list[str]:
    """Return matplotlib's own font and, where this machine has one, a font with Chinese characters."""
    from smelt.core.extras import need

    manager = need("matplotlib.font_manager", extra="report")
    entries = [entry for entry in manager.fontManager.ttflist if "LastResort" not in entry.fname]
    chinese = sorted(entry.name for entry in entries if ord("汉") in characters_of(entry.fname))
    return ["sans-serif", *chinese[:1]]


@functools.cache
def characters_of(file: str) -> frozenset[int]:
    """Return the code points that a font file can write."""
    from smelt.core.extras import need

    return frozenset(need("matplotlib.font_manager", extra="report").get_font(file).get_charmap())
