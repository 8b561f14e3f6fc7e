"""The table of groups: for each way to group, which elements of `small_network` belong together.

Written by plain indexing and by the names of the network, apart from the code under test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import abscise
from abscise import UnitMap
from abscise.sparsify import Columns, Filters, Groups, Heads, Rows
from support.sparsifying import batch, small_network

Part = tuple[str, Any]
EVERY = slice(None)


@dataclass(frozen=True, slots=True)
class Grouping:
    """One way to group.

    Args:
        make: The argument `groups`.
        members: All groups, each as (parameter name, index) pairs, layer by layer.
        where: The argument `where`.
    """

    make: Callable[[], UnitMap | Groups]
    members: tuple[tuple[Part, ...], ...]
    where: tuple[str, ...] = ("*",)


@cache
def unit_map() -> UnitMap:
    return abscise.find_units(small_network(), batch()[0])


def _units() -> tuple[tuple[Part, ...], ...]:
    first = [tuple((name, i) for name in ("0.weight", "1.weight", "1.bias")) for i in range(6)]
    names = ("3.weight", "3.bias", "4.weight", "4.bias")
    second = [tuple((name, i) for name in names) for i in range(4)]
    third = [tuple((name, i) for name in ("7.weight", "7.bias")) for i in range(12)]
    return (*first, *second, *third)  # the outputs are pinned


GROUPINGS: dict[str, Grouping] = {
    "units": Grouping(unit_map, _units()),
    "rows": Grouping(
        Rows,
        tuple(
            [((n, i),) for n, count in (("7.weight", 12), ("9.weight", 3)) for i in range(count)]
        ),
    ),
    "filters": Grouping(
        Filters,
        tuple([((n, i),) for n, count in (("0.weight", 6), ("3.weight", 4)) for i in range(count)]),
    ),
    "columns": Grouping(
        Columns,
        tuple(
            [
                ((name, (EVERY, i)),)
                for name, count in (
                    ("0.weight", 2),
                    ("3.weight", 6),
                    ("7.weight", 64),
                    ("9.weight", 12),
                )
                for i in range(count)
            ]
        ),
    ),
    "heads": Grouping(
        lambda: Heads(4),
        tuple([(("7.weight", slice(3 * i, 3 * i + 3)),) for i in range(4)]),
        where=("7",),
    ),
    "joint heads": Grouping(
        lambda: Heads(2, parts=3),
        tuple(
            [(("7.weight", [2 * i + 4 * p + k for p in range(3) for k in (0, 1)]),) for i in (0, 1)]
        ),
        where=("7.weight",),
    ),
}
