"""How long finding and removing takes, as ratios to one forward pass of the dense model.

One process times the stages of `abscise.compact` in turn with forward passes, so that a busy
machine slows both alike. Capture, copy, the check against the user's forward (rule R1) and the
certificate are reported apart: most of their time is torch's own.
"""

import argparse
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import torch
from _recording import record, surroundings
from torch import nn

import abscise
from abscise._copying import copy_model
from abscise._inputs import Inputs
from abscise.compaction import Plan, _edit, restructure
from abscise.compaction._apply import apply_decision
from abscise.compaction._build import build_plan, matching_units
from abscise.compaction._decide import decide
from abscise.compaction._folding import find_sites
from abscise.compaction._propose import check_structure
from abscise.graph import analyse_program, capture

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.torchvision_shim import torchvision_models

SIZE = 224
PASSES = ("labels and constants", "sites", "liveness and decision", "plan", "skeleton", "edit")
APART = ("copy", "capture", "rule R1", "certificate")
TOTAL = "all passes"
# Which BatchNorms get dead channels: those inside blocks, whose channels are free to go.
NORMS = {
    "resnet18": r"layer\d\.\d\.bn1",
    "mobilenet_v2": r"features\.\d+\.conv\.1\.1",
    "densenet121": r"features\..*\.norm2",
    "vgg11_bn": r"features\.\d+",
}
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Subject:
    """A dense model with planted dead channels, and what it is called with."""

    name: str
    model: nn.Module
    inputs: Inputs
    planted: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Ratios to one forward pass, over the repeats."""

    median: float
    min: float
    max: float


@dataclass(frozen=True, slots=True)
class Run:
    """All stages once: ratios to a forward pass, that pass, and what came out."""

    ratios: Mapping[str, float]
    forward_s: float
    plan: Plan
    certificate: abscise.Certificate | None


class Clock:
    """Seconds per stage, and of the forward passes between them."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.forward_s: list[float] = []
        self.stage_s: dict[str, float] = {}

    def time(self, stage: str, work: Callable[[], Result], *, without: str = "") -> Result:
        """Run a forward pass, then `work`; a nested stage may be taken out of its time."""
        self.forward()
        started = time.perf_counter()
        result = work()
        self.stage_s[stage] = time.perf_counter() - started - self.stage_s.get(without, 0.0)
        return result

    def forward(self) -> None:
        """Time one forward pass of the dense model."""
        inputs = self._subject.inputs
        started = time.perf_counter()
        with torch.no_grad():
            _ = self._subject.model(*inputs.args)
        self.forward_s.append(time.perf_counter() - started)

    def ratios(self) -> dict[str, float]:
        """Every stage, and the sum of the passes, over the median forward pass."""
        whole = {**self.stage_s, TOTAL: sum(self.stage_s[stage] for stage in PASSES)}
        forward_s = statistics.median(self.forward_s)
        return {stage: seconds / forward_s for stage, seconds in whole.items()}


def build(name: str, constants: float, seed: int = 0) -> Subject:
    """A torchvision model in eval mode; a third of the channels of its inner norms is dead.

    Args:
        name: A key of `NORMS`.
        constants: Share of the dead channels whose constant is not 0, so that it must be folded.
        seed: Of the weights.
    """
    _ = torch.manual_seed(seed)
    model: nn.Module = getattr(torchvision_models(), name)(weights=None).eval()
    planted = 0
    for path, norm in model.named_modules():
        if isinstance(norm, nn.BatchNorm2d) and re.fullmatch(NORMS[name], path):
            count = norm.num_features // 3
            with torch.no_grad():
                _ = norm.weight[:count].zero_()
                _ = norm.bias[:count].fill_(-1)
                _ = norm.bias[: round(constants * count)].fill_(0.5)
            planted += count
    return Subject(name, model, Inputs((torch.randn(1, 3, SIZE, SIZE),)), planted)


