"""Models and inputs as users have them: modes, hooks, dtypes, layouts, nested and named inputs."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

import abscise
import abscise.graph
from abscise._errors import AbsciseError, CaptureError, InputError, PlanError
from abscise._inputs import Inputs
from abscise.compaction import plan_to_json
from support.compacting import check, noise, removed
from support.equality import assert_equal, difference, untouched
from support.small import Calls, constant_, conv, flat, net, silent_, unread_

IMAGES = noise(8, 3, 8, 8)
EXAMPLE = noise(2, 3, 8, 8, seed=4)
VECTORS = noise(8, 6)


def image_net() -> Calls:
    model = net(
        lambda m, x: m.b(m.drop(m.bn(m.a(x)).relu())),
        a=conv(3, 6),
        bn=nn.BatchNorm2d(6),
        drop=nn.Dropout(0.5),
        b=conv(6, 2, 3),
    )
    constant_(model.bn, {1: 0.5, 4: -1.0})
    return model


def test_a_model_in_train_mode_stays_in_train_mode_and_is_compacted_for_eval() -> None:
    model = image_net().train()
    with untouched(model):
        plan = abscise.propose(model, EXAMPLE)
        compacted = abscise.apply(plan, model)
    assert compacted.training
    assert compacted.get_submodule("bn").training
    assert removed(plan, "a.weight") == {1, 4}
    assert_equal(model.eval(), compacted.eval(), IMAGES)


def test_modes_of_single_modules_are_kept() -> None:
    model = image_net().train()
    _ = model.bn.eval()
    compacted = abscise.apply(abscise.propose(model, EXAMPLE), model)
    assert compacted.training
    assert not compacted.get_submodule("bn").training


def test_flags_for_gradients_are_kept() -> None:
    model = image_net()
    _ = model.a.requires_grad_(requires_grad=False)
    _ = check(model, EXAMPLE, IMAGES)


def test_hooks_of_the_user_stay_and_see_no_tracing() -> None:
    model = image_net()
    seen: list[type[Tensor]] = []
    _ = model.a.register_forward_hook(lambda _m, _i, output: seen.append(type(output)))
    checked = check(model, EXAMPLE, IMAGES)
    assert checked.removed("a") == {1, 4}
    assert set(seen) <= {Tensor}


def test_a_hook_that_changes_a_value_is_part_of_the_model() -> None:
    model = image_net()
    _ = model.bn.register_forward_hook(lambda _m, _i, output: output + 3)
    _ = check(model, EXAMPLE, IMAGES)


def test_a_model_that_cannot_be_captured_is_left_as_it_was() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        y: Tensor = m.a(x)
        if float(y.sum()) > 0:
            y = y.relu()
        result: Tensor = m.b(y)
        return result

    model = net(forward, a=conv(3, 4), b=conv(4, 2)).train()
    _ = model.a.eval()
    with untouched(model), pytest.raises(CaptureError) as caught:
        _ = abscise.propose(model, EXAMPLE)
    assert "\n" not in str(caught.value).strip()


def test_a_number_read_from_a_tensor_is_named() -> None:
    model = net(lambda m, x: m.b(m.a(x)) * x.sum().item(), a=conv(3, 4), b=conv(4, 2))
    with untouched(model), pytest.raises(CaptureError, match="number read from a tensor") as caught:
        _ = abscise.propose(model, EXAMPLE)
    assert "small.py" in str(caught.value)  # the line that torch saw


def test_a_number_read_from_a_tensor_and_not_computed_with_does_no_harm() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        _ = x.sum().item()
        result: Tensor = m.b(m.a(x))
        return result

    model = net(forward, a=conv(3, 4), b=conv(4, 2))
    silent_(model.a, 1)
    assert check(model, EXAMPLE, IMAGES).removed("a") == {1}


def test_a_layer_that_reads_nothing_is_no_obstacle() -> None:
    """torch's adaptive softmax has one where the vocabulary is small for its division."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, which has nothing to initialize
        output = nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 10])
    assert {0} < {min(it.shape) for it in output.parameters()}
    model = flat(
        lambda m, x: m.output.log_prob(m.b(m.a(x).relu())),
        a=nn.Linear(6, 8),
        b=nn.Linear(8, 8),
        output=output,
    )
    silent_(model.a, 1)
    assert check(model, noise(2, 6), VECTORS).removed("a") == {1}


