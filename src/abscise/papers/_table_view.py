"""Tables for a terminal of any width: too many columns become several blocks, and no number is cut.

Words may break between words; numbers never do.
"""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as View
from rich.text import Text

from abscise.papers._outcome import Table

_GAP = 2
"""Cells between two columns."""

_WORDS = 3
"""A column of words takes at most one cell in so many, unless its longest word wants more."""


class TableView:
    """A table for a rich console: in blocks of columns where the console is narrow.

    Every block begins with the columns of words.
    """

    def __init__(self, table: Table) -> None:
        self.table = table

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Its blocks, with an empty line between two."""
        for place, (widths, columns) in enumerate(self._blocks(options.max_width)):
            if place:
                yield Text()
            yield self._block(widths, columns)

    def _blocks(self, width: int) -> Iterator[tuple[list[int], list[int]]]:
        """Widths and indices of the columns of each block."""
        table = self.table
        first = list(range(table.words))
        numbers = {
            index: self._width_of_numbers(index) for index in range(table.words, len(table.header))
        }
        left = width - max(numbers.values(), default=0) - _GAP * len(first)
        most = min(width // _WORDS, left // max(len(first), 1))
        fixed = [self._width_of_words(index, most) for index in first]
        widths, columns = list(fixed), list(first)
        for index, wide in numbers.items():
            if columns != first and sum(widths) + wide + _GAP * len(columns) > width:
                yield widths, columns
                widths, columns = list(fixed), list(first)
            widths.append(wide)
            columns.append(index)
        yield widths, columns

    def _width_of_words(self, index: int, most: int) -> int:
        cells = self._cells(index)
        longest = max(cell_len(word) for cell in cells for word in (cell.split() or [""]))
        return max(longest, min(most, max(map(cell_len, cells))))

    def _width_of_numbers(self, index: int) -> int:
        header, *cells = self._cells(index)
        return max(cell_len(it) for it in (*(header.split() or [""]), *cells))

    def _cells(self, index: int) -> list[str]:
        return [self.table.header[index], *(row[index] for row in self.table.rows)]

    def _block(self, widths: Sequence[int], columns: Sequence[int]) -> View:
        table = self.table
        shown = View(box=None, pad_edge=False, padding=(0, 1))
        for width, index in zip(widths, columns, strict=True):
            left = index < table.words
            # Where even this is too wide, it goes on in the next line; nothing is left out.
            shown.add_column(
                Text(table.header[index]),
                justify="left" if left else "right",
                overflow="fold",
                width=width,
            )
        for row in table.rows:
            shown.add_row(*(Text(row[index]) for index in columns))
        return shown
