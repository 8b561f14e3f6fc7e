"""Weights into models: strictly, ties included, all or nothing."""

import copy

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from abscise._errors import StoreError
from abscise.store._weights import load_weights, restore_ties, tensor_state, tied_names


class Tied(nn.Module):
    def __init__(self, *, tie: bool = True) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)
        self.register_buffer("steps", torch.zeros(2, dtype=torch.long))
        if tie:
            self.decode.weight = self.encode.weight

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


def test_weights_are_loaded_and_cast() -> None:
    model, other = Tied(), Tied()
    load_weights(model, dict(other.double().state_dict()))
    assert model.encode.weight.dtype == torch.float32
    assert torch.equal(model.encode.weight.double(), other.encode.weight)


def test_a_tied_weight_may_be_given_under_either_name() -> None:
    for name in ("encode.weight", "decode.weight"):
        model, other = Tied(), Tied()
        given = dict(other.state_dict())
        del given[name]
        load_weights(model, given)
        assert torch.equal(model.decode.weight, other.encode.weight)
        assert model.decode.weight is model.encode.weight


PROBLEMS: list[tuple[dict[str, Tensor | None], str]] = [
    ({"encode.bias": None}, "missing: encode.bias"),
    ({"encode.weight": None, "decode.weight": None}, "missing: encode.weight, decode.weight"),
    ({"other": torch.ones(1)}, "unexpected: other"),
    (
        {f"x{number}": torch.ones(1) for number in range(9)},
        "unexpected: x0, x1, x2, x3 and 5 more",
    ),
    (
        {"encode.bias": torch.ones(4)},
        "of another shape or kind: encode.bias (4,), must be (3,)",
    ),
    ({"steps": torch.ones(2)}, "of another shape or kind: steps"),
    ({"encode.bias": torch.ones(3, dtype=torch.complex64)}, "of another shape or kind"),
    (
        {"decode.weight": torch.ones(3, 3)},
        "tied in the model but not equal: decode.weight and encode.weight",
    ),
]


@pytest.mark.parametrize(("changes", "message"), PROBLEMS)
def test_weights_that_do_not_fit_load_nothing(
    changes: dict[str, Tensor | None], message: str
) -> None:
    model = Tied()
    before = copy.deepcopy(model.state_dict())
    given = {name: value + 1 for name, value in model.state_dict().items()} | changes
    fitting = {name: value for name, value in given.items() if value is not None}
    with pytest.raises(StoreError, match=r"^weights do not fit Tied: ") as error:
        load_weights(model, fitting)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_ties_are_found_and_restored() -> None:
    assert tied_names(tensor_state(Tied())) == {"decode.weight": "encode.weight"}
    model = Tied(tie=False)
    restore_ties(model, {"decode.weight": "encode.weight"})
    assert model.decode.weight is model.encode.weight
    assert len(list(model.parameters())) == 2


def test_state_that_is_no_tensor_is_refused() -> None:
    class Extra(nn.Linear):
        @override
        def get_extra_state(self) -> object:
            return {"a": 1}

    with pytest.raises(StoreError, match="_extra_state of Extra is no dense tensor but dict"):
        _ = tensor_state(Extra(1, 1))


def test_empty_tensors_and_transposed_views_are_no_ties() -> None:
    weight = torch.ones(2, 3)
    state = {"a": weight, "b": weight.t(), "c": torch.ones(0), "d": torch.ones(0), "e": weight}
    assert tied_names(state) == {"e": "a"}
