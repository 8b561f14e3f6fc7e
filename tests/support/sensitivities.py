"""Networks of every kind, and the sensitivity of each weight by one backward pass per output."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.parametrizations import weight_norm
from typing_extensions import override

EXAMPLES = 5
CLASSES = 3


class Tokens(nn.Module):
    """Embedding, layer norm, a linear layer on each token, a scale of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.mix = nn.Linear(4, 6)
        self.scale = nn.Parameter(torch.rand(6))
        self.head = nn.Linear(6, CLASSES)

    @override
    def forward(self, tokens: Tensor) -> Tensor:
        return self.head((self.mix(self.norm(self.embed(tokens))) * self.scale).tanh().mean(1))


class Tied(nn.Module):
    """The embedding is the head, too: as a layer, or by a function."""

    def __init__(self, *, by_function: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(CLASSES, 4)
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)
        self.head.weight = self.embed.weight
        self.by_function = by_function

    @override
    def forward(self, tokens: Tensor) -> Tensor:
        read = self.mix(self.embed(tokens)).relu().sum(1)
        return linear(read, self.embed.weight) if self.by_function else self.head(read)


class Twice(nn.Module):
    """A layer that is called twice, and another whose weight is also read elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, CLASSES)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        once = self.norm(self.first(inputs)).relu()
        read = self.norm(self.first(once)).relu()
        return self.head(self.second(read) + linear(read, self.second.weight).tanh())


class Heard(nn.Module):
    """Attention, whose parts are not called, and recurrence; the examples' dimension may differ."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=batch_first)
        self.recurrence = nn.LSTM(4, 3, batch_first=batch_first)
        self.after = nn.Linear(3, 3)
        self.batch_first = batch_first

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        read = inputs if self.batch_first else inputs.transpose(0, 1)
        mixed, _ = self.attention(read, read, read)
        found = self.after(self.recurrence(mixed)[0]).tanh()
        return found.sum(1 if self.batch_first else 0)


class Pair(nn.Module):
    """Keyword arguments in, a dictionary out; a part that the logits do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 5), nn.Linear(3, 5)
        self.head, self.unused = nn.Linear(5, CLASSES), nn.Linear(5, 2)

    @override
    def forward(self, left: Tensor, *, right: Tensor) -> dict[str, Tensor]:
        read = (self.left(left) + self.right(right)).relu()
        return {"aside": self.unused(read), "logits": self.head(read)}


def convolutions() -> nn.Module:
    """Stride, groups, dilation, padding, in-place activations."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=(1, 2)),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, (3, 2), dilation=(1, 2), groups=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(6, 6, 1, groups=6, bias=False),
        nn.Flatten(),
        nn.LazyLinear(CLASSES),
    )


def other_convolutions() -> nn.Module:
    """One dimension and three, padding by other rules, transposed, one position."""
    return nn.Sequential(
        nn.Conv3d(1, 3, (1, 2, 2), stride=(1, 2, 1), padding=(0, 1, 0)),
        nn.Flatten(2),
        nn.Conv1d(3, 4, 3, padding="same", padding_mode="circular"),
        nn.Tanh(),
        nn.ConvTranspose1d(4, 4, 3, stride=2, groups=2),
        nn.Conv1d(4, 4, 5, stride=3, dilation=2),
        nn.Tanh(),
        nn.AdaptiveAvgPool1d(3),
        nn.Conv1d(4, 6, 3, groups=2),
        nn.Flatten(),
        nn.Linear(6, CLASSES),
    )


