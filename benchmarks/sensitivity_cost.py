"""What measuring sensitivities costs.

One process, everything in turn, so that a busy machine slows all alike. Each round times whole
training steps: plain ones, and with `Sensitivity` attached in each of its ways. Figures are ratios
to the plain steps of the same round. Beside them: C backward passes over the batch, and the loop
that takes a backward pass for each output of each example (timed on a few examples and scaled up).
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from _recording import record, surroundings
from step_overhead import spread, timed
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

import abscise
from abscise.sparsify import Attachment, Mean, Outputs, Sensitivity, SensitivityWorker
from abscise.train._models import LeNet5, LeNet300

STRENGTH = 1e-7  # so small that the weights keep their size through all rounds
EVERY = 10
Work = Callable[[], object]


@dataclass(frozen=True)
class Network:
    """A network and its batch.

    Args:
        model: Makes it.
        shape: Of one input.
        batch: Examples.
        classes: Outputs.
        alone: On how many examples the loop over examples is timed.
        steps: That are timed as one; a measurement every 10 steps is always timed over 10.
    """

    model: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    classes: int
    alone: int
    steps: int


def resnet18() -> nn.Module:
    """Of torchvision."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    models = import_module("support.torchvision_shim").torchvision_models()
    found: nn.Module = models.resnet18(num_classes=10)
    return found


def head() -> nn.Module:
    """512-512-1000."""
    return nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1000))


NETWORKS = {
    "lenet300": Network(LeNet300, (1, 28, 28), 100, 10, 100, EVERY),
    "lenet5": Network(LeNet5, (1, 28, 28), 100, 10, 20, 5),
    "resnet18": Network(resnet18, (3, 32, 32), 128, 10, 1, 1),
    "head1000": Network(head, (512,), 128, 1000, 1, EVERY),
}
SAMPLED: dict[str, Any] = {"estimate": True, "examples": 16, "average": 0.9}
WAYS: dict[str, dict[str, Any]] = {
    "estimate, 16 examples": SAMPLED,
    f"estimate, 16 examples, every {EVERY}": {**SAMPLED, "every": EVERY},
    "estimate, 16 examples, rescaled": {**SAMPLED, "rescale": True},
    "estimate": {"estimate": True, "average": 0.9},
    "specific": {"outputs": Outputs.TARGET},
    "exact": {},
    "batch mean": {"mean": Mean.BATCH},
}
COSTLY = ("exact", "batch mean", "C batch passes", "loop over examples")


class Training:
    """A network in training, with or without a sparsifier."""

    def __init__(self, network: Network, model: nn.Module, device: torch.device) -> None:
        """Owns a copy of the model."""
        source = torch.Generator().manual_seed(0)
        self.model = copy.deepcopy(model).to(device).train()
        self.inputs = torch.randn(network.batch, *network.shape, generator=source).to(device)
        labels = torch.randint(network.classes, (network.batch,), generator=source)
        self.labels = labels.to(device)
        self.optimizer = SGD(self.model.parameters(), 1e-4)
        self.attachment: Attachment[SensitivityWorker] | None = None

    def attach(self, **options: Any) -> "Training":
        """Put a `Sensitivity` to work."""
        sparsifier = Sensitivity(STRENGTH, **options)
        self.attachment = abscise.attach(sparsifier, self.optimizer, self.model)
        return self

    def steps(self, count: int) -> None:
        """Whole training steps."""
        for _ in range(count):
            self.optimizer.zero_grad()
            logits = self.model(self.inputs)
            if self.attachment is not None:
                self.attachment.observe(logits, self.labels)
            cross_entropy(logits, self.labels).backward()
            self.optimizer.step()

    def batch_passes(self) -> None:
        """|E.| by one backward pass over the batch for each output."""
        parameters = list(self.model.parameters())
        total = [torch.zeros_like(one) for one in parameters]
        logits = self.model(self.inputs).mean(0)
        for one in logits:
            found = torch.autograd.grad(one, parameters, retain_graph=True)
            for value, each in zip(total, found, strict=True):
                _ = value.add_(each.abs_())

    def example_loop(self, examples: int) -> None:
        """E|.| by one backward pass for each output of each example."""
        parameters = list(self.model.parameters())
        total = [torch.zeros_like(one) for one in parameters]
        _ = self.model.eval()  # one example has no batch statistics
        for row in range(examples):
            for one in self.model(self.inputs[row : row + 1])[0]:
                found = torch.autograd.grad(one, parameters, retain_graph=True)
                for value, each in zip(total, found, strict=True):
                    _ = value.add_(each.abs_())
        _ = self.model.train()


