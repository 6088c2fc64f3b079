"""Tests of the parts of bone-scan phantoms against hand-computed cases.

They cover outlines, poses, attenuation, counts, visibility and boxes.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.phantoms.bone_anatomy import (
    ATTENUATION,
    FIELD_OF_VIEW,
    GammaCamera,
    band_outline,
    ellipse,
    sample_patient,
    to_pose,
)
from datamodules.phantoms.bone_scan import (
    Visibility,
    acquire_scan,
    boxes_of_parts,
    gray_levels_per_count,
)

COUNTS = (4e5, 1.8e6)


def area(outline) -> float:
    x, y = outline.T
    return abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1))) / 2


@given(front=st.floats(0, 7.9), back=st.floats(0, 7.9), seed=st.integers(0, 99))
def test_tissue_weakens_a_source_exponentially(front, back, seed):
    patient = sample_patient(np.random.default_rng(seed), COUNTS)
    seen = GammaCamera(np.random.default_rng(seed), patient, 128).project(
        "trunk", [(ellipse(0, 60, 3, 3), 1.0)], front, back
    )
    assert seen[0].sum() / seen[1].sum() == pytest.approx(
        np.exp(-ATTENUATION * patient.girth * (front - back)), rel=1e-4
    )


@given(x=st.floats(-90, 90), y=st.floats(-60, 300), height=st.sampled_from([128, 384, 1024]))
def test_a_source_may_lie_outside_the_field_and_keeps_its_counts_inside(x, y, height):
    patient = dataclasses.replace(
        sample_patient(np.random.default_rng(0), COUNTS),
        bend=0,
        aside=0,
        frame=1,
        stature=170,
        top=10,
    )
    gantry = GammaCamera(np.random.default_rng(0), patient, height)
    seen = gantry.project("trunk", [(ellipse(x, y, 3, 3), 2.0)], 0, 0)
    gantry.add("trunk", [(ellipse(x, y, 3, 3), 2.0)], 0, 0)
    assert np.allclose(seen, gantry.project_body(), atol=1e-3)
    pixels = 2 * 9 * np.pi / (FIELD_OF_VIEW / height) ** 2
    if abs(x) < FIELD_OF_VIEW / 8 - 6 and -4 < y < FIELD_OF_VIEW - 16:
        assert seen[0].sum() == pytest.approx(
            pixels, rel=0.15
        )  # an anti-aliased border counts as a little more
    elif abs(x) > FIELD_OF_VIEW / 8 + 6 or not -16 < y < FIELD_OF_VIEW - 4:
        assert not seen.any()


@given(
    x=st.floats(-20, 20),
    y=st.floats(0, 175),
    part=st.sampled_from(["arm", "forearm", "thigh", "shin", "foot"]),
)
def test_the_sides_of_a_straight_patient_mirror_each_other(x, y, part):
    straight = dataclasses.replace(
        sample_patient(np.random.default_rng(0), COUNTS), bend=0, tilt=0, aside=0
    )
    straight.angles.update(
        {name: straight.angles[name.replace("right", "left")] for name in straight.angles}
    )
    left, right = (
        to_pose(straight, f"{part}_left", np.array([(x, y)])),
        to_pose(straight, f"{part}_right", np.array([(-x, y)])),
    )
    assert np.allclose(left + right, [(FIELD_OF_VIEW / 4, 2 * left[0, 1])])


def test_outlines_have_the_areas_of_their_shapes():
    assert area(band_outline([(1, 2), (4, 6)], 0.5)) == pytest.approx(2.5)
    assert area(ellipse(3, 4, 2, 5, 0.7)) == pytest.approx(12 * np.sin(2 * np.pi / 24) * 10)


def test_a_spot_is_seen_by_contrast_counts_and_grays():
    spot, others = np.zeros((6, 6)), np.full((6, 6), 10.0)
    spot[2:4, 2:4] = 8  # contrast 0.8, 32 counts over the root of 40: 5.06
    spot[4, 4] = 3  # below 0.4 of the peak
    everything = spot + others
    mask = Visibility(0.35, 5, 4, 0.4).visible_mask(spot, everything, 0.5)
    assert mask is not None and mask.sum() == 4 and mask[2:4, 2:4].all()
    for stricter in (
        Visibility(min_contrast=0.81),
        Visibility(min_snr=5.1),
        Visibility(min_gray_levels=4.1),
    ):
        assert stricter.visible_mask(spot, everything, 0.5) is None


def test_counts_become_grays_that_saturate_or_overflow():
    cold, hot = np.full((1024, 256), 1.0), np.full((1024, 256), 1.0)
    hot[500] = 3000
    assert (
        gray_levels_per_count(hot) == 1
        and gray_levels_per_count(cold) == pytest.approx(255 / 5.5)
        and gray_levels_per_count(cold[:512, :128]) == pytest.approx(255 / (0.25 + 1.75 + 1) / 4)
    )
    saturated, overflowing = (
        acquire_scan(np.random.default_rng(0), hot, overflow) for overflow in (False, True)
    )
    assert (
        (saturated[500] == 255).all()
        and len(np.unique(overflowing[500])) > 50
        and np.array_equal(saturated[:500], overflowing[:500])
    )
    assert saturated[:500].mean() == pytest.approx(1, abs=0.02) and saturated[
        :500
    ].var() == pytest.approx(1, abs=0.03)


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 9)), max_size=12), st.integers(0, 2))
def test_boxes_cover_a_mask_and_stay_inside(points, margin):
    mask, covered = np.zeros((20, 10), bool), np.zeros((20, 10), bool)
    for place in points:
        mask[place] = True
    for x1, y1, x2, y2 in boxes_of_parts(mask, margin):
        assert 0 <= x1 < x2 <= 10 and 0 <= y1 < y2 <= 20 and mask[y1:y2, x1:x2].any()
        covered[y1:y2, x1:x2] = True
    assert not (mask & ~covered).any()
