"""Data sets of the Hugging Face hub, or of a folder with the same layout, decoded into arrays."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abscise._errors import DataError
from abscise.train._datasets import DataFacts
from abscise.train._extra import import_extra

DATA_ROOT_VARIABLE = "ABSCISE_DATA"
Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Inputs `(examples, *shape)`, not yet standardised, and labels `(examples,)`."""


def load_hub(facts: DataFacts, root: Path | None) -> tuple[Arrays, Arrays]:
    """The training and the test set of `facts.repository`.

    Args:
        facts: Which repository, which columns, which shape.
        root: The folder that holds the repository as a folder; None: `ABSCISE_DATA` names it, and
            where that is not set the hub is used.

    Raises:
        DataError: Missing folder, split or column, wrong shape, labels out of range.
        MissingExtraError: `datasets` is not installed.
    """
    datasets = import_extra("datasets", f"the data set {facts.repository}")
    source = _local(facts) if facts.local else _source(facts.repository, root)
    # What does not fit into float32 becomes infinite, and is refused by its row.
    with _no_progress_bars(datasets), np.errstate(over="ignore", invalid="ignore"):
        found = _open(datasets, source)
        missing = [split for split in ("train", "test") if split not in found]
        if missing:
            message = (
                f"{source}: no split {missing[0]!r}, it has {sorted(found)}; files or folders "
                "named train and test make splits"
            )
            raise DataError(message)
        learned = _arrays(found["train"], facts, f"{source}, split train")
        return learned, _arrays(found["test"], facts, f"{source}, split test")


def _source(repository: str, root: Path | None) -> str:
    """The folder to read, or the repository's name where the hub is to be used."""
    if root is None and not os.environ.get(DATA_ROOT_VARIABLE):
        return repository
    base = Path(os.environ[DATA_ROOT_VARIABLE]) if root is None else root
    folder = base / repository
    if not folder.is_dir():
        message = (
            f"no folder {folder}: --data-root or {DATA_ROOT_VARIABLE} must name the folder that "
            f"holds {repository}; leave both out to use the Hugging Face hub"
        )
        raise DataError(message)
    return str(folder)


def _local(facts: DataFacts) -> str:
    folder = Path(facts.repository).expanduser()
    if not folder.is_dir():
        message = f"no folder {folder}, which the recipe names as its data"
        raise DataError(message)
    return str(folder)


@contextmanager
def _no_progress_bars(datasets: Any) -> Iterator[None]:
    """This room prints nothing; the caller's setting comes back."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _open(datasets: Any, source: str) -> Any:
    problems = (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError)
    try:
        return datasets.load_dataset(source)
    except problems as problem:
        cause = _innermost(problem)
        line = str(cause).strip().split("\n", maxsplit=1)[0]
        message = f"cannot read the data set {source} ({type(cause).__name__}: {line})"
        if not Path(source).is_dir():
            hint = f"without a network set {DATA_ROOT_VARIABLE} to a folder that holds its files"
            message = f"{message}; {hint}"
        raise DataError(message) from problem


def _innermost(problem: BaseException) -> BaseException:
    """What began it: the packages wrap it in errors that say less."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return problem


def _arrays(split: Any, facts: DataFacts, where: str) -> Arrays:
    names = _columns(split.column_names, facts)
    missing = [name for name in (*names, facts.label) if name not in split.column_names]
    if missing:
        message = f"{where}: no column {missing[0]!r}, it has {split.column_names}"
        raise DataError(message)
    columns = split.with_format("numpy")
    labels = np.asarray(columns[facts.label][:])
    if labels.dtype.kind not in "iu" or labels.size == 0:
        message = f"{where}: labels must be integers, at least one, got {labels.dtype}"
        raise DataError(message)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= facts.classes:
        message = f"{where}: labels must be in 0..{facts.classes - 1}, got {low}..{high}"
        raise DataError(message)
    if facts.images:
        inputs = _images(columns[names[0]][:])
    else:
        inputs = np.stack([np.asarray(columns[name][:]) for name in names], axis=1)
    if inputs.shape[1:] != facts.shape or inputs.dtype.kind not in "iuf":
        expected, got = list(facts.shape), _found(inputs)
        message = f"{where}: every example must have the shape {expected}, got {got}"
        raise DataError(message)
    scaled = inputs.astype(np.float32) / np.float32(facts.scale)
    finite = np.isfinite(scaled).reshape(len(scaled), -1).all(axis=1)
    if not finite.all():
        message = f"{where}: inputs must be finite, but those of row {int(finite.argmin())} are not"
        raise DataError(message)
    return scaled, labels.astype(np.int64)


def _columns(present: list[str], facts: DataFacts) -> tuple[str, ...]:
    """The columns of the inputs: as given, or image, or all but the label."""
    if facts.columns:
        return facts.columns
    return ("image",) if facts.images else tuple(name for name in present if name != facts.label)


def _found(inputs: NDArray[Any]) -> str:
    """The shape of the examples in words; several, where they differ."""
    if inputs.dtype != object:
        return f"{list(inputs.shape[1:])} of {inputs.dtype}"
    sizes = sorted({np.asarray(image).shape for image in inputs.flat})
    shown = ", ".join("x".join(str(side) for side in size) for size in sizes[:3])
    return f"images of different sizes ({shown}{', ...' if len(sizes) > 3 else ''})"


def _images(decoded: Any) -> NDArray[Any]:
    """Decoded images as `(images, channels, height, width)`; an object array if sizes differ."""
    if len({np.asarray(image).shape for image in decoded}) > 1:
        ragged = np.empty(len(decoded), dtype=object)
        ragged[:] = list(decoded)
        return ragged
    images = np.asarray(decoded)
    if images.ndim == 3:  # grey: no channel axis
        return images[:, None]
    return np.moveaxis(images, 3, 1) if images.ndim == 4 else images
