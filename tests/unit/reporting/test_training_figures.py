"""Tests of the training figures: the monitored score and the sampled strata, as curves or table."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from reporting.figures.style import add_legend_below
from reporting.figures.training import (
    IMAGES,
    learning_curves,
    sampled_fractions,
    strata_table,
    training_figures,
)
from tests.unit.reporting.test_many_classes import page_of
from tests.unit.reporting.test_segmentation_report import many


def metrics(folder, strata: int, **scores) -> None:
    """Two epochs of 100 and 300 images."""
    shares = [
        {f"sampling/s{k:02d}": (k + 1 + 10 * epoch) / 1000 for k in range(strata)}
        for epoch in (0, 1)
    ]
    rows = [
        {
            "epoch": e,
            "sampling/images": n,
            "sampling/positive_fraction": 0.5 - e / 10,
            "train/loss": 0.5,
        }
        | shares[e]
        for e, n in enumerate((100, 300))
    ]
    rows += [
        {"epoch": e} | {name.replace("_", "/", 1): values[e] for name, values in scores.items()}
        for e in (0, 1)
    ]
    pd.DataFrame(rows).to_csv(folder / "metrics.csv", index=False)


def test_many_strata_stand_in_a_table_and_few_in_the_figure(tmp_path):
    metrics(tmp_path, 14)
    figure = training_figures(tmp_path, "val/dice", "val/dice", [])["Sampled images"]
    assert "positive" in figure and "s01" not in figure
    found = strata_table(tmp_path, [])
    assert list(found) == ["all epochs", "epoch 1", "epoch 2"] and list(found["all epochs"]) == [
        f"s{k:02d}" for k in range(14)
    ]
    for k in range(14):
        of = [found[column][f"s{k:02d}"] for column in found]
        assert of == pytest.approx(
            [(100 * (k + 1) + 300 * (k + 11)) / 400 / 1000, (k + 1) / 1000, (k + 11) / 1000]
        )  # of the images, not of the epochs
    staged = strata_table(
        tmp_path, [{"stage": 0, "sampled": {"images": 9.0, "positive_fraction": 0.5, "s00": 0.25}}]
    )
    assert list(staged) == ["all epochs", "stage 0"] and staged["stage 0"] == {"s00": 0.25}
    _, _, seen = many(2, seed=1)
    assert page_of(tmp_path, seen).row("s13") == [["s13", "0.0215", "0.0140", "0.0240"]]
    metrics(tmp_path, 8)
    assert (
        strata_table(tmp_path, []) == {}
        and "s07" in training_figures(tmp_path, "val/dice", "val/dice", [])["Sampled images"]
    )


def test_eight_strata_have_eight_looks():
    curve = pd.Series([0.1, 0.2])
    shares = {"sampling/positive_fraction": curve} | {f"sampling/s{k}": curve for k in range(8)}
    figure, axes = plt.subplots(figsize=(4.6, 3.3), layout="constrained")
    sampled_fractions(axes, shares, [])
    add_legend_below(figure)
    figure.canvas.draw()
    looks = [(line.get_color(), line.get_linestyle()) for line in axes.lines]
    assert (
        len(looks) == len(set(looks)) == 9 and [color for color, _ in looks].count(looks[0][0]) == 1
    )
    assert not figure.legends[0].get_window_extent().overlaps(axes.get_window_extent())
    plt.close(figure)


@pytest.mark.parametrize(
    ("monitor", "side", "words"),
    [
        (
            "val/average_precision",
            1,
            {"train/loss", "val/average_precision (monitored)", "val/dice"},
        ),
        ("val/dice", 1, {"train/loss", "val/dice (monitored)"}),
        ("train/loss", 0, {"train/loss (monitored)", "val/dice"}),
    ],
)
def test_the_learning_curves_show_the_monitored_score_and_say_so(monitor, side, words, tmp_path):
    table = {
        "train/loss": pd.Series([0.5, 0.4]),
        "val/average_precision": pd.Series([0.11, 0.12]),
        "val/dice": pd.Series([0.31, 0.32]),
    }
    wanted = {name: table[name] for name in dict.fromkeys(("train/loss", monitor, "val/dice"))}
    figure, axes = plt.subplots(layout="constrained")
    learning_curves(axes, wanted, monitor, [{"best": {"epoch": 1}, "first_epoch": 0}])
    add_legend_below(figure)
    curves = {line.get_label(): line for both in figure.axes for line in both.lines}
    ring = curves.pop("best epoch of its stage")
    assert set(curves) == words and {
        text.get_text() for text in figure.legends[0].get_texts()
    } == words | {"best epoch of its stage"}
    assert list(curves[f"{monitor} (monitored)"].get_ydata()) == list(table[monitor])
    assert ring in figure.axes[side].lines and list(ring.get_ydata()) == [table[monitor][1]]
    plt.close(figure)


def test_a_figure_without_a_change_is_left_out(tmp_path):
    metrics(tmp_path, 2, val_dice=(0.3, 0.4))
    table = pd.read_csv(tmp_path / "metrics.csv")
    fractions = [name for name in table if name.startswith("sampling/") and name != IMAGES]
    table.assign(**dict.fromkeys(fractions, 1.0)).to_csv(tmp_path / "metrics.csv", index=False)
    assert set(training_figures(tmp_path, "val/dice", "val/dice", [])) == {"Learning curves"}
    table[table["epoch"] == 0].to_csv(tmp_path / "metrics.csv", index=False)
    assert training_figures(tmp_path, "val/dice", "val/dice", []) == {}


def test_the_page_takes_the_monitor_of_the_configuration(tmp_path):
    metrics(tmp_path, 2, val_dice=(0.3, 0.4), val_average_precision=(0.1, 0.2))
    (tmp_path / "config.yaml").write_text(
        "{monitor: {name: val/average_precision, mode: max}, init_from: null}"
    )
    _, _, seen = many(2, seed=1)
    page_of(tmp_path, seen)
    said = (tmp_path / "report.html").read_text()
    assert "val/average_precision (monitored)" in said and ">val/dice<" in said