def normed(**options: Any) -> nn.Module:
    """Batch norms over images and vectors, a group norm."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4, **options),
        nn.ReLU(inplace=True),
        nn.GroupNorm(2, 4),
        nn.Flatten(),
        nn.Linear(64, 6),
        nn.BatchNorm1d(6, **options),
        nn.ReLU(),
        nn.Linear(6, CLASSES),
    )


def dense() -> nn.Module:
    """One decision for each position."""
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, CLASSES, 3))


def perceptron() -> nn.Module:
    """Linear layers, one of them computed from length and direction."""
    return nn.Sequential(
        nn.Linear(6, 8),
        nn.ReLU(inplace=True),
        weight_norm(nn.Linear(8, 5)),
        nn.ReLU(inplace=True),
        nn.Linear(5, CLASSES),
    )


def plain() -> nn.Module:
    """Linear layers alone."""
    return nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, CLASSES)
    )


def of_dicts(output: Any) -> Tensor:
    """Where `Pair` has its logits."""
    found: Tensor = output["logits"]
    return found


@dataclass(frozen=True)
class Case:
    """A network and what it reads.

    Args:
        make: The network, in float32.
        shapes: Of positional inputs without examples; a number: so many tokens.
        named: Of inputs by keyword.
        logits: See `Sensitivity`.
        eval_mode: Is it in eval mode?
    """

    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...] | int, ...]
    named: tuple[tuple[str, tuple[int, ...]], ...] = ()
    logits: Callable[[Any], Tensor] | None = None
    eval_mode: bool = False

    def model(self, seed: int = 0) -> nn.Module:
        """In float64."""
        with torch.random.fork_rng():
            _ = torch.manual_seed(seed)
            model = self.make()
            args, kwargs = self.inputs()
            if any(isinstance(one, nn.LazyLinear) for one in model.modules()):
                _ = model(*(one.float() for one in args), **kwargs)
            model = model.double()
            for name, parameter in model.named_parameters():
                if "norm" in name or parameter.ndim == 1:
                    _ = parameter.data.add_(0.3 * torch.randn_like(parameter))
            for _ in range(2):  # running statistics of their own
                _ = model(*args, **kwargs)
        return model.train(not self.eval_mode)

    def inputs(self, seed: int = 0, examples: int = EXAMPLES) -> tuple[list[Tensor], Any]:
        """Positional ones and named ones."""
        source = torch.Generator().manual_seed(seed)

        def made(shape: tuple[int, ...] | int) -> Tensor:
            if isinstance(shape, int):
                return torch.randint(0, CLASSES, (examples, shape), generator=source)
            return torch.randn(examples, *shape, generator=source, dtype=torch.float64)

        return [made(one) for one in self.shapes], {name: made(one) for name, one in self.named}


IMAGES = ((2, 6, 6),)
CASES: dict[str, Case] = {
    "linear": Case(plain, ((6,),)),
    "weight norm": Case(perceptron, ((6,),)),
    "convolutions": Case(convolutions, ((2, 9, 9),)),
    "other convolutions": Case(other_convolutions, ((1, 2, 4, 3),)),
    "batch norm": Case(normed, IMAGES),
    "batch norm, eval": Case(normed, IMAGES, eval_mode=True),
    "batch norm, no statistics": Case(lambda: normed(track_running_stats=False), IMAGES),
    "tokens": Case(Tokens, (4,)),
    "tied layers": Case(lambda: Tied(by_function=False), (4,)),
    "tied by a function": Case(lambda: Tied(by_function=True), (4,)),
    "used twice": Case(Twice, ((6,),)),
    "attention, recurrence": Case(lambda: Heard(batch_first=True), ((EXAMPLES, 4),)),
    "examples second": Case(lambda: Heard(batch_first=False), ((EXAMPLES, 4),)),
    "keywords": Case(Pair, ((4,),), (("right", (3,)),), of_dicts),
    "dense": Case(dense, IMAGES),
}


def derivatives(case: Case, model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """`(examples, outputs, *shape)` of each parameter: one backward pass for each.

    Batch norms in training mode are replaced by eval mode with the statistics of the batch.
    """
    model = copy.deepcopy(model)
    args, kwargs = case.inputs(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and (
            module.training or not module.track_running_stats
        ):
            _ = module.register_forward_pre_hook(_frozen)
    output = model(*args, **kwargs)
    logits = (case.logits(output) if case.logits else output).flatten(1)
    names, parameters = zip(*model.named_parameters(), strict=True)
    rows = [
        torch.autograd.grad(one, parameters, retain_graph=True, allow_unused=True)
        for one in logits.flatten()
    ]
    found = {}
    for place, (name, parameter) in enumerate(zip(names, parameters, strict=True)):
        of = [torch.zeros_like(parameter) if row[place] is None else row[place] for row in rows]
        found[name] = torch.stack(of).unflatten(0, (len(logits), -1))
    return found


def _frozen(module: Any, args: tuple[Tensor]) -> None:
    values = args[0].detach()
    others = [dim for dim in range(values.ndim) if dim != 1]
    module.running_var, module.running_mean = torch.var_mean(values, others, correction=0)
    module.eval()