def test_a_forward_that_raises_leaves_the_model_as_it_was() -> None:
    def forward(_m: Calls, _x: Tensor) -> Tensor:
        message = "on purpose"
        raise RuntimeError(message)

    model = net(lambda m, x: m.a(x), a=conv(3, 4)).train()
    model.function = forward
    with untouched(model), pytest.raises(AbsciseError, match="on purpose"):
        _ = abscise.propose(model, EXAMPLE)


@pytest.mark.parametrize("example", [noise(2, 4, 8, 8), noise(2, 3)])
def test_inputs_of_the_wrong_shape_are_one_clear_error(example: Tensor) -> None:
    model = image_net()
    with untouched(model), pytest.raises(AbsciseError):
        _ = abscise.propose(model, example)


@pytest.mark.parametrize("example", [(), {}, ("text",), Inputs()])
def test_inputs_without_a_tensor_are_refused(example: Any) -> None:
    with pytest.raises(InputError, match="no tensor"):
        _ = abscise.propose(image_net(), example)


def test_channels_last_is_kept() -> None:
    model = image_net()
    for weight in (model.a.weight, model.b.weight):
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    example = EXAMPLE.to(memory_format=torch.channels_last)
    checked = check(model, example, IMAGES.to(memory_format=torch.channels_last))
    assert checked.removed("a") == {1, 4}
    weight = checked.model.get_parameter("b.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes_are_kept_and_lose_the_same_units(dtype: torch.dtype) -> None:
    model = image_net()
    constant_(model.bn, {1: 0.0})  # no constant to fold: the rest is exact in every dtype
    model = model.to(dtype)
    with untouched(model):
        plan = abscise.propose(model, EXAMPLE.to(dtype))
        compacted = abscise.apply(plan, model)
    assert removed(plan, "a.weight") == {1, 4}
    assert {parameter.dtype for parameter in compacted.parameters()} == {dtype}
    assert_equal(model.double(), compacted.double(), IMAGES)


def test_a_constant_folded_in_bfloat16_is_summed_in_more_digits() -> None:
    model = image_net().to(torch.bfloat16)
    compacted = abscise.apply(abscise.propose(model, EXAMPLE.to(torch.bfloat16)), model)
    assert difference(model.double(), compacted.double(), [IMAGES]).relative < 1e-2


class Nested(nn.Module):
    """Takes a dict, a list in a tuple and a flag; gives a dict with a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(5, 2)

    @override
    def forward(
        self, data: dict[str, Tensor], pair: tuple[list[Tensor], float], *, twice: bool = False
    ) -> dict[str, Any]:
        y = self.a(data["x"]).relu() + self.b(pair[0][0]) * pair[1]
        z = self.c(y)
        return {"logits": z * 2 if twice else z, "more": (z.sum(1), [z.relu()])}


def test_nested_inputs_and_outputs_are_followed() -> None:
    model = Nested().double().eval()
    silent_(model.a, 2)
    silent_(model.b, 2, 3)
    inputs = Inputs(({"x": VECTORS}, ([noise(8, 6, seed=1)], 0.5)), {"twice": True})
    with untouched(model):
        plan = abscise.propose(model, inputs)
        compacted = abscise.apply(plan, model)
    assert removed(plan, "a.weight") == removed(plan, "b.weight") == {2}
    for twice in (True, False):
        first = model(*inputs.args, twice=twice)
        second = compacted(*inputs.args, twice=twice)
        assert torch.allclose(first["logits"], second["logits"], rtol=0, atol=1e-12)
        assert torch.allclose(first["more"][0], second["more"][0], rtol=0, atol=1e-12)


def test_keyword_arguments_are_inputs() -> None:
    model = flat(lambda m, x: m.c(m.a(x).relu()), a=nn.Linear(6, 5), c=nn.Linear(5, 2))
    model.function = lambda m, *, x, scale: m.c(m.a(x).relu() * scale)
    silent_(model.a, 2)
    example = {"x": VECTORS, "scale": noise(8, 1, seed=2)}
    assert check(model, example).removed("a") == {2}


def test_every_output_is_read() -> None:
    def forward(m: Calls, x: Tensor) -> dict[str, Tensor]:
        y = m.a(x).relu()
        return {"hidden": y, "logits": m.b(y)}

    model = flat(forward, a=nn.Linear(6, 5), b=nn.Linear(5, 2))
    silent_(model.a, 2)
    unread_(model.b, 1)
    assert check(model, VECTORS).removed("a") == set()


def test_integer_inputs_are_unknown_and_keep_their_size() -> None:
    model = flat(lambda m, x: m.b(m.a(x)), a=nn.Linear(6, 5), b=nn.Linear(5, 2))
    model.function = lambda m, x, mask: m.b(m.a(x) * mask)
    silent_(model.a, 3)
    zeros = torch.zeros(8, 5, dtype=torch.int64)
    checked = check(model, (VECTORS, zeros), (VECTORS, torch.ones_like(zeros)))
    assert checked.removed("a") == set()


def test_constants_are_recomputed_from_the_checkpoint_at_apply() -> None:
    model, other = image_net(), image_net()
    constant_(other.bn, {1: 3.5, 4: -0.25})
    plan = abscise.propose(model, EXAMPLE)
    compacted = abscise.apply(plan, other)
    assert_equal(other, compacted, IMAGES)


def test_a_plan_holds_no_number_of_the_weights() -> None:
    text = json.dumps(plan_to_json(abscise.propose(image_net(), EXAMPLE)))
    assert not re.search(r"\d\.\d", text.replace("torch.", ""))


def test_a_plan_does_not_apply_to_another_architecture() -> None:
    plan = abscise.propose(image_net(), EXAMPLE)
    other = net(lambda m, x: m.b(m.a(x)), a=conv(3, 6), b=conv(6, 2, 3))
    with untouched(other), pytest.raises(PlanError):
        _ = abscise.apply(plan, other)


def test_a_plan_does_not_apply_to_a_checkpoint_in_which_the_unit_lives() -> None:
    model, live = image_net(), image_net()
    plan = abscise.propose(model, EXAMPLE)
    with torch.no_grad():
        live.bn.weight[1] = 1e-20
    with untouched(live), pytest.raises(PlanError, match=r"a.*1"):
        _ = abscise.apply(plan, live)
    forced = abscise.apply(plan, live, structure_only=True)
    assert forced.get_parameter("a.weight").shape[0] == 4


def test_compact_gives_model_plan_and_a_certificate_that_passes() -> None:
    model = image_net()
    compaction = abscise.compact(model, EXAMPLE)
    assert compaction.certificate is not None
    assert compaction.certificate.passed
    assert compaction.plan == abscise.propose(model, EXAMPLE)
    assert_equal(model, compaction.model, IMAGES)


def test_the_graph_knows_no_class_of_any_model_library() -> None:
    libraries = r"torchvision|timm|transformers|resnet|densenet|mobilenet|llama"
    names = re.compile(libraries, re.IGNORECASE)
    folder = Path(str(abscise.graph.__file__)).parent
    files = list(folder.rglob("*.py"))
    assert files
    for file in files:
        found = names.search(file.read_text(encoding="utf-8"))
        assert found is None, f"{file.name} names {found}"
