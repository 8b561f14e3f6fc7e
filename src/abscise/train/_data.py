"""Data for training: small sets, whole, as tensors; split by a fixed seed; the test set apart."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abscise._errors import DataError
from abscise.train._datasets import DataFacts, DataName, facts
from abscise.train._extra import import_extra
from abscise.train._hub import Arrays, load_hub

SPLIT_SEED = 0
DIGITS_TEST = 360  # of 1,797: a fifth, as nobody has published a split of these


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Examples and their labels: `inputs` is `(examples, *shape)`, `labels` is `(examples,)`."""

    inputs: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Split":
        """The same examples on `device`."""
        return Split(self.inputs.to(device), self.labels.to(device))

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """A data set in three parts: train on the first, choose by the second, report the third once.

    Inputs are standardised by mean and deviation of the training part, per channel or feature.
    """

    name: str
    classes: int
    train: Split
    validation: Split
    test: Split


def load_data(name: DataName | str, root: Path | None = None) -> Data:
    """The data set `name`, read whole.

    `digits` are the 1,797 handwritten digits (8x8) that come with scikit-learn, split into 1,257
    for training, 180 for validation and 360 for the test by a fixed seed, each class in proportion.
    The other sets have a test set of their own; their validation part is taken from their training
    set in the same way.

    Args:
        name: Of the data set.
        root: The folder that holds `ylecun/mnist` and the like. None: the environment variable
            `ABSCISE_DATA` names it; where that is not set either, the Hugging Face hub is used.

    Raises:
        DataError: The set is unknown, missing, or does not have the expected columns.
        MissingExtraError: scikit-learn or `datasets` is not installed.
    """
    known = _data_name(name)
    return load_described(known, facts(known), root)


def load_described(name: str, about: DataFacts, root: Path | None = None) -> Data:
    """The data set that `about` describes, read whole; see `load_data`.

    Where `about` holds out nothing for validation, a tenth of the training examples is held out.
    """
    learned, tested = _digits(about) if name == DataName.DIGITS else load_hub(about, root)
    inputs, labels = learned
    kept, held = stratified_split(labels, _held_out(about, len(labels)))
    axes = (0, *range(2, inputs.ndim))  # all but the channels, or the features
    mean = inputs[kept].mean(axis=axes, keepdims=True, dtype=np.float64)
    deviation = inputs[kept].std(axis=axes, keepdims=True, dtype=np.float64)
    deviation[deviation == 0] = 1.0  # a feature that never varies stays 0

    def split(values: NDArray[np.float32], targets: NDArray[np.int64]) -> Split:
        with np.errstate(over="ignore"):  # what becomes infinite is refused by name
            scaled = ((values - mean) / deviation).astype(np.float32)
        return Split(torch.from_numpy(scaled), torch.from_numpy(targets))

    return Data(
        name,
        about.classes,
        split(inputs[kept], labels[kept]),
        split(inputs[held], labels[held]),
        split(*tested),
    )


def stratified_split(
    labels: NDArray[np.int64], held_out: int, seed: int = SPLIT_SEED
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the rest and of exactly `held_out` examples, each class in proportion (+-1).

    Both are sorted. The draw depends on `seed` alone, never on the global generators.

    Example:
        >>> rest, held = stratified_split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 2)
        >>> len(rest), np.array([0, 0, 0, 0, 1, 1, 1, 1])[held].tolist()
        (6, [0, 1])
    """
    if not 0 < held_out < len(labels):
        message = f"held_out must be in 1..{len(labels) - 1}, got {held_out}"
        raise ValueError(message)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # Every (n / held_out)-th example of that order: each class gives its share.
    chosen = ((np.arange(held_out) + 0.5) * len(labels) / held_out).astype(np.int64)
    held = np.zeros(len(labels), dtype=bool)
    held[by_class[chosen]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def check_inputs(part: Split, where: str) -> None:
    """Refuse inputs that are not float32, or not finite.

    Raises:
        DataError: It names the first example that is not finite.
    """
    if part.inputs.dtype != torch.float32:
        message = f"{where}: inputs must be torch.float32, got {part.inputs.dtype}: use .float()"
        raise DataError(message)
    finite = part.inputs.isfinite().flatten(1).all(dim=1)
    if not bool(finite.all()):
        first = int(finite.int().argmin())
        message = f"{where}: inputs must be finite, but those of example {first} are not"
        raise DataError(message)


def _digits(about: DataFacts) -> tuple[Arrays, Arrays]:
    sklearn_datasets = import_extra("sklearn.datasets", "the data set digits")
    images, targets = sklearn_datasets.load_digits(return_X_y=True)
    scaled = images.reshape(-1, *about.shape).astype(np.float32) / np.float32(about.scale)
    labels = targets.astype(np.int64)
    rest, test = stratified_split(labels, DIGITS_TEST)
    return (scaled[rest], labels[rest]), (scaled[test], labels[test])


def _held_out(about: DataFacts, examples: int) -> int:
    wanted = about.validation or examples // 10
    if not 0 < wanted < examples:
        message = (
            f"{about.repository or 'digits'}: {wanted} of {examples} training examples cannot be "
            f"held out for validation: choose 1..{examples - 1}"
        )
        raise DataError(message)
    return wanted


def _data_name(name: DataName | str) -> DataName:
    names = [known.value for known in DataName]
    if name not in names:
        nearest = get_close_matches(str(name), names, n=1)
        hint = f" (did you mean {nearest[0]}?)" if nearest else ""
        message = f"no data set {str(name)!r}{hint}: one of {', '.join(names)}"
        raise DataError(message)
    return DataName(name)
