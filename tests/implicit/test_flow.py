"""Units die with what writes into an activation, and with nothing else; seen in one forward."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm
from torch.optim import Adam
from typing_extensions import override

from abscise.implicit import Outcome, diagnose, look_at
from support.diagnosing import L2, X, asked, layers_of
from support.torchvision_shim import torchvision_models


def written(model: nn.Module, inputs: Tensor = X) -> set[str]:
    found = look_at(model, inputs).written
    assert found is not None
    return {it for it in found if "weight" in it}


class Residual(nn.Module):
    """One sum of two branches, then the head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(8, 3)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        stem = self.stem(inputs)
        inner = functional.tanh(self.one(stem))
        return self.head((stem + self.norm(self.two(inner))).relu_())


class ByHand(nn.Module):
    """Contractions that are no modules."""

    def __init__(self, contract: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.contract = contract
        self.first_weight = nn.Parameter(torch.rand(6, 8))
        self.second_weight = nn.Parameter(torch.rand(8, 8))
        self.head_weight = nn.Parameter(torch.rand(8, 3))

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.contract(inputs, self.first_weight)
        hidden = self.contract(hidden, self.second_weight)
        return self.contract(functional.relu(hidden), self.head_weight)


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "@": lambda x, w: x @ w,
    "matmul": torch.matmul,
    "addmm": lambda x, w: torch.addmm(torch.zeros(w.shape[1]), x, w),
    "linear": lambda x, w: functional.linear(x, w.t()),
    "einsum": lambda x, w: torch.einsum("bi,ij->bj", x, w),
    "the other way round": lambda x, w: (w.t() @ x.t()).t(),
    "by name": lambda x, w: functional.linear(input=x, weight=w.t()),
    "into a part": lambda x, w: _into(x @ w, torch.zeros(len(x), w.shape[1])),
    "onto a view": lambda x, w: _onto(x @ w, torch.zeros(len(x), w.shape[1])),
    "out=": lambda x, w: torch.mul(x @ w, 1.0, out=torch.empty(len(x), w.shape[1])),
}


def _into(part: Tensor, whole: Tensor) -> Tensor:
    whole[:, 1:] = part[:, 1:]
    return whole


def _onto(part: Tensor, whole: Tensor) -> Tensor:
    first, second = whole.chunk(2, 1)
    _ = first.add_(part[:, : first.shape[1]])
    second += part[:, first.shape[1] :]
    return whole


@pytest.mark.parametrize("form", FORMS)
def test_only_the_last_contraction_before_the_function_writes_it(form: str) -> None:
    found = written(ByHand(FORMS[form]))
    assert found == {"second_weight"}


