"""The files of an experiment's report: Markdown, text, a picture, a page; each written whole."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Group
from rich.text import Text

from abscise._errors import StoreError
from abscise.papers._experiment import Experiment
from abscise.papers._finished import Finished
from abscise.papers._outcome import Outcome, Table
from abscise.report import Blocks, bars_picture, plain, sweep_page, sweep_picture
from abscise.store import write_bytes_atomically

WIDTH = 150


def write_report(
    experiment: Experiment, finished: Sequence[Finished], folder: Path, page: Path | None = None
) -> tuple[Path, ...]:
    """Write `table.md`, `table.txt`, `pareto.svg` and `page.html` of `finished` to `folder`.

    Where the outcome has bars, they are in `bars.svg`, and beside `page` in `NAME-bars.svg`.

    Nothing is run, and the same lines give the same bytes, in whatever order they are.

    Args:
        experiment: Whose runs they are.
        finished: The runs; at least one.
        folder: Is made if it is missing.
        page: A Markdown file whose block between `<!-- EXPERIMENT -->` and `<!-- end -->` is
            rewritten, too; the picture is put beside it.

    Raises:
        StoreError: There is no run, a file cannot be written, or `page` has no such block.
        MissingExtraError: The extra `report` is not installed.
    """
    if not finished:
        message = f"no finished runs of {experiment.name}: run abscise reproduce {experiment.name}"
        raise StoreError(message)
    outcome = experiment.outcome(finished)
    picture = sweep_picture(outcome.pictures).encode()
    written = {
        folder / "table.md": markdown(outcome).encode(),
        folder / "table.txt": plain(view(outcome, details=True), width=WIDTH).encode(),
        folder / "pareto.svg": picture,
        folder / "page.html": html(outcome).encode(),
    }
    if page is not None:
        written[page] = _with_block(page, experiment.name, markdown(outcome)).encode()
        written[page.with_name(f"{experiment.name}.svg")] = picture
    if outcome.bars:
        bars = bars_picture(outcome.bars).encode()
        written[folder / "bars.svg"] = bars
        if page is not None:
            written[page.with_name(f"{experiment.name}-bars.svg")] = bars
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        message = f"cannot make the folder {folder}: {problem.strerror or problem}"
        raise StoreError(message) from problem
    for path, content in written.items():
        write_bytes_atomically(path, content)
    return tuple(written)


def markdown(outcome: Outcome) -> str:
    """What came out, and the first tables, as Markdown."""
    parts = ["\n".join(f"* {sentence}" for sentence in outcome.sentences)]
    parts += [_markdown_table(table, note and f" {note}") for table, note in _told(outcome.tables)]
    return "\n\n".join(part for part in parts if part) + "\n"


def view(outcome: Outcome, *, details: bool = False) -> Group:
    """For a terminal: what came out, and the tables."""
    parts: list[Text | Blocks] = [Text(f"{outcome.title}\n{outcome.source}\n")]
    parts += [Text(sentence) for sentence in outcome.sentences]
    for table, note in _told((*outcome.tables, *(outcome.details if details else ()))):
        parts += [
            Text("\n".join(("", table.title, *([note] if note else ())))),
            Blocks(table.header, table.rows, words=table.words),
        ]
    return Group(*parts)


def _told(tables: Sequence[Table]) -> Iterator[tuple[Table, str]]:
    """Each table with its note; without it, where the table before has the same."""
    said = ""
    for table in tables:
        yield table, "" if table.note == said else table.note
        said = table.note


def html(outcome: Outcome) -> str:
    """The page."""
    tables, details = (
        [(it.title, it.note, it.header, it.rows, it.words) for it in some]
        for some in (outcome.tables, outcome.details)
    )
    lead = (outcome.source, *outcome.sentences)
    return sweep_page(outcome.title, lead, outcome.pictures, tables, details, outcome.bars)


def _markdown_table(table: Table, note: str) -> str:
    marks = ["---" if index < table.words else "---:" for index in range(len(table.header))]
    rows = [table.header, tuple(marks), *table.rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return f"**{table.title}.**{note}\n\n" + "\n".join(lines)


def _with_block(page: Path, name: str, block: str) -> str:
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        message = f"cannot read {page}: {problem}"
        raise StoreError(message) from problem
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        message = f"{page}: no lines <!-- {name} --> and <!-- end --> to write the tables between"
        raise StoreError(message)
    return pattern.sub(lambda found: f"{found[1]}{block}{found[2]}", text)
