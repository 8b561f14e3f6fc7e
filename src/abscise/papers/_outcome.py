"""Outcome: what becomes of an experiment's runs: sentences, tables and pictures, as data."""

from dataclasses import dataclass

from abscise.report import BarRow, ParetoRow


@dataclass(frozen=True, slots=True)
class Table:
    """Texts in rows; the same in the terminal, in Markdown and on the page.

    Args:
        title: What it shows.
        note: How it is to be read.
        header: One text per column.
        rows: As long as the header.
        words: How many columns, from the left, are words; the others are numbers.
    """

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                message = f"a row of {self.title} has {len(row)} of {len(self.header)} columns"
                raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Outcome:
    """An experiment's outcome.

    Args:
        title: Of the experiment.
        source: The paper.
        sentences: What came out, in words that follow from the runs.
        tables: The first ones are for the docs.
        details: Tables with every point.
        pictures: Error against what is left.
        bars: Figures side by side.
    """

    title: str
    source: str
    sentences: tuple[str, ...]
    tables: tuple[Table, ...]
    details: tuple[Table, ...]
    pictures: tuple[ParetoRow, ...]
    bars: tuple[BarRow, ...] = ()
