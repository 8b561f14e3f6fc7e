"""Options and hypothesis profiles of the whole test run."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

# A smaller seed is not a simpler network, so nothing is shrunk.
COMMON = settings(
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
    report_multiple_bugs=False,
)
settings.register_profile("ci", COMMON, derandomize=True)
settings.register_profile("search", COMMON)
settings.load_profile(os.environ.get("ABSCISE_HYPOTHESIS", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--runslow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --runslow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)
