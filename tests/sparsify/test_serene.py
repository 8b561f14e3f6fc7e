"""SeReNe: the sensitivity of each unit's output, and whole units that shrink alike."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from typing_extensions import override

from abscise import attach
from abscise.sparsify import Outputs, SeReNe
from support.sensitivities import CASES, Case, of_dicts

UNITS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
)
NETWORKS = (
    "linear",
    "convolutions",
    "other convolutions",
    "batch norm, eval",
    "used twice",
    "dense",
)


def found(case: Case, model: nn.Module, **options: Any) -> dict[str, Tensor]:
    with attach(SeReNe(0.1, **options), SGD(model.parameters(), 0.1), model) as attachment:
        args, _ = case.inputs()
        logits = model(*args)
        shape = (logits.shape[0], *logits.shape[2:])
        attachment.observe(logits, torch.zeros(shape, dtype=torch.long))
        return {name: value.clone() for name, value in attachment.worker.sensitivities.items()}


def outputs_of(case: Case, model: nn.Module) -> tuple[Tensor, dict[str, list[Tensor]]]:
    """The logits, and zeros that were added to each layer's output, call by call."""
    added: dict[str, list[Tensor]] = {}
    handles = []
    for path, module in model.named_modules():
        if isinstance(module, UNITS):

            def hook(_module: nn.Module, _args: Any, output: Tensor, path: str = path) -> Tensor:
                added.setdefault(path, []).append(torch.zeros_like(output, requires_grad=True))
                return output + added[path][-1]

            handles.append(module.register_forward_hook(hook))
    logits = model(*case.inputs()[0])
    for handle in handles:
        handle.remove()
    return logits, added


def expected(case: Case, model: nn.Module, *, target: bool) -> dict[str, Tensor]:
    """One backward pass for each output of each example."""
    logits, added = outputs_of(case, model)
    wanted = (logits[:, :1] if target else logits).flatten(1)
    result = {}
    for path, zeros in added.items():
        means = []
        for one in zeros:
            rows = [
                torch.autograd.grad(y, one, retain_graph=True)[0][row].abs()
                for row in range(len(wanted))
                for y in wanted[row]
            ]
            means.append(torch.stack(rows).movedim(1, 0).flatten(1).mean(1))
        result[path] = torch.stack(means).mean(0)
    return result


@pytest.mark.parametrize("target", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_mean_size_of_the_derivatives_by_a_units_output(name: str, target: bool) -> None:
    case = CASES[name]
    model = case.model()
    if name == "used twice":
        _ = model.eval()
    outputs = Outputs.TARGET if target else Outputs.ALL
    measured = found(case, model, outputs=outputs)
    truth = expected(case, model, target=target)
    other = expected(case, model, target=not target)
    assert {n.rpartition(".")[0] for n in measured} == set(truth)
    for full, value in measured.items():
        module = model.get_submodule(full.rpartition(".")[0])
        units = truth[full.rpartition(".")[0]]
        transposed = isinstance(module, nn.ConvTranspose1d) and full.endswith("weight")
        along = units
        if transposed:  # (inputs, units of a group, ...): each group's inputs write its own units
            halves = units.view(2, 1, 2).expand(2, 2, 2).reshape(4, 2)
            along = halves[..., None].expand(value.shape)
        else:
            along = units.view(-1, *[1] * (value.ndim - 1)).expand(value.shape)
        torch.testing.assert_close(value, along, msg=full)
    assert any(not torch.allclose(truth[path], other[path], rtol=1e-3) for path in truth)


def test_units_that_do_not_matter_vanish_whole_and_the_others_stay() -> None:
    model = CASES["linear"].model()
    assert isinstance(model, nn.Sequential)
    with torch.no_grad():
        model.get_parameter("2.weight")[:, ::2] = 0.0  # nothing reads these units
    optimizer = SGD(model.parameters(), 0.0)
    before = model.get_parameter("0.weight").detach().clone()
    with attach(SeReNe(0.5, where=("0",), rescale=True), optimizer, model) as attachment:
        for seed in range(12):
            optimizer.zero_grad()
            logits = model(*CASES["linear"].inputs(seed)[0])
            attachment.observe(logits)
            logits.sum().backward()
            optimizer.step()
    after = model.get_parameter("0.weight").detach()
    torch.testing.assert_close(after[::2], before[::2] * 0.5**12)
    shares = after / before
    assert torch.allclose(shares, shares[:, :1].expand_as(shares))  # rows shrink alike
    assert float(shares[1::2].max()) > 0.05
    bias = CASES["linear"].model().get_parameter("0.bias")
    assert not torch.equal(model.get_parameter("0.bias"), bias)


def test_layers_that_share_a_weight_are_one_layer_and_other_parameters_are_left_alone() -> None:
    case = CASES["tied layers"]
    assert set(found(case, case.model())) == {"mix.weight", "mix.bias", "embed.weight", "head.bias"}
    tokens = CASES["tokens"]
    assert set(found(tokens, tokens.model())) == {
        "mix.weight",
        "mix.bias",
        "head.weight",
        "head.bias",
    }


def test_the_estimate_tends_to_the_exact_sensitivity() -> None:
    case = CASES["dense"]
    model = case.model()
    exact = found(case, model)
    draws = [found(case, model, estimate=True, seed=seed) for seed in range(150)]
    for name, value in exact.items():
        each = torch.stack([draw[name] for draw in draws])
        error = each.std(0) / len(draws) ** 0.5
        assert bool(((each.mean(0) - value).abs() <= 6 * error + 1e-12).all()), name
    assert not torch.allclose(draws[0]["0.weight"], exact["0.weight"], rtol=1e-3)


def test_logits_may_be_anywhere_in_the_output() -> None:
    case = CASES["keywords"]
    model = case.model()
    args, kwargs = case.inputs()
    with attach(SeReNe(0.1, logits=of_dicts), SGD(model.parameters(), 0.1), model) as attachment:
        attachment.observe(of_dicts(model(*args, **kwargs)))
        assert not bool(attachment.worker.sensitivities["unused.weight"].any())
        assert bool(attachment.worker.sensitivities["left.weight"].any())


def test_a_layer_whose_weights_another_module_reads_is_refused_by_name() -> None:
    """Its units are not seen; taken for 0, their sensitivity would let them shrink away."""

    class Heard(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.head, self.idle = nn.Linear(4, 3), nn.Linear(4, 3)

        @override
        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.attention(inputs, inputs, inputs)[0].mean(1))

    model = Heard()
    optimizer = SGD(model.parameters(), 0.1)
    inputs = torch.randn(5, 2, 4)
    with attach(SeReNe(0.1), optimizer, model) as attachment:
        logits = model(inputs)
        with pytest.raises(ValueError, match=r"depend on attention.out_proj, .*exclude=\('att"):
            attachment.observe(logits)
    with attach(SeReNe(0.1, exclude=("attention.out_proj",)), optimizer, model) as attachment:
        attachment.observe(model(inputs))
        assert not bool(attachment.worker.sensitivities["idle.weight"].any())  # nothing reads it
        assert bool(attachment.worker.sensitivities["head.weight"].any())
