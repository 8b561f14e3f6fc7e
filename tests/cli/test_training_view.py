"""Training is shown live on a terminal and as a few plain lines elsewhere."""

import io

import pytest
from rich.console import Console

from abscise.cli._training_view import PLAIN_LINES, TrainingView
from abscise.train import Dying, Progress

STEPS = 4000


def run(console: Console, every: int) -> None:
    with TrainingView(console) as view:
        for step in range(every, STEPS + 1, every):
            layers = {"block1.norm": Dying(step // 100, 64), "hidden": Dying(0, 32)}
            view.show(Progress(step, STEPS, 0.5, 0.9, 1e-3, layers))


@pytest.mark.parametrize("every", [10, 400, 1000])
def test_without_a_terminal_there_are_at_most_ten_plain_lines(every: int) -> None:
    file = io.StringIO()
    run(Console(file=file, width=60), every)
    lines = file.getvalue().splitlines()
    assert len(lines) == min(PLAIN_LINES, STEPS // every)
    assert "\x1b" not in file.getvalue()
    assert "step 4,000/4,000" in lines[-1]
    assert "loss 0.5000" in lines[-1]
    assert "accuracy 90.0 %" in lines[-1]
    assert "dying: block1.norm 40/64  hidden 0/32" in lines[-1]


def test_on_a_terminal_the_lines_are_overwritten() -> None:
    file = io.StringIO()
    run(Console(file=file, width=100, force_terminal=True), 400)
    assert "\x1b[" in file.getvalue()
    assert "hidden 0/32" in file.getvalue()


def test_the_terminal_is_given_back_when_training_fails() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)

    def interrupted() -> None:
        with TrainingView(console) as view:
            view.show(Progress(1, STEPS, 0.5, 0.9, 1e-3, {}))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
