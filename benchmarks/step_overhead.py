"""What a sparsifier adds to a training step.

One process, everything in turn, so that a busy machine slows all alike. Each round times one
forward and backward pass, one plain optimizer step, the floor (norms of all rows, and the rows
scaled in place: the least that shrinking groups can cost), what each sparsifier does after a step,
and the peers where they are installed. The floor is timed anew before each of them, and the figures
are ratios to that floor, to the plain step of the round, and to the median of the few backward
passes that are timed: median, least and greatest of the rounds.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from _recording import record, surroundings
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, Optimizer

import abscise
from abscise.penalties import L1, GroupLasso, SparseGroupLasso, TransformedL1
from abscise.sparsify import Proximal, Rows

RATE = 1e-3
STRENGTH = 1e-4  # of a training; in so few rounds the weights keep their size
METRIC_STRENGTH = 1e-6  # the same where Adam's divisors make the steps larger
BACKWARDS = 3
FLOORS = 3  # before each part: the first finds the caches as the last part left them
Work = Callable[[], object]


def mlp() -> tuple[nn.Module, Tensor]:
    """784-1000-1000-10."""
    sizes = (784, 1000, 1000, 10)
    layers: list[nn.Module] = []
    for width, after in pairwise(sizes):
        layers += [nn.Linear(width, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1]), torch.randn(128, 784)


def resnet18() -> tuple[nn.Module, Tensor]:
    """Of torchvision, on 32x32 images."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    models = import_module("support.torchvision_shim").torchvision_models()
    return models.resnet18(num_classes=10), torch.randn(128, 3, 32, 32)


class Transformer(nn.Module):
    """ViT-small on 32x32 images: width 384, 12 layers, 6 heads, patches of 4x4."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 384, 4, 4)
        layer = nn.TransformerEncoderLayer(384, 6, 1536, 0.0, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
        self.head = nn.Linear(384, 10)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[explicit-override]
        """Logits."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        result: Tensor = self.head(self.encoder(tokens).mean(1))
        return result


def vit() -> tuple[nn.Module, Tensor]:
    """See `Transformer`."""
    return Transformer(), torch.randn(128, 3, 32, 32)


NETWORKS = {"mlp": mlp, "resnet18": resnet18, "vit-small": vit}
OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "sgd": lambda model: SGD(model.parameters(), RATE, foreach=True),
    "adam": lambda model: Adam(model.parameters(), RATE, foreach=True),
}


def sparsifiers(model: nn.Module, inputs: Tensor) -> dict[str, Proximal]:
    """One for each kind of map; the groups are units where the network has any."""
    units = abscise.find_units(model, inputs[:2])
    groups = units if len(units.units) > len(units.pinned) else Rows()
    plain: dict[str, Any] = {"metric": "plain"}
    return {
        "l1": Proximal(L1(), STRENGTH, **plain),
        "group lasso": Proximal(GroupLasso(), STRENGTH, groups=groups, **plain),
        "sparse group lasso": Proximal(SparseGroupLasso(), STRENGTH, groups=groups, **plain),
        "transformed l1": Proximal(TransformedL1(), STRENGTH, **plain),
        "transformed l1, a = 0.01": Proximal(TransformedL1(0.01), 0.01, **plain),
        "transformed l1, compiled": Proximal(TransformedL1(0.01), 0.01, compile=True, **plain),
        "l1, metric": Proximal(L1(), METRIC_STRENGTH),
        "transformed l1, metric": Proximal(TransformedL1(), METRIC_STRENGTH),
        "group lasso, metric": Proximal(GroupLasso(), METRIC_STRENGTH, groups=groups),
    }


@torch.no_grad()
def floor(weights: list[Tensor]) -> None:
    """Group soft thresholding of all rows, written by hand, in place."""
    for weight in weights:
        norms = torch.linalg.vector_norm(weight, dim=list(range(1, weight.ndim)), keepdim=True)
        _ = weight.mul_((norms - 1e-12).clamp_(min=0) / norms)


def peers(model: nn.Module, inputs: Tensor) -> dict[str, Work]:
    """What others do around a step, where it is installed; a reason is printed where not."""
    found: dict[str, Work] = {}
    for name, make in (("torchao, step included", _torchao), ("Torch-Pruning GroupNorm", _tp)):
        try:
            work = make(model, inputs)
            _ = work()
            found[name] = work
        except Exception as error:  # noqa: BLE001 - a peer that fails in any way is left out, aloud
            print(f"  without {name}: {type(error).__name__}: {str(error).splitlines()[0][:100]}")
    return found


def _torchao(model: nn.Module, _inputs: Tensor) -> Work:
    optim = import_module("torchao.prototype.pat.optim")
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    regularized: dict[str, Any] = {"params": matrices, "reg_lambda": STRENGTH}
    regularized |= {"group_type": "Dim0Grouper", "prox_type": "ProxGroupLasso"}
    groups: list[dict[str, Any]] = [regularized, {"params": rest}]
    optimizer = optim.PruneOptimizer(SGD(groups, 1e-4, foreach=True))
    return optimizer.step


