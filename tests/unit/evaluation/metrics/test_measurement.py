"""Columns that are measured on masks: their way through evidence, bootstrap and comparison."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.arguments import ArgumentError
from evaluation.bootstrap import bootstrap_metrics, paired_differences
from evaluation.evidence import SegmentationEvidence, read_evidence, write_evidence
from evaluation.metrics.measurement import (
    describe_measurements,
    find_measurements,
    make_measurements,
)
from evaluation.metrics.surface_distance import SurfaceDistance

NAMES = ("hd95", "assd", "surface_dice", "hd95_detected", "assd_detected")
PX = SurfaceDistance(unit="px")


def make_evidence(images: int = 60, seed: int = 0, measurement=PX, groups: int = 30):
    """Evidence of images of 64 pixels, of which every fourth shows nothing and every fifth is
    predicted empty; `measured` is random where both masks are there."""
    random = np.random.default_rng(seed)
    shows, says = np.arange(images) % 4 != 0, np.arange(images) % 5 != 0
    counts = np.zeros((images, 1, 2, 256), np.int32)
    for i in range(images):
        for inside, pixels in ((1, 16 * shows[i]), (0, 64 - 16 * shows[i])):
            counts[i, 0, inside, 200 if says[i] and inside else 50] += pixels
        if says[i] and not shows[i]:
            counts[i, 0, 0, [50, 200]] += [-4, 4]
    both, either = shows & says, shows | says
    distance = np.where(both, random.uniform(1, 8, images), np.where(either, 11.3, 0))
    columns = [distance, distance / 2, both * 0.5, either, distance * both, distance * both / 2]
    return SegmentationEvidence(
        ids=np.array([f"i{i:03}" for i in range(images)]),
        groups=np.array([f"p{i % groups}" for i in range(images)]),
        rule=np.tile([128.0, 0.0, 128.0], (images, 1, 1)),
        classes=("lesion",),
        counts=counts,
        grid="native",
        measured=np.stack([*columns, both], -1)[:, None].astype(float),
        measurements=describe_measurements({"surface_distance": measurement}),
    )


def test_scores_are_means_over_the_images_that_count_and_say_how_many():
    evidence = make_evidence()
    shows, says = np.arange(60) % 4 != 0, np.arange(60) % 5 != 0
    distance = evidence.measured[:, 0, 0]
    found = bootstrap_metrics(evidence)["lesion"]
    assert found["hd95"].value == pytest.approx(distance[shows | says].mean())
    assert found["hd95"].n == int((shows | says).sum()) == 57
    assert found["hd95_detected"].value == pytest.approx(distance[shows & says].mean())
    assert found["hd95_detected"].n == int((shows & says).sum()) == 36
    assert all(np.isnan(value) for value in found["hd95"].trivial.values())
    assert evidence.empty_mask_notes(0) == [
        "Surface distances: 9 missed and 12 invented masks score the image's diagonal (hd95, assd)"
        " or 0 (surface dice); 3 images without any mask do not count."
    ]


def test_the_interval_is_that_of_a_bootstrap_over_patients_that_copies_images():
    evidence = make_evidence()
    random = np.random.default_rng(1)
    names, member = np.unique(evidence.groups, return_inverse=True)
    values = []
    for _ in range(2000):
        picked = np.concatenate(
            [np.flatnonzero(member == g) for g in random.integers(len(names), size=len(names))]
        )
        copies = evidence.subset(picked)
        values.append(copies.measured[:, 0, 0].sum() / copies.measured[:, 0, 3].sum())
    low, high = np.quantile(values, [0.025, 0.975])
    found = bootstrap_metrics(evidence)["lesion"]["hd95"]
    assert found.low == pytest.approx(low, abs=0.12) and found.high == pytest.approx(high, abs=0.12)


def test_another_rule_has_other_masks_so_nothing_is_measured_at_it():
    evidence = make_evidence().with_rule(torch.tensor([[10.0, 0.0, 10.0]]).double())
    assert evidence.measured.shape == (60, 1, 0)
    assert not set(NAMES) & {score.name for score in evidence.metrics}
    assert "hd95" not in evidence.headline_metrics


def test_columns_are_written_cut_and_merged_with_their_images(tmp_path):
    evidence = make_evidence()
    write_evidence(evidence, tmp_path / "test.npz")
    read = read_evidence(tmp_path / "test.npz")
    assert isinstance(read, SegmentationEvidence) and read.measurements == evidence.measurements
    np.testing.assert_array_equal(read.measured, evidence.measured)
    rows = np.arange(60) % 3 == 0
    nothing = replace(evidence.subset(np.zeros(60, bool)), measured=None, measurements="{}")
    merged = SegmentationEvidence.merge([read.subset(~rows), read.subset(rows), nothing])
    order = np.argsort(merged.ids)
    np.testing.assert_array_equal(merged.measured[order], evidence.measured)


def test_only_what_was_measured_alike_is_compared():
    first, second = make_evidence(seed=0), make_evidence(seed=1)
    found = paired_differences([first], [second])
    gap = second.measured[:, 0, 0].sum() - first.measured[:, 0, 0].sum()
    assert found["hd95"].value == pytest.approx(gap / 57)
    for other in (
        make_evidence(seed=1, measurement=SurfaceDistance(unit="px", tolerance=3.0)),
        make_evidence(seed=1, measurement=SurfaceDistance(unit="mm")),
        second.with_measurements(()),
    ):
        compared = paired_differences([first], [other])
        assert not set(NAMES) & set(compared) and "dice" in compared
        assert SegmentationEvidence.merge([first, other]).measured.shape == (60, 1, 0)


def test_columns_of_an_unknown_measurement_are_kept_and_not_used(tmp_path):
    known = make_evidence()
    unknown = replace(known, measurements=known.measurements.replace("surface_dist", "other_dist"))
    write_evidence(unknown, tmp_path / "test.npz")
    read = read_evidence(tmp_path / "test.npz")
    assert "hd95" not in {score.name for score in read.metrics}
    assert bootstrap_metrics(read)["lesion"]["dice"].value == pytest.approx(
        bootstrap_metrics(known)["lesion"]["dice"].value
    )


def test_names_of_columns_and_scores_are_unique_over_all_files():
    made = [each.at_spacing(False) for each in make_measurements(None).values()]
    assert [type(each) for each in made] == list(find_measurements().values())
    columns = [name for each in made for name in each.columns]
    scores = [score.name for score in make_evidence().metrics]
    assert len(set(columns)) == len(columns) and len(set(scores)) == len(scores)
    for each in made:
        names = {score.name for score in each.metrics}
        assert set(each.headline_scores) <= names


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"surface": {}}, "surface is not a file of evaluation/metrics; did you mean"),
        ({"surface_distance": {"tol": 1}}, r"surface_distance\.tol is not a known key"),
        ({"surface_distance": 3}, "surface_distance=3 is not allowed; it must be a mapping"),
        ([1], "must be a mapping"),
    ],
)
def test_settings_that_no_measurement_has_are_refused(settings, message):
    with pytest.raises(ArgumentError, match=message):
        make_measurements(settings)


def test_a_measurement_that_is_null_is_left_out():
    assert make_measurements({"surface_distance": None}) == {}
    assert make_measurements({"surface_distance": {"tolerance": 1.5}}) == {
        "surface_distance": SurfaceDistance(tolerance=1.5)
    }


def test_the_file_that_the_documentation_adds_is_found_and_scored(tmp_path):
    """Run the example of docs/metrics.md in a copy of the package, in a process of its own."""
    root = Path(find_measurements.__wrapped__.__code__.co_filename).parents[2]
    for package in ("evaluation", "datamodules"):
        shutil.copytree(root / package, tmp_path / package)
    example = (root / "docs/metrics.md").read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "evaluation/metrics/area_error.py").write_text(example)
    code = """
import numpy as np
from evaluation.bootstrap import bootstrap_metrics
from evaluation.evidence import SegmentationEvidence
from evaluation.metrics.measurement import describe_measurements, make_measurements
made = make_measurements({"surface_distance": None})
masks = np.zeros((2, 2, 4, 4), bool)
masks[0, 0, :2], masks[0, 1, :1], masks[1, 1, :3] = True, True, True
counts = np.zeros((2, 1, 2, 256), np.int32)
evidence = SegmentationEvidence(
    ids=np.array(["a", "b"]), groups=np.array(["a", "b"]), rule=np.full((2, 1, 3), 128.0),
    classes=("lesion",), counts=counts, grid="native", measurements=describe_measurements(made),
    measured=np.array([[made["area_error"].measure(*pair, None)] for pair in masks]))
print(evidence.headline_metrics[-1], bootstrap_metrics(evidence)["lesion"]["area_error"].value)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    # areas 8 and 4, and 0 and 12: (4 + 12) / (4 + 12)
    assert done.stdout.split() == ["area_error", "1.0"]
