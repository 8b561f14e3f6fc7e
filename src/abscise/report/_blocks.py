"""Tables for a terminal of any width: too many columns become several blocks, and no number is cut.

Words may break, also within a word; numbers do where a line is too narrow for one of them beside a
letter of each column of words. Something is lost only in a few cells of width.
"""

from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_GAP = 2
"""Cells between two columns."""

_WORDS = 3
"""A column of words takes at most one cell in so many; for a longer word, every second one."""


class Blocks:
    """A table for a rich console: in blocks of columns where the console is narrow.

    Every block begins with the columns of words.

    Args:
        header: One text per column.
        rows: As long as the header.
        words: How many columns, from the left, are words; the others are numbers.
        total: A last row, apart from the others.
        ruled: Is there a line below the header?
        least: Cells that a column of words has at least.

    Raises:
        ValueError: There is no column, not so many of them are words, or a row has not as many.
    """

    def __init__(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        words: int = 1,
        total: Sequence[str] | None = None,
        ruled: bool = False,
        least: int = 0,
    ) -> None:
        self.header, self.rows, self.words = tuple(header), [tuple(row) for row in rows], words
        self.total, self.ruled, self.least = total, ruled, least
        every = [*self.rows, *([] if total is None else [total])]
        if not 0 <= words <= len(self.header) or any(len(it) != len(self.header) for it in every):
            message = (
                f"{words} of {len(self.header)} columns are words: every row must have as many"
            )
            raise ValueError(message)
        if not self.header:
            message = "a table must have a column"
            raise ValueError(message)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Its blocks, with an empty line between two."""
        for place, (widths, columns) in enumerate(self._blocks(options.max_width)):
            if place:
                yield Text()
            yield self._block(widths, columns)

    def _blocks(self, width: int) -> Iterator[tuple[list[int], list[int]]]:
        """Widths and indices of the columns of each block."""
        first = list(range(self.words))
        numbers = {at: self._width_of_numbers(at) for at in range(self.words, len(self.header))}
        left = width - max(numbers.values(), default=0) - _GAP * len(first)
        most = min(width // _WORDS, left // max(len(first), 1))
        longest = max(1, min(width // 2, left // max(len(first), 1)))
        fixed = [self._width_of_words(at, most, longest) for at in first]
        widths, columns = list(fixed), list(first)
        for at, wide in numbers.items():
            if columns != first and sum(widths) + wide + _GAP * len(columns) > width:
                yield widths, columns
                widths, columns = list(fixed), list(first)
            widths.append(wide)
            columns.append(at)
        yield widths, columns

    def _width_of_words(self, at: int, most: int, longest: int) -> int:
        cells = self._cells(at)
        word = max(cell_len(word) for cell in cells for word in (cell.split() or [""]))
        wanted = max(self.least, *map(cell_len, cells))
        return max(min(word, longest), min(most, wanted))

    def _width_of_numbers(self, at: int) -> int:
        header, *cells = self._cells(at)
        return max(cell_len(it) for it in (*(header.split() or [""]), *cells))

    def _cells(self, at: int) -> list[str]:
        rows = self.rows if self.total is None else [*self.rows, self.total]
        return [self.header[at], *(row[at] for row in rows)]

    def _block(self, widths: Sequence[int], columns: Sequence[int]) -> Table:
        table = Table(
            box=box.SIMPLE_HEAD if self.ruled else None,
            show_edge=False,
            pad_edge=False,
            padding=(0, 0, 0, 1) if self.ruled else (0, 1),
        )
        for width, at in zip(widths, columns, strict=True):
            # Where even this is too wide, it goes on in the next line; nothing is left out.
            table.add_column(
                Text(self.header[at]),
                justify="left" if at < self.words else "right",
                overflow="fold",
                width=width,
            )
        for row in self.rows:
            table.add_row(*(Text(row[at]) for at in columns))
        if self.total is not None:
            table.add_section()
            table.add_row(*(Text(self.total[at]) for at in columns))
        return table
