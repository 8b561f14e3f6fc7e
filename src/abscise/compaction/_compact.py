"""compact: propose, apply and verify in one call."""

from dataclasses import dataclass

from torch import nn

from abscise._certificate import Certificate
from abscise._inputs import ExampleInputs, as_inputs
from abscise._verify import verify
from abscise.compaction._apply import apply_decision
from abscise.compaction._plan import Plan
from abscise.compaction._propose import make_proposal


@dataclass(frozen=True, slots=True)
class Compaction:
    """A compacted model, what was removed, and the proof that nothing changed."""

    model: nn.Module
    plan: Plan
    certificate: Certificate


def compact(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    keep: tuple[str, ...] = (),
    verify_inputs: ExampleInputs | None = None,
) -> Compaction:
    """Remove every unit that nothing downstream can tell is gone, and prove it.

    Args:
        model: Any module that `torch.export` can capture. It is left as it was, in its mode.
        example_inputs: A tensor, a tuple, a dict of keyword arguments, or `Inputs`.
        keep: Name patterns of layers or parameters that must not be touched.
        verify_inputs: What the certificate is made on; without it random inputs of the same shapes.

    Returns:
        A new model of the same class, the plan and the certificate. Look at `certificate.passed`.

    Raises:
        InputError, CaptureError, ModelError: See `abscise.graph.capture`.
    """
    inputs = as_inputs(example_inputs)
    proposal = make_proposal(model, inputs, keep)
    compacted = apply_decision(
        proposal.plan, proposal.model, proposal.analysis, proposal.sites, proposal.decision
    )
    certificate = verify(model, compacted, inputs if verify_inputs is None else verify_inputs)
    return Compaction(compacted, proposal.plan, certificate)
