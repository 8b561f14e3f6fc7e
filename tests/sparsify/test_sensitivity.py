"""What `Sensitivity` measures is what one backward pass for each output of each example gives."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from typing_extensions import override

from abscise import attach
from abscise.sparsify import Mean, Outputs, Sensitivity, SensitivityWorker
from support.sensitivities import CASES, CLASSES, EXAMPLES, Case, derivatives

# The coverage tracer would double their time; other tests run the same code.
pytestmark = pytest.mark.no_cover

PLAIN = CASES["linear"]


def logits_of(case: Case, model: nn.Module, seed: int = 0, examples: int = EXAMPLES) -> Tensor:
    args, kwargs = case.inputs(seed, examples)
    output = model(*args, **kwargs)
    return case.logits(output) if case.logits else output


def target_of(logits: Tensor) -> Tensor:
    shape = (logits.shape[0], *logits.shape[2:])
    return torch.randint(0, logits.shape[1], shape, generator=torch.Generator().manual_seed(1))


@contextmanager
def working(
    case: Case, model: nn.Module, **options: Any
) -> Iterator[tuple[Sensitivity, SensitivityWorker]]:
    sparsifier = Sensitivity(1e-3, logits=case.logits, **options)
    with attach(sparsifier, SGD(model.parameters(), 0.1), model) as attachment:
        yield sparsifier, attachment.worker


def measured(case: Case, model: nn.Module, **options: Any) -> dict[str, Tensor]:
    with working(case, model, **options) as (sparsifier, _):
        logits = logits_of(case, model)
        sparsifier.observe(logits, target_of(logits))
        return {name: value.clone() for name, value in sparsifier.sensitivities.items()}


def expected(case: Case, model: nn.Module, outputs: str, mean: str) -> dict[str, Tensor]:
    """By the definition, from the derivative of each output of each example."""
    shape = logits_of(case, model).shape
    picks = [torch.full((EXAMPLES,), k) for k in range(shape[1:].numel())]
    if outputs == Outputs.TARGET:
        positions = shape[2:].numel()
        target = target_of(torch.empty(shape)).reshape(EXAMPLES, positions)
        picks = [target[:, p] * positions + p for p in range(positions)]
    found = {}
    for name, each in derivatives(case, model).items():
        if name.endswith("original1"):  # a direction, whose size means nothing
            continue
        rows = torch.arange(EXAMPLES)
        of = torch.stack([each[rows, pick] for pick in picks])  # (passes, examples, ...)
        found[name] = (of.mean(1).abs() if mean == Mean.BATCH else of.abs().mean(1)).mean(0)
    return found


def near(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    assert one.keys() == two.keys()
    return all(torch.allclose(one[name], two[name], rtol=1e-9, atol=1e-14) for name in one)


@pytest.mark.parametrize("mean", Mean)
@pytest.mark.parametrize("outputs", Outputs)
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_mean_of_the_derivatives_sizes(name: str, outputs: str, mean: str) -> None:
    case = CASES[name]
    model = case.model()
    found = measured(case, model, outputs=outputs, mean=mean)
    assert near(found, expected(case, model, outputs, mean))
    other = Mean.EXAMPLES if mean == Mean.BATCH else Mean.BATCH
    assert not near(found, expected(case, model, outputs, other))  # the test would see it


def test_specific_and_unspecific_differ_and_so_does_the_gradient_of_the_sum() -> None:
    model = PLAIN.model()
    unspecific = measured(PLAIN, model)
    assert not near(unspecific, measured(PLAIN, model, outputs=Outputs.TARGET))
    total = logits_of(PLAIN, model).abs().sum() / (EXAMPLES * CLASSES)
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(total, parameters)
    assert not near(unspecific, dict(zip(names, gradients, strict=True)))


@pytest.mark.parametrize("mean", Mean)
@pytest.mark.parametrize("name", CASES)
def test_the_size_of_chunks_changes_nothing(name: str, mean: str) -> None:
    case = CASES[name]
    model = case.model()
    whole = measured(case, model, mean=mean, chunk_bytes=1 << 30)
    for chunk_bytes in (1, 3000):
        assert near(measured(case, model, mean=mean, chunk_bytes=chunk_bytes), whole)


def test_where_torch_cannot_batch_a_backward_pass_it_goes_one_by_one() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        @override
        def forward(ctx: Any, inputs: Tensor) -> Tensor:
            return 2 * inputs

        @staticmethod
        @override
        def backward(ctx: Any, ahead: Tensor) -> Tensor:
            return torch.tensor((2 * ahead).tolist(), dtype=ahead.dtype)

    class Twofold(nn.Module):
        @override
        def forward(self, inputs: Tensor) -> Tensor:
            doubled: Any = Doubled
            found: Tensor = doubled.apply(inputs)
            return found

    model = PLAIN.model()
    assert isinstance(model, nn.Sequential)
    _ = model.insert(2, Twofold())
    with working(PLAIN, model) as (sparsifier, worker):
        sparsifier.observe(logits_of(PLAIN, model))
        sources = list(vars(worker.__dict__["_measure"])["_known"].values())
        assert [source.batched for source in sources] == [False]
        found = dict(sparsifier.sensitivities)
    assert near(found, expected(PLAIN, model, Outputs.ALL, Mean.EXAMPLES))


@pytest.mark.parametrize("mean", Mean)
@pytest.mark.parametrize("name", ["linear", "dense"])
def test_the_estimate_tends_to_the_exact_sensitivity(name: str, mean: str) -> None:
    case = CASES[name]
    model = case.model()
    draws = 200
    with working(case, model, estimate=True, mean=mean, every=1) as (sparsifier, worker):
        total: dict[str, Tensor] = {}
        squares: dict[str, Tensor] = {}
        for _ in range(draws):
            sparsifier.observe(logits_of(case, model))
            for key, value in sparsifier.sensitivities.items():
                total[key] = total.get(key, 0.0) + value
                squares[key] = squares.get(key, 0.0) + value**2
            again(worker)
    exact = measured(case, model, mean=mean)
    for key, value in exact.items():
        found = total[key] / draws
        error = ((squares[key] / draws - found**2).clamp(min=0) / draws).sqrt()
        assert bool(((found - value).abs() <= 6 * error + 1e-12).all()), key
    wrong = measured(case, model, mean=mean, outputs=Outputs.TARGET)
    assert any(
        bool(((total[key] / draws - wrong[key]).abs() > 0.2 * exact[key].max()).any())
        for key in exact
    )


def again(worker: SensitivityWorker) -> None:
    """Let the next batch be measured without a step."""
    worker.__dict__["_state"].observed = False


def test_the_estimate_over_all_draws_is_the_exact_sensitivity() -> None:
    """Each output drawn once for each example: the mean of these estimates is not an estimate."""
    model = PLAIN.model()
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for draw in range(CLASSES):
        with working(PLAIN, model, outputs=Outputs.TARGET) as (sparsifier, _):
            drawn = (torch.arange(EXAMPLES) + draw) % CLASSES
            sparsifier.observe(logits_of(PLAIN, model), drawn)
            for key, value in sparsifier.sensitivities.items():
                total[key] += value / CLASSES
    assert near(total, measured(PLAIN, model))


@pytest.mark.parametrize("name", ["linear", "batch norm", "tokens"])
def test_some_examples_stand_for_all_without_bias(name: str) -> None:
    """Every example measured alone, the mean is that of the batch, with its batch's statistics."""
    case = CASES[name]
    model = case.model()
    seen: dict[float, dict[str, Tensor]] = {}
    with working(case, model, examples=1) as (sparsifier, worker):
        for _ in range(100):
            sparsifier.observe(logits_of(case, model))
            found = {key: value.clone() for key, value in sparsifier.sensitivities.items()}
            seen.setdefault(round(sum(float(v.sum()) for v in found.values()), 9), found)
            again(worker)
            if len(seen) == EXAMPLES:
                break
    keys = next(iter(seen.values()))
    mean = {key: sum(one[key] for one in seen.values()) / EXAMPLES for key in keys}
    assert near(mean, measured(case, model))  # type: ignore[arg-type]


