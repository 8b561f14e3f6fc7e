"""Layers whose gradients are known in part; options at their limits; parts that kill nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adadelta, Adagrad, Adam
from typing_extensions import override

from abscise.implicit import Outcome, diagnose, gradient_sizes
from support.diagnosing import L2, X, asked


class Unused(nn.Module):
    """A layer that nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
        self.unused = nn.Linear(6, 4)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return self.body(inputs)


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(3):
        yield torch.randn(8, 6), torch.arange(8) % 3


@pytest.mark.parametrize("looked", [True, False])
@pytest.mark.parametrize("trained", [True, False])
def test_a_layer_that_is_never_used_does_not_die_first(*, looked: bool, trained: bool) -> None:
    model = Unused()
    sizes = gradient_sizes(model, batches())
    assert not [name for name in sizes if "unused" in name]
    optimizer = Adam(model.parameters(), **L2)
    if trained:
        for inputs, labels in batches():
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), labels).backward()
            _ = optimizer.step()
    told: dict[str, Any] = {} if trained else {"gradient_rms": sizes}
    found = diagnose(model, optimizer, X if looked else None, steps=60_000, **told)
    assert found.first is not None
    assert found.first.name.startswith("body")
    assert found.outcome is Outcome.WILL_DIE
    assert ("are not known" in found.verdict) is not looked


def test_a_slow_layer_that_is_known_says_nothing_of_one_that_is_not() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    found = asked(model, steps=20_000, gradient_rms={"2.weight": 100.0})
    assert found.outcome is Outcome.DEPENDS
    assert "the gradients of 1 of 2 layers are not known" in found.verdict
    known = asked(model, steps=20_000, gradient_rms={"0.weight": 100.0, "2.weight": 100.0})
    assert known.outcome is Outcome.TOO_SLOW


def test_an_unused_layer_leaves_the_law_of_leaks_as_it_is() -> None:
    model = Unused()
    model.body[1] = nn.LeakyReLU(0.3)
    sizes = dict.fromkeys(gradient_sizes(model, batches()), 1.0)
    assert asked(model, steps=100_000, gradient_rms=sizes).outcome is Outcome.UNLIKELY
    del sizes["body.0.weight"]
    assert asked(model, steps=100_000, gradient_rms=sizes).outcome is Outcome.DEPENDS


def test_a_layer_with_a_few_large_weights_is_not_gone() -> None:
    model = nn.Sequential(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 3))
    with torch.no_grad():
        _ = model.get_parameter("0.weight").zero_()
        model.get_parameter("0.weight")[0, :3] = 0.005
    found = asked(model, torch.randn(2, 100))
    assert found.first is not None
    assert found.first.start == pytest.approx(0.005)
    assert found.outcome is Outcome.WILL_DIE
    with torch.no_grad():
        model.get_parameter("0.weight")[0, :3] = 1e-4
    assert asked(model, torch.randn(2, 100)).verdict.startswith("Nothing is left to die")


@pytest.mark.parametrize(
    ("kind", "options"),
    [(Adadelta, {"lr": 1.0, "eps": 0.0}), (Adam, {"eps": 0.0}), (Adagrad, {"lr_decay": 1.0})],
)
@pytest.mark.parametrize("size", [None, 0.0, 1e-3])
def test_options_at_their_limits_are_diagnosed(
    kind: Any, options: dict[str, Any], size: float | None
) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = kind(model.parameters(), weight_decay=1e-3, **options)
    found = diagnose(model, optimizer, X, steps=10_000, gradient_rms=size)
    assert "takes" not in found.verdict
    assert found.to_json()["outcome"] == found.outcome.value


def test_what_is_known_of_some_layers_counts_and_the_rest_is_said() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    found = asked(model, steps=60_000, gradient_rms={"2.weight": 1e-2})
    assert found.outcome is Outcome.WILL_DIE
    assert "the gradients of 1 of 2 layers are not known" in found.verdict
    assert not any("remembers none" in line for line in found.findings)
    (part, *_) = found.parts
    assert [it.steps is None for it in part.layers] == [False, True]


def test_a_name_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'0\.wieght', which is no .* did you mean '0\.weight'"):
        _ = asked(nn.Sequential(nn.Linear(6, 3)), gradient_rms={"0.wieght": 1.0})


def test_an_embedding_that_alone_decays_kills_no_unit() -> None:
    class Net(nn.Module):
        def __init__(self, table: nn.Module) -> None:
            super().__init__()
            self.table = table
            self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

        @override
        def forward(self, inputs: Tensor) -> Tensor:
            return self.body(self.table(inputs))

    for table in (nn.Embedding(10, 6), nn.EmbeddingBag(10, 6)):
        model = Net(table)
        groups: list[dict[str, Any]] = [
            {"params": table.parameters()},
            {"params": model.body.parameters(), "weight_decay": 0.0},
        ]
        for inputs in (torch.arange(8).view(4, 2), None):
            found = diagnose(model, Adam(groups, **L2), inputs, steps=20_000, gradient_rms=1e-3)
            assert found.outcome is Outcome.WILL_NOT
            assert "no weight decay on what writes units" in found.verdict


def test_behind_tanh_no_shorter_memory_is_advised() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    first = asked(model).first
    assert first is not None
    late = round(1.5 * first.soonest)
    found = asked(model, steps=late)
    assert found.outcome is Outcome.UNLIKELY
    assert not any(line.startswith("beta2") for line in found.more)
    model[1] = nn.ReLU()
    assert any(line.startswith("beta2") for line in asked(model, steps=late).more)
