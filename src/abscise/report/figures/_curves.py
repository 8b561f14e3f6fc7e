"""Loss and validation accuracy over the training, one above the other on one time axis."""

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from abscise.report._training import Training
from abscise.report._words import powers
from abscise.report.figures._svg import Drawing, line, plain_style, time_axis

_NARROW = 480
_MOST_POINTS = 1000
_LOG_RANGE = 20.0
_LABEL = 84.0


def draw_curves(training: Training, width: int) -> str:
    """Dashed lines where the learning rate drops."""
    points = training.points[:: -(-len(training.points) // _MOST_POINTS)]
    if points[-1] is not training.points[-1]:
        points = (*points, training.points[-1])
    narrow = width < _NARROW
    height, left = (130.0, 44.0) if narrow else (160.0, 64.0)
    with plain_style():
        drawing = Drawing(width, 2 * height + 106)
        over = drawing.canvas()
        loss = drawing.panel(left, 38, width - left - 12, height)
        accuracy = drawing.panel(left, 38 + height + 42, width - left - 12, height)
        steps = [float(point.step) for point in points]
        for axes in (loss, accuracy):
            axes.set(xlim=(0, steps[-1]))
            time_axis(axes, steps[-1], narrow=narrow)
        line(loss, steps, [point.loss for point in points], "loss")
        _loss_axis(loss, [point.loss for point in points])
        line(accuracy, steps, [100 * point.accuracy for point in points], "accuracy")
        _accuracy_axis(accuracy, [100 * point.accuracy for point in points])
        loss.tick_params(labelbottom=False)
        drawing.text(over, (0, 14), "loss of the last batch", "axis loss-label", size=12)
        place = (0.0, 38 + height + 28)
        drawing.text(
            over, place, "accuracy on the validation part, %", "axis accuracy-label", size=12
        )
        _drops(drawing, training, (loss, accuracy))
        return drawing.svg(
            f"Training loss and validation accuracy over {training.points[-1].step:,} steps"
        )


def _loss_axis(axes: Axes, losses: list[float]) -> None:
    low, high = min(losses), max(losses)
    if low > 0 and high / low > _LOG_RANGE:
        axes.set_yscale("log")
        bottom, top = low / 1.5, high * 1.5
        inside = [
            tick
            for tick in LogLocator(numticks=6).tick_values(bottom, top)
            if bottom <= tick <= top
        ]
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        room = (high - low or 1.0) * 0.08
        bottom, top = low - room, high + room
        inside = _inside(bottom, top, 5)
    _value_axis(axes, bottom, top, inside)


def _accuracy_axis(axes: Axes, values: list[float]) -> None:
    low, high = min(values), max(values)
    room = (high - low or 1.0) * 0.08
    bottom, top = max(low - room, 0.0), min(high + room, 100.0)
    _value_axis(axes, bottom, top if top > bottom else bottom + 1, _inside(bottom, top, 5))


def _value_axis(axes: Axes, bottom: float, top: float, ticks: list[float]) -> None:
    axes.set_ylim(bottom, top)
    axes.set_yticks(ticks)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    axes.grid(axis="y")
    axes.tick_params(labelsize=11, pad=6)


def _inside(bottom: float, top: float, bins: int) -> list[float]:
    return [
        tick for tick in MaxNLocator(nbins=bins).tick_values(bottom, top) if bottom <= tick <= top
    ]


def _number(value: float) -> str:
    return powers(f"{value:.6g}").replace("-", "−")


def _drops(drawing: Drawing, training: Training, panels: tuple[Axes, Axes]) -> None:
    """A dashed line at each drop, and the new rate where there is room for it."""
    over, steps, free_from = drawing.canvas(), training.points[-1].step, 0.0
    start, _, width, _ = panels[0].get_position().bounds
    for step, _, after in training.drops():
        for axes in panels:
            line(axes, [step, step], list(axes.get_ylim()), "drop")
        at = drawing.width * (start + width * step / steps)
        side = "right" if at > drawing.width - _LABEL else "left"
        if (at - _LABEL if side == "right" else at) >= free_from:
            label = f"rate {powers(f'{after:.2g}')}"
            drawing.text(over, (at, 32.0), label, "axis", size=11, ha=side)
            free_from = at + (0 if side == "right" else _LABEL)
