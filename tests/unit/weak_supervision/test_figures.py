"""Tests of the localization figures: the points of the curves and the names of all methods."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from evaluation.localization import (
    Detections,
    GroundTruth,
    LocalizationConfig,
    LocalizationResults,
    compute_image_stats,
    estimate_scores,
)
from weak_supervision import figures
from weak_supervision.figures import plot_froc, plot_hit_rates

RULES = LocalizationConfig(resamples=50)


@pytest.fixture
def methods():
    """Return three methods: all lesions with one false positive per image, silent, always right."""
    truths = [GroundTruth(f"{i}", f"{i}", 16, 16, [[2, 2, 6, 6]]) for i in range(30)]
    said = {
        "all": Detections((3, 3), [[2, 2, 6, 6], [10, 10, 14, 14]], [0.4, 0.8]),
        "silent": Detections(),
        "right": Detections((3, 3), [[2, 2, 6, 6]], [0.7]),
    }
    return {
        name: LocalizationResults.from_images(
            [compute_image_stats(truth, each, RULES) for truth in truths]
        )
        for name, each in said.items()
    }


def drawn(monkeypatch, call):
    """The axes that a figure is drawn on."""
    kept = []

    def figure(draw):
        axes = plt.figure().add_subplot()
        draw(axes)
        kept.append(axes)
        return ""

    monkeypatch.setattr(figures, "figure", figure)
    call()
    plt.close("all")
    return kept[0]


def test_a_froc_ends_where_no_box_is_left(methods, monkeypatch):
    found = {name: estimate_scores(each, RULES) for name, each in methods.items()}
    axes = drawn(monkeypatch, lambda: plot_froc(methods, found, RULES))
    lines = {
        line.get_label(): line.get_xydata()
        for line in axes.lines
        if not line.get_label().startswith("_")
    }
    dots = [tuple(line.get_xydata()[0]) for line in axes.lines if line.get_label().startswith("_")]
    assert dots == [(1, 1), (0.125, 0), (0.125, 1)] and list(lines) == ["all", "silent", "right"]
    assert lines["all"][-1].tolist() == [1, 1] and np.allclose(
        lines["all"][:-1, 1], 0
    )  # all false positives come first, then all lesions


def test_hit_rates_stand_at_each_number_of_boxes_with_their_intervals(methods, monkeypatch):
    found = {name: estimate_scores(each, RULES) for name, each in methods.items()}
    axes = drawn(monkeypatch, lambda: plot_hit_rates(found, RULES))
    lines = {
        line.get_label(): line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 5
    }
    assert {name: list(y) for name, y in lines.items()} == {
        "all": [0, 1, 1, 1, 1],
        "silent": [0] * 5,
        "right": [1] * 5,
    }
    assert len(axes.lines) == 3 + 15


def test_pages_get_svg_with_the_names_of_all_methods(methods):
    found = {name: estimate_scores(each, RULES) for name, each in methods.items()}
    for svg in (plot_froc(methods, found, RULES), plot_hit_rates(found, RULES, "iou")):
        assert svg.startswith("<svg") and all(f">{name}<" in svg for name in methods)
