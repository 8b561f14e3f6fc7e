"""What a forward may do to its module: state, buffers, switches of autograd, masked weights."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune
from typing_extensions import override

import abscise
from support.compacting import Checked, check, noise, trained
from support.equality import TOLERANCE, outputs, untouched
from support.small import Calls, silent_, unread_

VECTORS = noise(8, 6)
ONE = noise(1, 6, seed=1)
SEVEN = noise(7, 6, seed=2)


def checked(model: nn.Module) -> Checked:
    return check(model, VECTORS, VECTORS, ONE, SEVEN)


CHANGING: dict[str, tuple[int, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "added to in place": (1, lambda gain: gain, lambda gain: gain.add_(1.0)),
    "copied over": (4, lambda gain: gain.mean(), lambda gain: gain.copy_(gain + 1)),
    "with a number per unit": (4, lambda gain: gain, lambda gain: gain.add_(1.0)),
}


def counting(kind: str) -> Calls:
    """The hidden units are multiplied by a buffer that is 0 at the first call only."""
    size, read, change = CHANGING[kind]

    def forward(m: Calls, x: Tensor) -> Tensor:
        y: Tensor = m.b(m.a(x).relu() * read(m.gain)) + x.sum(1, keepdim=True)
        _ = change(m.gain)
        return y

    model = Calls(forward, a=nn.Linear(6, 4), b=nn.Linear(4, 3))
    model.register_buffer("gain", torch.zeros(size))
    _ = trained(model, noise(16, 6))
    _ = model.gain.zero_()
    return model


@pytest.mark.parametrize("kind", CHANGING)
def test_a_buffer_that_the_forward_changes_is_no_constant(kind: str) -> None:
    model = counting(kind)
    unread_(model.b, 2)
    state = deepcopy(model.state_dict())
    plan = abscise.propose(model, VECTORS)
    compacted = abscise.apply(plan, model)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    gone = {(item.layer, item.index) for item in plan.removals}
    assert gone == (set() if kind == "with a number per unit" else {("a", 2)})
    for batch in (noise(8, 6, seed=call) for call in range(3)):
        (old,), (new,) = outputs(model, batch), outputs(compacted, batch)
        assert float((old - new).abs().max()) <= TOLERANCE * float(old.abs().max())
    assert torch.equal(model.gain, torch.full_like(model.gain, 3.0))


def test_units_go_from_three_parameters_of_one_module() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w1 = nn.Parameter(torch.empty(5, 6))
            self.w2 = nn.Parameter(torch.empty(4, 5))
            self.w3 = nn.Parameter(torch.empty(3, 4))

        @override
        def forward(self, x: Tensor) -> Tensor:
            h = functional.linear(functional.linear(x, self.w1).relu(), self.w2).relu()
            return functional.linear(h, self.w3)

    model = trained(Bare(), noise(16, 6))
    with torch.no_grad():
        model.w2[:, 3] = 0
        model.w3[:, 2] = 0
    for whole in (model, nn.Sequential(nn.Identity(), model).eval()):
        prefix = "" if whole is model else "1."
        result = checked(whole)
        assert result.removed_of(f"{prefix}w1", 0) == result.removed_of(f"{prefix}w2", 1) == {3}
        assert result.removed_of(f"{prefix}w2", 0) == result.removed_of(f"{prefix}w3", 1) == {2}


PARTS: dict[str, Callable[[Calls, Tensor], Tensor]] = {
    "all": lambda m, x: with_gradients(lambda: m.b(m.a(x).relu())),
    "the first layer": lambda m, x: m.b(with_gradients(lambda: m.a(x).relu())),
    "the last layer": lambda m, x: with_gradients(lambda: m.b(m.a(x).relu_())),
}


def with_gradients(function: Callable[[], Tensor]) -> Tensor:
    with torch.enable_grad():
        return function()


@pytest.mark.parametrize("part", PARTS)
def test_units_go_where_a_part_of_the_forward_switches_gradients_on(part: str) -> None:
    model = trained(Calls(PARTS[part], a=nn.Linear(6, 5), b=nn.Linear(5, 3)), VECTORS)
    unread_(model.b, 2)
    assert checked(model).removed("a") == {2}


class Remembers(nn.Module):
    """A forward that keeps what it saw in attributes, of which it makes two itself."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 3)
        self.known: list[Tensor] = []
        self.last: Tensor | None = None

    @override
    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        self.known.append(h)
        self.__dict__.setdefault("seen", []).append(h)
        self.last = h
        self.calls = getattr(self, "calls", 0) + 1
        return self.b(h)


def test_what_a_forward_keeps_in_plain_attributes_is_left_alone() -> None:
    model = Remembers().double().eval()
    unread_(model.b, 2)
    attributes = set(vars(model))
    with untouched(model):
        compacted = abscise.apply(abscise.propose(model, VECTORS), model)
        assert abscise.compact(model, VECTORS).plan.removed_units == 1
    assert set(vars(model)) == set(vars(compacted)) == attributes
    assert model.known == []
    assert model.last is None
    assert checked(model).removed("a") == {2}  # with real tensors in the attributes
    kept = list(model.known)
    with untouched(model):
        _ = abscise.propose(model, VECTORS)
        _ = abscise.compact(model, VECTORS)
    assert len(model.known) == len(kept) == model.calls
    assert all(new is old for new, old in zip(model.known, kept, strict=True))


def masked() -> tuple[nn.Sequential, nn.Linear]:
    """Units 1 and 3 of the first layer are pruned with torch's masks, and have no bias left."""
    first = nn.Linear(6, 5)
    model = trained(nn.Sequential(first, nn.ReLU(), nn.Linear(5, 3)), VECTORS)
    silent_(first, 1, 3)
    _ = prune.ln_structured(first, "weight", amount=2, n=2, dim=0)
    return model, first


def test_units_that_the_masks_of_torch_prune_go() -> None:
    model, first = masked()
    weight = first.weight
    assert checked(model).removed_of("0.weight_orig", 0) == {1, 3}
    assert torch.equal(first.weight, weight)


def test_masked_weights_with_a_history_are_compacted_and_verified() -> None:
    model, first = masked()
    weight = first.weight
    assert weight.grad_fn is not None  # a plain attribute that copy.deepcopy refuses
    with untouched(model):
        compaction = abscise.compact(model, VECTORS)
    assert compaction.certificate.passed
    assert compaction.plan.removed_units == 2
    assert abscise.measure(model, VECTORS).latency_s is not None
    assert first.weight is weight
