"""Distillation: the gradient is that of the mixed loss, and the loop's own hooks stay."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from abscise.papers._distillation import Distillation


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(5, 6, generator=generator), torch.tensor([0, 1, 2, 1, 0])


def moved(teacher: nn.Module) -> nn.Module:
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        for weight in student.parameters():
            weight.add_(0.3)
    return student


def gradient_of_mixed_loss(
    student: nn.Module, teacher: nn.Module, share: float, warmth: float
) -> list[Tensor]:
    inputs, labels = batch()
    logits = student(inputs)
    wanted = softmax(teacher(inputs).detach() / warmth, dim=1)
    far = kl_div(log_softmax(logits / warmth, dim=1), wanted, reduction="batchmean")
    loss = (1 - share) * cross_entropy(logits, labels) + share * warmth**2 * far
    return list(torch.autograd.grad(loss, list(student.parameters())))


def gradient_found(
    teacher: nn.Module, student: nn.Module, share: float, warmth: float
) -> list[Tensor]:
    student = copy.deepcopy(student)
    taught = Distillation(student, share, warmth)
    taught.load_state_dict({"teacher": teacher.state_dict()})
    inputs, labels = batch()
    with taught:
        logits = student(inputs)
        taught.observe(logits, labels)
        cross_entropy(logits, labels).backward()
    return [weight.grad for weight in student.parameters() if weight.grad is not None]


def close(one: list[Tensor], other: list[Tensor]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)


@pytest.mark.parametrize(("share", "warmth"), [(0.5, 2.0), (1.0, 1.0), (0.3, 5.0)])
def test_the_gradient_is_that_of_the_mixed_loss(share: float, warmth: float) -> None:
    teacher = network()
    student = moved(teacher)
    found = gradient_found(teacher, student, share, warmth)
    assert close(found, gradient_of_mixed_loss(student, teacher, share, warmth))
    # The twins: without the square of the temperature, and with another share.
    assert not close(found, gradient_of_mixed_loss(student, teacher, share, warmth + 1))
    assert not close(found, gradient_of_mixed_loss(student, teacher, share / 2, warmth))


def test_with_a_share_of_0_nothing_changes() -> None:
    teacher = network()
    student = moved(teacher)
    found = gradient_found(teacher, student, 0.0, 2.0)
    assert close(found, gradient_of_mixed_loss(student, teacher, 0.0, 2.0))


def test_the_teacher_stays_what_the_student_was_and_goes_into_the_state() -> None:
    student = network()
    before = copy.deepcopy(student.state_dict())
    taught = Distillation(student)
    with torch.no_grad():
        for weight in student.parameters():
            weight.zero_()
    held = taught.state_dict()["teacher"]
    assert all(torch.equal(held[name], before[name]) for name in before)


def test_the_student_has_the_hooks_it_had_afterwards() -> None:
    student = network()
    with Distillation(student):
        assert student._forward_pre_hooks
    assert not student._forward_pre_hooks


def test_without_a_forward_pass_and_out_of_range_it_is_refused() -> None:
    student = network()
    with pytest.raises(ValueError, match="call the student"):
        Distillation(student).observe(torch.zeros(1, 3), torch.zeros(1))
    with pytest.raises(ValueError, match="share must be in"):
        _ = Distillation(student, 1.5)
    with pytest.raises(ValueError, match="warmth > 0"):
        _ = Distillation(student, 0.5, 0.0)
