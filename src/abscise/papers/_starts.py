"""The dense network that all methods start from: trained once, kept as a finished checkpoint."""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from abscise._folders import locked, make_folder
from abscise.papers._bench import Bench, Shelf
from abscise.train import Data, Recipe, Trained

FOLDER = "starts"


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """The dense network.

    Args:
        trained: What came of its training; the test set was not read.
        tensors: Its parameters and buffers, on the CPU.
        digest: What tells them from others.
    """

    trained: Trained
    tensors: Mapping[str, Tensor]
    digest: str

    def __call__(self, model: nn.Module, _optimizer: Optimizer) -> "Begun":
        """An attachment: the model's weights become those of the dense network."""
        _ = model.load_state_dict(self.tensors)
        return Begun(self.digest)


@dataclass(frozen=True, slots=True)
class Begun:
    """What a run began with: a run that is gone on with must have begun with the same.

    Args:
        digest: Of the dense network.
    """

    digest: str

    def state_dict(self) -> dict[str, Any]:
        """The digest."""
        return {"digest": self.digest}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Compare.

        Raises:
            ValueError: The run began with another network.
        """
        if dict(state) != self.state_dict():
            began = state.get("digest")
            message = f"the run began with the dense network {began}, not with {self.digest}"
            raise ValueError(message)


def start_of(recipe: Recipe, bench: Bench) -> Start:
    """Train the dense network of `recipe`, or take the one that was trained before.

    It is kept beside the unfinished runs, for all runs whose recipes are equal. Of several
    processes one trains it, and the others wait.

    Raises:
        StoreError: The folder cannot be made.
        Interrupted: The training was asked to stop; it can be gone on with.
    """
    text = json.dumps(replace(recipe, device=bench.device).as_dict(), sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = bench.folder.parent / FOLDER
    make_folder(folder)
    with locked(folder / f"{key}.claim", wait=True):
        trained = replace(sealed(bench, recipe), folder=folder / key).train(recipe)
    model = copy.deepcopy(trained.model).cpu()
    tensors = {name: value.detach() for name, value in model.state_dict().items()}
    return Start(trained, tensors, _digest(tensors))


def sealed(bench: Bench, recipe: Recipe) -> Bench:
    """The bench with data whose test part is the validation part: nobody can read the test set."""
    data = bench.shelf.data(recipe)
    shelf = Shelf(bench.shelf.root, {(recipe.data, recipe.limit): without_test(data)})
    return replace(bench, shelf=shelf)


def without_test(data: Data) -> Data:
    """The same data with the validation part in the place of the test part."""
    return replace(data, test=data.validation)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        held = tensors[name].contiguous()
        digest.update(repr((name, tuple(held.shape), held.dtype)).encode())
        digest.update(held.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