def run_once(subject: Subject, *, certify: bool) -> Run:
    """Go through all stages once; the certificate, which takes longest, only if asked for."""
    model, inputs, clock = subject.model, subject.inputs, Clock(subject)
    program = clock.time("capture", lambda: capture(model, inputs))
    analysis = clock.time("labels and constants", lambda: analyse_program(program))
    sites = clock.time("sites", lambda: find_sites(analysis, model))
    decision = clock.time("liveness and decision", lambda: decide(analysis, sites))

    def plan_of() -> Plan:
        pinned = matching_units(analysis, ())
        return build_plan(analysis, model, inputs, decision, sites, pinned)

    plan = clock.time("plan", plan_of)
    _ = clock.time("skeleton", lambda: restructure(plan, model, share=True))
    mismatches = clock.time(
        "rule R1", lambda: check_structure(plan, model, inputs, analysis, decision, sites)
    )
    if mismatches:
        message = f"{subject.name}: R1 takes units back ({mismatches[0].reason}); not one round"
        raise RuntimeError(message)
    with copying_timed(clock.stage_s):
        compacted = clock.time(
            "edit", lambda: apply_decision(plan, model, analysis, sites, decision), without="copy"
        )
    certificate: abscise.Certificate | None = None
    if certify:
        certificate = clock.time("certificate", lambda: abscise.verify(model, compacted, inputs))
    clock.forward()
    return Run(clock.ratios(), statistics.median(clock.forward_s), plan, certificate)


@contextmanager
def copying_timed(stage_s: dict[str, float]) -> Iterator[None]:
    """Inside, the editor's deep copy adds its seconds to the stage "copy"."""

    def timed(model: nn.Module, **options: Any) -> nn.Module:
        started = time.perf_counter()
        copied = copy_model(model, **options)
        stage_s["copy"] = stage_s.get("copy", 0.0) + time.perf_counter() - started
        return copied

    with mock.patch.object(_edit, "copy_model", timed):
        yield


def measure(subject: Subject, repeats: int) -> dict[str, Any]:
    """Ratios of every stage over `repeats` runs (the certificate: over one), as plain data."""
    _ = run_once(subject, certify=False)  # the first run pays for torch's caches
    first = run_once(subject, certify=True)
    assert first.certificate is not None
    runs = [first, *(run_once(subject, certify=False) for _ in range(repeats - 1))]
    found: dict[str, list[float]] = {}
    for run in runs:
        for stage, ratio in run.ratios.items():
            found.setdefault(stage, []).append(ratio)
    plan = first.plan
    return {
        "network": subject.name,
        "parameters": sum(weight.numel() for weight in subject.model.parameters()),
        "units": plan.units,
        "units_planted": subject.planted,
        "units_removed": plan.removed_units,
        "folds": len(plan.folds),
        "passed": first.certificate.passed,
        "inconclusive": first.certificate.inconclusive,
        "certificate": first.certificate.reason,
        "forward_s": plain(spread([run.forward_s for run in runs])),
        "ratios": {stage: plain(spread(values)) for stage, values in found.items()},
    }


def spread(values: list[float]) -> Spread:
    """Median, least and greatest."""
    return Spread(statistics.median(values), min(values), max(values))


def plain(found: Spread) -> dict[str, float]:
    """As JSON, to four digits."""
    return {
        name: float(f"{value:.4g}")
        for name, value in (("median", found.median), ("min", found.min), ("max", found.max))
    }


def show(entry: Mapping[str, Any]) -> None:
    """Print one model's table."""
    print(
        f"{entry['network']}: {entry['units_removed']} of {entry['units']} units go "
        f"({entry['units_planted']} planted), {entry['folds']} folds; in forward passes:"
    )
    print(f"  certificate: {entry['certificate']}")
    for stage in (*PASSES, TOTAL, *APART):
        ratio = entry["ratios"].get(stage)
        if ratio is not None:
            apart = " (apart)" if stage in APART else ""
            between = f"{ratio['min']:.2f} to {ratio['max']:.2f}"
            print(f"  {stage:<22} {ratio['median']:8.2f}   {between}{apart}")


def main() -> None:
    """Parse the options, measure each model, print and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    _ = parser.add_argument("--models", nargs="+", choices=sorted(NORMS), default=list(NORMS))
    _ = parser.add_argument("--repeats", type=int, default=5, help="runs after the warm-up")
    _ = parser.add_argument(
        "--constants", type=float, default=0.5, help="share of dead channels that must be folded"
    )
    _ = parser.add_argument("--out", type=Path, help="append one JSON line per model to this file")
    options = parser.parse_args()
    if options.repeats < 1 or not 0 <= options.constants <= 1:
        parser.error("--repeats must be >= 1 and --constants in [0, 1]")
    for name in options.models:
        entry = {
            "experiment": "compaction-benchmark",
            **measure(build(name, options.constants), options.repeats),
            "repeats": options.repeats,
            "constants": options.constants,
            "input": [1, 3, SIZE, SIZE],
            **surroundings(),
        }
        show(entry)
        record(entry, options.out)


if __name__ == "__main__":
    main()
