"""Experiment: which runs there are, how one is made, and what becomes of them all."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from abscise.papers._bench import Bench
from abscise.papers._choice import Choice
from abscise.papers._finished import Finished
from abscise.papers._outcome import Outcome
from abscise.papers._task import Task
from abscise.train import Run


class Experiment(ABC):
    """A founding paper's experiment: a list of tasks, a way to do one, a summary of all.

    A new one is one file of this room with a subclass, and its name in `experiments()`.
    """

    __slots__ = ()

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def tasks(self, choice: Choice) -> tuple[Task, ...]:
        """The tasks that `choice` wants, in the order in which they are to be done.

        Raises:
            RecipeError: `choice` names what this experiment does not have.
        """

    @abstractmethod
    def run(self, task: Task, bench: Bench) -> Run:
        """Do one task: `bench.train`, then `bench.ship`.

        Raises:
            AbsciseError: It failed; there is no line for it then.
        """

    @abstractmethod
    def outcome(self, finished: Sequence[Finished]) -> Outcome:
        """Tables and figures of the finished runs; a pure function of them, in any order."""
