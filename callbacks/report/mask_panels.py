"""Small figures, one per class, as the curves of many classes would cover each other."""

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes

from callbacks.report.figures import figure
from callbacks.report.mask_figures import draw_dice_curve, draw_precision_recall
from lightning_modules.mask_evidence import SegmentationEvidence

DrawPanel = Callable[[Axes, Mapping[str, SegmentationEvidence], int], None]


def segmentation_panels(evidence: Mapping[str, SegmentationEvidence]) -> dict[str, dict[str, str]]:
    """Return title -> class -> SVG; empty for a single class, which has full-size figures."""
    classes = next(iter(evidence.values())).classes
    if len(classes) == 1:
        return {}
    draws: dict[str, DrawPanel] = {
        "Precision and recall of pixels, by class": draw_precision_recall,
        "Dice against threshold, by class": draw_dice_curve,
    }
    return {
        title: {
            name: figure(_draw_small(draw, evidence, c), 2.2, 1.9) for c, name in enumerate(classes)
        }
        for title, draw in draws.items()
    }


def _draw_small(
    draw: DrawPanel, evidence: Mapping[str, SegmentationEvidence], channel: int
) -> Callable[[Axes], None]:
    def drawn(axes: Axes) -> None:
        draw(axes, evidence, channel)
        axes.set(xlabel="", ylabel="", xticks=np.linspace(0, 1, 3), yticks=np.linspace(0, 1, 3))
        found = axes.get_legend()
        if found is not None:
            found.remove()

    return drawn
