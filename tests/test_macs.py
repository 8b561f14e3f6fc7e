"""MACs: on the captured graph, against torch's own counter in eager mode."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import override

from abscise._inputs import Inputs
from abscise._macs import count_macs
from abscise.graph import Program, Ref, Step, Value, capture


class Call(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = [function]

    @override
    def forward(self, *args: Tensor) -> Tensor:
        return self.function[0](*args)


class Mixed(nn.Module):
    """Everything at once: grouped, depthwise, strided, normalised, pooled, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Hardswish(),
            nn.Conv2d(8, 12, 1, groups=4),
            nn.MaxPool2d(2),
            nn.Upsample(scale_factor=2),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(48, 5),
        )

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).softmax(1)


def _random(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.randn(shape) for shape in shapes)


CASES: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {
    "linear": (nn.Linear(5, 7), _random((4, 3, 5))),
    "conv1d": (nn.Conv1d(4, 6, 3, groups=2), _random((2, 4, 9))),
    "conv2d": (nn.Conv2d(4, 6, (3, 5), stride=2, padding=1, dilation=1), _random((2, 4, 9, 9))),
    "conv2d same": (nn.Conv2d(4, 6, 3, padding="same"), _random((2, 4, 9, 9))),
    "conv3d": (nn.Conv3d(2, 3, 3), _random((2, 2, 5, 5, 5))),
    "transposed 1d": (nn.ConvTranspose1d(4, 6, 3, groups=2), _random((2, 4, 9))),
    "transposed 2d": (nn.ConvTranspose2d(4, 6, 3, stride=2), _random((2, 4, 9, 9))),
    "transposed 3d": (nn.ConvTranspose3d(2, 3, 2), _random((2, 2, 4, 4, 4))),
    "mm": (Call(torch.mm), _random((3, 4), (4, 5))),
    "bmm": (Call(torch.bmm), _random((2, 3, 4), (2, 4, 5))),
    "matmul": (Call(torch.matmul), _random((2, 6, 3, 4), (2, 1, 4, 5))),
    "addmm": (Call(torch.addmm), _random((3, 5), (3, 4), (4, 5))),
    "baddbmm": (Call(torch.baddbmm), _random((2, 3, 5), (2, 3, 4), (2, 4, 5))),
    "einsum": (
        Call(lambda a, b: torch.einsum("bij,bjk->bik", a, b)),
        _random((2, 3, 4), (2, 4, 5)),
    ),
    "bilinear": (nn.Bilinear(3, 4, 5), _random((2, 3), (2, 4))),
    "mixed": (Mixed(), _random((2, 3, 16, 16))),
}


@pytest.mark.parametrize("name", CASES)
def test_macs_are_half_of_the_flops_that_torch_counts(name: str) -> None:
    model, inputs = CASES[name]
    model = model.eval()
    macs, uncounted = count_macs(capture(model, Inputs(inputs)))
    if name == "bilinear":  # torch runs it as a product and a sum that its counter sees in part
        assert macs == 2 * 5 * 3 * (4 + 1)
        return
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _ = model(*inputs)
    assert uncounted == ()
    assert 2 * macs == counter.get_total_flops() > 0


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_counted_as_dense(causal: bool) -> None:
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(query, key, value, is_causal=causal)

    inputs = _random((2, 3, 6, 8), (2, 3, 6, 8), (2, 3, 6, 8))
    macs, uncounted = count_macs(capture(Call(attend), Inputs(inputs)))
    assert (macs, uncounted) == (2 * 3 * 6 * 6 * 16, ())


def test_what_cannot_be_counted_is_listed_and_the_rest_is_counted() -> None:
    class Unknown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        @override
        def forward(self, x: Tensor) -> Tensor:
            return torch.cdist(self.fc(x), self.fc(x + 1))

    macs, uncounted = count_macs(capture(Unknown(), Inputs(_random((5, 4)))))
    assert macs == 2 * 5 * 4 * 3
    assert len(uncounted) == 1
    assert "cdist" in uncounted[0]


def one_step(op: str, *shapes: tuple[int, ...], args: tuple[object, ...] | None = None) -> Program:
    """A program of one step: the first shape is its output, the others are its arguments."""
    references = tuple(Ref(position) for position in range(1, len(shapes)))
    step = Step(op, references if args is None else args, {}, (0,), "", "")
    values = tuple(Value(shape, torch.float32) for shape in shapes)
    return Program((step,), values, (), (0,), {}, frozenset(), frozenset())


TABLE: list[tuple[Program, int | None]] = [
    (one_step("aten.mv.default", (3,), (3, 4), (4,)), 12),
    (one_step("aten.dot.default", (), (4,), (4,)), 4),
    (one_step("aten.addmv.default", (3,), (3,), (3, 4), (4,)), 12),
    (one_step("aten.addbmm.default", (3, 5), (3, 5), (2, 3, 4), (2, 4, 5)), 2 * 3 * 4 * 5),
    (one_step("aten.relu_.default", (3,), (3,)), 0),
    (one_step("aten.erf.default", (3,), (3,)), 0),
    (one_step("aten.lstm.input", (3,), (3,)), None),
    (one_step("torchvision.nms.default", (3,), (3,)), None),
    (one_step("aten.nothing_of_this_name.default", (3,), (3,)), None),
    (one_step("odd", (3,), (3,)), None),
    (
        one_step(
            "aten.convolution.default",
            (1, 3, 8),
            (1, 2, 6),
            (2, 3, 3),
            args=(Ref(1), Ref(2), None, [1], [0], [1], True, [0], 1),
        ),
        1 * 2 * 6 * 3 * 3,
    ),
    (
        one_step(
            "aten.convolution.default",
            (1, 3, 4),
            (1, 2, 6),
            (3, 2, 3),
            args=(Ref(1), Ref(2), None, [1], [0], [1], False, [0], 1),
        ),
        1 * 3 * 4 * 2 * 3,
    ),
    (one_step("aten.einsum.default", (3,), (3, 4), args=("ii->i", [Ref(1)])), None),
]


@pytest.mark.parametrize(("program", "expected"), TABLE)
def test_single_ops(program: Program, expected: int | None) -> None:
    macs, uncounted = count_macs(program)
    if expected is None:
        assert (macs, uncounted) == (0, (program.steps[0].op,))
    else:
        assert (macs, uncounted) == (expected, ())


def test_a_product_without_a_tensor_is_an_error() -> None:
    with pytest.raises(TypeError, match="argument weight is no tensor"):
        _ = count_macs(one_step("aten.linear.default", (3,), (3,), args=(Ref(1), None)))
