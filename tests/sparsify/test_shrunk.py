"""What weights are free to lose is kept between steps: none of it may be out of date."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from abscise import attach
from abscise.sparsify import Attachment, Sensitivity, SensitivityWorker, SeReNe
from abscise.sparsify._parts import Part, Product, Whole
from abscise.sparsify._shrunk import Rooms, Shrunk
from support.sparsifying import batch, same, small_network, state_of, step_on

MAKING: dict[str, Callable[..., Any]] = {"weights": Sensitivity, "units": SeReNe}


def shrinking(size: tuple[int, ...], dtype: torch.dtype) -> Shrunk:
    weight = nn.Parameter(torch.rand(size).to(dtype) + 0.5)
    weight.grad = torch.zeros_like(weight)
    return Shrunk("w", weight, "w", size, size, size)


def drawn(kind: str, scale: float, source: torch.Generator, dtype: torch.dtype) -> Part:
    left = torch.rand((1, 4, 3), generator=source).to(dtype) * scale
    right = torch.rand((1, 3, 5), generator=source).to(dtype)
    product = Product(left, right)
    return product if kind == "product" else Whole(product.whole()[0])


def bound_of(part: Part) -> float:
    return part.bound([float(one.amax()) for one in part.factors()])


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("kind", ["whole", "product"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_weights_lose_what_the_latest_average_leaves_them_and_never_grow(
    kind: str, dtype: torch.dtype, rescale: bool
) -> None:
    """Sensitivities rise above 1 and fall below it, at steps that shrink and steps that do not."""
    source = torch.Generator().manual_seed(0)
    one = shrinking((4, 5), dtype)
    rooms, held = Rooms((one,), rescale=rescale), {"w": one.like()}
    above = []
    for step, scale in enumerate([0.2, 0.2, 3.0, 0.1, 5.0, 0.1, 0.1, 0.1, 2.0, 0.1, 0.1, 0.1]):
        part = drawn(kind, scale, source, dtype)
        average = 0.6 if step else 0.0
        part.blend_(held["w"], average)
        rooms.measured(held, {"w": bound_of(part)}, average)
        above.append(bool((held["w"] > 1).any()))
        for _ in range(step % 3):
            before = one.parameter.detach().clone()
            of = float(held["w"].amax()) if rescale else 1.0
            share = (torch.tensor(of, dtype=dtype) - held["w"]).clamp(min=0)
            rooms.shrink_(held, 0.1)
            expected = before.addcmul(before, share, value=-0.1 / of)
            assert torch.equal(one.parameter.detach(), expected)
            assert bool((one.parameter.abs() <= before.abs()).all())
    assert any(above)
    assert not all(above)


def test_sensitivities_above_1_would_be_seen() -> None:
    one = shrinking((4, 5), torch.float32)
    before, held = one.parameter.detach().clone(), {"w": torch.full((4, 5), 3.0)}
    for bound, grows in ((3.0, False), (0.5, True)):  # a bound that is none
        rooms = Rooms((one,), rescale=False)
        rooms.measured(held, {"w": bound}, 0.0)
        rooms.shrink_(held, 0.1)
        assert bool((one.parameter > before).all()) is grows


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["whole", "product"])
def test_no_part_exceeds_its_bound_and_what_is_not_finite_has_none(
    kind: str, dtype: torch.dtype
) -> None:
    source = torch.Generator().manual_seed(1)
    for _ in range(20):
        part = drawn(kind, 1.0, source, dtype)
        assert float(part.whole().amax()) <= bound_of(part) < 10
    even = Product(torch.full((1, 2, 3), 0.7, dtype=dtype), torch.full((1, 3, 2), 0.9, dtype=dtype))
    assert float(even.whole().amax()) <= bound_of(even) < 1.1 * float(even.whole().amax())
    huge = torch.full((1, 2, 3), 0.9 * torch.finfo(dtype).max, dtype=dtype)
    bad = (Product(huge, huge.transpose(1, 2)), Whole(torch.tensor([1.0, torch.nan], dtype=dtype)))
    assert not any(math.isfinite(bound_of(one)) for one in bad)


@pytest.mark.parametrize("average", [1e-6, 1e-3, 0.1, 0.5, 0.9])
def test_no_weight_grows_where_an_average_falls_to_just_below_1(average: float) -> None:
    """A small average is rounded up by as much as the precision of 1, which is much of it."""
    one = shrinking((4, 5), torch.float32)
    for below in torch.linspace(0.95, 1.0, 200).tolist():
        rooms, held = Rooms((one,), rescale=False), {"w": one.like()}
        for value, kept in ((below / average, 0.0), (0.0, average)):
            part = Whole(torch.full((4, 5), value))
            part.blend_(held["w"], kept)
            rooms.measured(held, {"w": bound_of(part)}, kept)
        before = one.parameter.detach().clone()
        rooms.shrink_(held, 0.1)
        assert bool((one.parameter.abs() <= before.abs()).all())
        _ = one.parameter.data.copy_(before)


class Counting(TorchDispatchMode):
    """The names of all operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


Made = tuple[nn.Sequential, SGD, Attachment[SensitivityWorker] | None]


def made(kind: str | None, strength: Any = 0.01, **options: Any) -> Made:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    if kind is None:
        return model, optimizer, None
    return model, optimizer, attach(MAKING[kind](strength, **options), optimizer, model)


def operations(made: Made, steps: int) -> list[str]:
    """Those of the last step."""
    model, optimizer, attachment = made
    counting = Counting()
    for step in range(steps):
        examples = batch(step)
        counting.names.clear()
        with counting:
            step_on(examples, model, optimizer, attachment)
    return counting.names


@pytest.mark.parametrize("kind", MAKING)
def test_a_step_that_measures_nothing_and_shrinks_nothing_runs_no_operation(kind: str) -> None:
    plain = operations(made(None), 3)
    assert operations(made(kind, lambda step: 0.01 * (step < 3), every=10), 3) == plain
    shrinks = operations(made(kind, 0.01, every=10), 3)
    assert len(plain) < len(shrinks)  # which would be seen
    assert len(shrinks) < len(operations(made(kind, 0.01), 3))


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("kind", MAKING)
def test_weights_that_have_moved_in_memory_shrink_as_others_do(kind: str, rescale: bool) -> None:
    ends = []
    for moves in (False, True):
        whole = made(kind, 0.1, every=10, rescale=rescale)
        _ = operations(whole, 2)
        old = {name: one.detach() for name, one in whole[0].named_parameters()}
        if moves:
            for parameter in whole[0].parameters():
                parameter.data = parameter.data.clone()
        before = {name: one.clone() for name, one in old.items()}
        _ = operations(whole, 2)
        ends.append(state_of(whole[0]))
        assert same(before, old) is moves  # where they were, nothing is changed
    assert same(*ends)


def test_a_batch_that_could_not_be_measured_does_not_keep_the_next_from_being_seen() -> None:
    model, _, attachment = made("weights")
    assert attachment is not None
    failing = [True]
    _ = model[3].register_forward_pre_hook(lambda *_: 1 / 0 if failing == [True, True] else None)
    inputs, labels = batch()
    logits: Tensor = model(inputs)
    failing.append(True)
    with pytest.raises(ZeroDivisionError):
        attachment.observe(logits, labels)
    failing.clear()
    with pytest.raises(ValueError, match="no forward pass with gradients was seen"):
        attachment.observe(logits, labels)
    attachment.observe(model(inputs), labels)
    assert attachment.worker.sensitivities
