"""Options and hypothesis profiles of the whole test run."""

import os
import signal

import pytest
from hypothesis import HealthCheck, Phase, settings

from support.effort import THOROUGH

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


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell has it for what runs in its background; tests press Ctrl-C as a person would.
    _ = signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = pytest.mark.skip(reason="slow: run with --runslow")
    thorough = pytest.mark.skip(reason="thorough: run by make test-all")
    for item in items:
        if "slow" in item.keywords and not config.getoption("--runslow"):
            item.add_marker(slow)
        if "thorough" in item.keywords and not THOROUGH:
            item.add_marker(thorough)
