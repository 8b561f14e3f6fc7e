"""The founding papers' experiments: lists of tasks, run once each, told with controls and seeds.

```python
from pathlib import Path
from abscise.papers import Choice, Place, experiment, read_finished, run_tasks, write_report

paper = experiment("transformed-l1")
tasks = paper.tasks(Choice(quick=True))
place = Place(Path("results/transformed-l1-quick.jsonl"))
run_tasks(paper, tasks, place, print)
write_report(paper, read_finished(place.lines, paper.name), Path("report"))
```

A run is a `Task`; a finished one is a line of JSON, and is never done again. Processes that share a
file of lines share the work. An experiment says how a task is done, and what the lines tell;
everything else is here once for all of them.
"""

from abscise.papers._bench import Bench, Shelf
from abscise.papers._choice import Choice, chosen_names
from abscise.papers._experiment import Experiment
from abscise.papers._finished import Finished, append_finished, read_finished
from abscise.papers._list import experiment, experiments
from abscise.papers._outcome import Outcome, Table
from abscise.papers._report_files import html, markdown, view, write_report
from abscise.papers._runner import Moment, Place, Stage, Tally, run_tasks
from abscise.papers._task import Task, task_from_json

__all__ = [
    "Bench",
    "Choice",
    "Experiment",
    "Finished",
    "Moment",
    "Outcome",
    "Place",
    "Shelf",
    "Stage",
    "Table",
    "Tally",
    "Task",
    "append_finished",
    "chosen_names",
    "experiment",
    "experiments",
    "html",
    "markdown",
    "read_finished",
    "run_tasks",
    "task_from_json",
    "view",
    "write_report",
]