def _tp(model: nn.Module, inputs: Tensor) -> Work:
    pruning = import_module("torch_pruning")
    pruner = pruning.pruner.GroupNormPruner(
        model,
        inputs[:1],
        importance=pruning.importance.GroupMagnitudeImportance(),
        reg=STRENGTH,
        pruning_ratio=0.5,
    )
    pruner.update_regularizer()
    return lambda: pruner.regularize(model)


def timed(work: Work, device: torch.device) -> float:
    """Seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    _ = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def stepping(optimizer: Optimizer, sparsifier: Proximal | None, model: nn.Module) -> Work:
    """One plain optimizer step, or what an attached sparsifier adds to it."""
    if sparsifier is None:
        return optimizer.step
    worker = sparsifier.bind(optimizer, model)
    return lambda: worker.after_step(optimizer)


@dataclass(frozen=True, slots=True)
class Rounds:
    """Seconds.

    Args:
        works: Of the plain step, each sparsifier and each peer, in each round.
        floors: Of the floor just before it.
        backwards: Of forward and backward passes.
        names: Of the sparsifiers and peers.
    """

    works: dict[str, list[float]]
    floors: dict[str, list[float]]
    backwards: list[float]
    names: list[str]


def rounds(network: str, kind: str, device: torch.device, repeats: int) -> Rounds:
    """Everything in turn, so that a busy machine slows all alike."""
    _ = torch.manual_seed(0)
    model, inputs = NETWORKS[network]()
    model, inputs = model.to(device).train(), inputs.to(device)
    labels = torch.randint(0, 10, (len(inputs),), device=device)
    optimizer = OPTIMIZERS[kind](model)
    matrices = [p.detach() for p in model.parameters() if p.ndim >= 2]

    def backward() -> None:
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()

    backward()  # the peers need gradients

    def below() -> None:
        floor(matrices)

    works: dict[str, Work] = {"step": stepping(optimizer, None, model)}
    ours = {
        name: stepping(optimizer, one, model)
        for name, one in sparsifiers(model, inputs).items()
        if kind == "adam" or "metric" not in name
    }
    works |= ours | (theirs := peers(model, inputs))
    seconds: dict[str, list[float]] = {name: [] for name in works}
    floors: dict[str, list[float]] = {name: [] for name in works}
    for count in range(repeats + 1):
        for name, work in works.items():
            least = statistics.median(timed(below, device) for _ in range(FLOORS))
            taken = timed(work, device)
            if count:  # the first round warms up
                floors[name].append(least)
                seconds[name].append(taken)
    backwards = [timed(backward, device) for _ in range(BACKWARDS)]
    return Rounds(seconds, floors, backwards, [*ours, *theirs])


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest, to four digits."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def measure(network: str, kind: str, device: torch.device, repeats: int) -> dict[str, Any]:
    """Each map over the floor, over a plain step, and over a step with its backward pass."""
    found = rounds(network, kind, device, repeats)
    steps, backward = found.works["step"], statistics.median(found.backwards)
    every = [one for floors in found.floors.values() for one in floors]
    parts = {"backward": found.backwards, "floor": every, **found.works}
    return {
        "network": network,
        "optimizer": kind,
        "seconds": {name: spread(values) for name, values in parts.items()},
        "ratios": {
            name: {
                base: spread([a / b for a, b in zip(found.works[name], values, strict=True)])
                for base, values in (
                    ("floor", found.floors[name]),
                    ("step", steps),
                    ("backward and step", [backward + step for step in steps]),
                )
            }
            for name in found.names
        },
    }


def show(entry: Mapping[str, Any]) -> None:
    """Print the ratios."""
    print(f"{entry['network']}, {entry['optimizer']}: what is added, over")
    print(f"  {'':<26}{'the floor':>22}{'a plain step':>22}{'backward and step':>22}")
    for name, ratios in entry["ratios"].items():
        cells = [f"{r['median']:.2f} ({r['min']:.2f}-{r['max']:.2f})" for r in ratios.values()]
        print(f"  {name:<26}" + "".join(f"{cell:>22}" for cell in cells))


def main() -> None:
    """Parse the options, measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    _ = parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    _ = parser.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS, default=["adam"])
    _ = parser.add_argument("--threads", type=int, help="of torch; default: as it has them")
    _ = parser.add_argument("--device", default="cpu")
    _ = parser.add_argument("--repeats", type=int, default=11, help="rounds after the warm-up")
    _ = parser.add_argument(
        "--out", type=Path, help="append one JSON line per network to this file"
    )
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error("--repeats must be >= 1")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    for network in options.networks:
        for kind in options.optimizers:
            entry = {
                "experiment": "step-overhead-benchmark",
                **measure(network, kind, device, options.repeats),
                "batch": 128,
                "seed": 0,
                "repeats": options.repeats,
                **surroundings(device),
            }
            show(entry)
            record(entry, options.out)


if __name__ == "__main__":
    main()