class Several(nn.Module):
    """What computes the rows of one weight, or is read by attention."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.weight, self.left, self.right = (nn.Parameter(torch.rand(6, 6)) for _ in range(3))
        self.bias_weight = nn.Parameter(torch.rand(1, 6))
        self.before, self.other = nn.Linear(6, 6), nn.Linear(6, 6)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        first, second = self.before(inputs), self.other(inputs)
        match self.form:
            case "low rank":
                found = functional.linear(first, self.left @ self.right)
            case "adapter":
                found = functional.linear(first, self.weight + self.left @ self.right)
            case "bilinear":
                found = functional.bilinear(
                    first, second, self.weight.view(6, 6, 1).repeat(1, 1, 6)
                )
            case "attention":
                found = functional.scaled_dot_product_attention(first, first, second)
            case "bias":
                found = first + self.bias_weight
            case _:
                found = torch.cat([self.bias_weight, second])
        return functional.relu(found)


SEVERAL = {
    "low rank": {"left", "right"},
    "adapter": {"left", "right", "weight"},
    "bilinear": {"weight"},
    "attention": {"other.weight"},
    "bias": {"before.weight"},
    "class token": {"other.weight"},
}


@pytest.mark.parametrize("form", SEVERAL)
def test_what_computes_the_weight_writes_and_what_is_added_does_not(form: str) -> None:
    found = look_at(Several(form), X).written
    assert found is not None
    assert {it for it in found if not it.endswith(".bias")} == SEVERAL[form]


@pytest.mark.parametrize("way", ["vmap", "trace", "name"])
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_where_a_call_is_not_seen_all_layers_count(way: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.traced = torch.jit.trace(nn.Linear(6, 6), X) if way == "trace" else None

        @override
        def forward(self, inputs: Tensor) -> Tensor:
            if way == "name":
                zero = torch.zeros(())
                return self.c(torch.maximum(self.b(torch.maximum(self.a(inputs), zero)), zero))
            hidden = torch.vmap(self.a)(inputs) if self.traced is None else self.traced(inputs)
            return self.c(functional.relu(self.b(functional.relu(hidden))))

    model = Net()
    optimizer = Adam(model.parameters(), **L2)
    names = ["relu"] if way == "name" else []
    found = diagnose(model, optimizer, X, activations=names, steps=100, gradient_rms=1e-3)
    assert found.network.written is None
    assert layers_of(found) >= {"a.weight", "b.weight", "c.weight"}


def test_a_forward_that_changes_what_it_is_given_leaves_model_and_inputs() -> None:
    class Renormed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.body = nn.Embedding(10, 6, max_norm=0.1), nn.Linear(6, 3)

        @override
        def forward(self, tokens: Tensor, more: Tensor) -> Tensor:
            self.body.weight.data.mul_(0.5)
            return self.body(self.table(tokens) + more.relu_())

    model, tokens, more = Renormed(), torch.arange(4), torch.randn(4, 6)
    before = {name: it.clone() for name, it in model.state_dict().items()}
    kept = more.clone()
    _ = look_at(model, (tokens, more))
    assert all(torch.equal(it, before[name]) for name, it in model.state_dict().items())
    assert torch.equal(more, kept)


def test_an_embedding_that_is_read_by_relu_is_no_layer_and_its_reader_neither() -> None:
    model = nn.Sequential(nn.EmbeddingBag(10, 6), nn.ReLU(), nn.Linear(6, 3))
    found = asked(model, torch.arange(8).view(4, 2))
    assert layers_of(found) == set()
    assert "holds none of the weights that write units" in found.verdict


def test_a_compiled_model_is_seen_as_it_was_written() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    compiled: Any = torch.compile(model, backend="eager")
    assert written(compiled) == {"_orig_mod.0.weight"}


def test_sums_and_norms_belong_to_what_writes_and_other_activations_end_it() -> None:
    assert written(Residual()) == {"stem.weight", "two.weight", "norm.weight"}


def test_a_library_network_has_its_convolutions_and_norms_before_relu() -> None:
    model = torchvision_models().resnet18()
    found = written(model, torch.zeros(1, 3, 32, 32))
    named = {name for name, it in model.named_modules() if isinstance(it, nn.Conv2d)}
    assert {it.removesuffix(".weight") for it in found} >= named
    assert "fc.weight" not in found


def test_a_layer_that_no_rectifier_reads_is_not_the_one_that_dies() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    sizes = {"0.weight": 1e-6, "2.weight": 1.0, "4.weight": 1e-6}
    found = asked(model, gradient_rms=sizes)
    assert found.outcome is Outcome.TOO_SLOW
    assert layers_of(found) == {"2.weight"}
    quiet = asked(model, gradient_rms=sizes | {"2.weight": 1e-6})
    assert quiet.outcome is Outcome.WILL_DIE


def test_a_recurrent_layer_that_rectifies_dies_with_its_weights() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.RNN(6, 8, nonlinearity="relu"), nn.Linear(8, 3)

        @override
        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.body(inputs)[0])

    model = Net()
    sizes = {name: 1.0 if "head" in name else 1e-5 for name, _ in model.named_parameters()}
    found = asked(model, torch.randn(3, 2, 6), steps=10_000, gradient_rms=sizes)
    assert found.outcome is Outcome.WILL_DIE
    assert layers_of(found) == {"body.weight_ih_l0", "body.weight_hh_l0"}
    unseen = diagnose(model, Adam(model.parameters(), **L2), gradient_rms=sizes)
    assert layers_of(unseen) >= {"body.weight_ih_l0", "body.weight_hh_l0", "head.weight"}


def test_a_computed_weight_is_that_of_its_parameters() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 3))
    expected = {f"0.parametrizations.weight.original{index}" for index in (0, 1)}
    assert layers_of(asked(model)) == expected
    unseen = diagnose(model, Adam(model.parameters(), **L2), gradient_rms=1e-3)
    assert layers_of(unseen) == {*expected, "2.weight"}


@pytest.mark.parametrize(
    "function",
    [
        lambda it: it.clip(0),
        lambda it: functional.hardtanh(it, 0.0, 6.0),
        nn.RNNCell(6, 6, nonlinearity="relu"),
    ],
)
def test_other_ways_to_rectify_are_seen(function: Callable[[Tensor], Tensor]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.function, self.head = nn.Linear(6, 6), function, nn.Linear(6, 3)

        @override
        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.function(self.a(inputs)))

    found = look_at(Net(), X)
    assert found.dying
    assert found.written
    assert "head.weight" not in found.written


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_scripted_modules_are_run_and_not_looked_into() -> None:
    inner = torch.jit.script(nn.Sequential(nn.Linear(6, 8), nn.ReLU()))
    model = nn.Sequential(inner, nn.Linear(8, 3))
    assert layers_of(asked(model)) == {"0.0.weight", "1.weight"}


def test_the_name_of_a_container_is_no_function() -> None:
    class MishmashNet(nn.Sequential):
        pass

    class Mishmash(nn.Tanh):
        pass

    for model in (
        MishmashNet(nn.Linear(6, 3), nn.Tanh()),
        nn.Sequential(nn.Linear(6, 3), Mishmash()),
    ):
        assert look_at(model, X).living == ("tanh",)
