"""Figures of localization for several methods: FROC, and hit rate against number of boxes."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from evaluation.bootstrap import Estimate
from evaluation.localization import (
    LocalizationConfig,
    LocalizationResults,
    froc_curve,
    froc_score_name,
)
from reporting.figures.style import figure, line_style

EstimatesByMethod = Mapping[str, Mapping[str, Estimate]]


def plot_froc(
    results: Mapping[str, LocalizationResults],
    estimates: EstimatesByMethod,
    rules: LocalizationConfig,
) -> str:
    """Plot the FROC of each method as SVG; a curve ends, with a dot, where all boxes are used.

    Args:
        results: Method -> its results.
        estimates: Method -> score -> estimate; the band shows their intervals at `rules.rates`.
        rules: Rules of the estimates.
    """
    return figure(lambda axes: _draw_froc_curves(axes, results, estimates, rules))


def plot_hit_rates(
    estimates: EstimatesByMethod, rules: LocalizationConfig, kind: str = "center"
) -> str:
    """Plot the share of lesions hit by the first 1, 2, ... boxes of an image, with intervals.

    The figure is SVG; `kind` is center or iou.
    """
    return figure(lambda axes: _draw_hit_rates(axes, estimates, rules, kind))


def _draw_froc_curves(
    axes: Axes,
    results: Mapping[str, LocalizationResults],
    estimates: EstimatesByMethod,
    rules: LocalizationConfig,
) -> None:
    rates = sorted(rules.rates)
    grid = (
        np.geomspace(rates[0], rates[-1], 300)
        if len(rates) > 1
        else np.geomspace(rates[0] / 8, rates[0] * 8, 300)
    )
    for number, (method, localized) in enumerate(results.items()):
        if not localized.n_lesions.sum():
            continue
        curve, style = (
            froc_curve(localized.events, localized.n_lesions, np.ones((1, len(localized.ids)))),
            line_style(number),
        )
        end = max(float(curve.false_positives[0, -1]), grid[0])
        x = np.append(grid[grid < end], min(end, grid[-1]))
        axes.plot(x, [curve.sensitivity_at(rate)[0] for rate in x], label=method, **style)
        if end <= grid[-1]:
            axes.plot(
                end,
                curve.sensitivity[0, -1],
                "o",
                color=style["color"],
                markersize=5,
                clip_on=False,
            )
        band = [
            (rate, score.low, score.high)
            for rate in rates
            if rate <= end and (score := estimates[method][froc_score_name(rate)]).low is not None
        ]
        if band:
            axes.fill_between(
                *np.array(band, np.float64).T, color=style["color"], alpha=0.15, linewidth=0
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.set(
        xlabel="false positives per image (dot: all boxes are used)",
        ylabel="sensitivity (share of lesions found)",
        xlim=(grid[0], grid[-1]),
        ylim=(0, 1.02),
    )


def _draw_hit_rates(
    axes: Axes, estimates: EstimatesByMethod, rules: LocalizationConfig, kind: str
) -> None:
    boxes = np.arange(1, rules.max_boxes + 1)
    for number, (method, scores) in enumerate(estimates.items()):
        several = [scores[f"hit_rate_{kind}_at_{b}"] for b in boxes]
        style, x = (
            line_style(number),
            boxes + 0.05 * (number - (len(estimates) - 1) / 2),
        )  # beside each other, so that intervals do not overlap
        axes.plot(
            x, [score.value for score in several], marker="o", markersize=4, label=method, **style
        )
        for at, score in zip(x, several, strict=True):
            if score.low is not None and score.high is not None:
                axes.plot([at, at], [score.low, score.high], color=style["color"], linewidth=1)
    how = "center in the lesion's box" if kind == "center" else f"IoU of {rules.iou:g} or more"
    axes.set_xticks(boxes)
    axes.set(
        xlabel=f"boxes per image, best first (hit: {how})",
        ylabel="share of lesions hit",
        ylim=(0, 1.02),
    )
