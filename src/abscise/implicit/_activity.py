"""What units do on a whole data set: which never fire, which fire for few samples or one class.

Source: Mehta, Kim, Theobalt 2019, "On Implicit Filter Level Sparsity in Convolutional Neural
Networks", arXiv 1811.12495. Inactive by activation: the largest |activation| over all samples and
the whole map stays below 1e-12. Selectivity: share of the samples on which the largest |activation|
over the map stays at or below 1e-3 of the largest on any sample. Universality is what is left to 1.
Activations are read behind the function that rectifies them, in eval mode.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from abscise._errors import InputError
from abscise._inputs import ExampleInputs, as_inputs
from abscise.implicit._firing import CURVE, Firing, LayerFiring
from abscise.implicit._forward import forward
from abscise.implicit._layers import running_copy, watch_rectified

SILENT = 1e-12
FIRES = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class LayerActivity:
    """The units of one rectified layer on all samples.

    Args:
        layer: The linear layer or convolution that ran last before; "name#2" for a second time.
        peaks: `(units,)`, largest |activation|.
        selectivity: `(units,)`, in [0, 1]; 1 for a unit that never fires.
        fired: `(classes, units)`, samples of each class on which the unit fires; None without
            labels.
    """

    layer: str
    peaks: Tensor
    selectivity: Tensor
    fired: Tensor | None

    @property
    def silent(self) -> int:
        """Units that never fire."""
        return int((self.peaks < SILENT).sum())

    @property
    def mean_selectivity(self) -> float | None:
        """Of the units that fire; None where none does."""
        live = self.selectivity[self.peaks >= SILENT]
        return float(live.mean()) if len(live) else None

    @property
    def mean_universality(self) -> float | None:
        """Share of the samples on which a unit fires, over the units that ever do."""
        selectivity = self.mean_selectivity
        return None if selectivity is None else 1 - selectivity

    @property
    def of_one_class(self) -> tuple[int, ...] | None:
        """Per class, units that fire for it and for no other; None without labels."""
        if self.fired is None:
            return None
        alone = ((self.fired > 0).sum(0) == 1) & (self.peaks >= SILENT)
        return tuple(int(((row > 0) & alone).sum()) for row in self.fired)


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """What `activity` found.

    Args:
        layers: In the order in which they run.
        samples: Number of samples.
        wall_s: Seconds that it took.
        step: Of the training, where a `Tracker` asked.
    """

    layers: tuple[LayerActivity, ...]
    samples: int
    wall_s: float
    step: int = 0

    @property
    def gone(self) -> tuple[str, ...]:
        """Layers of which no unit ever fires."""
        return self.summary().gone

    @override
    def __str__(self) -> str:
        """One line for people, with the cost."""
        return str(self.summary())

    def summary(self) -> Firing:
        """Per layer counts, means and the curve of selectivities, not the tensors."""
        return Firing(self.step, self.samples, self.wall_s, tuple(map(_summary, self.layers)))

    def to_json(self) -> dict[str, Any]:
        """Plain values of `summary`."""
        return self.summary().to_json()


def _summary(it: LayerActivity) -> LayerFiring:
    count = len(it.selectivity)
    ranks = torch.linspace(0, count - 1, min(count, CURVE), dtype=torch.float64).round().long()
    curve = it.selectivity.sort().values[ranks]
    return LayerFiring(
        layer=it.layer,
        units=count,
        silent=it.silent,
        selectivity=it.mean_selectivity,
        # Four digits tell units apart; whole numbers of samples would not be shorter.
        curve=tuple(round(value, 4) for value in curve.tolist()),
        of_one_class=it.of_one_class,
    )


Batches = Iterable[ExampleInputs] | Iterable[tuple[ExampleInputs, Tensor]]


def activity(model: nn.Module, data: Batches, *, labelled: bool = False, step: int = 0) -> Activity:
    """Run all of `data` through a copy of `model` in eval mode, twice, and say what units do.

    Args:
        model: Its rectifying functions are seen, whether modules stand for them or not. It stays
            as it was: mode, buffers, hooks, random state.
        data: Batches that can be read twice, such as a list or a loader.
        labelled: Each batch is a pair of inputs and integer labels `(samples,)`.
        step: To be told in the result.

    Raises:
        InputError: The data holds no sample, cannot be read twice or does not fit; or nothing in
            the model rectifies.
    """
    _refuse_iterator(data)
    started = time.perf_counter()
    peaks: dict[str, Tensor] = {}
    seen: Mapping[str, Tensor] = {}
    samples = batches = 0
    for seen, labels in _pass(model, data, labelled=labelled):
        batches += 1
        count = _samples(seen, labels)
        samples += count
        for name, pooled in seen.items():
            if not count:
                continue
            peak = pooled.amax(0)
            peaks[name] = torch.maximum(peaks[name], peak) if name in peaks else peak
    _require(batches, samples, seen)
    quiet = {name: torch.zeros_like(peak, dtype=torch.int64) for name, peak in peaks.items()}
    fired: dict[str, dict[int, Tensor]] = {name: {} for name in peaks}
    for found, labels in _pass(model, data, labelled=labelled):
        for name, pooled in found.items():
            fires = pooled > FIRES * peaks[name]
            quiet[name] += (~fires).sum(0)
            _count(fired[name], fires, labels)
    layers = tuple(
        LayerActivity(
            name, peak.cpu(), (quiet[name] / samples).cpu(), _table(fired[name], labelled=labelled)
        )
        for name, peak in peaks.items()
    )
    return Activity(layers, samples, time.perf_counter() - started, step)


def check_batch(model: nn.Module, data: Batches, *, labelled: bool) -> None:
    """Run the first batch of `data` as `activity` would, to hear now what does not fit.

    Raises:
        InputError: As of `activity`.
    """
    _refuse_iterator(data)
    found: dict[str, Tensor] = {}
    labels: Tensor | None = None
    samples = batches = 0
    for found, labels in _pass(model, data, labelled=labelled):
        batches, samples = 1, _samples(found, labels)
        for pooled in found.values():
            _count({}, pooled > 0, labels)
        break
    _require(batches, samples, found)


def _refuse_iterator(data: Batches) -> None:
    if isinstance(data, Iterator):  # asking a loader for its iterator would draw a random number
        message = "data is read twice: give a list or a loader, not an iterator"
        raise InputError(message)


def _samples(found: Mapping[str, Tensor], labels: Tensor | None) -> int:
    return len(labels) if labels is not None else max(map(len, found.values()), default=0)


def _require(batches: int, samples: int, found: Mapping[str, Tensor]) -> None:
    """Something was seen."""
    if not batches or (found and not samples):
        message = "data holds no sample: it is empty, or smaller than one batch of its loader"
        raise InputError(message)
    if not found:
        message = (
            "nothing in the model rectifies, as ReLU does: no unit falls silent in it, and weights "
            "alone say what is dead (a Tracker works without look=)"
        )
        raise InputError(message)


def _pass(
    model: nn.Module, data: Batches, *, labelled: bool
) -> Iterator[tuple[dict[str, Tensor], Tensor | None]]:
    """Per batch: layer -> largest |activation| over the map, `(samples, units)`; and its labels."""
    last, found = "", {}

    def note(name: str, _result: object) -> None:
        nonlocal last
        if not isinstance(model.get_submodule(name), _NORMS):
            last = name

    def see(result: Tensor) -> None:
        if last and result.dim() >= 2:
            convolved = not isinstance(model.get_submodule(last), nn.Linear)
            name, count = last, 1
            while name in found:
                count += 1
                name = f"{last}#{count}"
            found[name] = _pooled(result, convolved=convolved)

    with running_copy(model, note) as copy:
        for batch in data:
            given, labels = _split(batch, labelled=labelled)
            last, found = "", {}
            with watch_rectified(see):
                _run(copy, given, labelled=labelled)
            yield found, labels


def _run(copy: nn.Module, given: Any, *, labelled: bool) -> None:
    """One batch; pairs that nobody has called labelled are the likeliest mistake."""
    try:
        _ = forward(copy, as_inputs(given))
    except InputError as problem:
        if labelled or not isinstance(given, tuple | list) or len(given) != 2:
            raise
        message = f"{problem}; if a batch is a pair of inputs and labels, say labelled=True"
        raise InputError(message) from problem


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def _pooled(result: Tensor, *, convolved: bool) -> Tensor:
    size = result.detach().abs()
    if convolved and size.dim() > 2:
        return size.flatten(2).amax(2)
    return size.flatten(1, -2).amax(1) if size.dim() > 2 else size.clone()


def _split(batch: Any, *, labelled: bool) -> tuple[Any, Tensor | None]:
    if not labelled:
        return batch, None
    pair = batch if isinstance(batch, tuple | list) and len(batch) == 2 else None
    labels = None if pair is None else pair[1]
    if pair is None or not isinstance(labels, Tensor) or labels.dim() != 1:
        message = "labelled data must be pairs of inputs and a tensor of labels, one per sample"
        raise InputError(message)
    if labels.is_floating_point() or bool((labels < 0).any()):
        message = f"labels must be integers >= 0, got {labels.dtype}"
        raise InputError(message)
    return pair[0], labels


def _count(counts: dict[int, Tensor], fires: Tensor, labels: Tensor | None) -> None:
    if labels is None:
        return
    if len(labels) != len(fires):
        message = f"{len(labels)} labels for {len(fires)} samples"
        raise InputError(message)
    for label in labels.unique().tolist():
        new = fires[labels.to(fires.device) == label].sum(0).cpu()
        counts[label] = counts.get(label, 0) + new


def _table(counts: dict[int, Tensor], *, labelled: bool) -> Tensor | None:
    if not labelled:
        return None
    some = next(iter(counts.values()))
    return torch.stack([counts.get(it, torch.zeros_like(some)) for it in range(max(counts) + 1)])
