"""Tests of the style of figures: legends and labels fit in, and flat curves are recognized."""

import matplotlib
import matplotlib.pyplot as plt
import pytest

from reporting.figures import classification, segmentation
from reporting.figures.style import LEGEND_MARGIN, STYLE, add_legend_below, is_flat
from tests.unit.evaluation.metrics.test_classification import drawn, evidence_of
from tests.unit.reporting.test_segmentation_report import many

METHODS = (
    "the heat maps",
    "the whole pipeline, images above the threshold only",
    "randomized weights",
    "the brightest blob",
    "the brightest blob, weighted by the classifier",
)


@pytest.mark.parametrize("width", [2.2, 4.6, 9.0])
@pytest.mark.parametrize(
    "names", [METHODS, ("val", "test"), ("a name of very many words " * 6, "short"), ("x" * 200,)]
)
def test_a_legend_is_inside_its_figure_and_outside_the_axes(names, width):
    figure, axes = plt.subplots(figsize=(width, 3.3), layout="constrained")
    for number, name in enumerate(names):
        axes.plot([0, 1], [number, number], label=name)
    add_legend_below(figure)
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.width <= figure.bbox.width - LEGEND_MARGIN * figure.dpi
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0
    assert not box.overlaps(axes.get_window_extent())
    shown = ["".join(text.get_text().split()) for text in figure.legends[0].get_texts()]
    assert shown == ["".join(name.split()) for name in names]
    plt.close(figure)


def test_curves_of_two_axes_share_a_legend_and_unlabelled_ones_have_none():
    figure, axes = plt.subplots(layout="constrained")
    axes.plot([0, 1], [0, 1])
    add_legend_below(figure)
    assert not figure.legends
    axes.plot([0, 1], [0, 1], label="loss")
    axes.twinx().plot([0, 1], [1, 0], label="Dice")
    add_legend_below(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["loss", "Dice"]
    plt.close(figure)


def test_a_curve_of_one_point_or_one_value_is_flat():
    assert is_flat([]) and is_flat([0.3]) and is_flat([0.3, 0.3]) and not is_flat([0.3, 0.4])
    assert is_flat([0.300, 0.303], tolerance=0.004) and not is_flat([0.3, 0.31], tolerance=0.004)


@pytest.mark.parametrize("kind", ["mask", "label"])
@pytest.mark.parametrize("classes", [1, 3])
def test_the_labels_of_the_axes_are_inside_their_figure(kind, classes, monkeypatch):
    seen = []

    def measure(draw, width=4.6, height=3.3, legend=True):
        with matplotlib.rc_context(STYLE):
            figure = plt.figure(figsize=(width, height), layout="constrained")
            draw(figure.add_subplot())
            add_legend_below(figure)
            figure.canvas.draw()
            for axes in figure.axes:
                for label in (axes.xaxis.label, axes.yaxis.label):
                    box = label.get_window_extent()
                    inside = box.x0 >= 0 and box.x1 <= figure.bbox.x1
                    seen.append((label.get_text(), inside and box.y1 <= figure.bbox.y1))
            plt.close(figure)
        return "<svg>"

    module, figures = {
        "mask": (segmentation, segmentation.segmentation_figures),
        "label": (classification, classification.classification_figures),
    }[kind]
    monkeypatch.setattr(module, "figure", measure)
    if kind == "mask":
        evidence = many(classes, seed=4)[2]
    else:
        evidence = evidence_of(*drawn(60, classes))
    figures({"val": evidence, "test": evidence})
    assert len(seen) >= 6 and all(text for text, _ in seen)
    assert [text for text, inside in seen if not inside] == []