def rounds(
    network: Network, device: torch.device, repeats: int, costly: int
) -> dict[str, list[float]]:
    """Seconds of a step, or of what is beside it, in each round; None where it was not timed."""
    _ = torch.manual_seed(0)
    model = network.model()
    plain = Training(network, model, device)
    beside = Training(network, model, device)
    trainings = {name: Training(network, model, device).attach(**way) for name, way in WAYS.items()}
    works: dict[str, tuple[Work, float]] = {
        "plain": (_stepping(plain, network.steps), 1 / network.steps)
    }
    for name, training in trainings.items():
        count = 1 if name in COSTLY else EVERY if "every" in WAYS[name] else network.steps
        works[name] = (_stepping(training, count), 1 / count)
    works["C batch passes"] = (beside.batch_passes, 1.0)
    scale = network.batch / network.alone
    works["loop over examples"] = (lambda: beside.example_loop(network.alone), scale)
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for count in range(repeats + 1):
        for name, (work, weight) in works.items():
            if name in COSTLY and not 0 < count <= costly:
                continue
            if name in COSTLY and count == 1 and name in trainings and network.steps > 1:
                _ = work()  # warms up: finds out where gradients come from
            taken = timed(work, device) * weight
            if count:  # the first round warms up
                seconds[name].append(taken)
    return seconds


def _stepping(training: Training, count: int) -> Work:
    return lambda: training.steps(count)


def measure(name: str, device: torch.device, repeats: int, costly: int) -> dict[str, Any]:
    """Each way over a plain step; the loop over what the exact measurement adds to a step."""
    seconds = rounds(NETWORKS[name], device, repeats, costly)
    plain = seconds["plain"]
    pairs = zip(seconds["loop over examples"], seconds["exact"], plain, strict=False)
    return {
        "network": name,
        "batch": NETWORKS[name].batch,
        "classes": NETWORKS[name].classes,
        "seconds": {way: spread(values) for way, values in seconds.items()},
        "ratios": {
            way: spread([a / b for a, b in zip(values, plain, strict=False)])
            for way, values in seconds.items()
            if way != "plain"
        },
        "loop over exact": spread([loop / (exact - step) for loop, exact, step in pairs]),
        "examples of the loop": NETWORKS[name].alone,
    }


def show(entry: dict[str, Any]) -> None:
    """Print the ratios."""
    print(
        f"{entry['network']}, batch {entry['batch']}, {entry['classes']} outputs: over plain steps"
    )
    for way, ratio in entry["ratios"].items():
        print(f"  {way:<36}{ratio['median']:>9.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})")
    loop = entry["loop over exact"]
    spread_text = f"{loop['median']:.1f} ({loop['min']:.1f}-{loop['max']:.1f})"
    print(f"  the loop over what exact adds: {spread_text}")


def main() -> None:
    """Parse the options, measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    _ = parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    _ = parser.add_argument("--device", default="cpu")
    _ = parser.add_argument("--repeats", type=int, default=5, help="rounds after the warm-up")
    _ = parser.add_argument("--costly", type=int, default=1, help="rounds of the costly ways")
    _ = parser.add_argument("--out", type=Path, help="append a JSON line per network to this file")
    options = parser.parse_args()
    if not 1 <= options.costly <= options.repeats:
        parser.error("--repeats and --costly must be >= 1, and costly rounds no more than repeats")
    device = torch.device(options.device)
    for name in options.networks:
        started = time.perf_counter()
        entry = {
            "experiment": "sensitivity-cost-benchmark",
            **measure(name, device, options.repeats, options.costly),
            "seed": 0,
            "repeats": options.repeats,
            "costly": options.costly,
            "wall_s": round(time.perf_counter() - started, 1),
            **surroundings(device),
        }
        show(entry)
        record(entry, options.out)


if __name__ == "__main__":
    main()
