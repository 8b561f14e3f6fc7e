"""What one removal during training did."""

from dataclasses import dataclass

from typing_extensions import override


@dataclass(frozen=True, slots=True)
class LayerShrink:
    """One layer that lost units.

    Args:
        layer: Its name.
        removed: Units that went now.
        left: Units that it has now.
        died: Would it have lost all of them? It keeps one, so that the network stays whole.
    """

    layer: str
    removed: int
    left: int
    died: bool


@dataclass(frozen=True, slots=True)
class Shrink:
    """One removal.

    Args:
        step: Optimizer steps done.
        removed: Units that went, each once.
        snapped: Those of them that were not exactly 0 and at rest before.
        layers: Every layer that lost some, or keeps its last one.
        parameters_before: Of the model.
        parameters: Now.
        moved: How far setting units to 0 moved any output on the example inputs, over the spread of
            the outputs; 0.0 where nothing was snapped.
        wall_s: Seconds that it took.
    """

    step: int
    removed: int
    snapped: int
    layers: tuple[LayerShrink, ...]
    parameters_before: int
    parameters: int
    moved: float
    wall_s: float

    @override
    def __str__(self) -> str:
        """One line for people."""
        layers = ", ".join(f"{it.layer} -{it.removed} ({it.left} left)" for it in self.layers)
        dead = [it.layer for it in self.layers if it.died]
        extra = f"; all of {', '.join(dead)} is dead, one unit stays" if dead else ""
        moved = f", outputs moved by {self.moved:.2g} of their spread" if self.snapped else ""
        return (
            f"step {self.step:,}: removed {self.removed} units ({layers}){extra}; "
            f"{self.parameters_before:,} -> {self.parameters:,} parameters{moved}; "
            f"{self.wall_s:.2f} s"
        )
