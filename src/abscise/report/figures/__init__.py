"""The figures of the page as inline SVG; the only place that knows matplotlib.

Geometry comes from matplotlib, colours and fonts from the page's stylesheet: every drawn thing has
a role, which becomes its class. So one drawing serves light, dark and paper.
"""

from abscise.report.figures._bars import draw_bars
from abscise.report.figures._curves import draw_curves
from abscise.report.figures._dying import draw_dying
from abscise.report.figures._network import draw_network
from abscise.report.figures._pareto import draw_paretos

__all__ = ["draw_bars", "draw_curves", "draw_dying", "draw_network", "draw_paretos"]
