"""What a line says of the filters: how large they are, what they fire for, what cuts cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from abscise._errors import StoreError
from abscise._json import Fields
from abscise.implicit import LayerActivity, activity
from abscise.papers._dead import THRESHOLDS, counts_from_fields, counts_to_json
from abscise.papers._filter_cuts import LEVELS, Cut, Ranking, cuts_of, filters_of
from abscise.papers._finished import Finished
from abscise.papers._implicit import implicit_of
from abscise.papers._shipping import EXAMPLES
from abscise.train import Data

NOTE = "filters"
_LAYER = ("layer", "filters", "rows_below", "silent", "universality")
_CUTS = ("ranking", "cuts")
_CUT = ("share", "gone", "parameters", "error")
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class FilterLayer:
    """The filters of one convolution.

    Args:
        layer: Its name.
        filters: All of them.
        rows_below: Threshold -> filters whose largest |weight| is below it.
        silent: Filters that no training example makes fire, by |activation| < 1e-12.
        universality: Mean share of the training examples for which a filter fires, over the
            filters that ever do; None where none does. Selectivity is what is left to 1.
    """

    layer: str
    filters: int
    rows_below: Mapping[float, int]
    silent: int
    universality: float | None


@dataclass(frozen=True, slots=True)
class FilterFacts:
    """What a line says beyond the dead units.

    Args:
        layers: In the order in which they run.
        cuts: By ranking, by rising share.
    """

    layers: tuple[FilterLayer, ...]
    cuts: Mapping[Ranking, tuple[Cut, ...]]

    @property
    def filters(self) -> int:
        """Of all layers."""
        return sum(it.filters for it in self.layers)


def facts_of_filters(
    model: nn.Module,
    data: Data,
    rankings: Sequence[Ranking],
    levels: Sequence[float] = LEVELS,
) -> FilterFacts:
    """Look at the filters of `model`; the test part is read for the cuts only.

    Args:
        model: Trained, in eval mode, on whatever device; stays as it was.
        data: On the CPU. Activity is looked at over the whole training part as it is.
        rankings: By which filters are cut off.
        levels: Shares of the filters.

    Raises:
        InputError, CaptureError, ModelError: The model cannot be run or captured.
    """
    device = next(model.parameters()).device
    example = data.train.inputs[:EXAMPLES].clone()
    held = filters_of(model.cpu(), example)
    model = model.to(device)
    batches = [part.to(device) for part in data.train.inputs.split(_BATCH)]
    seen = {it.layer: it for it in activity(model, batches).layers}
    tested = data.test.to(device)
    layers = tuple(
        _layer(it.layer, model.get_parameter(f"{it.layer}.weight"), seen[it.layer])
        for it in held[0]
    )
    cuts = {it: cuts_of(model, held, it, levels, tested) for it in rankings}
    return FilterFacts(layers, cuts)


def _layer(name: str, weight: Tensor, seen: LayerActivity) -> FilterLayer:
    sizes = weight.detach().abs().flatten(1).amax(1)
    below = {limit: int((sizes < limit).sum()) for limit in THRESHOLDS}
    universality = seen.mean_universality
    assert len(sizes) == len(seen.peaks)
    return FilterLayer(name, len(sizes), below, seen.silent, universality)


def facts_to_json(facts: FilterFacts) -> dict[str, Any]:
    """Plain values; `facts_of_run` reads them again."""
    layers = [
        {
            "layer": it.layer,
            "filters": it.filters,
            "rows_below": counts_to_json(it.rows_below),
            "silent": it.silent,
            "universality": it.universality,
        }
        for it in facts.layers
    ]
    cuts = [
        {
            "ranking": ranking.value,
            "cuts": [dict(zip(_CUT, _values(cut), strict=True)) for cut in own],
        }
        for ranking, own in facts.cuts.items()
    ]
    return {"layers": layers, "cuts": cuts}


def facts_of_run(run: Finished) -> FilterFacts:
    """What the line of a run says of its filters.

    Raises:
        StoreError: A field is missing, unknown, of the wrong type or out of range.
    """
    where = f"{run.task.key}: notes"
    if NOTE not in run.notes:
        message = f"{where} must hold {NOTE}: its filters were not looked at"
        raise StoreError(message)
    held = Fields(
        Fields(run.notes, where, StoreError).mapping(NOTE), f"{where}: {NOTE}", StoreError
    )
    layers = tuple(_read_layer(one) for one in held.objects("layers", _LAYER))
    if not layers:
        held.refuse("layers", "one object for each convolution")
    return FilterFacts(layers, dict(_read_cuts(one) for one in held.objects("cuts", _CUTS)))


def _read_layer(one: Fields) -> FilterLayer:
    count = one.integer("filters", 1)
    return FilterLayer(
        layer=one.name("layer"),
        filters=count,
        rows_below=counts_from_fields(one, "rows_below", count),
        silent=one.integer("silent", 0, count),
        universality=one.optional("universality", lambda name: one.number(name, 0.0, 1.0)),
    )


def _read_cuts(one: Fields) -> tuple[Ranking, tuple[Cut, ...]]:
    ranking = Ranking(one.text("ranking", tuple(it.value for it in Ranking)))
    cuts = tuple(
        Cut(
            it.number("share", 0.0, 1.0),
            it.integer("gone"),
            it.integer("parameters"),
            it.number("error", 0.0, 100.0),
        )
        for it in one.objects("cuts", _CUT)
    )
    return ranking, cuts


def _values(cut: Cut) -> tuple[float, ...]:
    return cut.share, cut.gone, cut.parameters, cut.error


def filters_below(run: Finished, threshold: float) -> dict[str, int]:
    """Convolution -> its filters whose scale is below one of the counted thresholds."""
    wanted = {it.layer for it in facts_of_run(run).layers}
    return {
        it.layer: it.below[threshold] for it in implicit_of(run).dead.layers if it.layer in wanted
    }


def filter_share(run: Finished, threshold: float) -> float:
    """Percent of the filters whose scale is below one of the counted thresholds."""
    return 100 * sum(filters_below(run, threshold).values()) / facts_of_run(run).filters


def silent_filters(run: Finished) -> float:
    """Percent of the filters that no training example makes fire."""
    facts = facts_of_run(run)
    return 100 * sum(it.silent for it in facts.layers) / facts.filters


def rows_share(run: Finished, threshold: float) -> float:
    """Percent of the filters whose incoming weights are all below a counted threshold."""
    facts = facts_of_run(run)
    return 100 * sum(it.rows_below[threshold] for it in facts.layers) / facts.filters
