"""Scores that a test measures on masks: on the page, in a comparison and on the leaderboard."""

import csv
import json
import re

import numpy as np
import pytest

from evaluation.bootstrap import bootstrap_metrics, paired_differences
from evaluation.metrics.surface_distance import SurfaceDistance
from reporting.comparison import compare_runs
from reporting.leaderboard import build_leaderboard, write_leaderboard
from reporting.run_index import RunIndex
from tests.factories.pages import _page
from tests.factories.run_folder import changed, left
from tests.unit.evaluation.metrics.test_measurement import make_evidence

OTHER = SurfaceDistance(unit="px", tolerance=3.0)


@pytest.fixture
def runs(tmp_path):
    """Two runs with equal measurements and one with another tolerance, best on val first."""
    evidence = {
        "a": make_evidence(seed=0),
        "b": make_evidence(seed=1),
        "c": make_evidence(seed=2, measurement=OTHER),
    }
    for n, (name, each) in enumerate(evidence.items()):
        left(tmp_path / name, each, 0.9 - n / 10, monitor=("val/dice", "max"), lr=n)
        changed(tmp_path / name, resources={})
    return tmp_path, evidence


def test_the_leaderboard_has_a_column_of_what_was_measured_in_the_same_way(runs):
    folder, evidence = runs
    (group,) = build_leaderboard(RunIndex(folder, folder / "kept.npz"))["groups"]
    assert group["measured"] == {"hd95": True, "surface_dice": False}
    lines = {line["run"]: line["measured"] for line in group["lines"]}
    for name in "ab":
        expected = bootstrap_metrics(evidence[name], 200)["lesion"]["hd95"]
        assert lines[name]["hd95"]["value"] == pytest.approx(expected.value)
        assert lines[name]["hd95"]["low"] == pytest.approx(expected.low)
    assert lines["c"]["surface_dice"] is None
    assert "within 2 px" in group["definitions"]["surface_dice"]
    write_leaderboard(folder)
    with (folder / "leaderboard.csv").open(encoding="utf-8") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert float(rows["b"]["hd95"]) == pytest.approx(lines["b"]["hd95"]["value"])
    assert rows["c"]["surface_dice"] == "" and rows["b"]["surface_dice_high"] != ""
    page = (folder / "leaderboard.html").read_text(encoding="utf-8")
    assert page.count('data-is="test hd95, px"') == 3


def test_a_comparison_shows_only_what_was_measured_in_the_same_way(runs):
    folder, evidence = runs
    found = compare_runs([str(folder / name) for name in "ab"], folder / "same")
    assert {"hd95", "surface_dice"} <= set(found["headline_metrics"])
    gap = paired_differences([evidence["a"]], [evidence["b"]])["hd95"]
    assert found["variants"][1]["differences"]["hd95"]["value"] == pytest.approx(gap.value)
    found = compare_runs([str(folder / name) for name in "ac"], folder / "other")
    assert "hd95" not in found["headline_metrics"] and "dice" in found["headline_metrics"]
    assert "hd95" not in json.loads((folder / "other/comparison.json").read_text())["compared"]


def test_the_page_says_that_measured_scores_stay_and_counts_missed_and_invented_masks(tmp_path):
    evidence = make_evidence()
    page = _page(
        tmp_path / "page", evidence, [], [{"top": 0.5, "min_area": 0.0, "bottom": 0.5}], "test"
    )
    html = page.read_text(encoding="utf-8")
    rows = {
        name: row
        for row in re.findall(r"<tr><td>.*?</tr>", html)
        for name in re.findall(r"<tr><td>(\w+)(?:, px)?</td>", row)
    }
    still = {name for name, row in rows.items() if "does not move with the slider" in row}
    assert {"hd95", "assd", "surface_dice", "average_precision", "image_auc"} <= still
    assert "<td>hd95, px</td>" in html and "<td>surface_dice</td>" in html
    assert not {"dice", "precision", "image_sensitivity"} & still
    assert "9 missed and 12 invented masks score the image" in html
    value = np.round(bootstrap_metrics(evidence)["lesion"]["hd95"].value, 4)
    assert f"{value:.4f}" in rows["hd95"]
