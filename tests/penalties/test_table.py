"""The table in docs/penalties.md has a line for every penalty, and says of it what is so."""

import re
from pathlib import Path

import pytest

from abscise.penalties import Penalty
from support.penalty_cases import CASES

PAGE = Path(__file__).parents[2] / "docs" / "penalties.md"
LINE = re.compile(r"^\| `(\w+).*?` \| .* \| (yes|no) \| (yes|no) \| (yes|no) \| [^|]+ \|$")


@pytest.mark.skipif(not PAGE.exists(), reason="the source distribution has no docs")
def test_the_table_says_of_every_penalty_what_is_so() -> None:
    lines = [LINE.match(line) for line in PAGE.read_text(encoding="utf-8").splitlines()]
    found = {line[1]: line.groups()[1:] for line in lines if line}
    defaults = {type(case.penalty).__name__: case.penalty for case in reversed(CASES)}
    assert found == {name: claims_of(penalty) for name, penalty in defaults.items()}


def claims_of(penalty: Penalty) -> tuple[str, ...]:
    claims = (penalty.exact, penalty.convex, penalty.takes_metric)
    return tuple("yes" if claim else "no" for claim in claims)
