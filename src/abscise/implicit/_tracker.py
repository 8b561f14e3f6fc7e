"""Tracker: watches units die during any training loop, and changes nothing in it."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from abscise._inputs import ExampleInputs, as_inputs
from abscise._units import Axis
from abscise.implicit._activity import Activity, Batches, activity, check_batch
from abscise.implicit._diagnose import DEAD
from abscise.implicit._layers import Watched, watched_layers, weight_of
from abscise.implicit._records import HISTOGRAM, LayerRecord, Record
from abscise.implicit._rule import read_rule
from abscise.implicit._sinks import Sink

THRESHOLDS = (1e-2, DEAD, 1e-4, 1e-6)
_MARK = "abscise_tracker"  # on the optimizer, while one is attached


@dataclass(frozen=True, slots=True)
class Look:
    """A full pass over data, now and then: it costs as much as evaluating it twice.

    Args:
        data: Batches that can be read again and again, such as a list or a loader.
        every: Steps between two passes; e.g. the steps of five epochs.
        labelled: Each batch is a pair of inputs and integer labels.
    """

    data: Batches
    every: int
    labelled: bool = False

    def __post_init__(self) -> None:
        _at_least_one("every", self.every)


class Tracker:
    """Notes every few steps which units are dead, by gamma or by their incoming weights.

    ```python
    with Tracker(model, x, optimizer, every=100, sinks=[JsonLines(Path("units.jsonl"))]):
        train()
    ```

    Without an optimizer, call `step()` yourself after each of its steps. In `abscise.train.fit`:
    `attachments=[lambda model, optimizer: Tracker(model, x, optimizer)]`. The model gets no hooks,
    and its mode, buffers and random state stay as they are.

    Args:
        model: Any network with linear layers, convolutions or batch norms.
        example_inputs: Run once through a copy, to learn which layers run, in which order.
        optimizer: Counts the steps once the tracker is entered, and says what the decay is.
        every: Steps between two records.
        thresholds: Sizes below which units are counted; contains 1e-3.
        look: Passes over data, for activations.
        sinks: Are called with every `Record` and `Activity`: `JsonLines`, `TensorBoard`, print ...

    Raises:
        ValueError: A number is out of range.
        InputError: The model does not run on the example inputs, or on the first batch of `look`;
            or nothing in it rectifies, so that there is nothing to look at.
        ModelError: There is no layer to watch.
    """

    def __init__(  # noqa: PLR0913 - what to watch, how often, and where it goes
        self,
        model: nn.Module,
        example_inputs: ExampleInputs,
        optimizer: Optimizer | None = None,
        *,
        every: int = 100,
        thresholds: Sequence[float] = THRESHOLDS,
        look: Look | None = None,
        sinks: Sequence[Sink] = (),
    ) -> None:
        _at_least_one("every", every)
        if DEAD not in thresholds or not all(0 < it < math.inf for it in thresholds):
            message = f"thresholds must be > 0, finite, and contain {DEAD:g}, got {thresholds}"
            raise ValueError(message)
        self._model, self._optimizer, self._every = model, optimizer, every
        self._thresholds, self._look, self._sinks = tuple(thresholds), look, tuple(sinks)
        self._layers = watched_layers(model, as_inputs(example_inputs))
        if look is not None:  # what does not fit is heard of now, not after hours of training
            check_batch(model, look.data, labelled=look.labelled)
        self._steps = 0
        self._dead: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []
        self._armed = False

    def __enter__(self) -> Self:
        """Count the optimizer's steps from now on.

        Raises:
            ValueError: There is no optimizer, or a tracker is attached to it already.
        """
        if self._optimizer is None:
            message = "to be entered, a tracker needs the optimizer; without one call step()"
            raise ValueError(message)
        if getattr(self._optimizer, _MARK, None) is not None:
            message = "a tracker is attached to this optimizer already: leave that one first"
            raise ValueError(message)
        setattr(self._optimizer, _MARK, self)
        self._handles = [
            self._optimizer.register_step_pre_hook(self._stepping),
            self._optimizer.register_step_post_hook(self._stepped),
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Detach."""
        self.detach()

    def detach(self) -> None:
        """Stop counting; the optimizer is as it was before."""
        if self._handles:
            delattr(self._optimizer, _MARK)
        while self._handles:
            self._handles.pop().remove()

    def step(self) -> None:
        """Count one step; call it after the optimizer's.

        Raises:
            ValueError: The tracker counts the optimizer's steps by itself.
        """
        if self._handles:
            message = "this tracker counts the optimizer's steps by itself: leave out step()"
            raise ValueError(message)
        self._count()

    def follow(self, removed: Mapping[Axis, Collection[int]]) -> None:
        """Go on with layers whose weights have just lost these rows while training."""
        names = {id(it): name for name, it in self._model.named_parameters()}  # a tied one has one
        layers, dead = [], {}
        for layer in self._layers:
            weight = weight_of(self._model.get_submodule(layer.name))
            layers.append(replace(layer, units=len(weight)))
            stays = torch.ones(layer.units, dtype=torch.bool)
            stays[list(removed.get((names.get(id(weight), ""), 0), ()))] = False
            # Of a weight that is computed nobody knows which rows went: it begins anew.
            if layer.name in self._dead and int(stays.sum()) == len(weight):
                dead[layer.name] = self._dead[layer.name][stays]
        self._layers, self._dead = tuple(layers), dead

    def record(self) -> Record:
        """Look at the weights now; nothing is run, and no sink is called."""
        return self._recorded(*self._measured())

    def look(self) -> Activity:
        """Pass over the data of `look=` now; no sink is called.

        Raises:
            ValueError: There is none.
            InputError: The data holds no sample, or does not fit.
        """
        if self._look is None:
            message = "this tracker has no data to look at: give it look=Look(data, every)"
            raise ValueError(message)
        return activity(
            self._model, self._look.data, labelled=self._look.labelled, step=self._steps
        )

    def state_dict(self) -> dict[str, Any]:
        """Steps counted, and which units were dead at the last record."""
        return {"steps": self._steps, "dead": dict(self._dead)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; sinks that can forget what came later.

        Raises:
            ValueError: It belongs to a network with other layers.
        """
        sizes = {layer.name: layer.units for layer in self._layers}
        dead = state_dict["dead"]
        if dead and {name: len(mask) for name, mask in dead.items()} != sizes:
            message = f"the state is of other layers ({', '.join(dead)}), not {', '.join(sizes)}"
            raise ValueError(message)
        self._steps = int(state_dict["steps"])
        self._dead = {name: mask.cpu() for name, mask in dead.items()}
        for sink in self._sinks:
            rewind: Callable[[int], object] | None = getattr(sink, "rewind", None)
            if rewind is not None:
                _ = rewind(self._steps)

    def _stepping(self, _optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        self._armed = True

    def _stepped(self, optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        # An optimizer whose step calls that of its base class runs the hooks twice; count once.
        if not self._armed:
            return
        self._armed = False
        # A fused optimizer's hook also runs on a step that GradScaler skips.
        skipped = getattr(optimizer, "found_inf", None)
        if skipped is None or not bool(skipped):
            self._count()

    def _count(self) -> None:
        self._steps += 1
        if self._steps % self._every == 0:
            sizes, ratios = self._measured()
            record = self._recorded(sizes, ratios)
            pairs = zip(self._layers, sizes, strict=True)
            self._dead = {layer.name: size < DEAD for layer, size in pairs}
            self._tell(record)
        if self._look is not None and self._steps % self._look.every == 0:
            self._tell(self.look())

    def _tell(self, record: Record | Activity) -> None:
        for sink in self._sinks:
            _ = sink(record)

    def _sizes(self, layer: Watched) -> Tensor:
        weight = weight_of(self._model.get_submodule(layer.name)).detach()
        if layer.scaled:
            return weight.abs().double()
        return torch.linalg.vector_norm(weight.flatten(1), math.inf, dim=1).double()

    def _measured(self) -> tuple[list[Tensor], list[float]]:
        """Sizes of the units of each layer, and the layers' ratios, with one transfer."""
        with torch.no_grad():
            found = [*(self._sizes(layer) for layer in self._layers), self._ratios()]
            *sizes, ratios = torch.cat(found).cpu().split([len(it) for it in found])
        return list(sizes), ratios.tolist()

    def _recorded(self, sizes: list[Tensor], ratios: list[float]) -> Record:
        rows = zip(self._layers, sizes, ratios, strict=True)
        return Record(self._steps, tuple(self._layer(*row) for row in rows), DEAD)

    def _layer(self, layer: Watched, sizes: Tensor, ratio: float) -> LayerRecord:
        before = self._dead.get(layer.name)
        edges = torch.tensor(HISTOGRAM, dtype=torch.float64)
        bins = torch.bucketize(sizes, edges, right=True).bincount(minlength=len(HISTOGRAM) + 1)
        return LayerRecord(
            layer=layer.name,
            units=layer.units,
            scaled=layer.scaled,
            dead={threshold: int((sizes < threshold).sum()) for threshold in self._thresholds},
            revived=0 if before is None else int((before & (sizes >= DEAD)).sum()),
            histogram=tuple(bins.tolist()),
            gradient_to_decay=ratio if math.isfinite(ratio) else None,
        )

    def _ratios(self) -> Tensor:
        """Per layer, |data gradient| / |decay|; NaN where one of them does not exist."""
        strengths = self._strengths()
        found = []
        for layer in self._layers:
            weight = weight_of(self._model.get_submodule(layer.name))
            strength = strengths.get(id(weight), 0.0)
            if weight.grad is None or not strength:
                found.append(torch.full((), math.nan, device=weight.device))
            else:
                found.append(weight.grad.norm() / (strength * weight.detach().norm()))
        return torch.stack([it.detach().double() for it in found])

    def _strengths(self) -> dict[int, float]:
        if self._optimizer is None:
            return {}
        found: dict[int, float] = {}
        for group in self._optimizer.param_groups:
            rule = read_rule(self._optimizer, group)
            if rule is not None:
                found |= {id(it): rule.strength for it in group["params"]}
        return found


def tracker_of(optimizer: Optimizer) -> Tracker | None:
    """The tracker that counts this optimizer's steps."""
    return getattr(optimizer, _MARK, None)


def _at_least_one(name: str, count: int) -> None:
    if count < 1:
        message = f"{name} must be at least 1 step, got {count}"
        raise ValueError(message)
