"""Tests of the FROC curve against loops over every threshold and hand-computed cases."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evaluation.localization import (
    FROC_RATES,
    Detections,
    GroundTruth,
    LocalizationConfig,
    LocalizationResults,
    compute_image_stats,
    compute_scores,
    froc_curve,
)
from tests.factories.localization import froc_by_loops, read, splits

RULES = LocalizationConfig(iou=0.2)


def localized(split, rules=RULES):
    return LocalizationResults.from_images(
        [compute_image_stats(truth, said, rules) for truth, said in split]
    )


def curve(seen, weights=None):
    return froc_curve(
        seen.events, seen.n_lesions, np.ones((1, len(seen.ids))) if weights is None else weights
    )


@given(splits(), st.lists(st.floats(0.01, 9), min_size=1, max_size=4))
def test_operating_points_and_what_is_read_between_them_are_those_of_loops(split, rates):
    assume(any(len(truth.boxes) for truth, _ in split))
    found, points = curve(localized(split)), froc_by_loops(split, RULES.iou)
    ours = np.stack(
        [found.false_positives[0], found.sensitivity[0]], 1
    )  # a bound that only a second box of a lesion reaches moves nothing, and is left out
    assert np.allclose(np.unique(ours.round(9), axis=0), np.unique(np.round(points, 9), axis=0))
    for rate in [*rates, *FROC_RATES]:
        assert found.sensitivity_at(rate)[0] == pytest.approx(read(points, rate))


@given(splits(), st.floats(0.05, 9))
def test_the_area_is_that_below_the_line(split, to):
    assume(any(len(truth.boxes) for truth, _ in split))
    points = froc_by_loops(split, RULES.iou)
    x = sorted(
        {p[0] for p in points if p[0] < to} | {0.0, to}
    )  # between these the line is straight, from above a jump to below the next
    below = {b: min(p[1] for p in [*points, (b, read(points, b))] if p[0] == b) for b in x}
    area = sum((b - a) * (read(points, a) + below[b]) / 2 for a, b in pairwise(x))
    assert curve(localized(split)).partial_auc(to)[0] == pytest.approx(area / to)


@given(splits(4), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_a_weight_is_the_same_as_so_many_copies_of_an_image(split, times):
    times = times[: len(split)]
    copies = [pair for pair, number in zip(split, times, strict=True) for _ in range(number)]
    assume(any(len(truth.boxes) for truth, _ in copies))
    both = curve(localized(split), np.array([times, [1] * len(split)], float))
    points = froc_by_loops(copies, RULES.iou)
    for rate in FROC_RATES:
        assert both.sensitivity_at(rate)[0] == pytest.approx(read(points, rate))


def by_hand():
    """Return one ill and two normal images.

    Two lesions are found at .9 and .6, one never; false positives lie at .8 on the ill image, at .7
    and .5 on the normal ones.
    """
    ill = GroundTruth("a", "1", 20, 20, [[0, 0, 4, 4], [10, 10, 14, 14], [16, 0, 20, 4]])
    said = Detections(
        (1.5, 1.5),
        [[0, 0, 4, 4], [1, 1, 5, 5], [4, 14, 8, 18], [10, 10, 14, 14]],
        [0.9, 0.85, 0.8, 0.6],
    )
    normal = [GroundTruth("b", "2", 20, 20, []), GroundTruth("c", "3", 20, 20, [])]
    return [
        (ill, said),
        (normal[0], Detections((1, 1), [[0, 0, 4, 4]], [0.7])),
        (normal[1], Detections((1, 1), [[0, 0, 4, 4]], [0.5])),
    ]


def test_a_curve_done_by_hand_where_a_second_box_on_a_lesion_is_neither_found_nor_false():
    seen = localized(by_hand())
    found = curve(seen)
    assert np.allclose(found.false_positives[0], [0, 0, 1 / 3, 2 / 3, 2 / 3, 1])
    assert np.allclose(found.sensitivity[0], [0, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    told = compute_scores(seen, RULES)
    assert [told[f"froc_at_{rate:g}"] for rate in FROC_RATES] == pytest.approx(
        [1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3]
    )
    assert told["froc_mean"] == pytest.approx((3 / 3 + 4 * 2 / 3) / 7)
    assert told["froc_area"] == pytest.approx(2 / 3 * 1 / 3 + 1 / 3 * 2 / 3)


def test_equal_scores_are_one_step_so_the_order_of_boxes_does_not_flatter():
    truth = GroundTruth("a", "1", 20, 20, [[0, 0, 4, 4]])
    found = curve(
        localized([(truth, Detections(None, [[0, 0, 4, 4], [10, 10, 14, 14]], [0.5, 0.5]))])
    )
    assert found.false_positives.tolist() == [[0, 1]] and found.sensitivity.tolist() == [[0, 1]]
    assert found.sensitivity_at(0.25)[0] == 0.25 and found.partial_auc(1)[0] == 0.5


def test_runs_pooled_count_their_share_and_one_run_twice_is_itself():
    seen = localized(by_hand())
    twice, silent = (
        LocalizationResults.pool([seen, seen]),
        localized([(truth, Detections()) for truth, _ in by_hand()]),
    )
    for name, value in compute_scores(seen, RULES).items():
        assert compute_scores(twice, RULES)[name] == pytest.approx(value, nan_ok=True)
    half = LocalizationResults.pool([seen, silent])
    assert np.allclose(curve(half).false_positives[0, -1], 0.5) and np.allclose(
        curve(half).sensitivity[0, -1], 1 / 3
    )
    assert compute_scores(half, RULES)["pointing_box"] == 0.5
    with pytest.raises(ValueError, match="evaluated on different images"):
        LocalizationResults.pool([seen, localized(by_hand()[:2])])