def test_on_the_same_examples_dropout_has_the_same_masks() -> None:
    _ = torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, CLASSES)).double()
    with working(PLAIN, model) as (sparsifier, _):
        logits = logits_of(PLAIN, model)
        sparsifier.observe(logits)
        found = sparsifier.sensitivities["0.weight"]
    for of, alike in ((logits, True), (logits_of(PLAIN, model), False)):
        each = [
            torch.autograd.grad(one, model.get_parameter("0.weight"), retain_graph=True)[0].abs()
            for one in of.flatten()
        ]
        assert torch.allclose(torch.stack(each).mean(0), found) == alike


def test_a_dead_layer_that_comes_to_life_is_measured_aright() -> None:
    """While all its gradients are 0, nothing proves where they come from."""
    model = CASES["examples second"].model()
    case = CASES["examples second"]
    after = model.get_submodule("after")
    saved = {name: p.detach().clone() for name, p in after.named_parameters()}
    with working(case, model) as (sparsifier, worker):
        for parameter in after.parameters():
            _ = parameter.data.zero_()
        sparsifier.observe(logits_of(case, model))
        dead = {key: value.clone() for key, value in sparsifier.sensitivities.items()}
        again(worker)
        for name, parameter in after.named_parameters():
            _ = parameter.data.copy_(saved[name])
        sparsifier.observe(logits_of(case, model))
        alive = {key: value.clone() for key, value in sparsifier.sensitivities.items()}
    assert not bool(dead["recurrence.weight_hh_l0"].any())
    assert near(alive, expected(case, model, Outputs.ALL, Mean.EXAMPLES))
