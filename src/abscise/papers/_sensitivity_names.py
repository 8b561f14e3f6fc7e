"""What the runs of the sensitivity experiment are called: method, and how strongly it works."""

from collections.abc import Iterable, Mapping

from abscise.papers._task import Task

MAIN, CONTROL = "sensitivity", "decay"
DENSE, TEACHER = "dense", "teacher"
STARTS = {DENSE: "dense networks", TEACHER: "teachers"}
"""What is trained before anything vanishes: in words."""

TAUGHT = "-taught"
TIMES = " x "


def name_of(task: Task) -> str:
    """The method; with the factor of the strength, if it is not that of the rule."""
    if task.strength is None or task.method in STARTS:
        return task.method
    return f"{task.method}{TIMES}{_told(task.strength)}"


def titles_of(titles: Mapping[str, str], tasks: Iterable[Task]) -> dict[str, str]:
    """Name -> what it is called in tables: each method, then the same at other strengths.

    Args:
        titles: Method -> what it is called, in their order.
        tasks: Whose names are wanted.
    """
    factors = sorted({(it.strength, it.method) for it in tasks if it.strength is not None})
    found = {}
    for method, title in titles.items():
        found[method] = title
        for factor, other in factors:
            if other == method not in STARTS:
                told = _told(factor)
                found[f"{method}{TIMES}{told}"] = f"{title}, {told} times as strong"
    return found


def method_of(name: str) -> str:
    """The method, at whatever strength."""
    return name.partition(TIMES)[0]


def is_taught(name: str) -> bool:
    """Does it begin with a teacher?"""
    return method_of(name).endswith(TAUGHT)


def control_of(name: str) -> str | None:
    """The run without sensitivity that is like `name` in all else; None: `name` is another method.

    >>> control_of("sensitivity-taught x 2")
    'decay-taught x 2'
    """
    method, times, factor = name.partition(TIMES)
    if method not in (MAIN, f"{MAIN}{TAUGHT}"):
        return None
    return f"{method.replace(MAIN, CONTROL)}{times}{factor}"


def _told(factor: float) -> str:
    """All its digits: two strengths never share a name."""
    return repr(float(factor)).removesuffix(".0")
