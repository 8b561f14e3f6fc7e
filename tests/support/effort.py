"""How much a run of the tests tries: a third of the random examples, or all (`make test-all`)."""

import os

from hypothesis import settings

THOROUGH = os.environ.get("ABSCISE_THOROUGH") == "1"


def examples(count: int) -> settings:
    """`count` random examples in a thorough run, a third of them in a quick one."""
    return settings(max_examples=count if THOROUGH else max(1, count // 3))
