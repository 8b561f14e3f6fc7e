"""compact: propose, apply and verify in one call."""

from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from abscise._certificate import Certificate
from abscise._inputs import ExampleInputs, as_inputs
from abscise._verify import verify
from abscise.compaction._apply import apply_decision
from abscise.compaction._carried import Average, carried_average, carried_optimizer
from abscise.compaction._plan import Plan
from abscise.compaction._propose import make_proposal


@dataclass(frozen=True, slots=True)
class Compaction:
    """A compacted model, what was removed, and the proof that nothing changed.

    Args:
        model: A new object of the same class.
        plan: What was removed.
        certificate: Whether both models agree.
        optimizer: For the new model, where one was given for the dense one.
        ema: The running average of the new model, where one was given.
    """

    model: nn.Module
    plan: Plan
    certificate: Certificate
    optimizer: Optimizer | None = None
    ema: Average | None = None


def compact(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    keep: tuple[str, ...] = (),
    verify_inputs: ExampleInputs | None = None,
    optimizer: Optimizer | None = None,
    ema: Average | None = None,
) -> Compaction:
    """Remove every unit that nothing downstream can tell is gone, and prove it.

    Args:
        model: Any module that `torch.export` can capture. It is left as it was, in its mode.
        example_inputs: A tensor, a tuple, a dict of keyword arguments, or `Inputs`.
        keep: Name patterns of layers or parameters that must not be touched.
        verify_inputs: What the certificate is made on; without it random inputs of the same shapes.
        optimizer: Of the dense model, to train on: `Compaction.optimizer` is a new one, whose state
            is cut as the parameters are. Make schedulers, scalers and attachments anew.
        ema: A running average of the weights: a module (a copy of the model, `AveragedModel`), or a
            dictionary of tensors by name. In what is removed, the new one takes the model's values.

    Returns:
        A new model of the same class, the plan and the certificate. Look at `certificate.passed`.

    Raises:
        InputError, CaptureError, ModelError: See `abscise.graph.capture`; or a state of the
            optimizer, or the average, does not fit the model.
    """
    inputs = as_inputs(example_inputs)
    proposal = make_proposal(model, inputs, keep)
    compacted = apply_decision(
        proposal.plan, proposal.model, proposal.analysis, proposal.sites, proposal.decision
    )
    certificate = verify(model, compacted, inputs if verify_inputs is None else verify_inputs)
    plan = proposal.plan
    return Compaction(
        compacted,
        plan,
        certificate,
        None if optimizer is None else carried_optimizer(optimizer, model, compacted, plan),
        None if ema is None else carried_average(ema, model, compacted, plan),
    )
