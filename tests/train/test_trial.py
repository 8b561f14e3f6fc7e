"""Networks that cannot be trained are refused in one line before anything is kept."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from abscise._errors import AbsciseError, ModelError
from abscise.train import Checkpoints, Data, Recipe, Split, fit


def make(count: int = 24) -> Data:
    generator = torch.Generator().manual_seed(0)
    parts = [
        Split(torch.randn(count, 6, generator=generator), torch.arange(count) % 3) for _ in range(3)
    ]
    return Data(f"{__name__}:make", 3, *parts)


RECIPE = Recipe(
    name="trial",
    data=f"{__name__}:make",
    shape=(6,),
    classes=3,
    model=f"{__name__}:Plain",
    epochs=1,
    batch_size=8,
)


class Plain(nn.Module):
    """Draws from every generator and averages batches: what a trial must leave as it was."""

    def __init__(self, classes: int = 3, reads: int = 6) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.5)
        self.classes = nn.Linear(reads, classes)

    @override
    def forward(self, rows: Tensor) -> Any:
        noise = random.random() + np.random.random()  # noqa: NPY002
        return self.classes(self.drop(self.norm(rows))) + (noise if self.training else 0)


class Pair(Plain):
    @override
    def forward(self, rows: Tensor) -> Any:
        return super().forward(rows), None


class Faulty(Plain):
    @override
    def forward(self, rows: Tensor) -> Any:
        message = "my own bug\nin two lines"
        raise KeyError(message)


class Undone(Plain):
    """Its backward fails: what it needs was changed in place."""

    @override
    def forward(self, rows: Tensor) -> Any:
        logits = super().forward(rows).exp()
        with torch.no_grad():
            logits.mul_(2)
        return logits.add_(1)


class Detached(Plain):
    @override
    def forward(self, rows: Tensor) -> Any:
        return super().forward(rows).detach()


class Bare(nn.Module):
    @override
    def forward(self, rows: Tensor) -> Tensor:
        return rows[:, :3]


def wide() -> nn.Module:
    return Plain().double()


def lazy() -> nn.Module:
    return nn.LazyLinear(3)


def empty() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 0), nn.Linear(0, 3))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "too few classes": ({"model_args": {"classes": 2}}, r"logits of \[8, 3\].*got \[8, 2\]"),
    "another size": ({"model_args": {"reads": 5}}, r"on 8 examples of \[6\]: RuntimeError"),
    "a tuple": ({"model": "Pair"}, "got a tuple"),
    "an exception": ({"model": "Faulty"}, "KeyError: .*my own bug"),
    "a backward": ({"model": "Undone"}, "modified by an inplace operation"),
    "detached": ({"model": "Detached"}, "that do not depend on its parameters"),
    "no parameters": ({"model": "Bare"}, "has no parameters to train"),
    "float64": ({"model": "wide"}, r"norm\.weight must be torch\.float32 .* torch\.float64"),
    "lazy": ({"model": "lazy"}, "weight has no values: run a batch"),
    "no units": ({"model": "empty"}, r"0\.weight must be .* not empty, got \[0, 6\]"),
    "one example": ({"accumulate": 8}, r"on 1 example of \[6\]: ValueError: Expected more than 1"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules", "ignore:Initializing zero-element")
@pytest.mark.parametrize("case", REFUSED)
def test_a_network_that_cannot_be_trained_is_refused_in_one_line_before_anything_is_kept(
    case: str, tmp_path: Path
) -> None:
    changes, text = REFUSED[case]
    changes = changes | ({"model": f"{__name__}:{changes['model']}"} if "model" in changes else {})
    with pytest.raises(ModelError, match=text) as refused:
        _ = fit(replace(RECIPE, **changes), data=make(), checkpoints=Checkpoints(tmp_path / "run"))
    assert isinstance(refused.value, AbsciseError)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_the_trial_leaves_no_trace_in_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = fit(RECIPE, data=make())
    monkeypatch.setattr("abscise.train._fit.try_batch", lambda *_: None)
    plain = fit(RECIPE, data=make())
    assert tried.history == plain.history
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, tried.model.state_dict()[name])


def test_more_classes_than_needed_may_be() -> None:
    assert fit(replace(RECIPE, model_args={"classes": 5}), data=make()).history
