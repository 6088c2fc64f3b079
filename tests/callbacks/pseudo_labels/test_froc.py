"""Tests of the FROC curve against loops over every threshold and hand-computed cases."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from callbacks.pseudo_labels.froc import froc
from callbacks.pseudo_labels.localisation import values
from callbacks.pseudo_labels.localisation_rules import RATES, LocalisationRules
from callbacks.pseudo_labels.measured import Localised, measure
from callbacks.pseudo_labels.truth import Said, Truth
from tests.callbacks.pseudo_labels.located import froc_by_loops, read, splits

RULES = LocalisationRules(iou=0.2)


def localised(split, rules=RULES):
    return Localised.of([measure(truth, said, rules) for truth, said in split])


def curve(seen, weights=None):
    return froc(
        seen.events, seen.lesions, np.ones((1, len(seen.ids))) if weights is None else weights
    )


@given(splits(), st.lists(st.floats(0.01, 9), min_size=1, max_size=4))
def test_operating_points_and_what_is_read_between_them_are_those_of_loops(split, rates):
    assume(any(len(truth.boxes) for truth, _ in split))
    found, points = curve(localised(split)), froc_by_loops(split, RULES.iou)
    ours = np.stack(
        [found.false[0], found.found[0]], 1
    )  # a bound that only a second box of a lesion reaches moves nothing, and is left out
    assert np.allclose(np.unique(ours.round(9), axis=0), np.unique(np.round(points, 9), axis=0))
    for rate in [*rates, *RATES]:
        assert found.at(rate)[0] == pytest.approx(read(points, rate))


@given(splits(), st.floats(0.05, 9))
def test_the_area_is_that_below_the_line(split, to):
    assume(any(len(truth.boxes) for truth, _ in split))
    points = froc_by_loops(split, RULES.iou)
    x = sorted(
        {p[0] for p in points if p[0] < to} | {0.0, to}
    )  # between these the line is straight, from above a jump to below the next
    below = {b: min(p[1] for p in [*points, (b, read(points, b))] if p[0] == b) for b in x}
    area = sum((b - a) * (read(points, a) + below[b]) / 2 for a, b in pairwise(x))
    assert curve(localised(split)).area(to)[0] == pytest.approx(area / to)


@given(splits(4), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_a_weight_is_the_same_as_so_many_copies_of_an_image(split, times):
    times = times[: len(split)]
    copies = [pair for pair, number in zip(split, times, strict=True) for _ in range(number)]
    assume(any(len(truth.boxes) for truth, _ in copies))
    both = curve(localised(split), np.array([times, [1] * len(split)], float))
    points = froc_by_loops(copies, RULES.iou)
    for rate in RATES:
        assert both.at(rate)[0] == pytest.approx(read(points, rate))


def by_hand():
    """Return one ill and two normal images.

    Two lesions are found at .9 and .6, one never; false positives lie at .8 on the ill image, at .7
    and .5 on the normal ones.
    """
    ill = Truth("a", "1", 20, 20, [[0, 0, 4, 4], [10, 10, 14, 14], [16, 0, 20, 4]])
    said = Said(
        (1.5, 1.5),
        [[0, 0, 4, 4], [1, 1, 5, 5], [4, 14, 8, 18], [10, 10, 14, 14]],
        [0.9, 0.85, 0.8, 0.6],
    )
    normal = [Truth("b", "2", 20, 20, []), Truth("c", "3", 20, 20, [])]
    return [
        (ill, said),
        (normal[0], Said((1, 1), [[0, 0, 4, 4]], [0.7])),
        (normal[1], Said((1, 1), [[0, 0, 4, 4]], [0.5])),
    ]


def test_a_curve_done_by_hand_where_a_second_box_on_a_lesion_is_neither_found_nor_false():
    seen = localised(by_hand())
    found = curve(seen)
    assert np.allclose(found.false[0], [0, 0, 1 / 3, 2 / 3, 2 / 3, 1])
    assert np.allclose(found.found[0], [0, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    told = values(seen, RULES)
    assert [told[f"froc_at_{rate:g}"] for rate in RATES] == pytest.approx(
        [1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3]
    )
    assert told["froc_mean"] == pytest.approx((3 / 3 + 4 * 2 / 3) / 7)
    assert told["froc_area"] == pytest.approx(2 / 3 * 1 / 3 + 1 / 3 * 2 / 3)


def test_equal_scores_are_one_step_so_the_order_of_boxes_does_not_flatter():
    truth = Truth("a", "1", 20, 20, [[0, 0, 4, 4]])
    found = curve(localised([(truth, Said(None, [[0, 0, 4, 4], [10, 10, 14, 14]], [0.5, 0.5]))]))
    assert found.false.tolist() == [[0, 1]] and found.found.tolist() == [[0, 1]]
    assert found.at(0.25)[0] == 0.25 and found.area(1)[0] == 0.5


def test_runs_pooled_count_their_share_and_one_run_twice_is_itself():
    seen = localised(by_hand())
    twice, silent = (
        Localised.pooled([seen, seen]),
        localised([(truth, Said()) for truth, _ in by_hand()]),
    )
    for name, value in values(seen, RULES).items():
        assert values(twice, RULES)[name] == pytest.approx(value, nan_ok=True)
    half = Localised.pooled([seen, silent])
    assert np.allclose(curve(half).false[0, -1], 0.5) and np.allclose(
        curve(half).found[0, -1], 1 / 3
    )
    assert values(half, RULES)["pointing_box"] == 0.5
    with pytest.raises(ValueError, match="measured on different images"):
        Localised.pooled([seen, localised(by_hand()[:2])])
