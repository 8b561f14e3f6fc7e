"""What a sensitivity sees of a forward pass, and what it leaves as it was."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from typing_extensions import override

from abscise import attach
from abscise.sparsify import Attachment, Sensitivity, SensitivityWorker, SeReNe, Sparsifier
from support.sparsifying import batch, same, small_network, state_of

Attached = Attachment[SensitivityWorker]


def attached(model: nn.Module, **options: Any) -> tuple[SGD, Attached]:
    optimizer = SGD(model.parameters(), 0.1)
    return optimizer, attach(Sensitivity(0.01, **options), optimizer, model)


def measured(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    _, attachment = attached(model)
    with attachment:
        attachment.observe(model(inputs))
        return {name: one.clone() for name, one in attachment.worker.sensitivities.items()}


def near(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.allclose(one[k], two[k]) for k in one)


def test_a_hook_that_changes_the_inputs_changes_them_once_in_the_second_pass() -> None:
    inputs, _ = batch()
    hooked = small_network()
    _ = hooked.register_forward_pre_hook(lambda _module, args: (args[0] * 3,))
    found = measured(hooked, inputs)
    assert near(found, measured(small_network(), inputs * 3))
    assert not near(found, measured(small_network(), inputs * 9))


class Scaling(nn.Module):
    """Writes into what it is called with."""

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mul_(2)


@pytest.mark.parametrize("first", [Scaling, lambda: nn.ReLU(inplace=True)])
def test_a_model_that_writes_into_its_inputs_is_refused_and_may_train_on(
    first: Callable[[], nn.Module],
) -> None:
    model = nn.Sequential(first(), *small_network())
    _, attachment = attached(model)
    inputs, labels = batch()
    logits = model(inputs)
    written = inputs.clone()
    with pytest.raises(ValueError, match=r"inputs were changed in place .*inplace=False"):
        attachment.observe(logits)
    assert torch.equal(inputs, written)
    cross_entropy(logits, labels).backward()  # what it needs was not written to again


def test_inputs_that_were_overwritten_before_they_are_observed_are_refused() -> None:
    model = small_network()
    _, attachment = attached(model)
    inputs, _ = batch()
    logits = model(inputs)
    _ = inputs.zero_()
    with pytest.raises(ValueError, match="observe before they are overwritten"):
        attachment.observe(logits)


def test_what_was_seen_is_forgotten_once_it_is_observed() -> None:
    """The second pass runs through the same hooks, and is not what the next `observe` is about."""
    model, other = small_network(), small_network()
    optimizer, attachment = attached(model)
    inputs, labels = batch()
    logits = model(inputs)
    attachment.observe(logits)
    cross_entropy(logits, labels).backward()
    optimizer.step()
    with pytest.raises(ValueError, match="give attach the model that you call"):
        attachment.observe(other(inputs))


def test_a_batch_norm_may_be_called_by_keyword() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            _ = torch.manual_seed(0)
            self.first, self.norm, self.head = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)

        @override
        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.norm(input=self.first(inputs)).relu())

    named = Named()
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    found = measured(named, inputs)
    plain = nn.Sequential(named.first, named.norm, nn.ReLU(), named.head)
    pairs = zip(found.values(), measured(plain, inputs).values(), strict=True)
    assert all(torch.allclose(one, two) for one, two in pairs)
    assert not near(found, measured(named.eval(), inputs))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_of_an_observed_model_is_free_of_the_sparsifier(clone: Callable[[Any], Any]) -> None:
    model = small_network()
    optimizer, attachment = attached(model)
    inputs, labels = batch()
    logits = model(inputs)
    own = clone(model)
    assert same(state_of(own), state_of(model))
    _ = own(2 * inputs)
    attachment.observe(logits)
    assert near(
        attachment.worker.sensitivities,
        measured(small_network(), inputs),
    )
    cross_entropy(logits, labels).backward()
    optimizer.step()
    assert not same(state_of(own), state_of(model))


@pytest.mark.parametrize("make", [Sensitivity, SeReNe])
def test_a_closure_may_observe_within_the_step(make: Callable[[float], Any]) -> None:
    ends = []
    for within in (True, False):
        model = small_network()
        optimizer = SGD(model.parameters(), 0.1)
        attachment = attach(make(0.01), optimizer, model)
        for step in range(2):
            inputs, labels = batch(step)

            def closure(inputs: Tensor = inputs, labels: Tensor = labels) -> float:
                optimizer.zero_grad()  # noqa: B023 - called at once
                logits = model(inputs)  # noqa: B023
                attachment.observe(logits, labels)  # noqa: B023
                loss = cross_entropy(logits, labels)
                loss.backward()
                return loss.item()

            if within:
                _ = optimizer.step(closure)
            else:
                _ = closure()
                optimizer.step()
        assert attachment.worker.step == 2
        ends.append(state_of(model))
    assert same(*ends)
    assert not same(ends[0], state_of(small_network()))


def test_a_closure_that_does_not_observe_is_refused() -> None:
    model = small_network()
    optimizer, attachment = attached(model)
    inputs, labels = batch()

    def closure() -> float:
        loss = cross_entropy(model(inputs), labels)
        loss.backward()
        return loss.item()

    with pytest.raises(ValueError, match=r"no observe\(logits, target\) since the last step"):
        _ = optimizer.step(closure)
    assert attachment.worker.step == 0


SECOND: dict[str, Callable[[], Sparsifier[Any]]] = {
    "few": lambda: Sensitivity(0.1, examples=3),
    "all": lambda: Sensitivity(0.1),
    "units": lambda: SeReNe(0.1, examples=3),
}


def second_of(kind: str, first: Sparsifier[Any] | None) -> dict[str, Tensor]:
    """What a sparsifier measures after another one has observed the same batch."""
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    inputs, labels = batch()
    makings = [SECOND[kind]()] if first is None else [first, SECOND[kind]()]
    all_of_them = [attach(one, optimizer, model) for one in makings]
    logits = model(inputs)
    for one in all_of_them:
        one.observe(logits, labels)
    found: dict[str, Tensor] = all_of_them[-1].worker.sensitivities
    return found


@pytest.mark.parametrize("kind", SECOND)
@pytest.mark.parametrize("first", ["few", "all", "units"])
def test_what_one_sparsifier_measures_does_not_depend_on_another(kind: str, first: str) -> None:
    assert same(second_of(kind, SECOND[first]()), second_of(kind, None))


def test_a_run_in_between_that_another_sparsifier_saw_would_be_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = second_of("few", None)
    monkeypatch.setattr("abscise.sparsify._rerun.watches_on", lambda _modules: [])
    assert not same(second_of("few", SECOND["all"]()), alone)
    with pytest.raises(ValueError, match="run again"):
        _ = second_of("all", SECOND["few"]())
